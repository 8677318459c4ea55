"""What a pipeline's types are held to: refused at the start, or JSON as everybody reads it."""

from __future__ import annotations

import json

import pytest

from wheelway.failure import StartFailure
from wheelway.local import loaded


def refused(pipeline) -> str:
    """Why a pipeline does not start; the reason is always SchemaInvalid."""
    with pytest.raises(StartFailure) as caught, loaded(pipeline):
        pytest.fail("it must not start")
    assert caught.value.reason == "SchemaInvalid"
    return caught.value.message


def strictly(body):
    """JSON as everybody but Python reads it."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(body, parse_constant=refuse)
