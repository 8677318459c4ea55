"""Whether the daemon does its work, for what watches it from outside; and its metrics.

`/livez` asks whether passes come to their end: if not, a restart may help. `/readyz` and `/healthz`
also ask whether the last one did, saw Ray, and could be recorded: if not, no restart of the daemon
helps.
"""

from typing import Final

from typing_extensions import TypedDict

from controller.api.operations import Nothing, Operation, Text
from controller.api.seam import ApiContext, Liveness
from controller.errors import Waiting
from controller.ops.documents import documented


@documented
class HealthDocument(TypedDict):
    """That all is well."""

    number: int
    """Of the last pass that did not fail; 0 before there was one."""
    age: float
    """Seconds since that ended, or since the daemon began."""
    sentence: str
    """What the last pass found."""


def _alive(context: ApiContext, asked: Nothing) -> HealthDocument:
    del asked
    return _judged(context.controls.liveness())


def _ready(context: ApiContext, asked: Nothing) -> HealthDocument:
    del asked
    liveness = context.controls.liveness()
    document = _judged(liveness)
    if liveness.unrecorded is not None:
        raise Waiting(liveness.unrecorded.reason, liveness.unrecorded.message)
    if liveness.failed:
        raise Waiting("PassFailed", liveness.sentence)
    if liveness.number == 0:
        raise Waiting("NoPassYet", liveness.sentence)
    if not liveness.observed:
        raise Waiting("RayUnavailable", liveness.sentence)
    return document


def _judged(liveness: Liveness) -> HealthDocument:
    if liveness.age > liveness.limit:
        raise Waiting(
            "NoPassLately",
            f"no pass has come to its end for {liveness.age:.0f} s, {liveness.limit:.0f} s are "
            f"allowed; the last one: {liveness.sentence}",
        )
    return {"number": liveness.number, "age": liveness.age, "sentence": liveness.sentence}


def _metrics(context: ApiContext, asked: Nothing) -> Text:
    del asked
    exposition = context.exposition()
    return Text(exposition.body, exposition.media_type)


OPERATIONS: Final = (
    Operation(
        "livez",
        "GET",
        "/livez",
        "Whether passes go on; 503 when none has come to its end for too long",
        _alive,
        gives=HealthDocument,
        open=True,
    ),
    Operation(
        "readyz",
        "GET",
        "/readyz",
        "Whether the last pass came to its end, saw Ray and could be recorded; 503 when not",
        _ready,
        gives=HealthDocument,
        open=True,
    ),
    Operation(
        "healthz",
        "GET",
        "/healthz",
        "The same as readyz",
        _ready,
        gives=HealthDocument,
        open=True,
    ),
    Operation(
        "metrics",
        "GET",
        "/metrics",
        "Metrics for Prometheus",
        _metrics,
        media_type="text/plain",
        open=True,
    ),
)
