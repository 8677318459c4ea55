"""What a replica says of weights that others on its machine died of."""

import tempfile
from pathlib import Path

import pytest

from wheelway.contract import Release
from wheelway.failure import StartFailure
from wheelway.weights import DEATHS, Weights, noted

pytestmark = pytest.mark.unit

RELEASE = Release("demo", "1.0", "a" * 64)
NOBODY = 2**22 + 1
"""More than Linux numbers processes to."""


def test_it_says_for_how_long_nobody_loads_them(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    weights = Weights("demo-weights", "2026.1", "b" * 64, tmp_path, "", "demo_weights")
    with noted(weights, RELEASE):
        (own,) = tmp_path.rglob("*-*-*")
    assert not own.exists()
    for number in range(DEATHS):
        Path(own.parent, own.name.rpartition("-")[0] + f"-{NOBODY + number}").touch()
    with pytest.raises(StartFailure) as failure, noted(weights, RELEASE):
        pytest.fail("they were loaded")
    assert failure.value.reason == "ReplicaDied"
    assert failure.value.message.endswith(
        "For 15 minutes no replica on this machine loads them, not even once their quarantine is "
        "lifted"
    )
