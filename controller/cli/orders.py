"""Orders of a person: poll now, pin, roll back, suspend; and how they are taken back.

With the daemon down all but `reconcile` is written into its journal, and holds from its next pass.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from controller.cli.invocation import invocation
from controller.cli.link import ordered, post, told, whoami
from controller.cli.output import first_line, paragraph, show, table
from controller.cli.parameters import AsJson, Name, NameOrAll, Note, OfWeights, parsed_version
from controller.cli.plans import drawn_found
from controller.cli.program import ExitCode
from controller.ops import orders
from controller.ops import weights as of_weights
from controller.ops.status import quarantines
from controller.ops.times import ago, seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from controller.ops.documents import PinDocument, QuarantinedDocument
    from controller.ops.plans import PassDocument

_TRIED: Final = "The daemon tries again at its next pass; see `wheelway status`."
_OTHERS_LEAVE: Final = "others leave: now if that is live already, else once it is."


def reconcile(
    ctx: typer.Context,
    *,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0, max=300, help="Seconds to wait for the sources.")
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Have the daemon look at all sources now, and say what it found and did.

    Exits with 69 when that did not come about: in time, or for lack of Ray.
    """

    def drawn(done: "PassDocument") -> "Iterable[RenderableType]":
        yield done["sentence"]
        if not done["complete"]:
            late = (
                f"Within {timeout:g} s no pass came to its end that knew what every source lists; "
                "`wheelway status` has the rest."
            )
            yield paragraph(late, style="yellow")
        yield from (
            change["sentence"] for change in (done["plan"]["changes"] if done["plan"] else ())
        )
        yield from drawn_found(done["conditions"])

    done: PassDocument = post(invocation(ctx), "reconcile", more=timeout, timeout=timeout)
    show(done, drawn, as_json=as_json)
    if not done["complete"] or done["plan"] is None:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _order(
    ctx: typer.Context,
    path: str,
    name: str | None,
    *given: Any,
    note: str,
    as_json: bool,
    weights: bool = False,
    **body: Any,
) -> None:
    """Order what is at a path below `/v1/` of the API, and tell what was done.

    `given` is what the order is given in a journal beside the pipeline, `body` the same for the
    API; `weights`: it is about those.
    """
    order, said = _OF_WEIGHTS[path] if weights else _ORDERS[path]
    if weights:  # nobody else is told: a daemon of before takes no such key
        body["weights"] = True
    how = {"by": whoami(), "note": note}
    done: Any = ordered(
        invocation(ctx),
        *path.split("/"),
        otherwise=lambda journal: order(journal, name or "", *given, at=time.time(), **how),
        pipeline=name,
        **body,
        **how,
    )
    show(done, lambda done: (said(done),), as_json=as_json)


def _rolled_back(done: orders.RollbackDocument) -> str:
    pipeline, before = done["pin"]["pipeline"], done["before"]
    back = f"from {before} to {done['after']}" if before else f"to {done['after']}"
    return (
        f"{pipeline} goes back {back}: it is pinned; {_OTHERS_LEAVE}\n"
        f"`wheelway status` shows how far it is, `wheelway unpin {pipeline}` ends it."
    )


_ORDERS: Final[Mapping[str, tuple[Callable[..., Any], Callable[[Any], str]]]] = {
    "pin": (
        orders.pin,
        lambda done: (
            f"{done['pipeline']} is pinned to {', '.join(done['versions'])}; {_OTHERS_LEAVE}\n"
            f"`wheelway status` shows how far it is, `wheelway unpin {done['pipeline']}` ends it."
        ),
    ),
    "unpin": (
        orders.unpin,
        lambda done: (
            f"{done['pipeline']} is no longer pinned to {', '.join(done['versions'])}: the "
            "configuration decides again, and the newest versions that it allows come back.\n"
            "`wheelway status` shows how far that is, `wheelway explain "
            f"{done['pipeline']}` why each is live or not."
        ),
    ),
    "rollback": (orders.roll_back, _rolled_back),
    "suspend": (
        orders.suspend,
        lambda done: (
            f"{done['pipeline'] or 'Everything'} is suspended from the daemon's next pass on: then "
            "it stays as it is, what serves goes on.\n"
            "What a pass under way sends may still come; `wheelway status` shows `Suspended` once "
            "it holds."
        ),
    ),
    "resume": (
        orders.resume,
        lambda done: f"{done['pipeline'] or 'Everything'} is no longer suspended.",
    ),
    "quarantine/clear": (
        orders.clear_quarantine,
        lambda lifted: "\n".join(
            [f"lifted: {one['pipeline']} {one['version']} ({one['reason']})" for one in lifted]
            + [_TRIED]
        ),
    ),
}
"""By path: what does it in a journal and returns the API's document, and what tells of that."""


def _pinned_weights(done: "PinDocument") -> str:
    name, versions = done["pipeline"], done["versions"]
    which = versions[0] if len(versions) == 1 else f"the newest that fits of {', '.join(versions)}"
    return (
        f"The weights of {name} are pinned to {which}; the present ones serve until these do.\n"
        f"`wheelway status` shows how far it is, `wheelway unpin {name} --weights` ends it."
    )


