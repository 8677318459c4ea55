"""What operations take, in the query or as the body; the reference is made from the same models."""

import re
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict

VERSION: Final = (
    r"^([0-9]+!)?[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?"
    r"(\+[a-z0-9]+(\.[a-z0-9]+)*)?$"
)
"""A version in its normal form (PEP 440, appendix B)."""
NAME: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
"""A name as PEP 508 has it; it is normalised (PEP 503)."""


def _truth(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) else value


VersionText = Annotated[str, Field(pattern=VERSION, max_length=100, examples=["1.3"])]
Name = Annotated[str, Field(pattern=NAME, max_length=100, examples=["iris"])]
Truth = Annotated[bool, BeforeValidator(_truth)]
"""`true` or `false`, in a query."""
WHOLE: Final = BeforeValidator(_whole)
"""Of an integer in a query: digits; after its bounds, so that the schema has them."""
Seconds = Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)]


class OperationRequest(BaseModel):
    """What an operation takes, of the query or as the body; nothing unknown."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class StatusRequest(OperationRequest):
    """What `status` takes."""

    all: Truth = False
    """Also what is over: retired, superseded, not kept."""


class QuarantinesRequest(OperationRequest):
    """What `quarantines` takes."""

    all: Truth = False
    """Also those whose wheel is listed no more."""


class ExplainRequest(OperationRequest):
    """What `explain` takes beside the name."""

    version: VersionText | None = None
    """One version; default: all."""


class HistoryRequest(OperationRequest):
    """What `history` takes."""

    pipeline: Name | None = None
    """One pipeline; default: everything."""
    limit: Annotated[int, Field(ge=1, le=5000), WHOLE] = 50
    """At most this many events, and as many configs; the last ones."""


class EventsRequest(OperationRequest):
    """What `events` takes."""

    after: Annotated[int, Field(ge=0, lt=10**18), WHOLE] | None = None
    """Begin after the event of this number, 0 for all that are kept; default: what comes now. The
    header `Last-Event-ID` wins."""
    pipeline: Name | None = None
    """One pipeline; default: everything."""


class ReconcileRequest(OperationRequest):
    """What `reconcile` takes."""

    timeout: Seconds = 30.0
    """Seconds to wait for the sources."""


class ReloadRequest(OperationRequest):
    """What `reload` takes."""

    timeout: Seconds = 60.0
    """Seconds to wait until it was taken up."""


class OrderRequest(OperationRequest):
    """What every order takes."""

    by: Annotated[str, Field(min_length=1, max_length=100)] = "operator"
    """Who orders it."""
    note: Annotated[str, Field(max_length=500)] = ""
    """Why."""


class PinRequest(OrderRequest):
    """What `pin` takes."""

    pipeline: Name
    versions: Annotated[
        tuple[VersionText, ...], Strict(strict=False), Field(min_length=1, max_length=50)
    ]
    """Exactly these are served, and nothing else of the pipeline."""
    weights: bool = False
    """They are versions of its weights, of which the newest that fits is in force."""


class PipelineRequest(OrderRequest):
    """What `unpin` and `rollback` take."""

    pipeline: Name
    weights: bool = False
    """Of its weights instead."""


class SuspensionRequest(OrderRequest):
    """What `suspend` and `resume` take."""

    pipeline: Name | None = None
    """Null: everything."""


class ClearRequest(PipelineRequest):
    """What `quarantine clear` takes."""

    version: VersionText | None = None
    """Null: all versions. With `weights` theirs."""
