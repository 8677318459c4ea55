"""The commands that go on running: `up`, `run` and `gateway`."""

import faulthandler
import logging
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.invocation import BESIDE, invocation, is_found_by_itself, require_own
from controller.cli.parameters import NumCpus
from controller.errors import ConfigError

if TYPE_CHECKING:
    from controller.config.settings import Config


def up(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="Where wheels are dropped; default: wheels.")
    ] = None,
    *,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of the routes; default: 8000.")
    ] = None,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Of Ray's dashboard; a head there is used; default: 8265."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For wheels, environments."),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For the journal; default: .wheelway.")
    ] = None,
    num_cpus: NumCpus = None,
) -> None:
    """Serve the wheels in a folder: for a laptop, or a first try.

    Starts a Ray head unless one runs already. Ctrl-C ends everything that this started, and
    nothing else. Its configuration is .wheelway/controller.toml (in --state), written at the first
    start, kept once somebody edited it, and used by other commands in this folder or below.
    """
    from controller.cli.progress import Progress, Warnings  # noqa: PLC0415 - imports rich
    from controller.config.loading import load  # noqa: PLC0415 - imports pydantic
    from controller.config.telemetry import LogOptions  # noqa: PLC0415 - as above
    from controller.daemon.all_in_one import LocalRun, prepare, serve  # noqa: PLC0415 - imports the whole daemon
    from controller.logs import begin  # noqa: PLC0415 - for the daemon alone

    if state is None:
        require_own(BESIDE)
    # What happens is shown step by step; the log would say it twice.
    level = logging.INFO if invocation(ctx).debug else logging.CRITICAL
    begin(LogOptions(format="text"), level=level)
    state = state or BESIDE.parent
    local = LocalRun(state, cache or _default_cache(state), folder, port, dashboard_port)
    path, said = prepare(local)
    config = load(path)
    progress = Progress(config.ray.ingress_url, command=_command(path))
    if not invocation(ctx).debug:
        Warnings(progress).attach()
    if said:
        progress.say(said)
    raise typer.Exit(
        serve(
            path,
            _invitation(config, _command(path)),
            say=progress.say,
            watcher=progress,
            failed=progress.failed,
            num_cpus=num_cpus,
        )
    )


def _command(config: Path) -> str:
    """How this program is called from here, for lines to copy."""
    own, here = Path(sys.argv[0]), Path.cwd()
    own = own.relative_to(here) if own.is_relative_to(here) else own
    called = "wheelway" if shutil.which("wheelway") or not own.is_file() else shlex.quote(str(own))
    if is_found_by_itself(config):
        return called
    return f"{called} --config {shlex.quote(str(config))}"


def _invitation(config: "Config", command: str) -> str:
    """What there is to do now."""
    here = Path.cwd()
    folders = [
        f"{source.path.relative_to(here) if source.path.is_relative_to(here) else source.path}/"
        for source in config.sources
        if source.type == "directory"
    ]
    drop = f"drop wheels into {' or '.join(folders)} ; " if folders else ""
    return f"{drop}Ctrl-C ends everything started here\n          to look: {command} status"


def _default_cache(state: Path) -> Path:
    """In a checkout its `pipelines_cache/`, elsewhere beside the journal."""
    checkout = Path("pipelines_cache")
    return checkout if (checkout / "README.md").is_file() else state / "cache"


def run(ctx: typer.Context) -> None:
    """Run the daemon in the foreground.

    It looks at the sources, brings what is published to its route, and ends on SIGTERM or SIGINT;
    serving goes on without it. SIGHUP makes it read its configuration and look now. Its log goes to
    stderr, or with fields to systemd's journal when that is what stderr is; [log] in the
    configuration says otherwise.
    """
    path = invocation(ctx).config_path()
    from controller.daemon.foreground import run as serve  # noqa: PLC0415 - imports the whole daemon
    from controller.logs import begin  # noqa: PLC0415 - as above

    faulthandler.enable()  # the service manager's watchdog aborts: then every thread's traceback
    level = logging.DEBUG if invocation(ctx).debug else None

    def log(config: "Config") -> None:
        begin(config.log, level=level)

    log(invocation(ctx).config())
    raise typer.Exit(serve(path, renewed=log))


def gateway(ctx: typer.Context) -> None:
    """Run HAProxy in front of Ray's ingress, by [gateway] of the configuration.

    It is checked first, then this process goes on as HAProxy, with the table that lies in `gateway`
    of `paths.state`. SIGUSR1 ends it after its requests, SIGTERM and Ctrl-C at once.
    """
    from controller.config.loading import load  # noqa: PLC0415 - imports pydantic
    from controller.gateway import process  # noqa: PLC0415 - imports jinja2
    from controller.gateway.configuration import of_config  # noqa: PLC0415 - as above

    path = invocation(ctx).config_path()
    config = load(path)
    if (options := config.gateway) is None:
        raise ConfigError(f"{path}: there is no [gateway], so there is none to run")
    folder = config.paths.state / "gateway"
    binary = process.find(options.binary, config.ray.python or Path(sys.executable))
    process.put_in_place(of_config(config, options), binary, folder)
    process.become(binary, folder)
