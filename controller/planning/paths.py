"""How public paths are spelled. Planning binds them to slots (`bindings`); asked for here is only
which path a version has, or would have once it is live.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.version import Version

    from controller.model import Release


def path_of(release: Release) -> str:
    """The path of a release's version, as typed (not percent-encoded)."""
    return version_path(release.pipeline, release.version_text)


def version_path(pipeline: str, version: Version | str) -> str:
    """The path of a pipeline's version."""
    return f"/predict/{pipeline}/{version}"