_OF_WEIGHTS: Final[Mapping[str, tuple[Callable[..., Any], Callable[[Any], str]]]] = {
    "pin": (of_weights.pin, _pinned_weights),
    "unpin": (
        of_weights.unpin,
        lambda done: (
            f"The weights of {done['pipeline']} are no longer pinned: the configuration decides "
            "again, and the newest that it allows come back."
        ),
    ),
    "rollback": (
        of_weights.roll_back,
        lambda done: (
            f"The weights of {done['pin']['pipeline']} go back from {done['before']} to "
            f"{done['after']}: they are pinned; the present ones serve until these do.\n"
            f"`wheelway status` shows how far it is, `wheelway unpin {done['pin']['pipeline']} "
            "--weights` ends it."
        ),
    ),
    "quarantine/clear": (
        of_weights.clear_quarantine,
        lambda lifted: "\n".join(
            [
                f"lifted: {one['weights']} for {one['pipeline']} {one['version']} ({one['reason']})"
                for one in lifted
            ]
            + [*dict.fromkeys(one.get("then", _TRIED) for one in lifted)]
        ),
    ),
}
"""The same for weights."""


def pin(
    ctx: typer.Context,
    name: Name,
    versions: Annotated[list[str], typer.Argument(help="Exactly these are served.")],
    *,
    weights: OfWeights = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Serve exactly these versions of a pipeline, whatever the configuration says.

    What is served now leaves once they are live. It holds until `wheelway unpin`. With --weights
    the newest of these that fits is in force.
    """
    wanted = [parsed_version(text) for text in versions]
    asked = [str(version) for version in wanted]
    how: Any = {"weights": weights, "note": note, "as_json": as_json}
    _order(ctx, "pin", name, wanted, versions=asked, **how)


def unpin(
    ctx: typer.Context,
    name: Name,
    *,
    weights: OfWeights = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Let the configuration decide again which versions of a pipeline are served.

    The newest that it allows come back, and what was pinned leaves unless it is among them.
    """
    _order(ctx, "unpin", name, weights=weights, note=note, as_json=as_json)


def rollback(
    ctx: typer.Context,
    name: Name,
    *,
    weights: OfWeights = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Go back to the version that was live before the newest that is.

    It is pinned; what is served now leaves once it is live. Its wheel has to be in a source. With
    --weights the newest release that is live goes back to the weights it was live with before.
    """
    _order(ctx, "rollback", name, weights=weights, note=note, as_json=as_json)


def suspend(
    ctx: typer.Context, name: NameOrAll = None, *, note: Note = "", as_json: AsJson = False
) -> None:
    """Change nothing on the cluster, or nothing of one pipeline; what serves goes on.

    It holds from the daemon's next pass until `wheelway resume`.
    """
    _order(ctx, "suspend", name, note=note, as_json=as_json)


def resume(
    ctx: typer.Context, name: NameOrAll = None, *, note: Note = "", as_json: AsJson = False
) -> None:
    """End a suspension."""
    _order(ctx, "resume", name, note=note, as_json=as_json)


# -- quarantine ----------------------------------------------------------------------------------

quarantine = typer.Typer(rich_markup_mode=None)


@quarantine.callback()
def _quarantine() -> None:
    """List what failed and is left alone, or have it tried again."""


@quarantine.command("list")
def list_(
    ctx: typer.Context,
    *,
    as_json: AsJson = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those whose wheel is listed no more.")
    ] = False,
) -> None:
    """List the releases that failed and are left alone, and weights that failed with one.

    What failed and is gone is remembered, in case the same bytes come back; --all shows it too.
    """
    show(
        told(
            *(invocation(ctx), "quarantine"),
            otherwise=lambda reader: quarantines(reader, everything=everything),
            all=everything,
        ),
        _drawn_quarantines,
        as_json=as_json,
    )


def _drawn_quarantines(found: "list[QuarantinedDocument]") -> "Iterable[RenderableType]":
    if not found:
        yield "Nothing is quarantined."
        return
    now = time.time()
    rows = [
        (
            q["pipeline"],
            q["version"],
            q.get("weights") or q["stage"],
            (q["reason"], "red"),
            ago(now - seconds(q["at"])),
            first_line(q["message"]),
        )
        for q in found
    ]
    yield table(("pipeline", "version", "stage", "reason", "since", "message"), rows)


@quarantine.command()
def clear(
    ctx: typer.Context,
    name: Name,
    version: Annotated[str | None, typer.Argument(help="One version; default: all.")] = None,
    *,
    weights: OfWeights = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Lift a quarantine: the daemon tries the release again at its next pass.

    With --weights: it tries weights again that failed with a release.
    """
    wanted = None if version is None else parsed_version(version)
    asked = None if wanted is None else str(wanted)
    how: Any = {"weights": weights, "note": note, "as_json": as_json}
    _order(ctx, "quarantine/clear", name, wanted, version=asked, **how)
