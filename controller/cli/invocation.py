"""What the global options said, and what commands get from them: the configuration, the journal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.errors import ConfigError

if TYPE_CHECKING:
    import typer

    from controller.config import Config
    from controller.journal import Journal, Reader

SYSTEM: Final = Path("/etc/wheelway/controller.toml")
"""The configuration of the daemon that runs as a service."""

BESIDE: Final = Path(".wheelway/controller.toml")
"""The configuration that `wheelway up` leaves in the folder it is run in."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """The global options of one command line."""

    config_option: Path | None = None
    """`--config` or WHEELWAY_CONFIG."""
    debug: bool = False

    def config_path(self) -> Path:
        """The configuration file to use.

        Raises:
            ConfigError: there is none.
        """
        if self.config_option is not None:
            if not self.config_option.is_file():
                raise ConfigError(
                    f"{self.config_option}: there is no such file; give the configuration's path "
                    "with --config or in WHEELWAY_CONFIG"
                )
            return self.config_option
        for path in (SYSTEM, BESIDE):
            if path.is_file():
                return path
        raise ConfigError(
            f"there is no configuration: neither {SYSTEM} nor {BESIDE} exists. Give one with "
            "--config PATH or in WHEELWAY_CONFIG (`wheelway config check --schema` lists its "
            "keys), or start with `wheelway up`, which needs none"
        )

    def config(self) -> Config:
        """The configuration, read and validated; raises ConfigError."""
        from controller.config import load  # noqa: PLC0415 - pydantic is slow to import

        return load(self.config_path())

    def reader(self, config: Config | None = None) -> Reader:
        """The daemon's journal, to be read; raises JournalError when there is none yet."""
        from controller.journal import Journal  # noqa: PLC0415 - not every command needs it

        return Journal.read((config or self.config()).paths.state)

    def journal(self, config: Config | None = None) -> Journal:
        """The daemon's journal, for one short write beside it; raises JournalError."""
        from controller.journal import Journal  # noqa: PLC0415 - not every command needs it

        return Journal.amend((config or self.config()).paths.state)


def invocation(ctx: typer.Context) -> Invocation:
    """The global options, from within a command."""
    return ctx.find_object(Invocation) or Invocation()
