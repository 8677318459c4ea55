"""What a pipeline's methods take and return, read without calling them.

Only what `inspect.signature` and `typing.get_type_hints` say is used; nothing is guessed. A method
that cannot be called as the contract says would answer every request with 500: it is refused here.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from functools import partialmethod
from typing import TYPE_CHECKING, Any, Final

from wheelway.contract import Pipeline
from wheelway.failure import (
    ABSTRACT_PIPELINE,
    AMBIGUOUS_PIPELINE,
    SCHEMA_INVALID,
    StartFailure,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

STAGES: Final = ("pre_process", "infer", "infer_batch", "post_process")
"""In the order in which a request passes them; of the two in the middle a pipeline has one."""
_CALLED_WITH: Final = {
    **dict.fromkeys(STAGES, ("request",)),
    "infer_batch": ("requests",),
    "load": ("context",),
    "reconfigure": ("settings",),
    "unload": (),
}
_STREAMS = (
    collections.abc.Iterator,
    collections.abc.AsyncIterable,
)
"""Annotations that are, or are derived from, one of these say that a stage streams."""
_LOOSE = (collections.abc.Iterable, object, Any)
"""What a generator may say that it returns, and so may others."""
_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_NO_STREAM = (
    "a batch cannot be streamed: return a list with a result for each request, and stream in "
    "`post_process`"
)
NOTHING = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a pipeline answers with, as its signatures say it."""

    stage: str
    """The one that says it."""
    hint: Any
    """The type of the result, or of each item of a stream; `Any` where nothing says it."""
    streams: bool
    """Whether it is a stream by its looks, whatever the request."""
    item: Any
    """The type of an item if the result turns out to be a stream; NOTHING: it must not."""
    by_item: bool | None = False
    """Whether `post_process` gets each item of what `infer` returns; None: of a generator."""


def request_hint(pipeline: type[Pipeline]) -> tuple[str, Any]:
    """The stage that says what a request is, and its annotation; `Any` where none has one.

    Raises:
        StartFailure: SchemaInvalid; the annotation cannot be resolved.
    """
    stages = own(pipeline, ("pre_process", "infer", "infer_batch"))
    return _first((stage, _parameter(pipeline, stage)) for stage in stages)


def result_of(pipeline: type[Pipeline]) -> Result:
    """What a pipeline answers with.

    Raises:
        StartFailure: SchemaInvalid; an annotation cannot be resolved, a generator says that it
            returns something else, or `pre_process` is one, or one per item.
    """
    for stage in own(pipeline, ("pre_process",)):
        if _yields(pipeline, stage):
            what = "is a generator; only `infer` and `post_process` may be one"
            raise _refused(pipeline, stage, what)
    (answering,) = own(pipeline, ("infer", "infer_batch"))
    inferred = _result(pipeline, answering)
    if not own(pipeline, ("post_process",)):
        return inferred
    last = _result(pipeline, "post_process")
    if _is_stream(_parameter(pipeline, "post_process")):  # it takes the stream as a whole
        return last
    if inferred.streams and last.streams:
        raise _refused(
            pipeline,
            "post_process",
            "yields, and so does `infer`, of which it gets each item: return one result for each, "
            "or annotate its argument as `Iterator[...]` to get the stream as a whole",
        )
    said = last.streams or _returned(pipeline, "post_process") is not NOTHING
    whole = last if said else inferred
    if inferred.streams:
        return dataclasses.replace(whole, streams=True, item=whole.hint, by_item=True)
    may_stream = answering == "infer" and inferred.item is not NOTHING
    return dataclasses.replace(whole, by_item=None if may_stream else False)


def _result(pipeline: type[Pipeline], stage: str) -> Result:
    """What one stage returns."""
    hint = _returned(pipeline, stage)
    bare = bare_of(hint)
    kind, generator = typing.get_origin(bare) or bare, _yields(pipeline, stage)
    item = (*typing.get_args(bare), Any)[0]
    if _is_stream(bare) or (generator and kind in (*_LOOSE, NOTHING)):
        return Result(stage, item, True, item)
    if generator:
        raise _refused(
            pipeline,
            stage,
            f"is a generator, but returns {hint!r} by its annotation: say `Iterator[...]` of what "
            "it yields, or return instead of yielding",
        )
    if hint is NOTHING:
        return Result("infer", Any, False, Any)
    return Result(stage, hint, False, item if kind in _LOOSE else NOTHING)


