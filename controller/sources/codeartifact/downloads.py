"""Reading a wheel's bytes as they come: under a deadline, and to be ended from another thread.

boto3's own body blocks until a whole chunk is there, however slowly it drips; so the response under
it is read, urllib3's. There are no ranges in this API, so nothing is resumed.
"""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import HTTPError

from controller.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 1024 * 1024
"""Bytes at most; less when less has come."""


class Downloads:
    """The downloads that are under way. Any method may be called from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._open: set[Any] = set()
        self._closed = False

    def read(
        self, body: Any, *, what: str, size: int | None, announced: int | None, timeout: float
    ) -> Iterator[bytes]:
        """The bytes of botocore's `StreamingBody`, which is closed in the end.

        Args:
            body: not read yet.
            what: the file, for messages.
            size: bytes that there should be.
            announced: bytes that the answer said there will be, if it did. Fewer are an error of
                the connection; so many, but not `size`, are for the caller to judge.
            timeout: seconds for all of them.

        Raises:
            Transient: `DownloadBroken`, `SourceClosed`.
        """
        raw = body._raw_stream  # noqa: SLF001 - StreamingBody has no way to read what has come
        deadline = self._clock() + timeout
        with self._mutex:
            self._open.add(raw)
        got = 0
        try:
            while not self._closed and (chunk := _more(raw, what)):
                got += len(chunk)
                yield chunk
                if self._clock() > deadline:
                    raise _broken(what, f"only {got} bytes came within {timeout:g} s")
            wanted = size if announced is None else announced
            if wanted is not None and got < wanted:
                raise _broken(what, f"it ended after {got} of {wanted} bytes")
        except Transient as error:
            if self._closed:
                raise _ended(what) from error
            raise
        finally:
            with self._mutex:
                self._open.discard(raw)
            body.close()
        if self._closed:
            raise _ended(what)

    def close(self) -> None:
        """End what is under way, at once."""
        with self._mutex:
            self._closed = True
            for raw in self._open:
                with suppress(ValueError, RuntimeError, OSError):  # it has just come to its end
                    raw.shutdown()


def _more(raw: Any, what: str) -> bytes:
    try:
        chunk: bytes = raw.read1(CHUNK)
    except (HTTPError, http.client.HTTPException, OSError) as error:
        raise _broken(what, " ".join(str(error).split())) from error
    return chunk


def _broken(what: str, why: str) -> Transient:
    return Transient(
        "DownloadBroken",
        f"{what} did not come whole from CodeArtifact: {why}; it is fetched again from its start",
    )


def _ended(what: str) -> Transient:
    return Transient("SourceClosed", f"the download of {what} was ended with its source")
