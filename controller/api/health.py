"""Whether the daemon does its work, for what watches it from outside; and its metrics.

`/livez` asks whether passes come to their end: if not, a restart may help. `/readyz` and `/healthz`
also ask whether the last one did, saw Ray, and could be recorded: if not, no restart of the daemon
helps.
"""

from typing import Final

from typing_extensions import TypedDict

from controller.api.operations import Nothing, Operation, Text
from controller.api.seam import Inside, Vitals
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


def _alive(inside: Inside, asked: Nothing) -> HealthDocument:
    del asked
    return _judged(inside.controls.vitals())


def _ready(inside: Inside, asked: Nothing) -> HealthDocument:
    del asked
    vitals = inside.controls.vitals()
    document = _judged(vitals)
    if vitals.unrecorded is not None:
        raise Waiting(vitals.unrecorded.reason, vitals.unrecorded.message)
    if vitals.failed:
        raise Waiting("PassFailed", vitals.sentence)
    if vitals.number == 0:
        raise Waiting("NoPassYet", vitals.sentence)
    if not vitals.observed:
        raise Waiting("RayUnavailable", vitals.sentence)
    return document


def _judged(vitals: Vitals) -> HealthDocument:
    if vitals.age > vitals.patience:
        raise Waiting(
            "NoPassLately",
            f"no pass has come to its end for {vitals.age:.0f} s, {vitals.patience:.0f} s are "
            f"allowed; the last one: {vitals.sentence}",
        )
    return {"number": vitals.number, "age": vitals.age, "sentence": vitals.sentence}


def _metrics(inside: Inside, asked: Nothing) -> Text:
    del asked
    exposition = inside.exposition()
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
