"""Results, which are JSON and what their own schema says, or refused with advice."""

import math
import sys
from collections import deque
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pytest
import typing_extensions
from pydantic import BaseModel, ConfigDict

from tests.support.strict import refused, strictly
from wheelway import Pipeline
from wheelway.local import loaded
from wheelway.results import ResultInvalid
from wheelway.schema import interface_of

pytestmark = pytest.mark.unit

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
        (list[float], [1.0, math.inf], "result[1]"),
        (dict[str, float], {"a": -math.inf}, "result.a"),
        (dict[str, list[float | None]] | float, {"a": [math.nan]}, None),
        (Missing, {"score": math.nan}, None),
        (Missing, {"score": 1, "rows": [("a", 1), ("b", math.nan)]}, "result.rows[1][1]"),
        (Missing, {"score": None, "rows": [("a", 1)]}, None),
        (
            list[Missing],
            [{"score": 1}, {"score": 1, "rows": [("a", math.nan)]}],
            "result[1].rows[0][1]",
        ),
        (Tree, {"nodes": [{"nodes": [{"weight": math.nan}]}]}, "result.nodes[0].nodes[0].weight"),
        (Missing, {"score": 1, "note": '"note":null'}, None),
        (Noted, {"by_name": {"note": math.nan}}, "result.by_name.note"),
        (Noted, {"properties": math.nan}, "result.properties"),
        (NotedElsewhere, {"noted": {"score": 1}, "note": math.nan}, "result.note"),
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


@dataclass
class Held:
    what: Any


@pytest.mark.parametrize(
    ("declared", "result", "said"),
    [
        (
            dict[str, list[float]],
            {"scores": [1, 2, 3, "x"]},
            "result.scores[3]: Input should be a valid number, unable to parse string as a number",
        ),
        (int, None, "result: Input should be a valid integer, found NoneType"),
        (list[Row], [{}], "result[0].id: Field required"),
        (int | str, {}, "result: Input should be a valid integer or Input should be a valid str"),
        (list[int | str], [1, {}], "result[1]: Input should be a valid integer or Input should"),
        (list[Pair], [Pair("k", 1)], "result[0].key: Input should be a valid integer"),
        (set[int], {"x"}, "result[0]: Input should be a valid integer"),
        (dict[str, int], {"a b": []}, "result['a b']: Input should be a valid integer, found list"),
        (Any, {"k" * 10**6: object()}, f"result['{'k' * 60}...']: Unable to"),
        (Any, {10**5000: object()}, "result[a key of int]: "),
        (dict[int, int], {"a": 1}, "the key result.a: Input should be a valid integer"),
        (Any, {"rows": [1, Held({"m": np.zeros(2)})]}, "result.rows[1].what.m: Unable to"),
        (Any, {"a": [b"\xff"]}, "result.a[0]: Error serializing to JSON: invalid utf-8"),
        (list[int], ["x"] * 1000, "result[0]: Input should be a valid integer"),
    ],
)
def test_a_result_that_violates_its_type_is_told_with_the_place_and_what_was_found(
    declared, result, said
):
    class Wrong(Pipeline):
        def infer(self, request: Any) -> declared:
            return result

    with pytest.raises(ResultInvalid) as caught:
        interface_of(Wrong).encode(result)
    assert str(caught.value).startswith(said)
    assert str(caught.value).count("Input should") <= 5


class Unsaid:
    pass


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
