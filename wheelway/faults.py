"""Whose fault an exception of a pipeline is: what its client is told of it, and what the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelway import problem
from wheelway.parts import PartFailed
from wheelway.refusals import refusal_in
from wheelway.results import ResultInvalid

if TYPE_CHECKING:
    import logging

    from wheelway.contract import Release
    from wheelway.problem import Problem


def explain(
    release: Release, logger: logging.Logger, error: BaseException, request_id: bytes
) -> Problem:
    """What the client is told of an exception, which is logged: in a line where it is a refusal or
    a shortage, else with its traceback.
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
    if isinstance(error, PartFailed) and (shortage := problem.part_failed(error)):
        logger.error("request %s of %s: %s", name, release, error, extra=told)
        return shortage
    logger.error("request %s of %s failed", name, release, exc_info=error, extra=told)
    invalid = isinstance(error, ResultInvalid)
    return problem.result_invalid() if invalid else problem.pipeline_failed()
