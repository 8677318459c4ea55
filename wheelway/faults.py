"""Whose fault an exception of a pipeline is: what its client is told of it, and what the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from wheelway import problem
from wheelway.parts import PartFailed
from wheelway.refusals import refusal_in
from wheelway.results import ResultInvalid

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    from wheelway.contract import Release
    from wheelway.problem import Problem

_SHARED: Final = "_wheelway_shared"
"""The attribute of an exception that fails several requests."""


@dataclass(slots=True)
class _Shared:
    """The ids of these requests, and of those that the log has not yet been asked to tell of."""

    ids: Sequence[str] = ()
    left: list[str] = field(default_factory=list)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Shared, ()  # in another process it fails others


def share(error: BaseException, ids: Sequence[str]) -> None:
    """Have one record of the log tell of an exception that fails all these requests."""
    vars(error)[_SHARED] = _Shared(ids, list(ids))  # its class may allow no attributes to be set


def _failed_by(error: BaseException, name: str) -> Sequence[str]:
    """The requests to be told of in the log: none where it tells of this one already."""
    shared: _Shared | None = vars(error).get(_SHARED)
    if shared is None or name not in shared.left:  # it may be raised once more, by itself
        return (name,)
    first = len(shared.left) == len(shared.ids)
    shared.left.remove(name)
    return shared.ids if first else ()


class Replaced(Exception):  # noqa: N818 - nothing of the pipeline's doing
    """A stream's instance was replaced, and kept for as long as that may be."""


def explain(
    release: Release, logger: logging.Logger, error: BaseException, request_id: bytes
) -> Problem:
    """What the client is told of an exception, which is logged: in a line where it is a refusal or
    a shortage, else with its traceback, once for all requests of a batch.
    """
    name = request_id.decode("latin-1")
    told = {"wheelway_request_id": name}
    if refused := refusal_in(error):
        # repr: it may quote what the client sent, and must stay one line.
        what = (name, release, refused.status, refused.reason, refused.message)
        logger.info("request %s of %s was refused: %d %s: %r", *what, extra=told)
        # One that the class lists lives on: it must not keep the frames of this request.
        refused.__traceback__ = refused.__context__ = refused.__cause__ = None
        return problem.refused(refused)
    if isinstance(error, Replaced):
        why = "its stream was broken off, as the instance that it came from is no longer kept"
        logger.warning("request %s of %s: %s", name, release, why, extra=told)
        return problem.replaced()
    if isinstance(error, PartFailed) and (shortage := problem.part_failed(error, release)):
        logger.error("request %s of %s: %s", name, release, error, extra=told)
        return shortage
    if len(names := _failed_by(error, name)) > 1:
        together = ", ".join(names), release
        logger.error("requests %s of %s failed in one batch", *together, exc_info=error, extra=told)
    elif names:
        logger.error("request %s of %s failed", name, release, exc_info=error, extra=told)
    invalid = isinstance(error, ResultInvalid)
    return problem.result_invalid(release) if invalid else problem.pipeline_failed(release)
