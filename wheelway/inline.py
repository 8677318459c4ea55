"""Parts that run in their pipeline's own process: on a laptop, in tests, and by option `inline`.

Each has a `Runtime` of its own, with threads of its own; its coroutines run on a loop in a thread
of its own as well, so that a part that blocks holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from wheelway import crossing, stages
from wheelway.calling import THREADS
from wheelway.contract import Pipeline
from wheelway.execution import Items, Runtime, context_of, has_coroutines
from wheelway.failure import PART_CIRCULAR, StartFailure
from wheelway.limits import Limits
from wheelway.loading import load_class
from wheelway.parts import Part, Parts
from wheelway.schema import interface_of
from wheelway.streams import GENERATORS, Stream, Streamed, can_stream
from wheelway.trials import first_of
from wheelway.underway import of_part

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from wheelway.contract import Context, Release
    from wheelway.parts import Invoke

_DEFAULTS = Limits()


class PartRuntime(Runtime):
    """One loaded part. It is called with values by code of its own wheel, so nothing is validated
    but its examples, and its types need no JSON Schema.
    """

    def __init__(self, pipeline: type[Pipeline], context: Context, **options: Any) -> None:
        stages.check_calls(pipeline)
        stages.check_examples(pipeline, inspect.getattr_static(pipeline, "examples"))
        interface = replace(interface_of(_Anything), said=stages.result_of(pipeline))
        super().__init__(pipeline, context, interface=interface, **options)
        self._adapter = _adapter_of(pipeline)

    async def call(self, request: Any) -> Any:
        """What comes of one request: a result, or the `Stream` of its items."""
        result = await self.run(request)
        streams = isinstance(result, (Streamed, *GENERATORS)) or (
            self.interface.said.streams and can_stream(result)
        )
        return self.stream(result) if streams else result

    async def take_example(self, example: Any, deadline: asyncio.Timeout) -> None:
        """Take one through all stages, as its pipeline would; see `Runtime.warm_up`."""
        value = example if self._adapter is None else self._adapter.validate_python(example)
        outcome = await self.call(value)
        if isinstance(outcome, Stream):
            await first_of(Items(outcome, lambda _: b""), deadline)


class PartGroup:
    """The parts of one loaded pipeline: those in its own process, which live as long as it does,
    and those that are elsewhere.

    Args:
        inline: by name.
        elsewhere: how to call them, by name.
        copying: have values cross as they would between processes, so that what cannot is found
            where parts are only inline.
    """

    def __init__(
        self,
        inline: Mapping[str, PartRuntime],
        elsewhere: Mapping[str, Invoke] | None = None,
        *,
        copying: bool = False,
    ) -> None:
        self._inline = inline
        self._elsewhere = elsewhere or {}
        self._copying = copying

    async def load(self) -> Parts:
        """Load those that are here, and give all to the pipeline; raises StartFailure."""
        home = asyncio.get_running_loop()
        for name, runtime in self._inline.items():
            with naming(name):
                await runtime.load()
        invoke = {name: self._here(name, runtime) for name, runtime in self._inline.items()}
        invoke.update(self._elsewhere)
        return Parts({name: Part(name, invoke[name], home) for name in sorted(invoke)})

    async def warm_up(self) -> None:
        """Their examples; raises StartFailure."""
        for name, runtime in self._inline.items():
            with naming(name):
                await runtime.warm_up()

    def keep_to(self, limits: Limits) -> None:
        """Have batches of those that are here be bounded by what these say of each part, and their
        examples by the time that a request of their pipeline has.
        """
        for name, runtime in self._inline.items():
            of_part = limits.parts.get(name, _DEFAULTS)
            runtime.keep_to(replace(of_part, request_timeout=limits.request_timeout))

    @property
    def are_elsewhere(self) -> bool:
        """Whether some of them are."""
        return bool(self._elsewhere)

    @property
    def example_counts(self) -> dict[str, int]:
        """How many each of those that are here has, once loaded."""
        return {name: len(runtime.examples) for name, runtime in self._inline.items()}

    async def reconfigure(self, settings: Mapping[str, Any]) -> str:
        """Hand new settings to those that are here; why one refused them, and none has them then.
        Empty when all took them.
        """
        done: list[tuple[PartRuntime, Mapping[str, Any]]] = []
        for name, runtime in self._inline.items():
            former = runtime.settings
            await runtime.reconfigure(settings)
            if runtime.settings_error:
                for other, its_former in done:
                    await other.reconfigure(its_former)
                return f"the part {name!r}: {runtime.settings_error}"
            done.append((runtime, former))
        return ""

    async def unload(self) -> None:
        """Unload those that are here."""
        for runtime in self._inline.values():
            await runtime.unload()

    def _here(self, name: str, runtime: PartRuntime) -> Invoke:
        async def invoke(request: Any) -> Any:
            request = crossing.copied(request, f"the request to the part {name!r}")
            outcome = await runtime.call(request)
            if isinstance(outcome, Stream):
                return _CopiedItems(name, outcome)
            return crossing.copied(outcome, f"the result of the part {name!r}")

        return invoke if self._copying else runtime.call


class _CopiedItems(AsyncIterator[Any]):
    """No generator: closing one that never began would not close what it is to go through."""

    def __init__(self, part: str, items: Stream) -> None:
        self._what = f"an item of the part {part!r}"
        self._items = items
        self.aclose = items.aclose

    async def __anext__(self) -> Any:
        return crossing.copied(await anext(self._items), self._what)


@dataclass(frozen=True, slots=True)
class InlinePart:
    """What it takes to run one inline."""

    pipeline: type[Pipeline]
    threads: int = THREADS


def load_parts(
    targets: Mapping[str, tuple[str, int]], pipeline: type[Pipeline], tree: Path | None = None
) -> dict[str, InlinePart]:
    """Import parts of a pipeline, given as `module:Class` and threads by name.

    Raises:
        StartFailure: PartCircular, or as `load_class`; it names the part.
    """
    found = {}
    for name, (target, threads) in targets.items():
        with naming(name):
            found[name] = InlinePart(_no_circle(load_class(target, tree), pipeline), threads)
    return found


def _no_circle(part: type[Pipeline], pipeline: type[Pipeline]) -> type[Pipeline]:
    if part is pipeline:
        raise StartFailure(
            PART_CIRCULAR,
            f"it is {part.__module__}:{part.__qualname__}, the pipeline itself, which would need "
            "itself to start; name another class",
        )
    return part


def inline_parts(
    parts: Mapping[str, InlinePart],
    release: Release,
    settings: Mapping[str, Any],
    logger: logging.Logger,
    tree: Path | None = None,
    weights: Path | None = None,
) -> dict[str, PartRuntime]:
    """Runtimes for them, not loaded yet; raises StartFailure, which names the part."""
    made = {}
    for name, part in parts.items():
        with naming(name):
            context = context_of(part.pipeline, release, settings, logger.getChild(name), weights)
            made[name] = part_runtime(name, part.pipeline, context, tree, part.threads)
    return made


def part_runtime(
    name: str,
    pipeline: type[Pipeline],
    context: Context,
    tree: Path | None = None,
    threads: int = THREADS,
) -> PartRuntime:
    """The runtime of a part: coroutines have a loop of their own, and there are no further parts.

    Raises:
        StartFailure: SchemaInvalid.
    """
    return PartRuntime(
        pipeline,
        replace(context, parts=Parts(of_part=name)),
        tree=tree,
        threads=threads,
        isolated=has_coroutines(pipeline),
    )


@contextmanager
def naming(part: str) -> Iterator[None]:
    """A StartFailure in here is told to be that part's, and so is what is under way."""
    try:
        with of_part(part):
            yield
    except StartFailure as failure:
        raise StartFailure(
            failure.reason, f"the part {part!r}: {failure.message}", failure.tail
        ) from failure


class _Anything(Pipeline):
    def infer(self, request: Any, /) -> Any:
        return request


def _adapter_of(pipeline: type[Pipeline]) -> TypeAdapter[Any] | None:
    """Validates examples; None: their type says nothing to pydantic."""
    _, hint = stages.request_hint(pipeline)
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # a model, which has a configuration of its own
        return TypeAdapter(hint)
