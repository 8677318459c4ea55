"""Where shipped files lie: in the package once installed, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path


def folder(name: str) -> Path:
    """The folder of that name: `templates`, `systemd`."""
    package = Path(__file__).parent
    # A wheel puts them below the package (pyproject.toml, force-include).
    installed = package / "data" / name
    return installed if installed.is_dir() else package.parent / name
