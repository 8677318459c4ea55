"""A pipeline's examples before it serves: each of them, and together where there are batches.

They take the path of requests. What one of them fails by is told as the reason for which a release
does not start.
"""

from __future__ import annotations

import asyncio
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from wheelway.batches import Sizes
from wheelway.deadlines import whereabouts
from wheelway.failure import (
    EXAMPLE_FAILED,
    EXAMPLE_REFUSED,
    EXAMPLE_RESULT_INVALID,
    EXAMPLE_TIMEOUT,
    StartFailure,
    blame,
    ends_the_caller,
    tail_of,
)
from wheelway.refusals import refusal_in
from wheelway.results import NotOneEach, ResultInvalid
from wheelway.underway import begin

if TYPE_CHECKING:
    from pathlib import Path

    from wheelway.batches import Batches
    from wheelway.execution import Items, Runtime

WARM_UP: Final = 60.0
"""Seconds that an example gets beyond those of a request: kernels are compiled, a GPU is readied
and files are read for the first time, and on a machine where others start as well."""
EXAMPLE_ITEMS = 1000
"""Items of an example's stream after which it is taken to be right and closed;"""
EXAMPLE_SECONDS = 10.0
"""or seconds, from the first of them on."""
SHOWN_ITEMS = 3
"""Items of it that are kept, to be shown."""


async def try_examples(runtime: Runtime, name: str, tree: Path | None) -> list[list[bytes]]:
    """Take every example of a loaded pipeline through all stages; returns the first items of each
    that was answered by a stream. `name` is the class's, and `tree` where its files are.

    Raises:
        StartFailure: ExampleFailed, ExampleRefused, ExampleResultInvalid, ExampleTimeout or
            OutOfMemory.
    """
    trials = _Trials(runtime, name, tree)
    answers = [await trials.one(number) for number in range(1, len(runtime.examples) + 1)]
    if runtime.batches is not None and runtime.examples:
        await trials.together(runtime.batches)
        runtime.batches.sizes = Sizes()
    return [items for items in answers if items is not None]


class _Trials:
    """Those of one pipeline."""

    def __init__(self, runtime: Runtime, name: str, tree: Path | None) -> None:
        self._runtime = runtime
        self._examples = runtime.examples
        self._name = name
        self._tree = tree

    async def one(self, number: int, how: str = "") -> list[bytes] | None:
        """The first items of an example's answer, if that is a stream; raises StartFailure."""
        what = f"example {number} of {len(self._examples)} of {self._name}{how}"
        begin(what)
        seconds = self._runtime.example_seconds
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await self._runtime.take_example(self._examples[number - 1], deadline)
        except ValidationError as error:
            what = f"{what} does not match the declared request type"
            raise blame(EXAMPLE_FAILED, what, error, self._tree) from error
        except NotOneEach as error:
            what = f"{what} failed"
            raise blame(EXAMPLE_RESULT_INVALID, what, error, self._tree) from error
        except ResultInvalid as error:
            what = f"the result of {what} violates the declared result type"
            raise blame(EXAMPLE_RESULT_INVALID, what, error, self._tree) from error
        # The stages are the author's: they may raise anything.
        except BaseException as error:
            if ends_the_caller(error):
                raise
            if isinstance(error, TimeoutError) and deadline.expired():
                raise _too_late(what, seconds, error) from error
            if refused := refusal_in(error):
                what = f"{what} was refused by it ({refused}); examples are what is answered"
                raise StartFailure(EXAMPLE_REFUSED, what, tail_of(error, self._tree)) from error
            raise blame(EXAMPLE_FAILED, f"{what} failed", error, self._tree) from error

    async def together(self, batches: Batches) -> None:
        """What answers one may not be able to answer several; raises StartFailure."""
        count = min(max(len(self._examples), 2), batches.limits.max_batch_size)
        if count == 1:
            return
        numbers = islice(cycle(range(1, len(self._examples) + 1)), count)
        with batches.gathering(count):
            trials = (self.one(number, f", in a batch of {count},") for number in numbers)
            outcomes = await asyncio.gather(*trials, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome


def _too_late(what: str, seconds: float | None, error: TimeoutError) -> StartFailure:
    """Of an example that had neither a result nor an item when its time was over."""
    ended = error.__cause__
    where = whereabouts(ended) if isinstance(ended, asyncio.CancelledError) else ""
    return StartFailure(
        EXAMPLE_TIMEOUT,
        f"{what} had no result within {seconds:g} s{where and ': '}{where}. It gets what a request "
        f"gets (`request_timeout`), and {WARM_UP:g} s to warm up",
    )


async def first_of(items: Items, deadline: asyncio.Timeout) -> list[bytes]:
    """The first items of an example's stream; it is read to its end, or until it is known well
    enough: one that never ends must not keep the release from starting. The example's `deadline`
    is that of its first item.
    """
    first = []
    try:
        async with asyncio.timeout(None) as enough:
            while items.count < EXAMPLE_ITEMS and (item := await items.next()) is not None:
                if items.count == 1:
                    deadline.reschedule(None)
                    enough.reschedule(asyncio.get_running_loop().time() + EXAMPLE_SECONDS)
                if items.count <= SHOWN_ITEMS:
                    first.append(item)
    except TimeoutError:
        if not enough.expired():  # the pipeline's own
            raise
    except asyncio.CancelledError as error:
        if not items.count:
            error.add_note(f"`{items.maker}` had yielded no item")
        raise
    finally:
        await items.aclose()
    return first
