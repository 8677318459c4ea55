"""What a command imports, which is what its start costs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SLOW = {
    *(
        "ray",
        "boto3",
        "botocore",
        "httpx",
        "jinja2",
        "pydantic_settings",
        "controller.config.settings",
    ),
    *("asyncio", "starlette", "uvicorn", "prometheus_client", "watchdog", "yaml"),
}


def imported_by(config: Path, *args: str) -> set[str]:
    """The modules that a command has imported at its end."""
    script = (
        "import sys\n"
        "from controller.__main__ import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, "--config", str(config), *args]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    return set(done.stderr.splitlines()[-1].split())
