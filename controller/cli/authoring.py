"""For those who write pipelines: `wheelway new` makes a project, `wheelway check` tries a wheel."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.cli.invocation import Invocation, invocation
from controller.cli.output import (
    Cell,
    clean,
    console,
    first_line,
    paragraph,
    print_json,
    say,
    table,
)
from controller.cli.parameters import AsJson
from controller.cli.program import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from controller.authoring.gates import Gate
    from controller.config.settings import Config
    from controller.model import JSON

HEADS: Final = ("pipeline", "gate", "result", "seconds", "message")
_RESULT: Final[dict[bool | None, Cell]] = {
    True: ("ok", "green"),
    False: ("failed", "red"),
    None: ("not run", "dim"),
}


def new(
    name: Annotated[str, typer.Argument(help="The pipeline's name, such as churn-score.")],
    *,
    into: Annotated[Path, typer.Option(metavar="DIR", help="Where its folder is made.")] = Path(),
    wrap: Annotated[
        str | None,
        typer.Option(metavar="MODULE:CLASS", help="An existing model class to put it around."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder that MODULE is imported from; default: here."),
    ] = None,
    example: Annotated[
        list[str] | None,
        typer.Option(metavar="JSON", help="A request as clients send it; more than one may be."),
    ] = None,
) -> None:
    """Make a pipeline project that passes `wheelway check`.

    With --wrap it answers with a class that exists: its load, infer or predict, pre_process and
    post_process are found by reading its code, which is copied along and never run.
    """
    from controller.authoring.scaffold import Wrap, create  # noqa: PLC0415 - imports jinja2

    if wrap is None and (root is not None or example):
        raise typer.BadParameter("--root and --example say more of the class that --wrap names")
    around = wrap and Wrap(wrap, (root or Path()).absolute(), _examples(example or []))
    made = create(name, into, around or None)
    say(
        f"Made {made.folder}:",
        *(paragraph(str(file.relative_to(made.folder)), indent=2) for file in made.files),
    )
    if made.stages:
        taken = ", ".join(f"{stage} by `{method}`" for stage, method in made.stages.items())
        say(f"Around {wrap}: {taken}.")
    if made.open_points:
        say("To be seen to:", *(paragraph(f"- {point}", indent=2) for point in made.open_points))
    say(
        "Next:",
        paragraph(f"cd {shlex.quote(str(made.folder))}", indent=2),
        *(paragraph(line, indent=2) for line in ("uv build --wheel", "wheelway check dist/*.whl")),
    )


def _examples(texts: "Sequence[str]") -> "list[JSON]":
    try:
        return [json.loads(text) for text in texts]
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"--example is not JSON: {error.doc!r}: {error}") from error


def check(
    ctx: typer.Context,
    wheels: Annotated[
        list[Path], typer.Argument(metavar="WHEEL...", help="Wheels, under their published names.")
    ],
    *,
    as_json: AsJson = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds a pipeline may take to be ready.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no package index.")] = False,
    find_links: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A folder with more wheels.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A wheel of weights, or a folder, to load.")
    ] = None,
) -> None:
    """Try wheels here, as the daemon and a replica would.

    Every gate is shown; nothing is served and nothing is left behind. Limits and caps are those
    of --config, when it is given, else the defaults.
    """
    from controller.authoring.gates import check as gates  # noqa: PLC0415 - imports uv's side
    from controller.authoring.gates import passed  # noqa: PLC0415 - as above

    config = _judging(invocation(ctx), timeout, find_links or [], offline=offline)
    if weights is not None and not weights.exists():
        raise typer.BadParameter(f"{weights}: there is no such file")
    documents, good = [], True
    for wheel in wheels:
        if not wheel.is_file():
            raise typer.BadParameter(f"{wheel}: {_instead_of(wheel)}")
        if as_json:
            found = list(gates(wheel, config, weights=weights))
            documents.append(as_document(wheel, found))
        else:
            found = _shown(gates(wheel, config, weights=weights))
            for gate in found:
                if gate.ok is False:
                    say(*_failure(gate))
            say(paragraph(f"\n{_verdict(wheel, found)}", style="bold"))
        good = good and passed(found)
    if as_json:
        print_json(documents[0] if len(documents) == 1 else documents)
    if not good:
        raise typer.Exit(ExitCode.FAILED)


def _instead_of(path: Path) -> str:
    """What to give for a path that is no file."""
    if not path.is_dir():
        return "there is no such file"
    for folder in (path, path / "dist"):
        if any(folder.glob("*.whl")):
            return f"that is a folder; give the wheels in it: {shlex.quote(str(folder))}/*.whl"
    quoted = shlex.quote(str(path))
    return f"that is a folder; give a wheel: `uv build --wheel {quoted}` puts one into its dist/"


def _verdict(wheel: Path, found: "Sequence[Gate]") -> str:
    """One sentence: a pipeline that fails keeps no other one of its wheel from being served."""
    from controller.authoring.gates import passed, served  # noqa: PLC0415 - imports uv's side

    each = served(found)
    if not each and passed(found):
        return (
            f"{wheel.name} passes every gate of weights by themselves. To try them with their "
            f"pipeline: wheelway check PIPELINE.whl --weights {shlex.quote(str(wheel))}"
        )
    good = sorted(name for name, ok in each.items() if ok)
    bad = sorted(name for name, ok in each.items() if not ok)
    if good and bad:
        return f"Of {wheel.name} {', '.join(good)} would be served, {', '.join(bad)} would not."
    return f"{wheel.name} {'passes every gate' if good else 'would not be served'}."


def _judging(
    asked: Invocation, timeout: float | None, find_links: list[Path], *, offline: bool
) -> "Config":
    """The configuration to judge by: the operator's if one was given, with the options over it."""
    from controller.config.settings import Config  # noqa: PLC0415 - pydantic is slow to import

    config = asked.config() if asked.config_option is not None else Config()
    environments = config.environments.model_copy(
        update={
            "offline": offline or config.environments.offline,
            "find_links": (
                *config.environments.find_links,
                *(folder.absolute() for folder in find_links),
            ),
        }
    )
    rollout = config.rollout
    if timeout is not None:
        if timeout <= 0:
            raise typer.BadParameter("--timeout must be more than 0 seconds")
        rollout = rollout.model_copy(update={"ready_deadline": timeout})
    return config.model_copy(update={"environments": environments, "rollout": rollout})


