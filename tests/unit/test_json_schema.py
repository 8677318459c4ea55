"""Schemas that are JSON, whatever a pipeline's types have in them."""

import datetime as dt
import json
import math
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import numpy as np
import pytest
import typing_extensions
from pydantic import BaseModel, ConfigDict, Field

from tests.support.strict import refused, strictly
from wheelway import Pipeline, openapi, page
from wheelway.contract import Release
from wheelway.local import loaded
from wheelway.schema import interface_of

pytestmark = pytest.mark.unit

RELEASE = Release("demo", "1.0", "ab" * 32)


class Unsaid:
    pass


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
