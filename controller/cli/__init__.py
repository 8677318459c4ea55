"""The `wheelway` command: its global options and its commands, each in a module by its subject.

    program         errors become sentences and exit codes
    invocation      what the global options say: configuration, journal
    parameters      arguments and options that several commands take
    output          tables, times, JSON; plain where nobody watches
    link            the daemon's control socket, or its journal when nobody answers
    status, explain, history, logs      what is known
    orders          `reconcile`, `pin`, `unpin`, `rollback`, `suspend`, `resume`, `quarantine`
    configuration   `config check`, with `reference` for the list of keys
    authoring       `new` and `check`
    plans           `plan`, `render`
    serving         `up` (shown by `progress`), `run`, `gateway`
    service         `systemd install` and `uninstall`, `ray-head`

What is slow to import (Ray, Jinja, HTTP) is imported by the commands that need it, when they run.
"""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli import authoring, configuration, orders, plans, service, serving
from controller.cli.explain import explain
from controller.cli.history import history
from controller.cli.invocation import VARIABLE, Invocation
from controller.cli.logs import logs
from controller.cli.output import own_version
from controller.cli.program import ExitCode, Program
from controller.cli.status import status

__all__ = ["app"]

_EXIT_CODES = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {code.meaning}" for code in ExitCode)
_AROUND = """\b
Files:
  /etc/wheelway/controller.toml   the configuration of the service
  .wheelway/controller.toml       what `wheelway up` leaves where it was run

\b
Environment:
  WHEELWAY_CONFIG                 as --config
  WHEELWAY_<TABLE>__<KEY>         one key of the configuration, before the file
  NO_COLOR                        no colours, whatever the terminal can do

"""

app = typer.Typer(
    name="wheelway",
    cls=Program,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_AROUND + _EXIT_CODES,
)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - the signature of an option's callback
    if asked:
        print(f"wheelway {own_version()}")
        raise typer.Exit


@app.callback()
def wheelway(
    ctx: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar=VARIABLE,
            metavar="PATH",
            help="The daemon's configuration; default: /etc/wheelway/controller.toml, else that of "
            "`wheelway up` here or in a folder above.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; log more.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Publish a Python wheel, and /predict/<pipeline>/<version> answers.

    `wheelway COMMAND --help` says what each command does; most have --json for scripts. Without
    --config the service's configuration is used, or the one that `wheelway up` left here; --config
    and --debug may also stand after the command.
    """
    del version  # its callback has dealt with it
    ctx.obj = Invocation(config, debug)


for command in (
    serving.up,
    serving.run,
    plans.plan,
    plans.render,
    status,
    explain,
    history,
    logs,
    orders.reconcile,
    orders.suspend,
    orders.resume,
    orders.pin,
    orders.unpin,
    orders.rollback,
):
    app.command()(command)
# Hidden while the daemon does not fill its table.
app.command(hidden=True)(serving.gateway)
app.add_typer(orders.quarantine, name="quarantine")
app.add_typer(configuration.app, name="config")
app.command()(authoring.new)
app.command()(authoring.check)
app.add_typer(service.app, name="systemd")
app.command()(service.ray_head)
