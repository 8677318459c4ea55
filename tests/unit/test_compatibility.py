"""What a version may change of its schemas without a client of the former one noticing."""

from __future__ import annotations

import copy
import datetime as dt
import json
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, Json, TypeAdapter, create_model

from controller.planning.compatibility import Side, incompatibility
from controller.planning.schema_keywords import MOST_VALUES
from controller.planning.subschemas import find_gap
from wheelway import Pipeline, openapi
from wheelway.contract import Release
from wheelway.schema import interface_of

pytestmark = pytest.mark.unit

ANY = Side({})
BYTES = Side({"type": "string", "format": "binary"}, "application/octet-stream")


def model(name="Request", /, *, config=None, **fields):
    return create_model(name, __config__=config, **fields)


def takes(hint):
    return Side(TypeAdapter(hint).json_schema(mode="validation"))


def gives(hint):
    return Side(TypeAdapter(hint).json_schema(mode="serialization"))


def of_input(former, new):
    found = incompatibility((takes(former), ANY), (takes(new), ANY))
    return None if found is None else str(found)


def of_output(former, new):
    found = incompatibility((ANY, gives(former)), (ANY, gives(new)))
    return None if found is None else str(found)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class WholeCircle(BaseModel):
    kind: Literal["circle"]
    radius: int


class Square(BaseModel):
    kind: Literal["square"]
    side: float


class Node(BaseModel):
    value: int
    below: list[Node] = []


class LooseNode(BaseModel):
    value: float
    note: str = ""
    below: list[LooseNode] | None = None


class NamedNode(BaseModel):
    value: int
    name: str
    below: list[NamedNode] = []


CLOSED = ConfigDict(extra="forbid")
OPEN = ConfigDict(extra="allow")
FORMER = model(age=(int, ...))
Shape = Annotated[Circle | Square, Field(discriminator="kind")]
WholeShape = Annotated[WholeCircle | Square, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("former", "new"),
    [
        (int, float),
        (int, int | None),
        (int, Any),
        (int, int | str),
        (Literal["a"], Literal["a", "b"]),
        (Literal["a"], str),
        (Literal[1, 2], Annotated[int, Field(ge=1, le=2)]),
        (Colour, str),
        (bool, Literal[True, False]),
        (Annotated[int, Field(gt=0)], Annotated[int, Field(ge=1)]),
        (Annotated[int, Field(ge=1, le=5)], Annotated[int, Field(ge=0, lt=6)]),
        (Annotated[int, Field(multiple_of=6)], Annotated[int, Field(multiple_of=3)]),
        (int, Annotated[float, Field(multiple_of=0.5)]),
        (Annotated[str, Field(min_length=2)], Annotated[str, Field(min_length=1)]),
        (Annotated[str, Field(pattern="^a")], str),
        (dt.date, str),
        (Decimal, Decimal | None),
        (tuple[int, str], list[int | str]),
        (tuple[int, int], tuple[float, int | None]),
        (set[int], list[int]),
        (Annotated[list[int], Field(max_length=3)], Annotated[list[int], Field(max_length=4)]),
        (FORMER, model(age=(int, ...), name=(str, "x"))),
        (FORMER, model(age=(int, 3))),
        (FORMER, dict[str, Any]),
        (FORMER, model()),
        (FORMER, model(config=OPEN, age=(int, ...))),
        (model(config=CLOSED, age=(int, ...)), FORMER),
        (model(age=(int, ...), name=(str, "")), FORMER),
        (dict[str, int], dict[str, float]),
        (dict[Literal["a", "b"], int], dict[str, int]),
        (Circle, Shape),
        (WholeShape, Shape),
        (Shape, Any),
        (Node, LooseNode),
        (Node, Node),
    ],
)
def test_an_input_may_accept_more(former, new):
    assert of_input(former, new) is None


