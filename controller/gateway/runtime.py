"""HAProxy's runtime API over its Unix socket: a command, its answer, bounded in time and bytes.

https://docs.haproxy.org/2.8/management.html#9.3: a connection takes one line of commands and is
closed after the answer. There are no statuses: an answer that is not the expected one is an error.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BUFFER: Final = 16384
"""Bytes of HAProxy's buffers (`tune.bufsize`), which a command must fit with all that it brings."""
_PAYLOAD: Final = 12_000
"""Bytes of entries that are sent at once: with the command, and what HAProxy reserves, they fit."""
_LARGEST: Final = 64 * 1024**2
"""Bytes of an answer: ten thousand entries are about one million."""


class GatewayUnreachable(Transient):
    """HAProxy does not answer at its socket; it may start at any moment."""

    def __init__(self, message: str) -> None:
        super().__init__("GatewayUnreachable", message)


class GatewayRefused(Transient):
    """HAProxy answered otherwise than was expected; the table is written again."""

    def __init__(self, message: str) -> None:
        super().__init__("GatewayRefused", message)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The API at one socket."""

    socket: Path
    seconds: float = 10.0
    """For a command and its whole answer."""
    limit: int = _LARGEST
    """Bytes of an answer."""

    def ask(self, command: str, payload: str = "") -> str:
        """What a command answers, without the blank line at its end.

        Raises:
            GatewayUnreachable: nobody listens, or no whole answer came in time.
            GatewayRefused: the command is too long to be sent, or the answer to be read.
        """
        text = f"{command} <<\n{payload}\n" if payload else f"{command}\n"
        sent = text.encode()
        if len(sent) > BUFFER:
            raise GatewayRefused(
                f"{_told(command)} has {len(sent)} bytes, and HAProxy at {self.socket} takes at "
                f"most {BUFFER} at once"
            )
        try:
            answer = self._exchange(sent)
        except OSError as error:
            raise GatewayUnreachable(
                f"HAProxy at {self.socket} does not answer {_told(command)}: "
                f"{error.strerror or error}; is the gateway running?"
            ) from error
        if len(answer) > self.limit:
            raise GatewayRefused(
                f"HAProxy at {self.socket} answers {_told(command)} with more than "
                f"{self.limit} bytes; is that socket the gateway's?"
            )
        return answer.decode(errors="replace").strip("\n")

    def _exchange(self, sent: bytes) -> bytes:
        deadline = time.monotonic() + self.seconds
        received = bytearray()
        with _connected(self.socket, self.seconds) as stream:
            stream.sendall(sent)
            stream.shutdown(socket.SHUT_WR)
            while len(received) <= self.limit:
                stream.settimeout(max(0.001, deadline - time.monotonic()))
                if not (piece := stream.recv(1 << 16)):
                    return bytes(received)
                received += piece
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no whole answer within {self.seconds:g} s")
        return bytes(received)

    # -- maps ------------------------------------------------------------------------------------

    def value(self, name: str, key: str) -> str | None:
        """What a map has for a key at the moment; None when it has nothing.

        Raises:
            GatewayUnreachable, GatewayRefused: as `ask`, or HAProxy knows no such map.
        """
        answer = self.ask(f"get map {name} {key}")
        if ", found=no" in answer:
            return None
        found = re.search(r', value="(.*)", type=', answer)
        if ", found=yes" not in answer or found is None:
            raise self._odd(f"get map {name}", answer)
        return found[1]

    def entries(self, name: str) -> tuple[tuple[str, str], ...]:
        """All that a map has at the moment, in its own order; raises as `value`."""
        lines = self.ask(f"show map {name}").splitlines()
        split = [line.split(" ", 2) for line in lines if line]
        if odd := next((line for line in split if not line[0].startswith("0x")), None):
            raise self._odd(f"show map {name}", " ".join(odd))
        return tuple((line[1], line[2] if len(line) > 2 else "") for line in split)

    def replace(self, name: str, entries: Sequence[tuple[str, str]]) -> None:
        """Give a map other entries, all at once; what was asked before is answered by the former.

        Raises:
            GatewayUnreachable: it is not known whether they are in force.
            GatewayRefused: they are not.
        """
        answer = self.ask(f"prepare map {name}")
        prepared = re.fullmatch(r"New version created: (\d+)", answer)
        if prepared is None:
            raise self._odd(f"prepare map {name}", answer)
        version = prepared[1]
        for payload in payloads(entries):
            self._expect_silence(f"add map @{version} {name}", payload)
        self._expect_silence(f"commit map @{version} {name}")

    def _expect_silence(self, command: str, payload: str = "") -> None:
        if answer := self.ask(command, payload):
            raise self._odd(command, answer)

    def _odd(self, command: str, answer: str) -> GatewayRefused:
        said = " ".join(answer.split())[:200] or "nothing"
        return GatewayRefused(f"HAProxy at {self.socket} answers {_told(command)}: {said}")


def payloads(entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The entries as lines, in pieces that fit a buffer.

    Raises:
        GatewayRefused: an entry is a piece by itself.
    """
    lines: list[str] = []
    size = 0
    for key, value in entries:
        line = f"{key} {value}\n"
        if (length := len(line.encode())) > _PAYLOAD:
            raise GatewayRefused(f"the entry {key[:80]} has {length} bytes, above {_PAYLOAD}")
        if size + length > _PAYLOAD:
            yield "".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += length
    if lines:
        yield "".join(lines)


@contextmanager
def _connected(path: Path, seconds: float) -> Iterator[socket.socket]:
    """A connection to a Unix socket, however long its path (sun_path has 108 bytes, unix(7))."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(seconds)
            stream.connect(f"/proc/self/fd/{folder}/{path.name}")
            yield stream
    finally:
        os.close(folder)


def _told(command: str) -> str:
    return f"`{command[:80]}`"
