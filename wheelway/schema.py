"""A pipeline's types: read from its annotations, turned into validation and JSON Schema.

Only what `typing.get_type_hints` and pydantic say is used; nothing is guessed. Bodies become values
and results become bodies here, so the examples at start-up and the requests later take one path.
"""

from __future__ import annotations

import collections.abc
import inspect
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import (
    PydanticSchemaGenerationError,
    PydanticUndefinedAnnotation,
    PydanticUserError,
)
from pydantic_core import PydanticSerializationError, from_json, to_json

from wheelway.contract import Pipeline
from wheelway.failure import SCHEMA_INVALID, StartFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic.json_schema import JsonSchemaMode

JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"

BINARY_SCHEMA = {"type": "string", "format": "binary"}
"""How OpenAPI has always written "the body as it is"; tools still look for it in 3.1."""


class ResultInvalid(Exception):  # noqa: N818 - named like the reason it is reported as
    """A pipeline returned what its declared result type does not allow; the text says where."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What goes into a pipeline and what comes out. An adapter of None means the raw body."""

    request: TypeAdapter[Any] | None
    result: TypeAdapter[Any] | None
    decode: Callable[[bytes], Any]
    """A request's body as the value for the first stage; raises pydantic's ValidationError."""
    encode: Callable[[Any], bytes]
    """The last stage's result as a body; raises ResultInvalid."""
    description: str = ""
    """The class's own docstring."""

    @property
    def request_type(self) -> str:
        """The content type of a request's body."""
        return BYTES_TYPE if self.request is None else JSON_TYPE

    @property
    def result_type(self) -> str:
        """The content type of a result's body."""
        return BYTES_TYPE if self.result is None else JSON_TYPE

    def schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """JSON Schemas (draft 2020-12) of request and result, each complete in itself."""
        return _schema(self.request, "validation"), _schema(self.result, "serialization")

    def components(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Schemas of request and result that share their definitions, and those definitions, for
        `#/components/schemas` of an OpenAPI document.
        """
        inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = []
        if self.request is not None:
            inputs.append(("request", "validation", self.request))
        if self.result is not None:
            inputs.append(("result", "serialization", self.result))
        schemas, shared = TypeAdapter.json_schemas(
            inputs, ref_template="#/components/schemas/{model}"
        )
        return (
            schemas.get(("request", "validation"), BINARY_SCHEMA),
            schemas.get(("result", "serialization"), BINARY_SCHEMA),
            shared.get("$defs", {}),
        )


def interface_of(pipeline: type[Pipeline]) -> Interface:
    """Read a pipeline class's types.

    Raises:
        StartFailure: SchemaInvalid; an annotation cannot be resolved, or pydantic cannot make a
            schema of it.
    """
    request = _first(
        (stage, _parameter(pipeline, stage)) for stage in _own(pipeline, ("pre_process", "infer"))
    )
    result = _first(
        (stage, _returned(pipeline, stage)) for stage in _own(pipeline, ("post_process", "infer"))
    )
    request_adapter = _adapter(pipeline, "request", *request, mode="validation")
    result_adapter = _adapter(pipeline, "result", *result, mode="serialization")
    return Interface(
        request=request_adapter,
        result=result_adapter,
        decode=bytes if request_adapter is None else request_adapter.validator.validate_json,
        encode=_raw if result_adapter is None else _encoder(result_adapter),
        description=inspect.cleandoc(pipeline.__doc__ or ""),
    )


def body_of(example: Any) -> bytes:
    """An example as the body that a client would send."""
    return example if isinstance(example, bytes) else to_json(example)


def value_of(body: bytes, content_type: str) -> Any:
    """A body as a client's language has it: JSON parsed, anything else as it is."""
    return from_json(body) if content_type == JSON_TYPE else body


# -- annotations ---------------------------------------------------------------------------------

_NOTHING = inspect.Parameter.empty


def _own(pipeline: type[Pipeline], stages: Sequence[str]) -> list[str]:
    """The stages that the author wrote: the defaults' annotations say nothing."""
    return [s for s in stages if getattr(pipeline, s) is not getattr(Pipeline, s)]


def _first(annotations: collections.abc.Iterable[tuple[str, Any]]) -> tuple[str, Any]:
    """The first stage with an annotation and that annotation; `Any` without one."""
    return next((found for found in annotations if found[1] is not _NOTHING), ("infer", Any))


def _parameter(pipeline: type[Pipeline], stage: str) -> Any:
    function = inspect.unwrap(_function(pipeline, stage))
    parameters = list(inspect.signature(function).parameters.values())
    static = isinstance(inspect.getattr_static(pipeline, stage), staticmethod)
    rest = parameters if static else parameters[1:]
    if not rest:
        raise StartFailure(
            SCHEMA_INVALID,
            f"`{pipeline.__qualname__}.{stage}` takes no request; give it one parameter",
        )
    return _hints(pipeline, stage, function).get(rest[0].name, _NOTHING)


def _returned(pipeline: type[Pipeline], stage: str) -> Any:
    function = inspect.unwrap(_function(pipeline, stage))
    hint = _hints(pipeline, stage, function).get("return", _NOTHING)
    # A plain function may say that it returns something to be awaited: what counts is its outcome.
    if typing.get_origin(hint) in (collections.abc.Awaitable, collections.abc.Coroutine):
        return typing.get_args(hint)[-1]
    return hint


def _function(pipeline: type[Pipeline], stage: str) -> Callable[..., Any]:
    function: Any = inspect.getattr_static(pipeline, stage)
    if isinstance(function, (staticmethod, classmethod)):
        function = function.__func__
    if not callable(function):
        raise StartFailure(
            SCHEMA_INVALID, f"`{pipeline.__qualname__}.{stage}` is not a method; define it by `def`"
        )
    checked: Callable[..., Any] = function
    return checked


def _hints(pipeline: type[Pipeline], stage: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    # Evaluating an annotation runs the author's expression: it may raise anything.
    except Exception as error:
        raise StartFailure(
            SCHEMA_INVALID,
            f"an annotation of `{pipeline.__qualname__}.{stage}` cannot be resolved ({error}); "
            "import its names at run time, not only under TYPE_CHECKING",
        ) from error


# -- adapters ------------------------------------------------------------------------------------


def _adapter(
    pipeline: type[Pipeline], what: str, stage: str, hint: Any, *, mode: JsonSchemaMode
) -> TypeAdapter[Any] | None:
    if hint is bytes:
        return None
    try:
        adapter = TypeAdapter(hint)
        adapter.json_schema(mode=mode)
    except (
        PydanticSchemaGenerationError,
        PydanticUndefinedAnnotation,
        PydanticUserError,
        TypeError,  # what pydantic says to things that are no types at all
    ) as error:
        first = str(error).partition("\n")[0]
        raise StartFailure(
            SCHEMA_INVALID,
            f"the {what} type of `{pipeline.__qualname__}.{stage}`, {hint!r}, has no JSON Schema "
            f"({first}); annotate the first and last stage with JSON-able types, pydantic models "
            "or bytes, or leave the annotation out",
        ) from error
    return adapter


def _schema(adapter: TypeAdapter[Any] | None, mode: JsonSchemaMode) -> dict[str, Any]:
    return dict(BINARY_SCHEMA) if adapter is None else adapter.json_schema(mode=mode)


def _encoder(adapter: TypeAdapter[Any]) -> Callable[[Any], bytes]:
    validate = adapter.validator.validate_python
    serialize = adapter.serializer.to_json

    def encode(result: Any) -> bytes:
        try:
            return serialize(validate(result), by_alias=True)
        except (ValidationError, PydanticSerializationError) as error:
            raise ResultInvalid(_without_input(error)) from error

    return encode


def _raw(result: Any) -> bytes:
    if isinstance(result, bytes):
        return result
    if isinstance(result, (bytearray, memoryview)):
        return bytes(result)
    raise ResultInvalid(f"declared bytes, returned {type(result).__qualname__}")


def _without_input(error: ValidationError | PydanticSerializationError) -> str:
    """What is wrong and where, without the values: they may be large or private."""
    if not isinstance(error, ValidationError):
        return str(error)
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        f"{'.'.join(map(str, mistake['loc'])) or 'result'}: {mistake['msg']}"
        for mistake in mistakes[:5]
    )
