"""The configuration file while the daemon runs: an edit counts once it is whole and good."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from controller.config import loading
from controller.config.values import same
from controller.errors import ConfigError
from controller.model import Condition

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("wheelway")


class ConfigurationFile:
    """The last good configuration of a file.

    Raises on opening:
        ConfigError: it cannot be read or is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = self._seen = loading.read(path)
        self.config = loading.parse(self._taken, path)
        """What is in force."""
        self._unreadable: Condition | None = None
        self._verdict: Condition | None = None

    @property
    def trouble(self) -> Condition | None:
        """Why the file, as it is now, is not what is in force."""
        return self._unreadable or self._verdict

    @property
    def settling(self) -> bool:
        """Whether it was just edited, and is not in force before it reads the same once more."""
        return self._seen != self._taken

    def edited(self, *, whole: bool = False) -> bool:
        """Read the file; whether another configuration than before is in force.

        An edit counts when it is read a second time; at once when somebody says it is `whole`.
        """
        try:
            text = loading.read(self._path)
        except ConfigError as error:
            self._unreadable = Condition(
                "config", "ConfigUnreadable", f"{error.message}; what was read last is in force"
            )
            return False
        self._unreadable = None
        seen, self._seen = self._seen, text
        if self._taken == text or not (whole or text == seen):  # somebody may still be writing
            return False
        self._taken = text
        return self._take(text)

    def _take(self, text: str) -> bool:
        try:
            config = loading.parse(text, self._path)
        except ConfigError as error:
            return self._refuse(error.reason, error.message)
        except Exception as error:
            # A bug in what reads it: a person's edit must not end what looks after the releases.
            log.exception(
                "%s cannot be read for a mistake in wheelway; please report it", self._path
            )
            return self._refuse("InternalError", f"{self._path}: {error!r}")
        self._verdict = None
        if config.paths.state != self.config.paths.state:
            why = "paths.state is read at start only: restart the daemon for it"
            self._verdict = Condition("config", "RestartNeeded", why)
        before, self.config = self.config, config
        if same(config.model_dump(), before.model_dump()):
            return False
        log.info("%s was edited: the new configuration is in force", self._path)
        return True

    def _refuse(self, reason: str, why: str) -> bool:
        message = f"{why}; the last good configuration is in force"
        self._verdict = Condition("config", reason, message)
        return False
