"""Reads a stream a step at a time, with the event loop standing still between two: for tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from wheelway.schema import BYTES_TYPE, JSON_TYPE, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wheelway.execution import Items


class Reader:
    """Goes through a stream in one task, which stands still between two calls."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._asked: asyncio.Queue[bool] = asyncio.Queue()
        self._given: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._read())

    async def next(self) -> bytes | None:
        """The next item, None at the end."""
        if self._task.done():
            return None
        self._asked.put_nowait(True)
        given = await self._given.get()
        if isinstance(given, BaseException):
            raise given
        return given

    async def close(self) -> None:
        """Close it, whether it was read to its end or not."""
        self._asked.put_nowait(False)
        await self._task

    async def _read(self) -> None:
        given: bytes | BaseException | None = b""
        try:
            while isinstance(given, bytes) and await self._asked.get():
                try:
                    given = await self._items.next()
                # The author's: raised where the item was asked for.
                except BaseException as error:  # noqa: BLE001
                    given = error
                self._given.put_nowait(given)
        finally:
            await self._items.aclose()


class Readings:
    """The streams that are read by way of one runner."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._open: list[Reader] = []

    def items_of(self, stream: Reader, content_type: str) -> Iterator[Any]:
        """The items as a client's language has them; closing this closes the stream."""
        self._open.append(stream)
        return self._items(stream, BYTES_TYPE if content_type == BYTES_TYPE else JSON_TYPE)

    def _items(self, stream: Reader, content_type: str) -> Iterator[Any]:
        try:
            while (item := self._runner.run(stream.next())) is not None:
                yield value_of(item, content_type)
        finally:
            if stream in self._open:
                self._open.remove(stream)
                self._runner.run(stream.close())

    def close(self) -> None:
        """Close those that were not read to their end."""
        while self._open:
            self._runner.run(self._open.pop().close())
