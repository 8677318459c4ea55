"""The operations: each is a function that says what it takes, gives and does.

What changes something is written down for the next pass. Who orders it (`by`) is taken at its word:
whoever may open the socket may order anything.
"""

from typing import Annotated, Any, Final, TypeVar

from fastapi import Body, Header, Path, Query, Response
from packaging.version import Version
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, StreamingResponse
from typing_extensions import TypedDict

from controller.api import requests
from controller.api.events import stream
from controller.api.routing import Context, redacted, router
from controller.api.seam import ApiContext, Liveness
from controller.errors import Waiting
from controller.ops import explain as ops_explain
from controller.ops import history as ops_history
from controller.ops import orders, weights
from controller.ops import status as ops_status
from controller.ops.documents import (
    OverridesDocument,
    PinDocument,
    QuarantinedDocument,
    SuspensionDocument,
    condition_document,
    documented,
    overrides_document,
)
from controller.ops.names import require_pipeline
from controller.ops.plans import PassDocument, PlanDocument, ReloadDocument

_T = TypeVar("_T")

OPERATIONS: Final = router()
"""Those of the Unix socket alone, for whoever may open it."""


class _Yaml(Response):
    media_type = "application/yaml"


def _text(media_type: str, kind: str, description: str) -> dict[int | str, dict[str, Any]]:
    """What an operation gives that is no JSON."""
    content = {media_type: {"schema": {"type": kind}}}
    return {200: {"description": description, "content": content}}


_CONFIG: Final = _text("application/yaml", "object", "As `serve deploy` takes it.")


# -- what is told --------------------------------------------------------------------------------


def _status(context: ApiContext, *, everything: bool) -> ops_status.StatusDocument:
    now = context.clock()
    seen = ops_status.tell(context.reader, context.config, now, everything=everything)
    # What cannot be written into the journal is not in it.
    if (unrecorded := context.controls.liveness().unrecorded) is not None:
        seen["conditions"].append(condition_document(unrecorded, now))
    return seen


@OPERATIONS.get("/v1/status")
def status(
    context: Context, request: Annotated[requests.StatusRequest, Query()]
) -> ops_status.StatusDocument:
    """What is served, what is on its way, what failed, and whether passes go on."""
    return _status(context, everything=request.all)


@OPERATIONS.get("/v1/explain/{name}")
def explain(
    context: Context,
    name: Annotated[
        str,
        Path(
            description="A pipeline, a project or a wheel's file name.",
            max_length=250,
            examples=["iris"],
        ),
    ],
    request: Annotated[requests.ExplainRequest, Query()],
) -> ops_explain.StoryDocument:
    """Why each version of a pipeline is live, or exactly why it is not."""
    version = None if request.version is None else Version(request.version)
    return ops_explain.tell(context.reader, name, version, now=context.clock())


@OPERATIONS.get("/v1/explain")
def explain_all(context: Context) -> list[ops_explain.SummaryDocument]:
    """Of each pipeline, whether it is live and why not."""
    return ops_explain.tell_all(context.reader, now=context.clock())


@OPERATIONS.get("/v1/history")
def history(
    context: Context, request: Annotated[requests.HistoryRequest, Query()]
) -> ops_history.HistoryDocument:
    """What happened, which configs were sent, and why."""
    return ops_history.tell(context.reader, request.pipeline, request.limit)


@OPERATIONS.get("/v1/configs/{digest}", response_class=_Yaml, responses=_CONFIG)
def config(
    context: Context,
    digest: Annotated[
        str,
        Path(
            description="The config's SHA-256, or its start.",
            pattern="^[0-9a-f]{1,64}$",
            examples=["ab12ab12"],
        ),
    ],
) -> Response:
    """The text of a Serve config that was sent."""
    return _Yaml(context.reader.serve_config(digest))


@OPERATIONS.get("/v1/plan")
def plan(context: Context) -> PlanDocument:
    """What the last pass would change and why, as far as it has not done so."""
    return context.controls.plan()


@OPERATIONS.get("/v1/plan/config", response_class=_Yaml, responses=_CONFIG)
def planned_config(context: Context) -> Response:
    """The text of the Serve config that the last pass planned."""
    return _Yaml(context.controls.planned_config())


@OPERATIONS.get("/v1/quarantine")
def quarantines(
    context: Context, request: Annotated[requests.QuarantinesRequest, Query()]
) -> list[QuarantinedDocument]:
    """The releases that failed and are left alone."""
    return ops_status.quarantines(context.reader, everything=request.all)


@OPERATIONS.get("/v1/overrides")
def overrides(context: Context) -> OverridesDocument:
    """What operators pinned and suspended."""
    return overrides_document(context.reader.overrides())


@OPERATIONS.get(
    "/v1/events",
    response_class=StreamingResponse,
    responses=_text("text/event-stream", "string", "Events, until one side ends it."),
)
async def events(
    context: Context,
    request: Annotated[requests.EventsRequest, Query()],
    seen: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            pattern="^[0-9]{1,18}$",
            description="The id of the last event that was seen; wins over `after`.",
        ),
    ] = None,
) -> StreamingResponse:
    """What happens, as it happens: server-sent events with EventDocument as data, whose id is the
    event's number in the journal.
    """
    if request.pipeline is not None:
        order = "/v1/events?pipeline=NAME"
        await run_in_threadpool(require_pipeline, context.reader, request.pipeline, order)
    after = request.after if seen is None else int(seen)
    told = stream(context, after, request.pipeline)
    return StreamingResponse(told, media_type="text/event-stream")


# -- what is ordered -----------------------------------------------------------------------------


_Suspension = Annotated[
    requests.SuspensionRequest, Body(default_factory=requests.SuspensionRequest)
]


class _Signature(TypedDict):
    by: str
    at: float
    note: str


def _signature(context: ApiContext, request: requests.OrderRequest) -> _Signature:
    return {"by": request.by, "at": context.clock(), "note": request.note}


def _then_wake(context: ApiContext, done: _T) -> _T:
    """What was ordered, with the daemon awake to see it."""
    context.controls.wake()
    return done


@OPERATIONS.post("/v1/reload")
def reload(
    context: Context,
    request: Annotated[requests.ReloadRequest, Body(default_factory=requests.ReloadRequest)],
) -> ReloadDocument:
    """Take up the configuration file as it is now, and tell whether it is in force."""
    return context.controls.reload(request.timeout)


@OPERATIONS.post("/v1/reconcile")
def reconcile(
    context: Context,
    request: Annotated[requests.ReconcileRequest, Body(default_factory=requests.ReconcileRequest)],
) -> PassDocument:
    """Look at all sources now, and tell of the pass after that."""
    return context.controls.reconcile(request.timeout)


@OPERATIONS.post("/v1/pin")
def pin(context: Context, request: requests.PinRequest) -> PinDocument:
    """Have exactly these versions of a pipeline served, whatever the configuration says."""
    versions, signature = map(Version, request.versions), _signature(context, request)
    order = weights.pin if request.weights else orders.pin
    return _then_wake(context, order(context.journal, request.pipeline, versions, **signature))


@OPERATIONS.post("/v1/unpin")
def unpin(context: Context, request: requests.PipelineRequest) -> PinDocument:
    """Let the configuration's policy decide again."""
    signature = _signature(context, request)
    order = weights.unpin if request.weights else orders.unpin
    return _then_wake(context, order(context.journal, request.pipeline, **signature))


@OPERATIONS.post("/v1/rollback")
def rollback(
    context: Context, request: requests.PipelineRequest
) -> orders.RollbackDocument | weights.WeightsRollbackDocument:
    """Pin the newest version that was live before the present one, or the weights that were."""
    signature = _signature(context, request)
    if request.weights:
        back = weights.roll_back(context.journal, request.pipeline, **signature)
        return _then_wake(context, back)
    return _then_wake(context, orders.roll_back(context.journal, request.pipeline, **signature))


