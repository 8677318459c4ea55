"""`python -m tests.support.codeartifact`: a stand-in until Ctrl-C, and what clients must know."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.support.codeartifact import Address, StandIn


def main() -> None:
    """Prints `export NAME=value` lines, and then serves."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.codeartifact")
    parser.add_argument("wheels", nargs="*", type=Path, help="published from the start")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--page-size", type=int, default=1000)
    for name in ("domain", "owner", "repository", "region"):
        parser.add_argument(f"--{name}", default=getattr(Address(), name))
    given = parser.parse_args()
    address = Address(given.domain, given.owner, given.repository, given.region)
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before there are threads to inherit it
    with StandIn(address, page_size=given.page_size, port=given.port) as standin:
        for wheel in given.wheels:
            standin.shelf.publish(wheel)
        sys.stdout.write(standin.exports())
        sys.stdout.flush()
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
