"""The number of the cache's layout, so that no program takes a newer one for its own."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from controller.errors import Stalled

if TYPE_CHECKING:
    from pathlib import Path

GENERATION = 1
"""The layout this program writes and the newest it reads."""

_PLAIN = 0o644


def check(root: Path) -> None:
    """Note it in a new cache; raise Stalled where a newer program wrote the cache."""
    path = root / "GENERATION"
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        staging = path.with_name(f".GENERATION.{os.getpid()}.{threading.get_ident()}")
        staging.write_text(f"{GENERATION}\n", encoding="ascii")
        staging.chmod(_PLAIN)
        staging.replace(path)
        return
    if not text.isdecimal() or int(text) > GENERATION:
        raise Stalled(
            "CacheNewer",
            f"{path} says {text[:20]!r}, this wheelway reads layouts up to {GENERATION}: a "
            "newer wheelway wrote this cache; upgrade wheelway, set `paths.cache` to another "
            "folder, or delete this one (it can be filled again)",
        )
