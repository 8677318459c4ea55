"""What methods take and return: refused at the start, or served as their own schema says."""

import datetime as dt
import functools
import io
import itertools
import json
import math
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypedDict

import numpy as np
import pytest
import typing_extensions
from pydantic import BaseModel, ConfigDict, Field

from wheelway import Pipeline, openapi, page
from wheelway.contract import Release
from wheelway.failure import StartFailure
from wheelway.local import loaded
from wheelway.results import ResultInvalid
from wheelway.schema import interface_of

pytestmark = pytest.mark.unit

RELEASE = Release("demo", "1.0", "ab" * 32)


def refused(pipeline) -> str:
    """Why a pipeline does not start; the reason is always SchemaInvalid."""
    with pytest.raises(StartFailure) as caught, loaded(pipeline):
        pytest.fail("it must not start")
    assert caught.value.reason == "SchemaInvalid"
    return caught.value.message


def strictly(body):
    """JSON as everybody but Python reads it."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(body, parse_constant=refuse)


# -- how methods are called ----------------------------------------------------------------------


class Two(Pipeline):
    def infer(self, request, other):
        return request


class Keyword(Pipeline):
    def infer(self, *, request):
        return request


class KeywordBeside(Pipeline):
    def infer(self, request, *, other):
        return request


class Nothing(Pipeline):
    def infer(self):
        return 1


class TwoAfterwards(Pipeline):
    def infer(self, request):
        return request

    def post_process(self, result, request):
        return result


class StaticWithSelf(Pipeline):
    @staticmethod
    def infer(me, request):
        return request


class SettingsAsKeywords(Pipeline):
    def infer(self, request):
        return request

    def reconfigure(self, **settings):
        pass


class UnloadsSomething(Pipeline):
    def infer(self, request):
        return request

    def unload(self, context):
        pass


@pytest.mark.parametrize(
    ("pipeline", "method", "why"),
    [
        (Two, "infer", "'other'"),
        (Keyword, "infer", "positional"),
        (KeywordBeside, "infer", "'other'"),
        (Nothing, "infer", "too many positional"),
        (TwoAfterwards, "post_process", "'request'"),
        (StaticWithSelf, "infer", "'request'"),
        (SettingsAsKeywords, "reconfigure", "too many positional"),
        (UnloadsSomething, "unload", "'context'"),
    ],
)
def test_a_method_that_cannot_be_called_as_promised_is_refused(pipeline, method, why):
    message = refused(pipeline)
    assert f"`{pipeline.__name__}.{method}` cannot be called" in message
    assert why in message


def adds(function):
    """A decorator that brings the second argument."""

    @functools.wraps(function)
    def wrapper(self, request):
        return function(self, request, 10)

    return wrapper


class Scale:
    def __init__(self, factor=2):
        self.factor = factor

    def __call__(self, request: int) -> int:
        return request * self.factor


def power(exponent: int, request: int) -> int:
    return request**exponent


class Decorated(Pipeline):
    @adds
    def infer(self, request: int, factor: int) -> int:
        return request * factor


class Static(Pipeline):
    @staticmethod
    def infer(request: int) -> int:
        return request * 10


class OfTheClass(Pipeline):
    @classmethod
    def infer(cls, request: int, *more: int, factor: int = 10) -> int:
        return request * factor


class AnObject(Pipeline):
    infer = Scale(10)


class APartial(Pipeline):
    infer = functools.partial(power, 1, request=20)

    def post_process(self, result: int) -> int:
        return result


class Defaults(Pipeline):
    def infer(self, request: int, factor: int = 10, /, **more: int) -> int:
        return request * factor


@pytest.mark.parametrize("pipeline", [Decorated, Static, OfTheClass, AnObject, Defaults])
def test_whatever_takes_one_argument_is_a_stage(pipeline):
    with loaded(pipeline) as ask:
        assert ask(2) == 20
    assert interface_of(pipeline).schemas == ({"type": "integer"}, {"type": "integer"})


def test_a_stage_written_in_c_is_taken_for_untyped():
    class Largest(Pipeline):
        infer = staticmethod(max)

    with loaded(Largest) as ask:
        assert ask([1, 3, 2]) == 3


# -- examples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("good, very good", "str"),
        (b"good", "bytes"),
        ({"text": "good"}, "dict"),
        ({1, 2}, "set"),
        (7, "int"),
        (None, "NoneType"),
    ],
)
def test_examples_that_are_no_list_are_refused(value, kind):
    class OneExample(Pipeline):
        examples = value

        def infer(self, request):
            return request

    message = refused(OneExample)
    assert "OneExample.examples` must be a list or tuple" in message
    assert f"not a {kind};" in message


class Unsaid:
    pass


# -- streams -------------------------------------------------------------------------------------


def test_a_returned_generator_is_refused_and_not_made_a_list():
    class Streams(Pipeline):
        def infer(self, request: int):
            return (n for n in range(request))

    class AsyncStreams(Pipeline):
        async def infer(self, request: int):
            async def numbers():
                yield 1

            return numbers()

    class Declared(Pipeline):
        def infer(self, request: int) -> list[int]:
            return (n for n in range(request))  # type: ignore[return-value]

    for pipeline in (Streams, AsyncStreams, Declared):
        with loaded(pipeline) as ask, pytest.raises(ResultInvalid, match="cannot be streamed yet"):
            ask(3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: map(int, "12"),
        lambda: zip("ab", "cd", strict=True),
        lambda: iter([1]),
        lambda: itertools.chain([1]),
        lambda: reversed((1, 2)),
        lambda: io.StringIO("1"),
    ],
    ids=["map", "zip", "iter", "chain", "reversed", "file"],
)
@pytest.mark.parametrize("declared", [Any, list, list[Any]])
def test_any_other_iterator_is_refused_too(declared, make):
    class Lazy(Pipeline):
        def infer(self, request: int) -> declared:
            return make()

    with loaded(Lazy) as ask, pytest.raises(ResultInvalid, match=r"result: is a \w+; .* a list of"):
        ask(3)


def test_an_iterator_within_a_result_is_read_to_its_end():
    class Lazy(Pipeline):
        def infer(self, request: int):
            return {"rows": map(str, range(request)), "all": (n for n in range(request))}

    with loaded(Lazy) as ask:
        assert ask(2) == {"rows": ["0", "1"], "all": [0, 1]}


def test_a_declared_stream_is_refused_at_the_start():
    class Streams(Pipeline):
        def infer(self, request: int) -> Iterator[int]:
            return iter([request])

    class AsyncStreams(Pipeline):
        def infer(self, request: int) -> AsyncIterator[int]:
            raise NotImplementedError

    for pipeline in (Streams, AsyncStreams):
        assert "results cannot be streamed yet: return a list" in refused(pipeline)


# -- numbers -------------------------------------------------------------------------------------

LARGE = 1234567890123456789


class Row(BaseModel):
    id: int


class Pair(NamedTuple):
    key: int
    score: float


@pytest.mark.parametrize(
    ("declared", "result", "expected"),
    [
        (int, np.int64(LARGE), LARGE),
        (int, np.uint64(2**63 + 1), 2**63 + 1),
        (int, np.array(LARGE), LARGE),
        (int | str, np.int64(-LARGE), -LARGE),
        (list[int], [1, np.int64(-LARGE)], [1, -LARGE]),
        (list[Row], [{"id": np.int64(2**53 + 1)}], [{"id": 2**53 + 1}]),
        (dict[str, int], {"a": 1, "b": np.int64(LARGE)}, {"a": 1, "b": LARGE}),
        (dict[int, int], {np.int64(LARGE): 1}, {str(LARGE): 1}),
        (tuple[int, str], (np.int64(LARGE), "x"), [LARGE, "x"]),
        (set[int], {np.int64(LARGE)}, [LARGE]),
        (Pair, Pair(np.int64(LARGE), np.float64(0.5)), [LARGE, 0.5]),
        (list[Pair], [(np.int64(LARGE), 0.5)], [[LARGE, 0.5]]),
        (list[int], np.array([LARGE, 1]), [LARGE, 1]),
        (list[list[int]], np.array([[LARGE], [1]]), [[LARGE], [1]]),
        (list[int], deque([np.int64(LARGE)]), [LARGE]),
        (list[int], {"a": np.int64(LARGE)}.values(), [LARGE]),
        (dict[str, int], MappingProxyType({"a": np.int64(LARGE)}), {"a": LARGE}),
        (tuple[float, int], (np.array(0.5), np.int64(LARGE)), [0.5, LARGE]),
        (int, LARGE, LARGE),
        (list[float], [0.12345678901234567, 1e300], [0.12345678901234567, 1e300]),
    ],
)
def test_large_integers_arrive_as_they_were(declared, result, expected):
    class Numbers(Pipeline):
        def infer(self, request: Any) -> declared:
            return result

    with loaded(Numbers) as ask:
        assert ask(None) == expected


def test_large_integers_that_could_be_read_once_alone_are_refused():
    class Numbers(Pipeline):
        def infer(self, request: int) -> dict[str, list[int]]:
            return {"n": map(np.int64, [1, request])}

    with loaded(Numbers) as ask:
        assert ask(2) == {"n": [1, 2]}
        with pytest.raises(ResultInvalid, match="large integers of a map; return a list"):
            ask(LARGE)


class Bag(BaseModel):
    """A model that could be taken for a collection."""

    items: list[int]

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        return iter(self.items)

    def __contains__(self, item):
        return item in self.items


def test_a_model_that_is_a_collection_stays_a_model():
    class Bags(Pipeline):
        def infer(self, request: int) -> list[Bag]:
            return [Bag(items=[request])]

    with loaded(Bags) as ask:
        assert ask(LARGE) == [{"items": [LARGE]}]


class Missing(BaseModel):
    score: float | None
    rows: list[tuple[str, float]] = []
    note: str | None = None


class Noted(BaseModel):
    note: float | None = None
    name: str | None = None
    by_name: dict[str, float] = {}
    properties: float = 0.0


class NotedElsewhere(BaseModel):
    noted: Missing
    note: float


class Constants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    score: float


class Tree(BaseModel):
    weight: float = 1.0
    nodes: "list[Tree]" = []


@pytest.mark.parametrize(
    ("declared", "result", "where"),
    [
        (float, math.nan, "result"),
        (list[float], [1.0, math.inf], "1"),
        (dict[str, float], {"a": -math.inf}, "a"),
        (dict[str, list[float | None]] | float, {"a": [math.nan]}, None),
        (Missing, {"score": math.nan}, None),
        (Missing, {"score": 1, "rows": [("a", 1), ("b", math.nan)]}, "rows.1.1"),
        (Missing, {"score": None, "rows": [("a", 1)]}, None),
        (list[Missing], [{"score": 1}, {"score": 1, "rows": [("a", math.nan)]}], "1.rows.0.1"),
        (Tree, {"nodes": [{"nodes": [{"weight": math.nan}]}]}, "nodes.0.nodes.0.weight"),
        (Missing, {"score": 1, "note": '"note":null'}, None),
        (Noted, {"by_name": {"note": math.nan}}, "by_name.note"),
        (Noted, {"properties": math.nan}, "properties"),
        (NotedElsewhere, {"noted": {"score": 1}, "note": math.nan}, "note"),
        (NotedElsewhere, {"noted": {"score": 1}, "note": 1}, None),
        (Constants, {"score": math.inf}, "result"),
        (Any, {"free": [math.nan, 1.0]}, None),
        (Any, Constants(score=1), None),
        (Any, Constants(score=math.nan), "result"),
        (str, "NaN, null and Infinity are words", None),
    ],
)
def test_a_result_is_json_with_null_only_where_its_schema_has_it(declared, result, where):
    class Scores(Pipeline):
        def infer(self, request: Any) -> declared:
            return result

    encode = interface_of(Scores).encode
    if where is None:
        strictly(encode(result))
        return
    with pytest.raises(ResultInvalid, match="NaN or an infinity") as caught:
        encode(result)
    assert str(caught.value).startswith(f"{where}: ")
    assert "float | None" in str(caught.value)


class DataFrame:
    __module__ = "pandas.core.frame"


@pytest.mark.parametrize(
    ("declared", "result", "advice"),
    [
        (Any, np.array([1.0]), "; of an array or a NumPy number return `.tolist()`"),
        (Any, {"rows": [np.int64(1)]}, "`.tolist()`"),
        (Any, {"table": DataFrame()}, '`.to_dict(orient="records")`'),
        (dict[str, str], DataFrame(), '`.to_dict(orient="records")`'),
        (dict[str, float], {"mean": np.array([1.0, 2.0])}, "mean: Input should be a valid number"),
        (list[str], [np.float32(1)], "; of an array or a NumPy number return `.tolist()`"),
        (Any, Unsaid(), "Unsaid"),
    ],
)
def test_what_other_libraries_made_gets_advice(declared, result, advice):
    class Foreign(Pipeline):
        def infer(self, request: Any) -> declared:
            return result

    with loaded(Foreign) as ask, pytest.raises(ResultInvalid) as caught:
        ask(None)
    assert advice in str(caught.value)
    assert ("numpy" in type(result).__module__) <= (".tolist()" in str(caught.value))


def test_typed_dicts_are_those_that_pydantic_reads_and_the_guide_says_which():
    class Extended(typing_extensions.TypedDict):
        n: int

    class Plain(TypedDict):
        n: int

    def pipeline(declared):
        class Dicts(Pipeline):
            def infer(self, request: declared) -> declared:
                return {"n": request["n"] + 1}

        return Dicts

    with loaded(pipeline(Extended)) as ask:
        assert ask({"n": 1}) == {"n": 2}
    if sys.version_info < (3, 12):
        assert "use `typing_extensions.TypedDict`" in refused(pipeline(Plain))
    else:
        assert interface_of(pipeline(Plain)).schemas[0]["properties"]["n"] == {
            "title": "N",
            "type": "integer",
        }


# -- schemas that are JSON -----------------------------------------------------------------------


def documents(pipeline):
    """All that a release says of itself, read strictly."""
    interface = interface_of(pipeline)
    about = openapi.metadata(RELEASE, interface, "/predict/demo/1.0")
    document = openapi.document(RELEASE, interface, (), "/predict/demo/1.0")
    page.render(RELEASE, interface, (), "/predict/demo/1.0").encode()
    return strictly(json.dumps(about)), strictly(json.dumps(document))


def test_infinities_in_defaults_and_examples_leave_metadata_and_openapi_json():
    class Bounds(BaseModel):
        upper: float = math.inf
        lower: float = Field(-math.inf, description="Where it begins.")
        span: list[float] = [0.0, math.inf]
        seen: float = Field(0.0, examples=[math.nan, 1.5])
        default: float = math.inf
        limits: float = Field(1.0, json_schema_extra={"x-limits": [0, math.inf]})

    class Bounded(Pipeline):
        def infer(self, request: Bounds) -> Bounds:
            return request

    about, document = documents(Bounded)
    for schema in (about["input"]["schema"], document["components"]["schemas"]["Bounds"]):
        fields = schema["properties"]
        assert fields["upper"] == {
            "description": "Default: Infinity.",
            "title": "Upper",
            "type": "number",
        }
        assert fields["lower"]["description"] == "Where it begins.\n\nDefault: -Infinity."
        assert fields["span"]["description"] == "Default: [0.0,Infinity]."
        assert fields["seen"] == {
            "default": 0.0,
            "examples": [1.5],
            "title": "Seen",
            "type": "number",
        }
        assert fields["default"]["description"] == "Default: Infinity."
        assert fields["limits"]["x-limits"] == [0, "Infinity"]
        assert schema.get("required", []) == []


def test_an_example_may_hold_infinities_and_is_shown_as_json():
    class Bound(BaseModel):
        values: list[float]
        upper: float = math.inf

    class Bounded(Pipeline):
        examples = ({"values": [1.0, math.nan]}, Bound(values=[-math.inf]), Bound(values=[]))

        def infer(self, request: Bound) -> int:
            return sum(map(math.isfinite, request.values))

    with loaded(Bounded) as ask:
        assert ask(Bounded.examples[0]) == 1
    document = openapi.document(RELEASE, interface_of(Bounded), Bounded.examples, "/x")
    body = document["paths"]["/x"]["post"]["requestBody"]["content"]["application/json"]
    assert strictly(json.dumps(body["examples"]))["example1"]["value"]["values"] == [1.0, "NaN"]
    assert body["examples"]["example2"]["value"] == {"values": ["-Infinity"], "upper": "Infinity"}
    told = page.render(RELEASE, interface_of(Bounded), Bounded.examples, "/x")
    assert "&quot;NaN&quot;" in told


class Colour(Enum):
    RED = "red"


@dataclass
class Place:
    name: str


def test_what_has_a_form_in_json_is_served_in_it_wherever_it_stands():
    day = dt.datetime(2024, 1, 2, tzinfo=dt.UTC)

    class Visit(BaseModel):
        model_config = ConfigDict(
            json_schema_extra={"examples": [{"at": day, "colour": Colour.RED, "to": Place("x")}]}
        )
        at: dt.datetime = day
        colour: Colour = Field(Colour.RED, json_schema_extra={"x-other": {Colour.RED}})

    class Visits(Pipeline):
        examples = ({"at": day}, Visit())

        def infer(self, request: Visit) -> Visit:
            return request

    schema = documents(Visits)[0]["input"]["schema"]
    assert schema["examples"] == [
        {"at": "2024-01-02T00:00:00Z", "colour": "red", "to": {"name": "x"}}
    ]
    with loaded(Visits) as ask:
        assert ask({})["at"] == "2024-01-02T00:00:00Z"


def raises(_):
    raise LookupError("no extra")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"examples": [{"at": Unsaid()}]}, "Odd.examples.0.at is not JSON"),
        ({"x-array": np.array([1])}, "Odd.x-array is not JSON"),
        ({"x-bytes": {"raw": b"\xff"}}, "Odd.x-bytes.raw is not JSON"),
        ({"x-text": "\ud800"}, "Odd.x-text is not JSON"),
        (raises, "no extra"),
    ],
)
def test_what_has_none_is_refused_by_its_name(extra, said):
    class Odd(BaseModel):
        model_config = ConfigDict(json_schema_extra=extra)
        n: int

    class Takes(Pipeline):
        def infer(self, request: Odd):
            return 1

    class Returns(Pipeline):
        def infer(self, request) -> list[Odd]:
            return []

    message = refused(Takes)
    assert said in message
    assert ".Takes.infer`" in message
    assert said in refused(Returns)


NO_JSON = [object(), b"\xff", np.float32(1), {"deep": [1, object()]}]


@pytest.mark.parametrize("value", NO_JSON, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", ["model", "dataclass", "typed dict", "annotated"])
def test_what_has_none_in_the_extras_of_a_field_is_refused_by_its_name(kind, value):
    with_extra = Annotated[int, Field(json_schema_extra={"x-unit": value})]

    class Odd(BaseModel):
        size: with_extra = 1

    @dataclass
    class Row:
        size: with_extra = 1

    Keyed = typing_extensions.TypedDict("Keyed", {"size": with_extra})  # noqa: UP013 - the same for all
    named = {"model": Odd, "dataclass": Row, "typed dict": Keyed, "annotated": with_extra}[kind]

    class Whole(BaseModel):
        type: str
        fields: int
        parts: dict[str, list[named | str | None]]

    class Takes(Pipeline):
        def infer(self, request: named):
            return 1

    class Nested(Pipeline):
        def infer(self, request) -> Whole:
            raise NotImplementedError

    where = {"model": "Odd.size", "dataclass": "Row.size", "typed dict": "Keyed.size"}
    deep = ".deep.1" if isinstance(value, dict) else ""
    assert f"{where.get(kind, 'it')}.x-unit{deep} is not JSON" in refused(Takes)
    message = refused(Nested)
    assert f"{where.get(kind, 'Whole.parts')}.x-unit{deep} is not JSON" in message
    assert "put what JSON has into" in message


def test_a_type_whose_own_code_fails_is_refused():
    class Broken:
        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            raise ZeroDivisionError("of the author's")

    class Takes(Pipeline):
        def infer(self, request: Broken):
            return 1

    assert "of the author's" in refused(Takes)
