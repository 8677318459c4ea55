"""The logs of replicas, read through the dashboard: it has those of every node, ended ones too.

Each replica has a file `serve/replica_<application>_<deployment>_<id>.log` in the log folder of its
node's session. The dashboard lists, reads and follows these (`/api/v0/nodes`, `/api/v0/logs`,
`/api/v0/logs/file`, `/api/v0/logs/stream`; Ray 2.60's state_head.py, what `ray logs` uses), and
Serve says which belong to the replicas of now (`log_file_path`). Reading is asynchronous: many
files are awaited at once, and any of them may be left at any time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import httpx

from controller.errors import Transient, Waiting
from controller.exchange import ExchangeTimeout, document, exchange_async
from controller.serve.dashboard import APPLICATIONS, client_options, rows, table
from controller.serve.followed import WHOLE, followed
from controller.serve.log_records import Record, Splitter

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Iterator,
    )

    from controller.config.settings import RayOptions
    from controller.model import JSON

POLL_EVERY: Final = 2.0
"""Seconds between two questions, while following, which logs there are."""
STAYS: Final = 5.0
"""Seconds for which the log of a replica that is gone is still followed, for its last words."""
QUIET: Final = 1.5
"""Seconds after which a followed record is taken to be whole; Ray reads the file each 0.5 s."""
READING: Final = 120.0
"""Seconds for a whole log, which may have 100 MB."""
TIMEOUT: Final = 10.0
"""Seconds for one answer, where the client has no timeout."""
_LIMIT: Final = 128 * 2**20
"""Bytes of an answer; what Serve reports has some thousand of each application."""
_REFUSAL: Final = 64 * 1024
"""Characters of a refusal; the end of a traceback is of use."""
LONGEST_LINE: Final = 1 << 20
"""Bytes of one line; a longer one comes in parts."""


@dataclass(frozen=True, slots=True, order=True)
class LogFile:
    """One replica's log."""

    name: str
    """Below the log folder of its node's session."""
    node: str
    """The node's id."""
    address: str
    """The node's."""


