"""Projects that bring a pipeline of one name, and when they were published."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.support.passes import routes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.paper_head import PaperHead
    from tests.support.passes import Passes


def carry(work: Passes, project: str, version: str) -> Path:
    """Publish a wheel of the project that carries `iris`."""
    package = project.replace("-", "_")
    return work.drop(project, version, pipelines={"iris": f"{package}.pipeline:Demo"})


def at(work: Passes, wheel: Path, seconds: float) -> None:
    """Have a wheel published so many seconds from now."""
    os.utime(wheel, (work.clock.now + seconds,) * 2)


def served(paper_head: PaperHead) -> list[str]:
    """The routes that lead anywhere, of the config that was sent last."""
    return sorted(filter(None, routes(paper_head)[-1].values()))
