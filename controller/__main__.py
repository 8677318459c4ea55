"""The start of the `wheelway` command, which also exists where only the contract is installed."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say what is missing for it."""
    try:
        from controller.cli import app  # noqa: PLC0415 - what it needs may not be installed
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "controller":
            raise
        sys.exit(
            f"error: the command needs {error.name}, which is not installed: a bare `wheelway` is "
            "what a pipeline imports. Install the command with: pip install 'wheelway[controller]'"
        )
    app(prog_name="wheelway")


if __name__ == "__main__":
    main()
