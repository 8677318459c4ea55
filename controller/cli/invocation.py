"""The global options of a command line, and what they lead to: the configuration, the journal."""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.cli.output import console, paragraph
from controller.errors import ConfigError, JournalError, NotPermitted
from controller.journal.permissions import not_permitted, owner_name

if TYPE_CHECKING:
    import typer

    from controller.config.settings import Config
    from controller.journal import Journal, Reader

SYSTEM: Final = Path("/etc/wheelway/controller.toml")
"""The configuration of the daemon that runs as a service."""
BESIDE: Final = Path(".wheelway/controller.toml")
"""The configuration that `wheelway up` leaves in the folder it is run in; found from below too."""
VARIABLE: Final = "WHEELWAY_CONFIG"
"""Names the configuration where `--config` does not."""
STATE: Final = Path("/var/lib/wheelway")
"""As `config.settings.PathOptions` has it."""
SOCKET: Final = "control.sock"
"""In the journal's folder, as `config.api.ApiOptions` has it."""

_SET_ELSEWHERE: Final = ("WHEELWAY_PATHS", "WHEELWAY_API")
_STATE: Final = re.compile(
    r"""^\s*\[paths\]\s*$(?:(?!^\s*\[).)*?^\s*state\s*=\s*["'](?P<path>[^"']+)["']""",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where one daemon is to be found."""

    state: Path
    """The folder of its journal."""
    socket: Path


@dataclass(frozen=True, slots=True)
class Invocation:
    """The global options of one command line."""

    config_option: Path | None = None
    """`--config` or WHEELWAY_CONFIG."""
    debug: bool = False
    _told: set[str] = field(default_factory=set, repr=False, compare=False)
    """Mistakes that were told already, for each question of a command meets them again."""

    def config_path(self) -> Path:
        """The configuration file to use.

        Raises:
            ConfigError: there is none, or one that lies in a folder above is another user's.
            NotPermitted: whoever asks may not read it.
        """
        if self.config_option is not None:
            if not _is_file(self.config_option):
                raise ConfigError(
                    f"{self.config_option}: there is no such file; give the configuration's path "
                    "with --config or in WHEELWAY_CONFIG"
                )
            return self.config_option
        here = Path.cwd()
        if _is_file(SYSTEM):
            return SYSTEM
        for path in (folder / BESIDE for folder in (here, *here.parents)):
            if _is_file(path):
                require_own(path)
                return path
        raise ConfigError(
            f"there is no configuration: {SYSTEM} does not exist, nor does {BESIDE} here or in a "
            "folder above, where `wheelway up` leaves it. Give one with --config PATH or in "
            "WHEELWAY_CONFIG (`wheelway config check --schema` lists its keys)"
        )

    def config(self) -> Config:
        """The configuration, read and validated; raises ConfigError."""
        from controller.config.loading import load  # noqa: PLC0415 - pydantic is slow to import

        return load(self.config_path())

    def config_as_far_as_it_goes(self) -> Config:
        """The configuration. When it has mistakes, these are told, and the defaults returned with
        its `paths.state`: the daemon may go on with the configuration before, and its journal tell
        of it.
        """
        try:
            return self.config()
        except ConfigError as error:
            state = _state_of(self.config_path())
            if not state.is_dir():
                raise
            if error.message not in self._told:
                self._told.add(error.message)
                stderr = console(stderr=True)
                stderr.print(paragraph(f"warning: {error.message}", style="yellow"))
                stderr.print(paragraph(f"what follows is of the daemon whose state is in {state}"))
            from controller.config.settings import Config, PathOptions  # noqa: PLC0415 - as in `config`

            return Config(paths=PathOptions(state=state))

    def whereabouts(self) -> Whereabouts:
        """Where the daemon of the configuration is, whatever else is wrong in it.

        Raises:
            ConfigError: there is none, or not even this can be read of it.
        """
        if (found := whereabouts(self.config_path())) is not None:
            return found
        config = self.config_as_far_as_it_goes()
        return Whereabouts(config.paths.state, config.api.path(config.paths.state))

    def reader(self) -> Reader:
        """The daemon's journal, to be read; raises JournalError when there is none yet."""
        from controller.journal import Journal  # noqa: PLC0415 - not every command needs it

        try:
            return Journal.read(self.whereabouts().state)
        except JournalError:
            self.config_as_far_as_it_goes()  # a mistake there is why, if there is one
            raise

    def journal(self) -> Journal:
        """The daemon's journal, for one short write beside it; raises JournalError."""
        from controller.journal import Journal  # noqa: PLC0415 - not every command needs it

        return Journal.amend(self.whereabouts().state)


def invocation(ctx: typer.Context) -> Invocation:
    """The global options, from within a command."""
    return ctx.find_object(Invocation) or Invocation()


def is_found_by_itself(config: Path) -> bool:
    """Whether a command that names no configuration, typed here, would use this one."""
    said = os.environ.get(VARIABLE)
    try:
        found = Invocation(Path(said) if said else None).config_path()
        return found.samefile(config)
    except (ConfigError, NotPermitted, OSError):  # it would find none, or none that it may read
        return False


def require_own(path: Path) -> None:
    """Refuse a configuration that nobody named unless it and its folder are this user's, or root's.

    A configuration says which interpreter is run, and in a folder such as /tmp anybody could leave
    one. git asks the same of a repository (`safe.directory`).

    Raises:
        ConfigError: it is another user's.
    """
    trusted = {os.geteuid(), 0}
    behind = os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and behind.isdecimal():
        trusted.add(int(behind))
    for part in (path.parent, path):
        # Links too: whoever made one says where it leads.
        owners = {part.stat().st_uid, part.lstat().st_uid} if part.exists() else set()
        if strangers := owners - trusted:
            who = owner_name(strangers.pop())
            raise ConfigError(
                f"{part.absolute()} belongs to {who}, not to you, so it is not used: it says which "
                f"interpreter is run. If you trust {who}, name it: --config {path.absolute()}"
            )


def whereabouts(file: Path) -> Whereabouts | None:
    """Where a configuration file puts the daemon's journal and control socket. No more is read, for
    that takes longer than to ask a daemon, which knows its own.

    None when it takes the whole configuration: it cannot be parsed, has something else than a path,
    or the environment has it.
    """
    if any(name.upper().startswith(_SET_ELSEWHERE) for name in os.environ):
        return None
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
        paths, api = said.get("paths", {}), said.get("api", {})
        state, socket = paths.get("state", str(STATE)), api.get("socket")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    if not all(_is_plain(value) for value in (state, socket or SOCKET)):
        return None
    folder = file.resolve().parent
    return Whereabouts(folder / state, folder / (socket or Path(state, SOCKET)))


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and not value.startswith("~") and "\0" not in value


def _is_file(path: Path) -> bool:
    """Whether there is a configuration, which may lie in a folder that is closed to us."""
    try:
        return path.is_file()
    except PermissionError as error:
        raise not_permitted(path, "read the configuration") from error


def _state_of(path: Path) -> Path:
    """The journal's folder by a configuration that has mistakes, else the default; it may not
    exist.
    """
    from controller.config.loading import usable_path  # noqa: PLC0415 - pydantic is slow to import

    found = None
    with suppress(OSError):
        found = _STATE.search(path.read_text(encoding="utf-8", errors="replace"))
    state = Path(found["path"]) if found else STATE
    with suppress(ValueError):  # nobody's home: told among the mistakes
        state = usable_path(state)
    return path.resolve().parent / state
