"""What the global options said, and what commands get from them: the configuration, the journal."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.cli.output import console, paragraph
from controller.cli.ownership import require_own
from controller.cli.whereabouts import Whereabouts, whereabouts
from controller.errors import ConfigError, JournalError, NotPermitted
from controller.journal.permissions import not_permitted

if TYPE_CHECKING:
    import typer

    from controller.config.settings import Config
    from controller.journal import Journal, Reader

SYSTEM: Final = Path("/etc/wheelway/controller.toml")
"""The configuration of the daemon that runs as a service."""

VARIABLE: Final = "WHEELWAY_CONFIG"
"""Names the configuration where `--config` does not."""

_STATE: Final = re.compile(r"""\s*state\s*=\s*["'](?P<path>[^"']+)["']""")

BESIDE: Final = Path(".wheelway/controller.toml")
"""The configuration that `wheelway up` leaves in the folder it is run in; found from below too."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """The global options of one command line."""

    config_option: Path | None = None
    """`--config` or WHEELWAY_CONFIG."""
    debug: bool = False
    _told: set[str] = field(default_factory=set, repr=False, compare=False)
    """Mistakes that a person was warned of: each question of one command meets them again."""

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
        """The configuration; when it has mistakes, these are told and the defaults returned with
        its `paths.state`: the journal may well say how the daemon goes on with the one before.
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
        """Where the daemon of the configuration is, however much else is wrong with that.

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


def is_found_by_itself(config: Path) -> bool:
    """Whether a command that names no configuration, typed here, would use this one."""
    said = os.environ.get(VARIABLE)
    try:
        found = Invocation(Path(said) if said else None).config_path()
        return found.samefile(config)
    except (ConfigError, NotPermitted, OSError):  # it would find none, or none that it may read
        return False


def _is_file(path: Path) -> bool:
    """Whether there is a configuration, which may lie in a folder that is closed to us."""
    try:
        return path.is_file()
    except PermissionError as error:
        raise not_permitted(path, "read the configuration") from error


def _state_of(path: Path) -> Path:
    """Where a configuration that has mistakes says that the journal is, or else where it is by
    default; the folder may not exist.
    """
    from controller.config.loading import usable_path  # noqa: PLC0415 - as above
    from controller.config.settings import PathOptions  # noqa: PLC0415 - pydantic is slow to import

    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    table = ""
    state = str(PathOptions().state)
    for line in lines:
        if line.lstrip().startswith("["):
            table = line.strip()
        elif table == "[paths]" and (found := _STATE.match(line)):
            state = found["path"]
    with suppress(ValueError):  # nobody's home: told among the mistakes
        return path.resolve().parent / usable_path(Path(state))
    return path.resolve().parent / state


def invocation(ctx: typer.Context) -> Invocation:
    """The global options, from within a command."""
    return ctx.find_object(Invocation) or Invocation()
