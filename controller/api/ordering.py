"""The operations that change something: what a person orders, written down for the next pass.

Who orders it (`by`) is taken at its word: whoever may open the socket may order anything.
"""

from typing import Annotated, Final

from packaging.version import Version
from pydantic import Field

from controller.api.operations import Asked, Name, Operation, VersionText
from controller.api.seam import ApiContext
from controller.ops import orders
from controller.ops.documents import (
    PinDocument,
    QuarantinedDocument,
    SuspensionDocument,
)
from controller.ops.plans import PassDocument, ReloadDocument


class Ordered(Asked):
    """What every order takes."""

    by: Annotated[str, Field(min_length=1, max_length=100)] = "operator"
    """Who orders it."""
    note: Annotated[str, Field(max_length=500)] = ""
    """Why."""


class ReconcileAsked(Asked):
    """What `reconcile` takes."""

    timeout: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 30.0
    """Seconds to wait for the sources."""


class ReloadAsked(Asked):
    """What `reload` takes."""

    timeout: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 60.0
    """Seconds to wait until it was taken up."""


class PinAsked(Ordered):
    """What `pin` takes."""

    pipeline: Name
    versions: Annotated[tuple[VersionText, ...], Field(min_length=1, max_length=50)]
    """Exactly these are served, and nothing else of the pipeline."""


class PipelineAsked(Ordered):
    """What `unpin` and `rollback` take."""

    pipeline: Name


class SuspensionAsked(Ordered):
    """What `suspend` and `resume` take."""

    pipeline: Name | None = None
    """Null: everything."""


class ClearAsked(PipelineAsked):
    """What `quarantine clear` takes."""

    version: VersionText | None = None
    """Null: all versions."""


def _reconcile(context: ApiContext, asked: ReconcileAsked) -> PassDocument:
    return context.controls.reconcile(asked.timeout)


def _reload(context: ApiContext, asked: ReloadAsked) -> ReloadDocument:
    return context.controls.reload(asked.timeout)


def _pin(context: ApiContext, asked: PinAsked) -> PinDocument:
    versions = map(Version, asked.versions)
    order = orders.pin(
        context.journal, asked.pipeline, versions, by=asked.by, at=context.clock(), note=asked.note
    )
    context.controls.wake()
    return order


def _unpin(context: ApiContext, asked: PipelineAsked) -> PinDocument:
    lifted = orders.unpin(
        context.journal, asked.pipeline, by=asked.by, at=context.clock(), note=asked.note
    )
    context.controls.wake()
    return lifted


def _rollback(context: ApiContext, asked: PipelineAsked) -> orders.RollbackDocument:
    done = orders.roll_back(
        context.journal, asked.pipeline, by=asked.by, at=context.clock(), note=asked.note
    )
    context.controls.wake()
    return done


def _suspend(context: ApiContext, asked: SuspensionAsked) -> SuspensionDocument:
    order = orders.suspend(
        context.journal, asked.pipeline or "", by=asked.by, at=context.clock(), note=asked.note
    )
    context.controls.wake()
    return order


def _resume(context: ApiContext, asked: SuspensionAsked) -> SuspensionDocument:
    lifted = orders.resume(
        context.journal, asked.pipeline or "", by=asked.by, at=context.clock(), note=asked.note
    )
    context.controls.wake()
    return lifted


def _clear(context: ApiContext, asked: ClearAsked) -> list[QuarantinedDocument]:
    version = None if asked.version is None else Version(asked.version)
    lifted = orders.clear_quarantine(
        context.journal, asked.pipeline, version, by=asked.by, at=context.clock(), note=asked.note
    )
    context.controls.wake()
    return lifted


OPERATIONS: Final = (
    Operation(
        "reload",
        "POST",
        "/v1/reload",
        "Take up the configuration file as it is now, and tell whether it is in force",
        _reload,
        ReloadAsked,
        ReloadDocument,
    ),
    Operation(
        "reconcile",
        "POST",
        "/v1/reconcile",
        "Look at all sources now, and tell of the pass after that",
        _reconcile,
        ReconcileAsked,
        PassDocument,
    ),
    Operation(
        "pin",
        "POST",
        "/v1/pin",
        "Have exactly these versions of a pipeline served, whatever the configuration says",
        _pin,
        PinAsked,
        PinDocument,
    ),
    Operation(
        "unpin",
        "POST",
        "/v1/unpin",
        "Let the configuration's policy decide again",
        _unpin,
        PipelineAsked,
        PinDocument,
    ),
    Operation(
        "rollback",
        "POST",
        "/v1/rollback",
        "Pin the newest version that was live before the present one",
        _rollback,
        PipelineAsked,
        orders.RollbackDocument,
    ),
    Operation(
        "suspend",
        "POST",
        "/v1/suspend",
        "From the next pass on, have nothing changed on the cluster, for a pipeline or at all",
        _suspend,
        SuspensionAsked,
        SuspensionDocument,
    ),
    Operation(
        "resume",
        "POST",
        "/v1/resume",
        "End a suspension",
        _resume,
        SuspensionAsked,
        SuspensionDocument,
    ),
    Operation(
        "clearQuarantine",
        "POST",
        "/v1/quarantine/clear",
        "Have a pipeline's failed releases tried again",
        _clear,
        ClearAsked,
        list[QuarantinedDocument],
    ),
)
