"""A stand-in of CodeArtifact for whoever asks, and a client of it that does not retry."""

from __future__ import annotations

import pytest

from tests.support.acme import ONCE
from tests.support.codeartifact import StandIn
from tests.support.wheels import make_wheel


@pytest.fixture
def standin():
    with StandIn() as running:
        yield running


@pytest.fixture
def client(standin):
    return standin.client(config=ONCE)


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path / "dist")
