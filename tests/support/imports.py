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


def imported_by(config: Path, *lines: str) -> list[set[str]]:
    """The modules that one process has imported after each of these commands in turn."""
    script = (
        "import sys\n"
        "from controller.__main__ import main\n"
        "config, *lines = sys.argv[1:]\n"
        "for line in lines:\n"
        "    sys.argv[1:] = ['--config', config, *line.split()]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert end.code in (0, None), line\n"
        "    print(*sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, str(config), *lines]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if line.startswith("sys ")]
    assert len(said) == len(lines), done.stderr
    return [set(line.split()) for line in said]