@pytest.mark.parametrize(
    ("former", "new", "told"),
    [
        (float, int, "the input was number, and is now integer"),
        (int | None, int, "the input was integer or null, and is now integer"),
        (Any, int, "the input was anything, and is now integer"),
        (Literal["a", "b"], Literal["a"], 'the input was also "b", and is now only "a"'),
        (str, Colour, 'the input was any string, and is now only "red" or "blue"'),
        (int, Annotated[int, Field(le=9)], "was without a maximum, and is now at most 9"),
        (
            Annotated[float, Field(ge=0)],
            Annotated[float, Field(gt=0)],
            "was at least 0, and is now more than 0",
        ),
        (
            int,
            Annotated[int, Field(multiple_of=2)],
            "was multiples of 1, and is now multiples of 2",
        ),
        (
            Annotated[str, Field(max_length=5)],
            Annotated[str, Field(max_length=4)],
            "was at most 5 characters, and is now at most 4 characters",
        ),
        (str, Annotated[str, Field(pattern="^a")], 'is now one of the pattern "^a"'),
        (str, dt.date, 'was any string, and is now string of the format "date"'),
        (dt.datetime, dt.date, 'format "date-time", and is now string of the format "date"'),
        (list[float], list[int], "`[]` of the input was number, and is now integer"),
        (list[int], tuple[int, int], "was at least 0 items, and is now at least 2 items"),
        (list[int], set[int], "was with items that repeat"),
        (tuple[int, str], tuple[int, int], "`[1]` of the input was string, and is now integer"),
        (
            FORMER,
            model(age=(int, ...), name=(str, ...)),
            "`name` of the input was not there, and is now required",
        ),
        (model(age=(int, 3)), FORMER, "`age` of the input was optional, and is now required"),
        (
            FORMER,
            model(config=CLOSED, age=(int, ...)),
            "`*` of the input was ignored when it is not declared, and is now refused then",
        ),
        (
            model(config=CLOSED, age=(int, 1), name=(str, "")),
            model(config=CLOSED, age=(int, 1)),
            "`name` of the input was there, and is now refused",
        ),
        (
            model(config=OPEN, age=(int, ...)),
            model(config=OPEN, age=(int, ...), name=(str, "")),
            "`name` of the input was anything, and is now string",
        ),
        (dict[str, int], dict[Literal["a"], int], "`(name)` of the input was any string"),
        (dict[str, float], dict[str, int], "`*` of the input was number, and is now integer"),
        (
            Circle | Square,
            WholeCircle | Square,
            "`radius` of the input was number, and is now integer",
        ),
        (
            FORMER | Annotated[str, Field(pattern="^a")],
            Circle | Annotated[str, Field(pattern="^b")],
            "`kind` of the input was not there, and is now required",
        ),
        (Shape, WholeShape, "`radius` of the input was number, and is now integer"),
        (Shape, Circle, '`kind` of the input was also "square", and is now only "circle"'),
        (Node, NamedNode, "`name` of the input was not there, and is now required"),
        (LooseNode, Node, "`value` of the input was number, and is now integer"),
        (
            model(rows=(list[FORMER], ...)),
            model(rows=(list[model(age=(Annotated[int, Field(lt=9)], ...))], ...)),
            "`rows[].age` of the input was without a maximum, and is now at most 8",
        ),
    ],
)
def test_an_input_that_accepts_less_is_named_by_its_field(former, new, told):
    assert told in of_input(former, new)


@pytest.mark.parametrize(
    ("former", "new"),
    [
        (FORMER, model(age=(int, ...), name=(str, ...))),
        (float, int),
        (int | None, int),
        (Any, FORMER),
        (Literal["a", "b"], Literal["a"]),
        (str, Colour),
        (Annotated[float, Field(le=2)], Annotated[float, Field(ge=0, le=1)]),
        (Shape, Circle),
        (list[int | str], list[int]),
        (model(config=CLOSED, age=(int, ...)), FORMER),
        (LooseNode, LooseNode),
    ],
)
def test_an_output_may_promise_more(former, new):
    assert of_output(former, new) is None


@pytest.mark.parametrize(
    ("former", "new", "told"),
    [
        (
            model(age=(int, ...), name=(str, ...)),
            FORMER,
            "`name` of the output was there, and is now dropped",
        ),
        (
            model(age=(int, ...)),
            dict[str, int],
            "`age` of the output was there, and is now dropped",
        ),
        (int, float, "the output was integer, and is now number"),
        (int, int | None, "the output was integer, and is now integer or null"),
        (int, Any, "the output was integer, and is now anything"),
        (Literal["a"], Literal["a", "b"], 'was only "a", and is now also "b"'),
        (Annotated[float, Field(le=1)], float, "was at most 1, and is now without a maximum"),
        (Circle, Circle | Square, 'was only "circle", and is now also "square"'),
        (
            model(config=CLOSED, age=(int, ...)),
            model(config=CLOSED, age=(int, ...), name=(str, ...)),
            "`name` of the output was refused, and is now there",
        ),
    ],
)
def test_an_output_that_clients_cannot_read_is_named_by_its_field(former, new, told):
    assert told in of_output(former, new)


