"""One machine for all tests of the system, with wheelway installed from its built wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.systemd import Machine, obstacle, system_python

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PREFIX = "/opt/wheelway"
WHEELWAY = f"{PREFIX}/bin/wheelway"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Booted, and wheelway in a fresh prefix: no checkout is seen from it."""
    if why := obstacle():
        pytest.skip(why)
    python = system_python()
    assert python
    dist = tmp_path_factory.mktemp("dist")
    built = _out(
        *(UV, "build", "--quiet", "--wheel", "--no-build-isolation"),
        *("--python", sys.executable, "--out-dir", dist, ROOT),
    )
    cache = Path(_out(UV, "cache", "dir").strip())
    with Machine(shared=[cache, dist]) as machine:
        machine.boot()
        machine.put(UV, "/run/uv")
        machine.path("/run/uv").chmod(0o755)
        machine.put(ROOT / "requirements.lock", "/run/requirements.lock")
        machine.run("/run/uv", "venv", "--python", python, PREFIX, network=True)
        wheel = next(dist.glob("*.whl"), None)
        assert wheel is not None, built
        machine.run(
            *("/run/uv", "pip", "install", "--python", f"{PREFIX}/bin/python"),
            # As pip does: who runs it later may not write there.
            *("--compile-bytecode", "--constraint", "/run/requirements.lock"),
            f"{wheel}[controller]",
            network=True,
        )
        yield machine


def _out(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout
