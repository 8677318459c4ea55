"""The operations that tell what is known; they change nothing."""

from typing import Annotated, Final

from packaging.version import Version
from pydantic import Field

from controller.api.operations import (
    WHOLE,
    Asked,
    Name,
    Nothing,
    Operation,
    Text,
    Truth,
    VersionText,
)
from controller.api.seam import ApiContext
from controller.ops import explain, history, status, summaries
from controller.ops.documents import (
    OverridesDocument,
    QuarantinedDocument,
    condition_document,
    overrides_document,
)
from controller.ops.plans import PlanDocument


class StatusAsked(Asked):
    """What `status` takes."""

    all: Truth = False
    """Also what is over: retired, superseded, not kept."""


class QuarantineAsked(Asked):
    """What `quarantines` takes."""

    all: Truth = False
    """Also those whose wheel is listed no more."""


class ExplainAsked(Asked):
    """What `explain` takes."""

    name: Annotated[str, Field(min_length=1, max_length=250, examples=["iris"])]
    """A pipeline, a project or a wheel's file name."""
    version: VersionText | None = None
    """One version; default: all."""


class HistoryAsked(Asked):
    """What `history` takes."""

    pipeline: Name | None = None
    """One pipeline; default: everything."""
    limit: Annotated[int, Field(ge=1, le=5000), WHOLE] = 50
    """At most this many events, and as many configs; the last ones."""


class ConfigAsked(Asked):
    """What `config` takes."""

    digest: Annotated[str, Field(pattern="^[0-9a-f]{1,64}$", examples=["ab12ab12"])]
    """The config's SHA-256, or its start."""


def _status(context: ApiContext, asked: StatusAsked) -> status.StatusDocument:
    now = context.clock()
    seen = status.tell(context.reader, context.config, now, everything=asked.all)
    # What cannot be written into the journal is not in it.
    if (unrecorded := context.controls.liveness().unrecorded) is not None:
        seen["conditions"].append(condition_document(unrecorded, now))
    return seen


def _open_status(context: ApiContext, asked: Nothing) -> status.StatusDocument:
    del asked
    return _status(context, StatusAsked())


def _explain(context: ApiContext, asked: ExplainAsked) -> explain.StoryDocument:
    version = None if asked.version is None else Version(asked.version)
    return explain.tell(context.reader, asked.name, version)


def _explain_all(context: ApiContext, asked: Nothing) -> list[summaries.SummaryDocument]:
    del asked
    return summaries.tell(context.reader)


def _history(context: ApiContext, asked: HistoryAsked) -> history.HistoryDocument:
    return history.tell(context.reader, asked.pipeline, asked.limit)


def _config(context: ApiContext, asked: ConfigAsked) -> Text:
    return Text(context.reader.config(asked.digest), "application/yaml")


def _plan(context: ApiContext, asked: Nothing) -> PlanDocument:
    del asked
    return context.controls.plan()


def _planned_config(context: ApiContext, asked: Nothing) -> Text:
    del asked
    return Text(context.controls.planned_config(), "application/yaml")


def _quarantines(context: ApiContext, asked: QuarantineAsked) -> list[QuarantinedDocument]:
    return status.quarantines(context.reader, everything=asked.all)


def _overrides(context: ApiContext, asked: Nothing) -> OverridesDocument:
    del asked
    return overrides_document(context.reader.overrides())


OPERATIONS: Final = (
    Operation(
        "status",
        "GET",
        "/v1/status",
        "What is served, what is on its way, what failed, and whether passes go on",
        _status,
        StatusAsked,
        status.StatusDocument,
    ),
    Operation(
        "explain",
        "GET",
        "/v1/explain/{name}",
        "Why each version of a pipeline is live, or exactly why it is not",
        _explain,
        ExplainAsked,
        explain.StoryDocument,
    ),
    Operation(
        "explainAll",
        "GET",
        "/v1/explain",
        "Of each pipeline, whether it is live and why not",
        _explain_all,
        gives=list[summaries.SummaryDocument],
    ),
    Operation(
        "history",
        "GET",
        "/v1/history",
        "What happened, which configs were sent, and why",
        _history,
        HistoryAsked,
        history.HistoryDocument,
    ),
    Operation(
        "config",
        "GET",
        "/v1/configs/{digest}",
        "The text of a Serve config that was sent",
        _config,
        ConfigAsked,
        media_type="application/yaml",
    ),
    Operation(
        "plan",
        "GET",
        "/v1/plan",
        "What the last pass would change and why, as far as it has not done so",
        _plan,
        gives=PlanDocument,
    ),
    Operation(
        "plannedConfig",
        "GET",
        "/v1/plan/config",
        "The text of the Serve config that the last pass planned",
        _planned_config,
        media_type="application/yaml",
    ),
    Operation(
        "quarantines",
        "GET",
        "/v1/quarantine",
        "The releases that failed and are left alone",
        _quarantines,
        QuarantineAsked,
        gives=list[QuarantinedDocument],
    ),
    Operation(
        "overrides",
        "GET",
        "/v1/overrides",
        "What operators pinned and suspended",
        _overrides,
        gives=OverridesDocument,
    ),
    Operation(
        "statusForAll",
        "GET",
        "/status.json",
        "As status; on the port without its free texts",
        _open_status,
        gives=status.StatusDocument,
        open=True,
    ),
)
