"""A pipeline's types, read from its annotations, as validation and as JSON Schema.

Bodies become values and results become bodies here, so the examples at start-up and the requests
later take one path.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json, to_jsonable_python

from wheelway import json_schema, results, stages
from wheelway.failure import SCHEMA_INVALID, StartFailure
from wheelway.refusals import refusals_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic.json_schema import JsonSchemaMode

    from wheelway.contract import Pipeline
    from wheelway.refusals import Refused

JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"
LINES_TYPE = "application/x-ndjson"
EVENTS_TYPE = "text/event-stream"
TEXT_TYPE = "text/plain"

_NO_TEXT = re.compile("[^\\t\\n\\r -~\\xa0-\\ufffc\\U00010000-\\U0010ffff]")
"""A control character, or the mark of what was no UTF-8."""
_COMPONENTS = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Interface:
    """What goes into a pipeline and what comes out. An adapter of None means the raw body."""

    request: TypeAdapter[Any] | None
    result: TypeAdapter[Any] | None
    decode: Callable[[bytes], Any]
    """A request's body as the value for the first stage; raises pydantic's ValidationError."""
    encode: results.Encoder
    """The last stage's result as a body, None where it is a stream; raises ResultInvalid."""
    encode_item: results.Encoder
    """The same of each item of a stream; None where such an item is itself one."""
    said: stages.Result
    """What the result is by the signatures."""
    schemas: tuple[dict[str, Any], dict[str, Any]]
    """JSON Schemas (draft 2020-12) of request and result (of a stream, each item of it), each
    complete in itself."""
    components: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
    """Schemas of request and result that share their definitions, and those definitions, for
    `#/components/schemas` of an OpenAPI document."""
    description: str = ""
    """The class's own docstring."""
    refusals: tuple[Refused, ...] = ()
    """Those that the class lists."""

    @property
    def request_type(self) -> str:
        """The content type of a request's body."""
        return BYTES_TYPE if self.request is None else JSON_TYPE

    @property
    def result_type(self) -> str:
        """The content type of a result's body; of a stream, the one that nobody has to ask for."""
        return self.result_types[0]

    @property
    def result_types(self) -> tuple[str, ...]:
        """All content types that a client may choose from, by `accept`."""
        return self.stream_types if self.said.streams else (self._plain_type,)

    @property
    def stream_types(self) -> tuple[str, ...]:
        """The same, of a result that is a stream, be it by its looks or not."""
        if self._item is bytes:
            return (BYTES_TYPE,)
        text = (TEXT_TYPE,) if stages.bare_of(self._item) is str else ()
        return (LINES_TYPE, EVENTS_TYPE, *text)

    @property
    def _plain_type(self) -> str:
        return BYTES_TYPE if self.result is None else JSON_TYPE

    @property
    def _item(self) -> Any:
        """The type of an item; that of the result where only `infer` may turn out to stream."""
        return self.said.hint if self.said.item is stages.NOTHING else self.said.item

    def shown(self, examples: Sequence[Any]) -> list[Any]:
        """Examples of requests as documents show them; bodies that are no text are left out."""
        bodies = map(body_of, examples)
        if self.request is not None:
            return [json_schema.without_infinities(from_json(body)) for body in bodies]
        texts = (body.decode(errors="replace") for body in bodies)
        return [text for text in texts if _NO_TEXT.search(text) is None]


