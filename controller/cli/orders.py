"""What a person may order: look now, pin, roll back, suspend; and all of it taken back.

With the daemon down all but `reconcile` is written into its journal, and holds from its next pass.
"""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.explain import parsed_version
from controller.cli.invocation import invocation
from controller.cli.link import link, ordered, whoami
from controller.cli.output import console, paragraph, print_json
from controller.cli.plans import print_notices
from controller.cli.program import ExitCode
from controller.ops import documents, orders

if TYPE_CHECKING:
    from controller.ops.plans import PassDocument

_Name = Annotated[str, typer.Argument(help="The pipeline.")]
_NameOrAll = Annotated[str | None, typer.Argument(help="A pipeline; default: everything.")]
_Note = Annotated[str, typer.Option("--note", "-m", metavar="TEXT", help="Why, for others.")]
_OTHERS_LEAVE = "others leave: now if that is live already, else once it is."
_Json = Annotated[bool, typer.Option("--json", help="For scripts.")]


def reconcile(
    ctx: typer.Context,
    *,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0, max=300, help="Seconds to wait for the sources.")
    ] = 30.0,
    as_json: _Json = False,
) -> None:
    """Have the daemon look at all sources now, and say what it found and did.

    Exits with 69 when that did not come about: in time, or for lack of Ray.
    """
    done: PassDocument = link(invocation(ctx)).post(
        "v1", "reconcile", more=timeout, timeout=timeout
    )
    if as_json:
        print_json(done)
    else:
        _print_pass(done, timeout)
    if not done["complete"] or done["plan"] is None:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _print_pass(done: "PassDocument", timeout: float) -> None:
    out = console()
    out.print(paragraph(done["sentence"]))
    if not done["complete"]:
        late = (
            f"Within {timeout:g} s no pass came to its end that knew what every source lists; "
            "`wheelway status` has the rest."
        )
        out.print(paragraph(late, style="yellow"))
    for change in done["plan"]["changes"] if done["plan"] else []:
        out.print(paragraph(change["sentence"]))
    print_notices(out, done["conditions"])


def pin(
    ctx: typer.Context,
    name: _Name,
    versions: Annotated[list[str], typer.Argument(help="Exactly these are served.")],
    *,
    note: _Note = "",
    as_json: _Json = False,
) -> None:
    """Serve exactly these versions of a pipeline, whatever the configuration says.

    What is served now leaves once they are live. It holds until `wheelway unpin`.
    """
    wanted = [parsed_version(text) for text in versions]
    asked, by = invocation(ctx), whoami()
    done = ordered(
        asked,
        lambda daemon: daemon.post(
            "v1", "pin", pipeline=name, versions=[str(v) for v in wanted], by=by, note=note
        ),
        lambda journal: documents.pin_document(
            orders.pin(journal, name, wanted, by=by, at=time.time(), note=note)
        ),
    )
    if as_json:
        print_json(done)
        return
    pinned = ", ".join(done["versions"])
    said = f"{done['pipeline']} is pinned to {pinned}; {_OTHERS_LEAVE}"
    _say(
        said, f"`wheelway status` shows how far it is, `wheelway unpin {done['pipeline']}` ends it."
    )


def unpin(ctx: typer.Context, name: _Name, *, note: _Note = "", as_json: _Json = False) -> None:
    """Let the configuration decide again which versions of a pipeline are served.

    The newest that it allows come back, and what was pinned leaves unless it is among them.
    """
    asked, by = invocation(ctx), whoami()
    done = ordered(
        asked,
        lambda daemon: daemon.post("v1", "unpin", pipeline=name, by=by, note=note),
        lambda journal: documents.pin_document(
            orders.unpin(journal, name, by=by, at=time.time(), note=note)
        ),
    )
    if as_json:
        print_json(done)
        return
    pipeline = done["pipeline"]
    _say(
        f"{pipeline} is no longer pinned to {', '.join(done['versions'])}: the configuration "
        "decides again, and the newest versions that it allows come back.",
        f"`wheelway status` shows how far that is, `wheelway explain {pipeline}` why each is live "
        "or not.",
    )


def rollback(ctx: typer.Context, name: _Name, *, note: _Note = "", as_json: _Json = False) -> None:
    """Go back to the version that was live before the newest that is.

    It is pinned; what is served now leaves once it is live. Its wheel has to be in a source.
    """
    asked, by = invocation(ctx), whoami()
    done = ordered(
        asked,
        lambda daemon: daemon.post("v1", "rollback", pipeline=name, by=by, note=note),
        lambda journal: orders.rollback_document(
            orders.roll_back(journal, name, by=by, at=time.time(), note=note)
        ),
    )
    if as_json:
        print_json(done)
        return
    pipeline, before = done["pin"]["pipeline"], done["before"]
    back = f"from {before} to {done['after']}" if before else f"to {done['after']}"
    _say(
        f"{pipeline} goes back {back}: it is pinned; {_OTHERS_LEAVE}",
        f"`wheelway status` shows how far it is, `wheelway unpin {pipeline}` ends it.",
    )


def suspend(
    ctx: typer.Context, name: _NameOrAll = None, *, note: _Note = "", as_json: _Json = False
) -> None:
    """Change nothing on the cluster, or nothing of one pipeline; what serves goes on.

    It holds from the daemon's next pass until `wheelway resume`.
    """
    asked, by = invocation(ctx), whoami()
    done = ordered(
        asked,
        lambda daemon: daemon.post("v1", "suspend", pipeline=name, by=by, note=note),
        lambda journal: documents.suspension_document(
            orders.suspend(journal, name or "", by=by, at=time.time(), note=note)
        ),
    )
    if as_json:
        print_json(done)
        return
    _say(
        f"{done['pipeline'] or 'Everything'} is suspended from the daemon's next pass on: then it "
        "stays as it is, what serves goes on.",
        "What a pass under way sends may still come; `wheelway status` shows `Suspended` once it "
        "holds.",
    )


def resume(
    ctx: typer.Context, name: _NameOrAll = None, *, note: _Note = "", as_json: _Json = False
) -> None:
    """End a suspension."""
    asked, by = invocation(ctx), whoami()
    done = ordered(
        asked,
        lambda daemon: daemon.post("v1", "resume", pipeline=name, by=by, note=note),
        lambda journal: documents.suspension_document(
            orders.resume(journal, name or "", by=by, at=time.time(), note=note)
        ),
    )
    if as_json:
        print_json(done)
        return
    _say(f"{done['pipeline'] or 'Everything'} is no longer suspended.")


def _say(*sentences: str) -> None:
    out = console()
    for sentence in sentences:
        out.print(paragraph(sentence))
