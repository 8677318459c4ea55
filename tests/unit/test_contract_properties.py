"""Whatever types a pipeline declares: what is served is JSON and fits the schema that is told."""

import contextlib
import datetime as dt
import json
import math
import warnings
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model
from pydantic.json_schema import PydanticJsonSchemaWarning

from wheelway import Pipeline, openapi, page
from wheelway.contract import Release
from wheelway.failure import StartFailure
from wheelway.results import ResultInvalid
from wheelway.schema import interface_of

pytestmark = pytest.mark.unit

unhurried = settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no mistake

RELEASE = Release("demo", "1.0", "ab" * 32)


def strictly(body):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(body, parse_constant=refuse)


def pipeline(declared, *, request=Any):
    class Declared(Pipeline):
        def infer(self, request: request) -> declared:
            return request

    return Declared


# -- results -------------------------------------------------------------------------------------


def integers():
    numpy = st.integers(-(2**63), 2**63 - 1).map(np.int64)
    return st.integers(-(2**70), 2**70) | numpy | st.integers(0, 2**64 - 1).map(np.uint64)


# Each a type, results of it, and whether a result may hold what JSON has no number for.
SCALARS = [
    (int, integers()),
    (float, st.floats() | st.floats(width=32).map(np.float32) | st.integers(-(2**40), 2**40)),
    (str, st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["NaN", '":null'])),
    (bool, st.booleans()),
    (type(None), st.none()),
    (dt.date, st.dates()),
    (UUID, st.uuids()),
]
NAMES = st.sampled_from(["a", "b", "note", "null", "properties", "default", "items"])


def scalars():
    return st.sampled_from(SCALARS)


def listed(inner):
    declared, values = inner
    return list[declared], st.lists(values, max_size=3)


def paired(inners):
    (first, firsts), (second, seconds) = inners
    return tuple[first, second], st.tuples(firsts, seconds)


def mapped(inner):
    declared, values = inner
    return dict[str, declared], st.dictionaries(NAMES, values, max_size=3)


def optional(inner):
    declared, values = inner
    return declared | None, values | st.none()


def modelled(fields):
    """A model with these fields, each with a default in the schema or none; results as mappings."""
    made = create_model(
        f"Model{len(fields)}",
        **{f"f_{name}": (declared, Field(alias=name)) for name, (declared, _) in fields.items()},
    )
    return made, st.fixed_dictionaries({name: values for name, (_, values) in fields.items()})


types = st.recursive(
    scalars(),
    lambda inner: (
        inner.map(listed)
        | inner.map(mapped)
        | inner.map(optional)
        | st.tuples(inner, inner).map(paired)
        | st.dictionaries(NAMES, inner, min_size=1, max_size=4).map(modelled)
    ),
    max_leaves=6,
)


def numbers_of(value):
    """All numbers of a result in order, NaN and infinities as None."""
    if isinstance(value, dict):
        return [n for key in value for n in numbers_of(value[key])]
    if isinstance(value, (list, tuple)):
        return [n for item in value for n in numbers_of(item)]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        return []
    if isinstance(value, (float, np.floating)):
        return [float(value) if math.isfinite(value) else None]
    return [int(value)]


@unhurried
@given(types.flatmap(lambda made: st.tuples(st.just(made[0]), made[1])))
def test_a_result_of_a_type_is_served_as_its_schema_says_or_refused_for_nan_alone(case):
    declared, result = case
    interface = interface_of(pipeline(declared))
    schema = interface.schemas[1]
    numbers = numbers_of(result)
    try:
        body = interface.encode(result)
    except ResultInvalid:
        assert None in numbers
        return
    served = strictly(body)
    Draft202012Validator(schema).validate(served)
    assert sorted(numbers_of(served)) == sorted(n for n in numbers if n is not None)


@unhurried
@given(st.recursive(st.floats() | st.none(), lambda inner: st.lists(inner, max_size=3)))
def test_without_a_type_nan_is_null(result):
    served = strictly(interface_of(pipeline(Any)).encode(result))

    def nulled(value):
        if isinstance(value, list):
            return [nulled(item) for item in value]
        return value if value is not None and math.isfinite(value) else None

    assert served == nulled(result)


# -- what is told --------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


class Inner(BaseModel):
    upper: float = math.inf


SAYABLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.floats()
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
    | st.sampled_from([Colour.RED, b"bytes", Inner(), {1, 2}, Decimal("NaN")])
)
UNSAYABLE = st.sampled_from([object(), b"\xff", "\ud800", np.array([1]), np.int64(1), print])


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    )


def told(extra, default, examples):
    """All that is told of a pipeline whose request has these in its schema."""

    class Request(BaseModel):
        model_config = ConfigDict(json_schema_extra=extra)
        field: Any = Field(default, examples=examples)
        later: float = math.inf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # of defaults left out
        interface = interface_of(pipeline(list[Request], request=Request))
    route = "/predict/demo/1.0"
    page.render(RELEASE, interface, (), route).encode()
    return (
        strictly(json.dumps(openapi.metadata(RELEASE, interface, route))),
        strictly(json.dumps(openapi.document(RELEASE, interface, (), route))),
    )


@unhurried
@given(nested(SAYABLE), nested(SAYABLE), st.lists(nested(SAYABLE), max_size=2))
def test_whatever_has_a_form_in_json_may_stand_in_a_schema(extra, default, examples):
    about, document = told({"x-extra": extra}, default, examples)
    Draft202012Validator.check_schema(about["input"]["schema"])
    assert "Request" in document["components"]["schemas"]


@unhurried
@given(nested(SAYABLE | UNSAYABLE), nested(SAYABLE | UNSAYABLE))
def test_whatever_has_none_is_refused_at_the_start_or_left_out(extra, default):
    with contextlib.suppress(StartFailure):  # any other exception is a mistake
        told({"x-extra": extra}, default, [])


KEYWORDS = ("type", "properties", "items", "anyOf", "enum", "const", "required", "default")
KEYWORDS = (*KEYWORDS, "prefixItems", "additionalProperties", "patternProperties", "description")


@unhurried
@given(st.dictionaries(st.sampled_from(KEYWORDS), nested(SAYABLE), max_size=3))
def test_odd_words_in_a_schema_break_nothing(extra):
    with contextlib.suppress(StartFailure):
        told(extra, 1, [])


def test_names_by_a_pattern_of_pydantics_own_dialect_may_hold_numbers():
    names = Annotated[str, StringConstraints(pattern=r"^\p{L}+$")]
    encode = interface_of(pipeline(dict[names, float])).encode
    assert encode({"ä": 1.0}) == '{"ä":1.0}'.encode()
    with pytest.raises(ResultInvalid, match=r"^result\.ä: is NaN"):
        encode({"ä": math.nan})