def test_a_field_of_an_output_is_missed_even_if_it_was_optional():
    former = Side({"type": "object", "properties": {"a": {}, "b": {}}})
    new = Side({"type": "object", "properties": {"a": {}}})
    found = incompatibility((ANY, former), (ANY, new))
    assert (found.reason, found.path) == ("SchemaIncompatible", "b")


# -- how it comes ----------------------------------------------------------------------------------


def test_bytes_are_no_json():
    assert str(incompatibility((BYTES, ANY), (takes(int), ANY))) == (
        "the input was application/octet-stream, and is now application/json"
    )
    assert incompatibility((BYTES, BYTES), (BYTES, BYTES)) is None
    assert "the output was application/json" in str(incompatibility((ANY, ANY), (ANY, BYTES)))


def test_a_stream_stays_one_and_its_items_are_compared():
    kinds = ("application/x-ndjson", "text/event-stream")
    ints = Side({"type": "integer"}, kinds[0], kinds)
    floats = Side({"type": "number"}, kinds[0], kinds)
    texts = Side({"type": "number"}, kinds[0], (*kinds, "text/plain"))
    whole = Side({"type": "integer"})
    assert incompatibility((ANY, floats), (ANY, ints)) is None
    assert incompatibility((ANY, floats), (ANY, texts)) is None
    assert "was integer" in str(incompatibility((ANY, ints), (ANY, floats)))
    assert "or text/plain, and is now a stream of" in str(
        incompatibility((ANY, texts), (ANY, floats))
    )
    assert "was a stream of" in str(incompatibility((ANY, ints), (ANY, whole)))
    assert "is now a stream of" in str(incompatibility((ANY, whole), (ANY, ints)))


def test_bytes_may_come_in_pieces_or_whole():
    pieces = Side(BYTES.schema, BYTES.content_type, (BYTES.content_type,))
    assert incompatibility((ANY, BYTES), (ANY, pieces)) is None
    assert incompatibility((ANY, pieces), (ANY, BYTES)) is None


def test_the_sides_are_those_of_a_releases_metadata():
    class Streaming(Pipeline):
        def infer(self, request: FORMER) -> Any:
            yield request

    document = openapi.metadata(
        Release("iris", "1.0", "ab" * 32), interface_of(Streaming), "/predict/iris/1.0"
    )
    document = json.loads(json.dumps(document))
    sides = Side.read(document["input"]), Side.read(document["output"])
    assert sides[0] == takes(FORMER)
    assert sides[1].stream
    assert incompatibility(sides, sides) is None


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"schema": {}}, {"schema": {}, "content_type": "a", "stream": 3}],
)
def test_metadata_that_is_none_is_refused(document):
    with pytest.raises(ValueError, match="metadata"):
        Side.read(document)


# -- what cannot be decided ------------------------------------------------------------------------

LOOP = {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}}}
TREE = {f"A{n}": {"anyOf": [{"$ref": f"#/$defs/A{n + 1}"}] * 2} for n in range(40)}
DEEP = {"type": "integer"}
for _ in range(200):
    DEEP = {"type": "array", "items": DEEP}


