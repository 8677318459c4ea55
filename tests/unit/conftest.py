"""A stand-in of CodeArtifact for whoever asks, a client of it that does not retry, and sources."""

from __future__ import annotations

import os

import pytest
from packaging.tags import sys_tags

from controller.source_options import CodeArtifactSource as Options
from controller.sources.codeartifact import CodeArtifactSource
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


class Clock:
    """Time that passes when a test says so."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """AWS as on a machine where nobody ever configured it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def at_standin(standin, alone, monkeypatch):
    """Credentials, region and endpoint of the stand-in in the environment."""
    for name, value in standin.environment.items():
        monkeypatch.setenv(name, value)
    return standin


@pytest.fixture
def opened(clock):
    """Opens sources of the stand-in's repository; time is the test's."""
    made = []

    def opener(tags=None, before=None, **options):
        options = {"type": "codeartifact", "domain": "acme", "repository": "pipelines", **options}
        tags = list(sys_tags()) if tags is None else tags
        more = {"before": before, "clock": clock, "jitter": lambda: 0.0}
        made.append(CodeArtifactSource(Options(**options), tags, **more))
        return made[-1]

    yield opener
    for source in made:
        source.close()


@pytest.fixture
def source(at_standin, opened):
    return opened(packages=["demo"])