@OPERATIONS.post("/v1/suspend")
def suspend(context: Context, request: _Suspension) -> SuspensionDocument:
    """From the next pass on, have nothing changed on the cluster, for a pipeline or at all."""
    signature = _signature(context, request)
    return _then_wake(context, orders.suspend(context.journal, request.pipeline or "", **signature))


@OPERATIONS.post("/v1/resume")
def resume(context: Context, request: _Suspension) -> SuspensionDocument:
    """End a suspension."""
    signature = _signature(context, request)
    return _then_wake(context, orders.resume(context.journal, request.pipeline or "", **signature))


@OPERATIONS.post("/v1/quarantine/clear")
def clear_quarantine(
    context: Context, request: requests.ClearRequest
) -> list[weights.LiftedWeightsDocument] | list[QuarantinedDocument]:
    """Have a pipeline's failed releases tried again, or weights that failed with one."""
    version = None if request.version is None else Version(request.version)
    signature = _signature(context, request)
    meant = context.journal, request.pipeline, version
    if request.weights:
        return _then_wake(context, weights.clear_quarantine(*meant, **signature))
    return _then_wake(context, orders.clear_quarantine(*meant, **signature))


# -- what monitoring needs -----------------------------------------------------------------------
#
# `/livez` asks whether passes come to their end: if not, a restart may help. `/readyz` and
# `/healthz` also ask whether the last one did, saw Ray, and could be recorded: if not, no restart
# of the daemon helps.

MONITORING: Final = router()
"""Those of the port as well, for every user of the machine."""


@documented
class HealthDocument(TypedDict):
    """That all is well."""

    number: int
    """Of the last pass that did not fail; 0 before there was one."""
    age: float
    """Seconds since that ended, or since the daemon began."""
    sentence: str
    """What the last pass found."""


@MONITORING.get("/livez")
def livez(context: Context) -> HealthDocument:
    """Whether passes go on; 503 when none has come to its end for too long."""
    return _alive(context, context.controls.liveness())


def _alive(context: ApiContext, liveness: Liveness) -> HealthDocument:
    if liveness.age > liveness.limit:
        raise Waiting(
            "NoPassLately",
            f"no pass has come to its end for {liveness.age:.0f} s, {liveness.limit:.0f} s are "
            f"allowed; the last one: {liveness.sentence}",
        )
    document: HealthDocument = {
        "number": liveness.number,
        "age": liveness.age,
        "sentence": liveness.sentence,
    }
    return redacted(context, document)


@MONITORING.get("/readyz")
def readyz(context: Context) -> HealthDocument:
    """Whether the last pass came to its end, saw Ray and could be recorded; 503 when not."""
    liveness = context.controls.liveness()
    document = _alive(context, liveness)
    if liveness.unrecorded is not None:
        raise Waiting(liveness.unrecorded.reason, liveness.unrecorded.message)
    for wrong, reason in (
        (liveness.failed, "PassFailed"),
        (liveness.number == 0, "NoPassYet"),
        (not liveness.observed, "RayUnavailable"),
    ):
        if wrong:
            raise Waiting(reason, liveness.sentence)
    return document


@MONITORING.get("/healthz")
def healthz(context: Context) -> HealthDocument:
    """The same as readyz."""
    return readyz(context)


@MONITORING.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=_text("text/plain", "string", "Prometheus's text format."),
)
def metrics(context: Context) -> Response:
    """Metrics for Prometheus."""
    return Response(context.metrics(), media_type=CONTENT_TYPE_LATEST)


@MONITORING.get("/status.json")
def status_for_all(context: Context) -> ops_status.StatusDocument:
    """As status; on the port without its free texts."""
    return redacted(context, _status(context, everything=False))
