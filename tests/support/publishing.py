"""Publishing as users do: twine and uv as they are, against a stand-in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import uv

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.codeartifact import StandIn

Done = subprocess.CompletedProcess[str]
_ELSEWHERE = re.compile(r"(UV|PIP|TWINE|AWS)_|.*_PROXY$", re.IGNORECASE)


def run(*command: str | Path, env: Mapping[str, str]) -> Done:
    """A command with a deadline, its environment cleared of what would lead it elsewhere."""
    inherited = {key: value for key, value in os.environ.items() if not _ELSEWHERE.match(key)}
    return subprocess.run(
        [str(part) for part in command],
        env={**inherited, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def twine_upload(standin: StandIn, *files: Path, **env: str) -> Done:
    """`twine upload`; `env` goes before what the stand-in tells."""
    twine = (sys.executable, "-m", "twine", "upload", "--non-interactive")
    return run(*twine, "--disable-progress-bar", *files, env=standin.publishing() | env)


def uv_publish(standin: StandIn, *files: Path) -> Done:
    """`uv publish`."""
    return run(uv.find_uv_bin(), "publish", "--no-cache", *files, env=standin.publishing())