class ReplicaLogs:
    """The logs of one cluster. Every call may raise Waiting or Transient."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        """`client` has the dashboard's base URL and authentication."""
        self._client = client

    @classmethod
    @asynccontextmanager
    async def connect(cls, options: RayOptions) -> AsyncIterator[Self]:
        """Inside, the logs of the configured cluster; raises Stalled where its CA file cannot be
        used.
        """
        how = client_options(options)
        async with httpx.AsyncClient(**how, timeout=options.timeout) as client:
            yield cls(client)

    async def files(self, applications: Iterable[str]) -> tuple[list[LogFile], list[str]]:
        """Every log of these applications' replicas, ended ones included; and, by node, why it
        could not list its logs.
        """
        found: set[LogFile] = set()
        silent: list[str] = []
        for node, address in await self._nodes():
            for application in applications:
                asked = {"node_id": node, "glob": f"serve/replica_{application}_*"}
                try:
                    listed = await self._get("/api/v0/logs", asked)
                except (Transient, Waiting) as error:
                    silent.append(f"node {address} does not tell its logs: {error.message}")
                    break
                groups = [group for group in table(listed).values() if isinstance(group, list)]
                found |= {LogFile(str(name), node, address) for group in groups for name in group}
        return sorted(found, key=_age), silent

    async def running(self) -> list[LogFile]:
        """The logs of all replicas that run now and have been ready."""
        answer = await self._json(APPLICATIONS, {})
        return [
            LogFile(path.lstrip("/"), str(replica.get("node_id")), str(replica.get("node_ip")))
            for application in table(answer.get("applications")).values()
            for deployment in table(table(application).get("deployments")).values()
            for replica in rows(table(deployment).get("replicas"))
            if isinstance(path := replica.get("log_file_path"), str) and path
        ]

    async def read(self, file: LogFile, lines: int) -> AsyncIterator[str]:
        """The last lines of a log, or all of it (`WHOLE`)."""
        end = asyncio.get_running_loop().time() + READING
        wait = self._client.timeout.read
        pieces = _lines(self._pieces(file.node, "file", file.name, lines=lines, wait=wait))
        whole: list[str] | None = []
        with _translated(self._client):
            while whole is not None:
                try:
                    async with asyncio.timeout_at(end):
                        whole = await anext(pieces, None)
                except TimeoutError as error:
                    raise ExchangeTimeout(f"not complete within {READING:g} s") from error
                except httpx.HTTPStatusError as error:
                    raise Transient("LogUnreadable", f"{file.name}: {error}") from error
                for line in whole or ():
                    yield line

    async def follow(
        self,
        present: Callable[[], Awaitable[Collection[LogFile]]],
        take: Callable[[LogFile, list[Record]], None],
        *,
        lines: int = 0,
    ) -> None:
        """Hand over what is logged from now on, until cancelled.

        Args:
            present: which logs to follow; asked again and again.
            take: is given the records of one log, some at a time.
            lines: that are handed over first, of the logs that are there at the beginning.
        """
        tasks: dict[LogFile, asyncio.Task[None]] = {}
        seen_at: dict[LogFile, float] = {}
        begun = False
        async with asyncio.TaskGroup() as group:
            while True:
                now = time.monotonic()
                with suppress(Transient, Waiting):  # it may be back in a moment
                    for file in await present():
                        if not file.name.endswith(".log"):
                            continue  # put away: its rest is read when `.log` is followed
                        seen_at[file] = now
                        if file not in tasks:
                            work = self._follow(file, take, WHOLE if begun else lines)
                            tasks[file] = group.create_task(work)
                    begun = True
                for file in [file for file, at in seen_at.items() if now - at > STAYS]:
                    del seen_at[file]
                    tasks.pop(file).cancel()
                await asyncio.sleep(POLL_EVERY)

    async def _follow(
        self, file: LogFile, take: Callable[[LogFile, list[Record]], None], lines: int
    ) -> None:
        """One log, until cancelled."""
        contents = followed(partial(self._pieces, file.node), file.name, lines, POLL_EVERY)
        async for found in _records(contents):
            take(file, found)

    async def _pieces(
        self,
        node: str,
        how: Literal["file", "stream"],
        name: str,
        *,
        lines: int = WHOLE,
        wait: float | None = READING,
    ) -> AsyncIterator[bytes]:
        """A log as it is, or as it grows; raises httpx.HTTPError. `wait`: seconds for each part."""
        asked = {"node_id": node, "filename": name, "lines": str(lines)}
        if how == "stream":  # with a file Ray takes it for a mistake
            asked["interval"] = "0.5"
        # Of what grows nothing comes before something is logged, not even the answer's head.
        timeout = httpx.Timeout(
            self._client.timeout.connect, read=None if how == "stream" else wait
        )
        async with self._client.stream(
            "GET", f"/api/v0/logs/{how}", params=asked, timeout=timeout
        ) as answer:
            if not answer.is_success:
                said = await _refusal(answer)
                raise httpx.HTTPStatusError(said, request=answer.request, response=answer)
            async for piece in answer.aiter_bytes():
                yield piece

    async def _nodes(self) -> list[tuple[str, str]]:
        """Id and address of every node that is there."""
        # The State API takes filters as three parallel lists (ray.util.state, ListApiOptions).
        alive = {"filter_keys": "state", "filter_predicates": "=", "filter_values": "ALIVE"}
        found = await self._get("/api/v0/nodes", {**alive, "limit": "1000"})
        nodes = rows(table(found).get("result"))
        return [(str(node.get("node_id")), str(node.get("node_ip"))) for node in nodes]

    async def _get(self, path: str, asked: dict[str, str]) -> JSON:
        """What an endpoint of the State API has to say."""
        answer = await self._json(path, asked)
        return table(answer.get("data")).get("result")

    async def _json(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        seconds = self._client.timeout.read or TIMEOUT
        with _translated(self._client):
            answer = await exchange_async(
                self._client, "GET", path, seconds=seconds, limit=_LIMIT, params=asked
            )
        try:
            found = document(answer) if answer.is_success else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            said = _shortened(answer.status_code, answer.text)
            why = f"{self._client.base_url} answered {path} so: {said}"
            raise Transient("LogUnreadable", why)
        return found


async def _records(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[Record]]:
    """The records of a log as it grows, each once another begins or nothing more comes."""
    splitter, lines = Splitter(), _lines(pieces)
    whole: list[str] | None = []
    while whole is not None:
        coming = asyncio.ensure_future(anext(lines, None))
        try:
            done, _ = await asyncio.wait({coming}, timeout=QUIET)
            if not done and (last := splitter.end()) is not None:
                yield [last]
            whole = await coming
        finally:
            coming.cancel()
        if found := [record for line in whole or () if (record := splitter.feed(line)) is not None]:
            yield found
    if (last := splitter.end()) is not None:
        yield [last]


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[str]]:
    """The lines of a log as they come; the last one too if nothing ends it but the log."""
    begun = b""  # of a line whose end has not come yet
    async for piece in pieces:
        *whole, begun = (begun + piece).split(b"\n")
        if len(begun) > LONGEST_LINE:
            whole, begun = [*whole, begun], b""
        if whole:
            yield [line.decode("utf-8", "replace") for line in whole]
    if begun:
        yield [begun.decode("utf-8", "replace")]


@contextmanager
def _translated(client: httpx.AsyncClient) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise Waiting(
            "DashboardUnreachable",
            f"replicas' logs are read through the Ray dashboard, and none answers at "
            f"{client.base_url} ({error or type(error).__name__}); is the head running?",
        ) from error


async def _refusal(answer: httpx.Response) -> str:
    """The text of an answer that was not read yet, as far as it comes."""
    said = ""
    with suppress(TimeoutError, httpx.HTTPError):  # the status alone says something
        async with asyncio.timeout(TIMEOUT):
            async for text in answer.aiter_text():
                said += text
                if len(said) > _REFUSAL:
                    break
    return _shortened(answer.status_code, said)


def _shortened(status: int, text: str) -> str:
    return f"{status} {' '.join(text.split())[-300:]}".strip()


def _age(file: LogFile) -> tuple[str, int, str]:
    """Of one replica the oldest first: `.log.2`, `.log.1`, `.log`."""
    stem, _, number = file.name.rpartition(".log")
    number = number.removeprefix(".")
    return stem, -int(number) if number.isdigit() else 0, file.node


# -- from a program that does other things meanwhile ----------------------------------------------


@contextmanager
def following(options: RayOptions, take: Callable[[LogFile, list[Record]], None]) -> Iterator[None]:
    """Inside, what replicas log from now on is handed over, from a thread of its own."""
    loop = asyncio.new_event_loop()

    async def work() -> None:
        async with ReplicaLogs.connect(options) as logs:
            await logs.follow(logs.running, take)

    task = loop.create_task(work())

    def run() -> None:
        with closing(loop), suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run, name="wheelway-replica-logs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(RuntimeError):  # it ended by itself
            loop.call_soon_threadsafe(task.cancel)
        thread.join(2.0)