@pytest.mark.parametrize(
    ("former", "new", "why"),
    [
        ({"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}, "pattern"),
        ({"const": "a"}, {"type": "string", "pattern": "(a+)+$"}, "pattern"),
        ({"const": "a"}, {"type": "string", "format": "date"}, "format"),
        ({}, {"not": {"type": "null"}}, "the keyword `not` is not compared"),
        ({"type": "number", "unit": "cm"}, {"type": "number", "unit": "m"}, '"unit" differs'),
        ({"type": "integer", "nullable": True}, {"type": "integer"}, "nullable"),
        ({"type": "integer"}, {"oneOf": [{"type": "integer"}, {"minimum": 3}]}, "discriminator"),
        ({"type": "integer"}, {"$ref": "http://elsewhere/"}, "leads out of its document"),
        ({"type": "integer"}, {"$ref": "#/$defs/Nothing"}, "leads nowhere"),
        ({"type": "integer"}, LOOP, "refers to itself"),
        (LOOP, {"type": "null"}, "too many to be followed"),
        (
            {"$ref": "#/$defs/A0", "$defs": {**TREE, "A40": {}}},
            {"type": "null"},
            "too many|anything",
        ),
        (
            {"type": "null"},
            {"$ref": "#/$defs/A0", "$defs": {**TREE, "A40": {"enum": []}}},
            "too many",
        ),
        ({"type": "integer"}, DEEP, "levels deep"),
        ({"type": "integer"}, {"enum": list(range(MOST_VALUES))}, "more than 10,000 values"),
        ({"type": "integer"}, {"maximum": 10**5000}, "bits"),
        ({"type": "integer"}, {"maximum": "ten"}, "instead of a number"),
        ({"type": "integer"}, {"maximum": float("nan")}, "instead of a number"),
        ({"type": "integer"}, {"multipleOf": 0}, "`multipleOf` is 0"),
        ({"type": "integer"}, {"type": "colour"}, "which is none"),
        ({"type": "integer"}, {"anyOf": 3}, "instead of a list"),
        ({"type": "object"}, {"properties": []}, "instead of a table"),
        ({"type": "object"}, {"required": [3]}, "no name"),
        ({"type": "integer"}, "integer", "where a schema should be"),
        ({"type": "string"}, {"format": []}, "format|string"),
        ({"allOf": [{"properties": {}}, {"properties": {"a": {}}}]}, {"type": "null"}, "at once"),
        (
            {"allOf": [{"anyOf": [{"properties": {name: {}}}]} for name in "ab"]},
            {"properties": {"b": {"type": "null"}}},
            "at once",
        ),
        (
            {"type": "object", "patternProperties": {"^a": {}}},
            {"type": "object", "patternProperties": {"^b": {}}},
            "patterns of their names",
        ),
    ],
)
def test_what_cannot_be_decided_is_told_and_counts_as_incompatible(former, new, why):
    found = incompatibility((Side(former), ANY), (Side(new), ANY))
    assert found is not None
    assert any(word in str(found) for word in why.split("|")), str(found)


def test_a_keyword_that_is_not_compared_may_stay():
    former = {"type": "object", "properties": {"a": {"not": {"type": "null"}}}}
    new = copy.deepcopy(former)
    new["properties"]["b"] = {"type": "integer"}
    assert incompatibility((Side(former), ANY), (Side(new), ANY)) is None


TABLE = {"type": "object"}


@pytest.mark.parametrize(
    ("former", "new", "told"),
    [
        (TABLE, {**TABLE, "properties": {"a": {"type": "null"}}}, "`a` of the input was anything"),
        (
            {**TABLE, "properties": {"a": {}, "b": {}}, "additionalProperties": False},
            {**TABLE, "maxProperties": 1},
            "was at most 2 fields, and is now at most 1 fields",
        ),
        (
            {**TABLE, "properties": {"a": {}}, "required": ["a"]},
            {**TABLE, "minProperties": 2},
            "was at least 1 fields, and is now at least 2 fields",
        ),
        (
            {**TABLE, "properties": {"a": {}}, "patternProperties": {"^b": {}}},
            {
                **TABLE,
                "patternProperties": {
                    "^b": {"title": "B"},
                },
                "minProperties": 0,
            },
            "fields by patterns of their names are not compared",
        ),
        (
            {"type": "string", "contentMediaType": "application/json", "contentSchema": {}},
            TypeAdapter(Json[int]).json_schema(),
            "`(content)` of the input was anything, and is now integer",
        ),
        (
            {"type": "integer", "x-order": 1},
            {"type": ["integer", "null"], "x-order": 2},
            None,
        ),
        (
            {**TABLE, "properties": {"a": {}}, "required": ["a"]},
            {**TABLE, "minProperties": 1},
            None,
        ),
        (
            {**TABLE, "patternProperties": {"^b": {"type": "integer"}}},
            {**TABLE, "patternProperties": {"^b": {"type": "number"}}},
            None,
        ),
        (
            {**TABLE, "patternProperties": {"^b": {"type": "number"}}},
            {**TABLE, "patternProperties": {"^b": {"type": "integer"}}},
            "`*` of the input was number, and is now integer",
        ),
        (
            TypeAdapter(Json[int]).json_schema(),
            TypeAdapter(Json[float]).json_schema(),
            None,
        ),
    ],
)
def test_what_pydantic_seldom_writes_is_compared_too(former, new, told):
    found = incompatibility((Side(former), ANY), (Side(new), ANY))
    assert found is None if told is None else told in str(found)


def test_a_field_of_a_union_is_told_of_the_alternative_with_the_same_tag():
    class WholeSquare(BaseModel):
        kind: Literal["square"]
        side: int

    shape = Annotated[Circle | WholeSquare, Field(discriminator="kind")]
    assert of_input(Shape, shape) == "`side` of the input was number, and is now integer"


def test_words_for_people_and_extensions_do_not_matter():
    former = {"type": "integer", "title": "A", "description": "a", "x-order": 1, "unit": "cm"}
    new = {"type": "integer", "title": "B", "examples": [3], "x-order": 2, "unit": "cm"}
    assert incompatibility((Side(former), ANY), (Side(new), ANY)) is None


def test_a_name_of_any_kind_is_told_legibly_and_briefly():
    schema = {"type": "object", "required": ["a.b\n\x1b" + "c" * 500]}
    found = incompatibility((Side({"type": "object", "properties": {}}), ANY), (Side(schema), ANY))
    assert str(found).isprintable()
    assert len(str(found)) < 400


# -- whatever the types ----------------------------------------------------------------------------

unhurried = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
NAMES = st.sampled_from("abc")
SMALL = st.integers(-2, 3)
SCALARS = (
    st.none() | st.booleans() | SMALL | st.sampled_from((0.5, 1.5, 2.0)) | st.text("ab", max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def optional(**keywords):
    return st.fixed_dictionaries({}, optional=keywords)


NUMBERS = optional(
    minimum=SMALL,
    maximum=SMALL,
    exclusiveMinimum=SMALL,
    exclusiveMaximum=SMALL,
    multipleOf=st.sampled_from((1, 2, 0.5)),
)
STRINGS = optional(
    minLength=st.integers(0, 2), maxLength=st.integers(1, 3), pattern=st.sampled_from(("a", "^b"))
)


def simple():
    kinds = st.sampled_from(("integer", "number"))
    return st.one_of(
        st.just({}),
        st.sampled_from(("null", "boolean")).map(lambda kind: {"type": kind}),
        st.lists(SCALARS, min_size=1, max_size=3).map(lambda values: {"enum": values}),
        SCALARS.map(lambda value: {"const": value}),
        st.tuples(kinds, NUMBERS).map(lambda pair: {"type": pair[0], **pair[1]}),
        STRINGS.map(lambda bounds: {"type": "string", **bounds}),
        st.just({"$ref": "#/$defs/Node"}),
    )


def wider(inner):
    tables = st.dictionaries(NAMES, inner, max_size=3)
    arrays = optional(
        items=inner | st.booleans(),
        prefixItems=st.lists(inner, min_size=1, max_size=2),
        minItems=st.integers(0, 2),
        maxItems=st.integers(0, 3),
        uniqueItems=st.booleans(),
    )
    objects = optional(
        properties=tables,
        required=st.lists(NAMES, unique=True, max_size=2),
        additionalProperties=inner | st.booleans(),
        propertyNames=st.sampled_from(({"maxLength": 1}, {"enum": ["a", "b"]})),
        minProperties=st.integers(0, 2),
        maxProperties=st.integers(1, 3),
    )
    return st.one_of(
        arrays.map(lambda words: {"type": "array", **words}),
        objects.map(lambda words: {"type": "object", **words}),
        objects,
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: {"allOf": parts}),
    )


SCHEMAS = st.recursive(simple(), wider, max_leaves=6)


@st.composite
def edited(draw, schema):
    """A schema after an edit or two, anywhere in it."""
    schema = copy.deepcopy(schema)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from(list(inside(schema))))
        other = copy.deepcopy(draw(SCHEMAS))
        if place and draw(st.booleans()):
            del place[draw(st.sampled_from(sorted(place)))]
        else:
            place |= dict(draw(st.sampled_from(sorted(other.items(), key=str))) for _ in other)
    return schema


def inside(schema):
    """All schemas of a schema."""
    yield schema
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from inside(schema[key])
    for key in ("anyOf", "allOf", "prefixItems"):
        for each in schema.get(key, []):
            yield from inside(each)
    for each in schema.get("properties", {}).values():
        yield from inside(each)


def fitting(schema, root, depth=0):
    """Values that are likely to fit a schema."""
    if not isinstance(schema, dict) or depth > 4:
        return VALUES
    options = []
    if "$ref" in schema:
        options.append(fitting(root["$defs"]["Node"], root, depth + 1))
    options += [fitting(each, root, depth + 1) for each in schema.get("anyOf", ())]
    options += [fitting(each, root, depth + 1) for each in schema.get("allOf", ())]
    options += [st.sampled_from(schema["enum"])] if "enum" in schema else []
    options += [st.just(schema["const"])] if "const" in schema else []
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        fields = {
            name: fitting(each, root, depth + 1)
            for name, each in schema.get("properties", {}).items()
        }
        needed = {name: fields.pop(name, VALUES) for name in schema.get("required", ())}
        options.append(st.fixed_dictionaries(needed, optional=fields))
        more = fitting(schema.get("additionalProperties"), root, depth + 1)
        options.append(st.dictionaries(NAMES, more, max_size=3))
    if kind == "array":
        options.append(st.lists(fitting(schema.get("items"), root, depth + 1), max_size=3))
        firsts = [fitting(each, root, depth + 1) for each in schema.get("prefixItems", ())]
        options.append(st.tuples(*firsts).map(list))
    if kind in {"integer", "number"}:
        options.append(SMALL | st.sampled_from((0.5, 1.5)))
    if kind == "string":
        options.append(st.text("ab", max_size=3))
    return st.one_of(*options) if options else VALUES


def has_only_declared(value, schema, root):
    """Whether a value has nothing that its schema is silent on: such fields are left out by
    clients, and ignored where they are not.
    """
    closed = Draft202012Validator({**closing(schema), "$defs": closing(root)["$defs"]})
    return closed.is_valid(value)


def closing(schema):
    """A schema that refuses what it was silent on."""
    if isinstance(schema, list):
        return [closing(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: value
        if key in {"enum", "const"}
        else {name: closing(each) for name, each in value.items()}
        if key in {"properties", "$defs"}
        else closing(value)
        for key, value in schema.items()
    }
    if "properties" in schema and "additionalProperties" not in schema:
        made["additionalProperties"] = False
    return made


NODES = st.sampled_from(
    (
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/Node"}, "b": {"type": "integer"}}},
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/Node"}}]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/Node"}}, "required": ["a"]},
        {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
    )
)


@unhurried
@given(st.data())
def test_what_the_former_accepted_is_accepted(data):
    schema, node = data.draw(SCHEMAS), data.draw(NODES)
    former = {**schema, "$defs": {"Node": node}}
    new = {**data.draw(edited(schema)), "$defs": {"Node": data.draw(st.just(node) | NODES)}}
    is_result = data.draw(st.booleans())
    gap = find_gap(former, new, is_result=is_result)
    if gap is None:
        for _ in range(5):
            value = data.draw(fitting(former, former))
            try:
                sent = has_only_declared(value, schema, former)
                taken = Draft202012Validator(new).is_valid(value)
            except RecursionError:  # a schema that refers to itself without an end
                return
            assert taken or not sent


TYPES = st.sampled_from(
    (
        *(int, float, bool, str, Any, int | None, list[int], tuple[int, str], dict[str, int]),
        *(Colour, Literal["a", 1], Circle, Square, Circle | Square, Shape, WholeShape, Node),
        *(LooseNode, Annotated[int, Field(ge=0, lt=9)], Annotated[str, Field(max_length=2)]),
        *(set[str], dict[Literal["a"], float], model(a=(int, 0), b=(str, ...))),
        *(model(a=(float, ...)), model(config=CLOSED, a=(int, 0)), model(config=OPEN, a=(int, 0))),
    )
)


@unhurried
@given(st.data())
def test_pydantic_accepts_what_it_accepted_where_the_schemas_say_so(data):
    former, new = data.draw(TYPES), data.draw(TYPES)
    if incompatibility((takes(former), ANY), (takes(new), ANY)) is None:
        schema = takes(former).schema
        value = data.draw(fitting({**schema, "$defs": {"Node": {}}}, {"$defs": {"Node": {}}}))
        root = {"$defs": {}, **schema}
        if has_only_declared(value, schema, root):
            TypeAdapter(new).validate_json(json.dumps(value))


@unhurried
@given(SCHEMAS | VALUES, SCHEMAS | VALUES, st.booleans())
def test_whatever_a_replica_says_there_is_an_answer(former, new, is_result):
    documents = [
        {**each, "$defs": {"Node": LOOP["$defs"]["A"]}} if isinstance(each, dict) else each
        for each in (former, new)
    ]
    find_gap(*documents, is_result=is_result)
    assert isinstance(former, dict | bool) is False or (
        find_gap(documents[0], documents[0], is_result=is_result) is None
    )