def bare_of(hint: Any) -> Any:
    """A type without what `Annotated` says beside it."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = hint.__origin__
    return hint


def _is_stream(hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    return inspect.isclass(kind) and issubclass(kind, _STREAMS)


def _yields(pipeline: type[Pipeline], stage: str) -> bool:
    """Whether a stage is a generator, as far as can be told without calling it."""
    function = inspect.unwrap(_method(pipeline, stage))
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def check_inference(pipeline: type[Pipeline]) -> None:
    """Make sure that there is one way to answer.

    Raises:
        StartFailure: AbstractPipeline, AmbiguousPipeline; or SchemaInvalid: `infer_batch` cannot
            give a list.
    """
    name = f"{pipeline.__module__}:{pipeline.__qualname__}"
    found = own(pipeline, ("infer", "infer_batch"))
    if not found:
        raise StartFailure(
            ABSTRACT_PIPELINE, f"{name} defines neither `infer` nor `infer_batch`; define one"
        )
    if len(found) > 1:
        raise StartFailure(
            AMBIGUOUS_PIPELINE,
            f"{name} defines both `infer` and `infer_batch`, and only one can answer; delete the "
            "other, or call it by another name (`infer = Pipeline.infer` takes back one that is "
            "inherited)",
        )
    if found == ["infer_batch"]:
        method = _method(pipeline, "infer_batch")
        if hasattr(method, "set_max_batch_size"):
            raise _refused(
                pipeline, "infer_batch", "is given batches as it is; take `@serve.batch` away"
            )
        if _yields(pipeline, "infer_batch"):
            raise _refused(pipeline, "infer_batch", f"is a generator; {_NO_STREAM}")


def check_calls(pipeline: type[Pipeline]) -> None:
    """Make sure that each method can be called as it will be.

    Raises:
        StartFailure: SchemaInvalid; one takes fewer or more arguments than the contract gives it.
            Or as `check_inference`.
    """
    check_inference(pipeline)
    for name in own(pipeline, _CALLED_WITH):
        # Of a decorated method the outermost wrapper is what is called: it may well add arguments.
        signature = _signature(_method(pipeline, name), follow_wrapped=False)
        if signature is None:
            continue
        arguments = _CALLED_WITH[name]
        try:
            signature.bind(*arguments)
        except TypeError as error:
            given = f"one positional argument, the {arguments[0]}" if arguments else "no argument"
            raise _refused(
                pipeline,
                name,
                f"cannot be called ({error}): it is given {given}; put what more it needs into "
                "the request's type, or keep it on `self` in `load`",
            ) from error


def own(pipeline: type[Pipeline], names: Iterable[str]) -> list[str]:
    """Those methods that the author wrote: the defaults' annotations say nothing."""
    return [name for name in names if getattr(pipeline, name) is not getattr(Pipeline, name)]


def _first(annotations: Iterable[tuple[str, Any]]) -> tuple[str, Any]:
    return next((found for found in annotations if found[1] is not NOTHING), ("infer", Any))


def _parameter(pipeline: type[Pipeline], stage: str) -> Any:
    method = _method(pipeline, stage)
    signature = _signature(method)
    if signature is None or not signature.parameters:
        return NOTHING
    parameter = next(iter(signature.parameters.values()))
    if parameter.kind is parameter.VAR_KEYWORD:
        return NOTHING
    hint = _hints(pipeline, stage, method).get(parameter.name, NOTHING)
    if stage == "infer_batch":
        return _item(pipeline, hint, "takes")
    return _one_of(method, hint)


def _returned(pipeline: type[Pipeline], stage: str) -> Any:
    method = _method(pipeline, stage)
    hint = _hints(pipeline, stage, method).get("return", NOTHING)
    # A plain function may say that it returns something to be awaited: what counts is its outcome.
    if typing.get_origin(hint) in (collections.abc.Awaitable, collections.abc.Coroutine):
        hint = typing.get_args(hint)[-1]
    if stage == "infer_batch":
        return _without_errors(_item(pipeline, hint, "returns"))
    return _one_of(method, hint)


