"""Short words for asking the stand-in: what is asked for, and which error came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = {"domain": "acme", "repository": "pipelines"}
DEMO = {**HERE, "format": "pypi", "package": "demo"}
ONE = {**DEMO, "packageVersion": "1.0"}
WHEEL = {**ONE, "asset": "demo-1.0-py3-none-any.whl"}
ONCE = Config(retries={"total_max_attempts": 1})


def code_of(call: Callable[..., Any], **params: Any) -> str:
    """The code of the error that a call of boto3 must end with."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    return str(caught.value.response["Error"]["Code"])