def _shown(gates: "Iterator[Gate]") -> "list[Gate]":
    """Run the gates while showing them: a table that grows on a terminal, lines elsewhere."""
    out = console()
    found: list[Gate] = []
    if not out.is_terminal:
        for gate in gates:
            found.append(gate)
            cells = [cell if isinstance(cell, str) else cell[0] for cell in _row(gate)]
            out.print("{:20}  {:12}  {:8}  {:>7}  {}".format(*cells).rstrip())
        return found
    from rich.console import Group  # noqa: PLC0415 - for a terminal alone
    from rich.live import Live  # noqa: PLC0415 - as above
    from rich.spinner import Spinner  # noqa: PLC0415 - as above

    working = Spinner("dots", "working")
    with Live(working, console=out, refresh_per_second=8) as live:
        for gate in gates:
            found.append(gate)
            live.update(Group(table(HEADS, [_row(g) for g in found]), working))
        live.update(table(HEADS, [_row(g) for g in found]))
    return found


def _row(gate: "Gate") -> "Sequence[Cell]":
    said = f"{gate.reason}: {first_line(gate.message)}" if gate.reason else first_line(gate.message)
    seconds = "" if gate.ok is None else f"{gate.seconds:.1f}"
    return gate.pipeline or "(wheel)", gate.name, _RESULT[gate.ok], seconds, clean(said)


def _failure(gate: "Gate") -> "Iterator[RenderableType]":
    """The whole of a failure: its message and the last that was said."""
    about = f"{gate.pipeline} {gate.name}".strip()
    yield paragraph(f"\n{about}: {gate.reason}", style="red")
    yield paragraph(gate.message, indent=2)
    for line in gate.log_tail.rstrip().splitlines():
        yield paragraph(f"| {line}", indent=2, style="dim")


def as_document(wheel: Path, gates: "Sequence[Gate]") -> "JSON":
    """The gates as JSON; keys are only ever added.

    wheel      its path
    ok         whether all of it would be served
    pipelines  by name whether each would be; empty when no gate got that far
    gates      in order: gate, pipeline ("" for the whole wheel), ok (null: not run), reason,
               message, seconds, detail, log_tail
    """
    from controller.authoring.gates import passed, served  # noqa: PLC0415 - imports uv's side

    return {
        "wheel": str(wheel),
        "ok": passed(gates),
        "pipelines": served(gates),
        "gates": [
            {"gate" if key == "name" else key: value for key, value in asdict(gate).items()}
            | {"seconds": round(gate.seconds, 3)}
            for gate in gates
        ],
    }
