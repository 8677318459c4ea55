"""The documentation page of a release, and the tables of fields in it."""

import html
import json
import shlex
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from tests.support.pipelines import Echo, Greeter, Shout
from wheelway import Pipeline, page
from wheelway.contract import Release
from wheelway.fields import WHOLE, fields_of
from wheelway.schema import interface_of

pytestmark = pytest.mark.unit

unhurried = settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no mistake

ROUTE = "/predict/demo/1.0+cu1"


def page_of(pipeline, examples=None):
    release = Release("demo", "1.0+cu1", "ab" * 32)
    chosen = pipeline.examples if examples is None else examples
    return page.render(release, interface_of(pipeline), chosen, ROUTE)


def command_of(pipeline, examples=None):
    told = page_of(pipeline, examples)
    return shlex.split(html.unescape(told.partition('id="curl">')[2].partition("</pre>")[0]))


def test_the_example_comes_first_then_the_fields_and_the_schemas_last():
    told = page_of(Greeter)
    order = ["Greets", "Try it", "&quot;Ada&quot;", "curl -sS", "<h2>Request", "<table>"]
    order += ["<h2>Result", "<h2>JSON Schema", "&quot;title&quot;: &quot;Question&quot;"]
    places = [told.index(part) for part in order]
    assert places == sorted(places)
    assert told.count("<option") == 2


def test_raw_bytes_can_be_sent_from_a_file_or_as_text():
    told = page_of(Shout)
    assert '<input type="file">' in told
    assert 'aria-label="example"' not in told
    assert ">hey</textarea>" in told
    assert '<input type="file">' not in page_of(Greeter)
    assert ">hey</textarea>" not in page_of(Shout, (b"\x00hey",))


@pytest.mark.parametrize(
    ("pipeline", "examples", "body"),
    [
        (Greeter, ({"name": "it's <Ada>"},), ["-d", '{"name": "it\'s <Ada>"}']),
        (Greeter, ({"name": "x" * 500},), ["-d", "@FILE"]),
        (Echo, (), ["-d", "@FILE"]),
        (Shout, (b"hey",), ["--data-binary", "hey", "-o", "RESULT"]),
        (Shout, (b"@etc",), ["--data-raw", "@etc", "-o", "RESULT"]),
        (Shout, (b"@" * 500,), ["--data-binary", "@FILE", "-o", "RESULT"]),
        (Shout, (b"\xff",), ["--data-binary", "@FILE", "-o", "RESULT"]),
    ],
)
def test_the_command_to_copy_posts_the_first_example(pipeline, examples, body):
    kind = "application/octet-stream" if pipeline is Shout else "application/json"
    told = command_of(pipeline, examples)
    head = ["curl", "-sS", f"{page.ORIGIN}{ROUTE}", "-H", f"content-type: {kind}"]
    assert told == [*head, *body]


def test_what_an_author_says_never_becomes_markup():
    class Question(BaseModel):
        evil: Annotated[str, Field(description="</td><script>", title="<b>")] = "</textarea>"

    class Evil(Pipeline):
        """</p><script>alert(1)</script>"""

        examples = ({"evil": "</textarea><script>"}, {"evil": '"><script>'})

        def infer(self, request: Question) -> Question:
            return request

    assert page_of(Evil).count("<script>") == 1


class Address(BaseModel):
    street: Annotated[str, Field(min_length=1, description="With its number.")]


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Tree(BaseModel):
    weight: float
    children: "list[Tree]" = []


class Visit(BaseModel):
    stars: Annotated[int, Field(ge=1, le=5)] = 3
    note: str | None = None
    home: Address
    others: list[Address] = []
    by_name: dict[str, Address] = {}
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    tree: Tree | None = None
    pair: tuple[int, str] = (1, "a")


def rows(declared):
    return [
        (field.name, field.type, field.need)
        for field in fields_of(TypeAdapter(declared).json_schema())
    ]


def test_each_field_has_a_row_also_those_of_nested_models():
    assert rows(Visit) == [
        ("stars", "integer", "default 3"),
        ("note", "string or null", "default null"),
        ("home", "object", "required"),
        ("home.street", "string", "required"),
        ("others", "list of object", "default []"),
        ("others[].street", "string", "required"),
        ("by_name", "object of object", "default {}"),
        ("by_name.*.street", "string", "required"),
        ("pet", "object", "required"),
        ("pet.kind", '"cat"', "required"),
        ("pet.kind", '"dog"', "required"),
        ("tree", "object or null", "default null"),
        ("tree.weight", "number", "required"),
        ("tree.children", "list of object", "default []"),
        ("pair", "[integer, string]", 'default [1, "a"]'),
    ]
    stars, _, _, street, *_ = fields_of(TypeAdapter(Visit).json_schema())
    assert stars.limits == "at least 1, at most 5"
    assert (street.limits, street.about) == ("length at least 1", "With its number.")


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        (int, "integer"),
        (Any, "any JSON"),
        (list[float], "list of number"),
        (list[int | None], "list of (integer or null)"),
        (dict[str, float], "object of number"),
        (Literal["a", 2], '"a" or 2'),
    ],
)
def test_what_has_no_fields_is_one_row(declared, kind):
    assert rows(declared) == [(WHOLE, kind, "")]


KEYWORDS = ("type", "properties", "items", "anyOf", "enum", "const", "$ref", "$defs", "required")
KEYWORDS = (*KEYWORDS, "default", "prefixItems", "additionalProperties", "description", "minimum")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner | st.sampled_from(["object", "array", "#/$defs/x", {"type": "string"}]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@unhurried
@given(st.dictionaries(st.sampled_from(["type", "properties", "$defs", "$ref"]), json_values))
def test_odd_schemas_have_rows_all_the_same(schema):
    found = fields_of(schema)
    assert 1 <= len(found) <= 301
    json.dumps([field.name for field in found])
