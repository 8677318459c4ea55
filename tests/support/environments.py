"""Artifacts that require something, and what is installed for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from packaging.version import Version

from controller.model import Artifact, Environment
from tests.support.wheels import make_wheel


def artifact(*requires: str, digest: str = "a") -> Artifact:
    return Artifact(
        digest=digest * 64,
        project="demo",
        version=Version("1.0"),
        filename="demo-1.0-py3-none-any.whl",
        size=1,
        wheel=Path("demo-1.0-py3-none-any.whl"),
        tree=Path("tree"),
        record_digest="0" * 64,
        requires=requires,
        pipelines=(),
    )


def package(folder: Path, name: str, version: str, *requires: str, **knobs) -> Path:
    code = knobs.pop("code", f"VERSION = {version!r}\n")
    module = f"{name.replace('-', '_')}/__init__.py"
    return make_wheel(
        folder, name, version, pipelines={}, requires=requires, files={module: code}, **knobs
    )


def run(environment: Environment, code: str) -> str:
    assert environment.python is not None
    done = subprocess.run(
        [environment.python, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout.strip()


def places(tmp_path: Path) -> list[str]:
    """The environments, and what is left of their making."""
    folder = tmp_path / "cache" / "environments"
    return sorted(entry.name for entry in (*folder.glob("[!.]*"), *folder.glob(".*/*")))
