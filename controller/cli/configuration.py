"""`wheelway config`: checks the configuration, lists its keys, and has the daemon take it up."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.invocation import invocation
from controller.cli.link import post
from controller.cli.output import print_json, say
from controller.cli.parameters import AsJson
from controller.cli.program import ExitCode
from controller.errors import ConfigError, TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.config.settings import Config
    from controller.ops.plans import ReloadDocument

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def config() -> None:
    """Check the configuration, or list every key it may have."""


@app.command()
def check(
    ctx: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(help="The file; default: the one the daemon uses.")
    ] = None,
    *,
    schema: Annotated[bool, typer.Option("--schema", help="List every key instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the configuration and the operator's templates; say what was understood.

    Each mistake is one line, file:line: key: what is wrong; the exit code is then 78.
    """
    if schema:
        _print_schema(as_json=as_json)
        return
    file = path or invocation(ctx).config_path()
    mistakes, loaded = _examined(file)
    understood = list(sentences(loaded)) if loaded else []
    if as_json:
        print_json(
            {"path": str(file), "ok": not mistakes, "understood": understood, "mistakes": mistakes}
        )
    elif mistakes:
        print("\n".join(mistakes), file=sys.stderr)
    else:
        say(f"{file} is right.", *understood)
    if mistakes:
        raise typer.Exit(ExitCode.CONFIG)


@app.command()
def reload(
    ctx: typer.Context,
    *,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0, max=300, help="Seconds to wait for it.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Have the daemon take up its configuration as it is now, and say whether it is in force.

    It looks at its sources as well. `systemctl reload wheelway` runs this after `check`.
    """
    done: ReloadDocument = post(invocation(ctx), "reload", more=timeout, timeout=timeout)
    if as_json:
        print_json(done)
    elif done["in_force"]:
        say("The configuration is in force.")
    else:
        raise ConfigError(done["message"])
    if not done["in_force"]:
        raise typer.Exit(ExitCode.CONFIG)


def _print_schema(*, as_json: bool) -> None:
    from controller.cli import reference  # noqa: PLC0415 - builds every model's schema

    if as_json:
        print_json(reference.json_schema())
    else:
        sys.stdout.write(reference.text())


def _examined(file: Path) -> "tuple[list[str], Config | None]":
    """The mistakes in a file and in the templates that it names, and what it says if it can."""
    from controller.config.loading import load  # noqa: PLC0415 - pydantic is slow to import

    try:
        loaded = load(file)
    except ConfigError as error:
        return error.message.splitlines(), None
    templates = loaded.paths.templates
    if templates is not None and not templates.is_dir():
        return [f"{file}: paths.templates: {templates} is not a folder"], loaded
    mistakes = []
    for look in (_templates_mistakes, _gateways_mistakes):
        try:
            look(loaded)
        except (TemplateError, ConfigError) as error:
            mistakes += error.message.splitlines()
    return mistakes, loaded


def _templates_mistakes(config: "Config") -> None:
    if config.paths.templates is not None:
        from controller.serve.rendering import Renderer  # noqa: PLC0415 - imports jinja2 and Ray

        Renderer(config.paths.templates).check(config.serve, config.ray)


def _gateways_mistakes(config: "Config") -> None:
    """Those that only HAProxy finds are found by HAProxy."""
    if config.gateway is None:
        return
    from controller.gateway import process  # noqa: PLC0415 - imports jinja2
    from controller.gateway.configuration import of_config  # noqa: PLC0415 - as above

    binary = process.find(config.gateway.binary, config.ray.python or Path(sys.executable))
    with TemporaryDirectory(prefix="wheelway-") as folder:
        process.put_in_place(of_config(config, config.gateway), binary, Path(folder))


def sentences(config: "Config") -> "Iterator[str]":
    """What a configuration says, for a person to compare with what was meant."""
    if config.sources:
        listed = ", ".join(f"{source.name} ({source.where})" for source in config.sources)
        yield f"Wheels come from {listed}."
        for source in config.sources:
            if source.type == "directory" and not source.path.is_dir():
                yield f"Note: {source.path} is not a folder; until it is, nothing comes from it."
    else:
        yield "Note: there are no [[sources]], so nothing new will ever be served."
    yield (
        f"Ray is asked at {config.ray.dashboard_url}, its ingress answers at "
        f"{config.ray.ingress_url}."
    )
    unlisted = "served" if config.policy.unlisted == "active" else "not served"
    if config.pipelines:
        rules = "; ".join(
            f"{rule.name}: {_rule(rule.active, str(rule.versions), rule.keep, len(rule.pins))}"
            for rule in config.pipelines
        )
        yield f"Rules: {rules}. Pipelines that none of them names are {unlisted}."
    elif config.policy.unlisted == "active":
        yield "Every pipeline is served, its newest 2 versions."
    else:
        yield "Note: no pipeline is served: there are no [[pipelines]], and others are inactive."
    yield f"The cache is {config.paths.cache}, the journal is kept in {config.paths.state}."
    yield f"Orders are taken at {config.api.path(config.paths.state)}."
    if config.api.listen is not None:
        yield f"Health, metrics and status are told at http://{config.api.listen}/."
    if config.gateway is not None:
        yield "Note: [gateway] is checked, and the daemon does not heed it yet."
    if config.paths.templates is not None:
        yield f"Templates in {config.paths.templates} override the shipped ones."


def _rule(active: bool, versions: str, keep: int, pins: int) -> str:  # noqa: FBT001 - a field
    if not active:
        return "not served"
    if pins:
        return f"{pins} pinned"
    return f"the newest {keep}" + (f" of {versions}" if versions else "")
