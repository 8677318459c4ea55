"""The repository as a package index for uv: its address, and a token that is renewed in time.

The token goes to uv in variables of its environment alone, never on a command line or in a URL, and
so into no lock, log or journal. It is renewed while enough of its life is left for the run that it
is handed to.

https://docs.aws.amazon.com/codeartifact/latest/ug/tokens-authentication.html
https://docs.astral.sh/uv/concepts/indexes/#providing-credentials-directly
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.errors import Stalled
from controller.sources.codeartifact.address import named
from controller.sources.codeartifact.connection import Connection
from controller.sources.codeartifact.failures import MissingThere

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.config.sources import CodeArtifactSource

SHORTEST, LONGEST = 3600, 43200
"""Seconds that a token is asked to live: twice its use, within these."""
SPARE = 60.0
"""Seconds of a token's life that are not counted on: clocks differ, requests take time."""
USER = "aws"
"""The user name that goes with every token."""
LABEL = "WHEELWAY"
"""uv's name of the index, by which it finds the credentials."""


@dataclass(frozen=True, slots=True)
class _Token:
    secret: str = field(repr=False)
    until: float
    """When it is no longer handed out, by the monotonic clock."""


class CodeArtifactIndex:
    """Access of uv to one repository. Any method may be called from any thread.

    Args:
        options: the source whose repository it is.
        use: seconds for which a token that is handed out should still be good.
        clock: monotonic seconds.
        wall_clock: seconds since the epoch.
    """

    def __init__(
        self,
        options: CodeArtifactSource,
        *,
        use: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        self._use = use
        self._clock = clock
        self._wall_clock = wall_clock
        self._closing = threading.Event()
        self._connection = Connection(options, self._closing)
        self._mutex = threading.Lock()  # held while asking: others wait for the same token
        self._url = ""
        self._token: _Token | None = None

    def variables(self) -> Mapping[str, str]:
        """What uv's environment needs; the values of `*_PASSWORD` are secret.

        Raises:
            Transient, Waiting, Stalled: as the source's `list`.
        """
        with self._mutex:
            now = self._clock()
            if self._token is None or now >= self._token.until:
                try:
                    self._token = self._renewed(now)
                except MissingThere as error:
                    raise Stalled(
                        "RepositoryUnknown",
                        f"{self._options.domain}/{self._options.repository} cannot be used as "
                        f"package index: {error}; correct source {self._options.name}",
                    ) from error
            return {
                "UV_DEFAULT_INDEX": f"{LABEL.lower()}={self._url}",
                f"UV_INDEX_{LABEL}_USERNAME": USER,
                f"UV_INDEX_{LABEL}_PASSWORD": self._token.secret,
            }

    def forget(self) -> None:
        """The token was refused: the next one is a new one."""
        with self._mutex:
            self._token = None

    def close(self) -> None:
        """Let go of connections."""
        self._closing.set()
        self._connection.close()

    def _renewed(self, now: float) -> _Token:
        domain = named(self._options)
        with self._connection.translated():
            client = self._connection.codeartifact()
            if not self._url:
                found = client.get_repository_endpoint(
                    **domain, repository=self._options.repository, format="pypi"
                )
                self._url = f"{found['repositoryEndpoint'].rstrip('/')}/simple/"
            wanted = int(min(max(2 * (self._use + SPARE), SHORTEST), LONGEST))
            answer = client.get_authorization_token(**domain, durationSeconds=wanted)
            token, ends = answer["authorizationToken"], answer["expiration"].timestamp()
        life = min(ends - self._wall_clock(), wanted)
        # However short it is, a token serves for half of its life before another is asked for.
        return _Token(token, now + max(life - self._use - SPARE, life / 2))