def interface_of(pipeline: type[Pipeline]) -> Interface:
    """Read a pipeline class's types.

    Raises:
        StartFailure: SchemaInvalid; a method cannot be called as the contract says, an annotation
            cannot be resolved, pydantic cannot make a schema of it, or the schema is no JSON. Or as
            `stages.check_calls`.
    """
    stages.check_calls(pipeline)
    stages.check_examples(pipeline, inspect.getattr_static(pipeline, "examples"))
    request = _Side(pipeline, "request", *stages.request_hint(pipeline))
    said = stages.result_of(pipeline)
    result = _Side(pipeline, "result", said.stage, said.hint)
    asked, answered = request.adapter(), result.adapter()
    schemas = request.schema(asked), result.schema(answered)
    whole = _encoder(answered, schemas[1], may_stream=said.item is not stages.NOTHING)
    item = whole
    if said.item is not said.hint and said.item is not stages.NOTHING:
        each = _Side(pipeline, "result", said.stage, said.item)
        item = _encoder(adapter := each.adapter(), each.schema(adapter))
    return Interface(
        request=asked,
        result=answered,
        decode=bytes if asked is None else asked.validator.validate_json,
        encode=results.stream if said.streams else whole,
        encode_item=item,
        said=said,
        schemas=schemas,
        components=_components(request, asked, result, answered),
        description=inspect.cleandoc(pipeline.__doc__ or "").encode(errors="replace").decode(),
        refusals=refusals_of(pipeline),
    )


def _encoder(
    adapter: TypeAdapter[Any] | None, schema: dict[str, Any], *, may_stream: bool = False
) -> results.Encoder:
    if adapter is None:
        return results.raw
    return results.encoder(adapter, schema, may_stream=may_stream)


def body_of(example: Any) -> bytes:
    """An example as the body that a client would send.

    One that holds NaN or an infinity is what Python's clients make of these, which is no JSON and
    understood all the same.
    """
    # By way of JSON's values: a model would write null for an infinity, be it a field's default.
    return example if isinstance(example, bytes) else to_json(to_jsonable_python(example))


def value_of(body: bytes, content_type: str) -> Any:
    """A body as a client's language has it: JSON parsed, anything else as it is."""
    return from_json(body) if content_type == JSON_TYPE else body


@dataclass(frozen=True, slots=True)
class _Side:
    """The request or the result of a pipeline: its type, and what to call it when it is refused."""

    pipeline: type[Pipeline]
    what: Literal["request", "result"]
    stage: str
    hint: Any

    @property
    def mode(self) -> JsonSchemaMode:
        return "validation" if self.what == "request" else "serialization"

    def adapter(self) -> TypeAdapter[Any] | None:
        """None: bytes."""
        if self.hint is bytes:
            return None
        try:
            return TypeAdapter(self.hint)
        # Types may bring code of their own for it, which may raise anything.
        except Exception as error:
            raise self.refused(error) from error

    def schema(self, adapter: TypeAdapter[Any] | None) -> dict[str, Any]:
        """The side's JSON Schema, complete in itself."""
        if adapter is None:
            return dict(json_schema.BINARY)
        try:
            return adapter.json_schema(mode=self.mode, schema_generator=json_schema.Generator)
        except json_schema.NotJSONError as error:
            raise self.no_json(error) from error
        except Exception as error:  # see adapter
            raise self.refused(error) from error

    def refused(self, error: Exception) -> StartFailure:
        first = str(error).partition("\n")[0]
        return StartFailure(
            SCHEMA_INVALID,
            f"the {self.what} type of `{self.pipeline.__qualname__}.{self.stage}`, {self.hint!r}, "
            f"has no JSON Schema ({first}); annotate the first and last stage with JSON-able "
            "types, pydantic models or bytes, or leave the annotation out",
        )

    def no_json(self, error: json_schema.NotJSONError) -> StartFailure:
        return StartFailure(
            SCHEMA_INVALID,
            f"in the JSON Schema of the {self.what} type of `{self.pipeline.__qualname__}."
            f"{self.stage}`, {error}; put what JSON has into defaults, examples and "
            "`json_schema_extra`",
        )


def _components(
    request: _Side,
    asked: TypeAdapter[Any] | None,
    result: _Side,
    answered: TypeAdapter[Any] | None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """See Interface."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (side.what, side.mode, adapter)
        for side, adapter in ((request, asked), (result, answered))
        if adapter is not None
    ]
    schemas, shared = TypeAdapter.json_schemas(
        inputs, ref_template=_COMPONENTS, schema_generator=json_schema.Generator
    )
    return (
        schemas.get((request.what, request.mode), json_schema.BINARY),
        schemas.get((result.what, result.mode), json_schema.BINARY),
        shared.get("$defs", {}),
    )
