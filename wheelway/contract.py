"""The contract between a pipeline and what runs it; everything here is promised to authors.

A pipeline is a subclass of `Pipeline`, named by an entry point in the group `wheelway.pipelines`.
Each replica makes one instance without arguments, calls `load` once, then every example through
all stages, and only then serves. Signatures are looked at, not declared: a stage may be `def` (it
then runs in a thread and may block) or `async def` (it then runs on an event loop and must not).
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from wheelway.parts import Parts

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from wheelway.parts import Part
    from wheelway.refusals import Refused


@dataclass(frozen=True, slots=True)
class Release:
    """Who answers: a pipeline at a version with these bytes, and what it runs in."""

    pipeline: str
    version: str
    digest: str
    """SHA-256 of the wheel, lower-case hex."""
    environment: str = ""
    """SHA-256 of the locked requirements; empty when the base environment satisfies them."""
    wheelway: str = ""
    """The version of wheelway that serves it."""
    application: str = ""
    """The Serve application it runs in; empty outside Serve."""

    def __str__(self) -> str:
        """As in the header `x-wheelway-release`: `<pipeline>@<version>+<digest8>`."""
        return f"{self.pipeline}@{self.version}+{self.digest[:8]}"


@dataclass(frozen=True, slots=True)
class Context:
    """What a pipeline is told when it is loaded."""

    pipeline: str
    """Its name, normalised as in the route."""
    version: str
    """The wheel's version (PEP 440)."""
    digest: str
    """SHA-256 of the wheel, lower-case hex."""
    settings: Mapping[str, Any]
    """The wheel's own settings with the operator's merged over them, read-only. Later ones arrive
    through `Pipeline.reconfigure`, which is not called for these."""
    files: Path
    """The folder of the wheel's own files, to be read only: that of the outermost regular package
    (one with an `__init__.py`) that the pipeline's module is in, so `files / "model.onnx"` is what
    lies beside the package's `__init__.py`. Without one: the folder of the module itself."""
    logger: logging.Logger
    """Ends in the replica's log, with the release's name."""
    parts: Mapping[str, Part] = field(default_factory=Parts)
    """The parts of the pipeline by their names: `await context.parts["risk"](x)`, in a `def` stage
    `context.parts["risk"](x).result()`. Empty for a part, which has none of its own."""
    weights: Path | None = None
    """The folder of the weights to load, to be read only: the package that a wheel in the group
    `wheelway.weights` names for this pipeline. None: there are none; use those of the wheel."""


class Pipeline(ABC):  # noqa: B024 - which of two methods must be there no decorator can say
    """A model with what goes before and after it.

    Either `infer` or `infer_batch` must be defined. The type of a request is the annotation of the
    first parameter of `pre_process`, else of `infer`; that of a result is the return annotation of
    `post_process`, else of `infer`. Pydantic validates both. No annotation means any JSON, `bytes`
    means the raw body.

    `infer` or `post_process` may yield, or return a generator: the items are then sent as they
    come, each of the type that `Iterator[...]` or `AsyncIterator[...]` holds.
    """

    examples: ClassVar[Sequence[Any]] = ()
    """Requests as a client would send them (JSON-able values, or `bytes`). Every replica runs them
    through all stages before it serves, so they warm it up, and a release that fails one of them
    never gets a route. They also appear in the documentation page."""
    refusals: ClassVar[Sequence[Refused]] = ()
    """What the stages raise when the caller is at fault, an instance of each, for the
    documentation. Others may be raised all the same."""

    def load(self, context: Context) -> None:  # noqa: B027 - overriding it is optional
        """Load models, once a replica; may be `async def`. Raise: this release cannot work."""

    def pre_process(self, request: Any, /) -> Any:
        """Turn a request into what `infer` takes."""
        return request

    def infer(self, request: Any, /) -> Any:
        """Answer one request, or yield what the answer is made of."""
        raise NotImplementedError

    def infer_batch(self, requests: list[Any], /) -> Any:
        """Answer what waits, instead of `infer`: a list with a result for each request, in their
        order. An exception in the list fails its own request, one that is raised all of them.

        `pre_process` and `post_process` stay per request. Annotate it as `list[In]` to `list[Out]`.
        """
        raise NotImplementedError

    def post_process(self, result: Any, /) -> Any:
        """Turn what `infer` returned into the result; of a stream, each item."""
        return result

    def reconfigure(self, settings: Mapping[str, Any], /) -> None:  # noqa: B027 - see load
        """Take new settings without a restart, possibly while requests run; may be `async def`.

        Raise to refuse them: the former ones stay in force and the release reports the error.
        """

    def unload(self) -> None:  # noqa: B027 - see load
        """Release what `load` took; called once, after the last request, but not when killed."""
