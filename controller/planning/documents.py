"""Whether two Serve documents are the same.

Python takes `1`, `1.0` and `true` for equal; a pipeline that reads its settings does not.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

from controller.config.values import same

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def same_document(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two applications' documents are equal, their settings in type, too. All else has its
    types from Ray's schema, by which `1` and `1.0` may be one.
    """
    if one is other:
        return True
    if one != other:
        return False
    if one and other and one.get("deployments") is other.get("deployments"):
        return True
    ours, theirs = _settings(one or {}), _settings(other or {})
    # Their texts tell numbers apart as well, and much faster; only their order says nothing.
    return repr(ours) == repr(theirs) or same(ours, theirs)


def _settings(document: Mapping[str, Any]) -> list[object]:
    return [one.get("user_config") for one in document.get("deployments") or ()]


def same_objects(some: Collection[object], others: Collection[object]) -> bool:
    """Whether both hold the same objects in the same order. What the dashboard or a source reports
    stays the same object while nothing changes.
    """
    return len(some) == len(others) and all(map(is_, some, others))
