"""Short words for asking the stand-in: what is asked for, which error came, a source that does."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from controller.reconcile.artifacts import Artifacts, Means
from controller.reconcile.jobs import Jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from controller.model import Condition, Listing, Refusal
    from controller.sources import Source
    from tests.support.codeartifact import StandIn

HERE = {"domain": "acme", "repository": "pipelines"}
DEMO = {**HERE, "format": "pypi", "package": "demo"}
ONE = {**DEMO, "packageVersion": "1.0"}
WHEEL = {**ONE, "asset": "demo-1.0-py3-none-any.whl"}
ONCE = Config(retries={"total_max_attempts": 1})
POLL = "ListPackageVersions"
FILES = "ListPackageVersionAssets"


def versions(listing: Listing) -> list[str]:
    """What is offered, in its order."""
    return [str(revision.version) for revision in listing.revisions]


def reasons(found: Iterable[Refusal | Condition]) -> dict[str, str]:
    """By subject."""
    return {item.subject: item.reason for item in found}


def later(clock: Any, seconds: float = 30.0) -> None:
    """Let time pass; a poll is due after that long."""
    clock.now += seconds


def asked(standin: StandIn, operation: str) -> int:
    """How many requests for it came."""
    return len(standin.asked(operation))


def code_of(call: Callable[..., Any], **params: Any) -> str:
    """The code of the error that a call of boto3 must end with."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    return str(caught.value.response["Error"]["Code"])


def artifacts_of(*sources: Source, clock: Any, before: Any = None, **means: Any) -> Artifacts:
    """What becomes of these; every job runs in the asking thread."""
    nothing = dict.fromkeys(field.name for field in fields(Means))
    return Artifacts(
        sources,
        Jobs(0, lambda: None, clock=clock, jitter=lambda: 0.0),
        Means(**nothing | means),
        remembered=before or {},
        clock=clock,
    )


def section(standin: StandIn, **options: Any) -> str:
    """A `[[sources]]` section for the stand-in's repository; `options` go before its own."""
    address = standin.address
    mine = {
        "type": "codeartifact",
        "domain": address.domain,
        "domain_owner": address.owner,
        "repository": address.repository,
        "region": address.region,
        "endpoint_url": standin.url,
        "poll_interval": 1,
    }
    # Strings, numbers and lists of them are in JSON what they are in TOML.
    lines = (f"{key} = {json.dumps(value)}" for key, value in (mine | options).items())
    return "\n".join(["", "[[sources]]", *lines, ""])