def _item(pipeline: type[Pipeline], hint: Any, verb: str) -> Any:
    """Of the list that `infer_batch` takes or returns, what one request has of it."""
    if hint in (NOTHING, Any, *_LISTS):
        return NOTHING
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _LISTS or (origin is tuple and arguments[1:] == (...,)):
        return arguments[0] if arguments else NOTHING
    if _is_stream(hint):
        raise _refused(pipeline, "infer_batch", f"{verb} {hint!r}; {_NO_STREAM}")
    raise _refused(
        pipeline,
        "infer_batch",
        f"{verb} {hint!r}; annotate it as `list[...]` of what `infer` would have for one request",
    )


def _without_errors(hint: Any) -> Any:
    """A result that may also be an exception, as `Boxes | Exception`, without that."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    kinds = typing.get_args(hint)
    results = [k for k in kinds if not (inspect.isclass(k) and issubclass(k, BaseException))]
    return typing.Union[tuple(results or kinds)]  # noqa: UP007 - which ones is only known here


def _one_of(method: Callable[..., Any], hint: Any) -> Any:
    """Of a method under Ray's `@serve.batch`, which is written for lists, what one caller has."""
    if not hasattr(method, "set_max_batch_size"):
        return hint
    listed = typing.get_origin(hint) in (list, collections.abc.Sequence)
    return typing.get_args(hint)[0] if listed else NOTHING


def _method(pipeline: type[Pipeline], name: str) -> Callable[..., Any]:
    """A method as an instance has it, without making one."""
    found: Any = inspect.getattr_static(pipeline, name)
    if not (callable(found) or isinstance(found, (staticmethod, classmethod, partialmethod))):
        raise _refused(pipeline, name, "is not a method; define it by `def`")
    if hasattr(type(found), "__get__"):
        found = found.__get__(object(), pipeline)
    method: Callable[..., Any] = found
    return method


def _signature(
    method: Callable[..., Any], *, follow_wrapped: bool = True
) -> inspect.Signature | None:
    """None for what is written in C and does not say."""
    try:
        return inspect.signature(method, follow_wrapped=follow_wrapped)
    except ValueError:
        return None


def _hints(pipeline: type[Pipeline], stage: str, method: Callable[..., Any]) -> dict[str, Any]:
    function: Any = inspect.unwrap(method)
    while hasattr(function, "func"):  # functools.partial
        function = inspect.unwrap(function.func)
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = type(function).__call__  # an object that can be called
    try:
        return typing.get_type_hints(function, include_extras=True)
    # Evaluating an annotation runs the author's expression: it may raise anything.
    except Exception as error:
        raise _refused(
            pipeline,
            stage,
            f"has an annotation that cannot be resolved ({error}); import its names at run time, "
            "not only under TYPE_CHECKING",
        ) from error


def _refused(pipeline: type[Pipeline], name: str, what: str) -> StartFailure:
    return StartFailure(SCHEMA_INVALID, f"`{pipeline.__qualname__}.{name}` {what}")


def examples_of(pipeline: Pipeline) -> Sequence[Any]:
    """A pipeline's examples.

    Raises:
        StartFailure: SchemaInvalid; they are one value or in no order, not a list or tuple.
    """
    examples: Any = pipeline.examples
    check_examples(type(pipeline), examples)
    return tuple(examples)


def check_examples(pipeline: type[Pipeline], examples: Any) -> None:
    """See `examples_of`; of a class what it says itself, unless only instances know."""
    if hasattr(type(examples), "__get__"):  # a property
        return
    one = isinstance(examples, (str, bytes, bytearray, memoryview))
    if one or not isinstance(examples, collections.abc.Sequence):
        raise StartFailure(
            SCHEMA_INVALID,
            f"`{pipeline.__qualname__}.examples` must be a list or tuple of requests, not a "
            f"{type(examples).__qualname__}; for one, with the comma: `examples = (request,)`",
        )
