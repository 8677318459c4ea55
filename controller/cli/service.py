"""The service on a head node: `wheelway systemd` and `wheelway ray-head`."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.output import say
from controller.cli.parameters import NumCpus
from controller.errors import mistakes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.installation.units import FileChange

app = typer.Typer(rich_markup_mode=None)

_STATE = tuple(
    Path("/var", name)
    for name in ("lib/wheelway", "lib/wheelway-ray", "cache/wheelway", "log/wheelway")
)
"""What the units make, and nobody but a person removes."""

Root = Annotated[
    Path,
    typer.Option("--root", metavar="DIR", help="Of the machine; another than / for an image."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.callback()
def systemd() -> None:
    """Install the daemon and a Ray head as services, or remove them."""


@app.command()
def install(
    *,
    root: Root = Path("/"),
    prefix: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where wheelway is on that machine; default: this one."),
    ] = None,
    systemd_version: Annotated[
        int | None, typer.Option(metavar="N", help="Of that machine; default: this one's.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Lay down units, users, folders and a first configuration; start nothing.

    Doing it again after an upgrade brings the files up to date. What somebody edited is kept; the
    configuration is never overwritten.
    """
    from controller.installation import units  # noqa: PLC0415 - for these commands alone

    version = units.systemd_version() if systemd_version is None else systemd_version
    target = units.Target(root.resolve(), prefix or Path(sys.prefix), version)
    before = target.at(units.RECORD).is_file()
    _tell(units.install(target, dry_run=dry_run), dry_run=dry_run)
    if dry_run:
        return
    if target.root != Path("/"):
        say(f"Next: systemctl --root={target.root} enable wheelway-ray-head wheelway")
        return
    start = "try-restart wheelway" if before else "enable --now wheelway-ray-head wheelway"
    say(
        "Next: systemd-sysusers wheelway.conf && systemd-tmpfiles --create wheelway.conf && "
        f"systemctl daemon-reload && systemctl {start}"
    )


@app.command()
def uninstall(*, root: Root = Path("/"), dry_run: DryRun = False) -> None:
    """Remove what `install` laid down, but nothing that somebody edited, and no state."""
    from controller.installation import units  # noqa: PLC0415 - for these commands alone

    target = units.Target(root.resolve())
    _tell(units.uninstall(target, dry_run=dry_run), dry_run=dry_run)
    if dry_run:
        return
    if target.root == Path("/"):
        say("Next: systemctl daemon-reload")
    if left := units.drop_ins(target):
        said = ", ".join(str(path) for path in left)
        say(f"Drop-ins that were added to the units stay: {said}")
    say(
        "What was cached and recorded stays, and so do the users wheelway and wheelway-ray, "
        "their groups and wheelway-admin, and the folders of wheels. "
        f"To remove the former too: rm -r {' '.join(str(target.at(path)) for path in _STATE)}"
    )


def _tell(changes: "Sequence[FileChange]", *, dry_run: bool) -> None:
    if dry_run:
        say("Nothing is done; this would be:")
    for change in changes:
        say(f"{change.verb:<10} {change.path}" + (f"  ({change.why})" if change.why else ""))


def ray_head(
    *,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8265,
    num_cpus: NumCpus = None,
    temp_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For Ray's sessions and logs; short; default: Ray's."),
    ] = None,
    run_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="For HAProxy's files; short, this head's alone.")
    ] = Path("/run/wheelway-ray"),
    storage: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep Ray's state here, to survive being killed."),
    ] = None,
    longest_request: Annotated[
        str, typer.Option(metavar="S", help='As in [serve] of the configuration, such as "30m".')
    ] = "900",
    show: Annotated[
        bool, typer.Option("--show", help="Print the command and its environment instead.")
    ] = False,
) -> None:
    """Become a Ray head that is tuned for serving.

    The unit wheelway-ray-head runs this. On loopback, HAProxy as the ingress with threads by cores.
    RAY_* variables of the environment win over those that are set here.
    """
    from controller.rayhead import service  # noqa: PLC0415 - for this command alone
    from controller.rayhead.head import Tuning  # noqa: PLC0415 - as above

    seconds = _longest_request(longest_request)
    tuning = Tuning(num_cpus, temp_dir=temp_dir, longest_request=seconds)
    folders = service.HeadFolders(run_dir, storage)
    made = service.invocation(
        tuning, folders, dashboard_port=dashboard_port, inherited=dict(os.environ)
    )
    if show:
        for name, value in sorted(made.set.items()):
            print(f"{name}={shlex.quote(value)}")
        print(shlex.join(made.arguments))
        return
    print(f"becoming a Ray head: {tuning.room}", file=sys.stderr)
    service.become(made, tuning, folders)


def _longest_request(said: str) -> float:
    """Seconds, as the configuration reads them.

    Raises:
        typer.BadParameter: it would be refused there.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - for this command alone

    from controller.config.serve import ServeOptions  # noqa: PLC0415 - as above

    try:
        return ServeOptions.model_validate({"longest_request": said}).longest_request
    except ValidationError as error:
        raise typer.BadParameter(mistakes(error)[0].what, param_hint="--longest-request") from error
