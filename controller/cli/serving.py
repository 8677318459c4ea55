"""What serves: `up` and `run` keep at it, `plan` and `render` only say what they would do."""

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.invocation import BESIDE, invocation
from controller.cli.output import console, paragraph, print_json
from controller.cli.program import ExitCode
from controller.cli.progress import Progress
from controller.errors import Stalled, Waiting

if TYPE_CHECKING:
    from controller.config import Config
    from controller.model import JSON
    from controller.reconciler import Report


def up(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where wheels are dropped.")] = Path("wheels"),
    *,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the routes.")] = 8000,
    dashboard_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Of Ray's dashboard; a head there is used.")
    ] = 8265,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For wheels, environments."),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For the journal; default: .wheelway.")
    ] = None,
    num_cpus: Annotated[
        int | None, typer.Option(min=1, help="CPUs that Ray may hand out; default: all.")
    ] = None,
) -> None:
    """Serve the wheels in a folder: for a laptop, or a first try.

    Starts a Ray head unless one runs already. Ctrl-C ends everything that this started, and
    nothing else.
    """
    from controller.logs import begin  # noqa: PLC0415 - for the daemon alone
    from controller.telemetry_options import LogOptions  # noqa: PLC0415 - as above
    from controller.up import Place  # noqa: PLC0415 - imports the whole daemon
    from controller.up import up as serve  # noqa: PLC0415 - as above

    # What happens is shown step by step; the log would say it twice.
    level = logging.INFO if invocation(ctx).debug else logging.CRITICAL
    begin(LogOptions(format="text"), level=level)
    place = Place(
        wheels=folder,
        cache=cache or _default_cache(state or BESIDE.parent),
        state=state or BESIDE.parent,
        port=port,
        dashboard_port=dashboard_port,
    )
    command = "wheelway"
    if place.state != BESIDE.parent:
        command += f" --config {shlex.quote(str(place.state / BESIDE.name))}"
    progress = Progress(f"http://127.0.0.1:{port}", command=command)
    raise typer.Exit(serve(place, say=progress.say, watcher=progress, num_cpus=num_cpus))


def _default_cache(state: Path) -> Path:
    """In a checkout its `pipelines_cache/`, elsewhere beside the journal."""
    checkout = Path("pipelines_cache")
    return checkout if (checkout / "README.md").is_file() else state / "cache"


def run(ctx: typer.Context) -> None:
    """Run the daemon in the foreground.

    It looks at the sources, brings what is published to its route, and ends on SIGTERM or SIGINT;
    serving goes on without it. SIGHUP makes it look now. Its log goes to stderr, or with fields to
    systemd's journal when that is what stderr is; [log] in the configuration says otherwise.
    """
    path = invocation(ctx).config_path()
    from controller.daemon import run as serve  # noqa: PLC0415 - imports the whole daemon
    from controller.logs import begin  # noqa: PLC0415 - as above

    level = logging.DEBUG if invocation(ctx).debug else None

    def log(config: "Config") -> None:
        begin(config.log, level=level)

    log(invocation(ctx).config())
    raise typer.Exit(serve(path, renewed=log))


def plan(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say what would change now, and why; exit code 2 on changes.

    Nothing is sent to Ray and nothing is recorded; wheels are fetched and environments are built
    into the cache, for only then it is known whether they can be.
    """
    report = _previewed(ctx)
    if as_json:
        print_json(as_document(report))
    else:
        _print_plan(report)
    if report.plan is not None and report.plan.changes:
        raise typer.Exit(ExitCode.CHANGES)


def render(
    ctx: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of stdout.")
    ] = None,
) -> None:
    """Print the Serve config that would be applied now.

    `serve deploy` takes it as it is.
    """
    report = _previewed(ctx)
    if not report.config:
        raise Stalled(
            "ConfigNotRendered",
            f"there is no config to print: {report.sentence}. `wheelway plan` and "
            "`wheelway config check` may say more",
        )
    if output is None:
        sys.stdout.write(report.config)
        return
    try:
        output.write_text(report.config, encoding="utf-8")
    except OSError as error:
        raise Stalled("OutputUnwritable", f"{output} cannot be written: {error}") from error


def _previewed(ctx: typer.Context) -> "Report":
    """The daemon's next report without its deeds.

    Raises:
        WheelwayError: the configuration is wrong, Ray or the journal cannot be reached.
    """
    config = invocation(ctx).config()
    from controller.assembly import preview  # noqa: PLC0415 - imports the whole daemon

    report = preview(config)
    if report.plan is None:
        raise Waiting("RayUnavailable", report.sentence)
    return report


def _print_plan(report: "Report") -> None:
    out, plan = console(), report.plan
    if plan is None:
        return
    if not plan.changes:
        out.print(paragraph("Nothing to change."))
    for change in plan.changes:
        out.print(paragraph(change))
    if plan.hold:
        out.print(paragraph(f"Held back for now: {plan.hold}", style="yellow"))
    for failed in report.quarantines:
        said = f"Quarantine {failed.release}: {failed.reason} ({failed.stage}): {failed.message}"
        out.print(paragraph(said, style="red"))
    for condition in report.conditions:
        said = f"{condition.subject}: {condition.reason}: {condition.message}"
        out.print(paragraph(said, style="" if condition.ok else "yellow"))
    out.print(paragraph(f"Now: {report.sentence}", style="dim"))


def as_document(report: "Report") -> "JSON":
    """A plan as JSON; keys are only ever added.

    sentence      the state in a sentence
    changes       a sentence a difference; empty: nothing to do
    hold          why the config must wait though there are changes; "" when it need not
    applications  of the next config: name, route (null: staged), reason
    quarantines   release, stage, reason, message
    conditions    subject, reason, message, ok
    """
    plan = report.plan
    if plan is None:
        return {"sentence": report.sentence}
    return {
        "sentence": report.sentence,
        "changes": list(plan.changes),
        "hold": plan.hold,
        "applications": [
            {
                "name": planned.document["name"],
                "route": planned.document.get("route_prefix"),
                "reason": planned.reason,
            }
            for planned in plan.applications
        ],
        "quarantines": [
            {
                "release": str(failed.release),
                "stage": failed.stage,
                "reason": failed.reason,
                "message": failed.message,
            }
            for failed in report.quarantines
        ],
        "conditions": [
            {
                "subject": condition.subject,
                "reason": condition.reason,
                "message": condition.message,
                "ok": condition.ok,
            }
            for condition in report.conditions
        ],
    }
