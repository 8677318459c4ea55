"""Serve's answer, read beside the one before: whatever it says, as if it were read alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.serve.details import Details, read

pytestmark = pytest.mark.unit

finite = st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["x", "x-1.0", 'of "x"', "applications", "", "é"])
applications = st.dictionaries(names, st.dictionaries(st.text(max_size=3), anything, max_size=3))


@st.composite
def texts(draw):
    """An answer, as any writer of JSON may write it."""
    others = draw(st.dictionaries(st.sampled_from(["proxies", "", "x"]), anything))
    said = {**others, "applications": draw(applications)}
    indent, ascii_ = draw(st.sampled_from([None, 1, "\t"])), draw(st.booleans())
    text = json.dumps(said, indent=indent, ensure_ascii=ascii_)
    blank = draw(st.sampled_from(["", " \n", "\r\t"]))
    return blank + text.encode("utf-8", "replace").decode() + blank


def whole(text, before, said_before):
    """What an answer says, with what it leaves out."""
    said, spans, same = read(text, before)
    assert not same & said["applications"].keys()
    said["applications"] |= {name: said_before["applications"][name] for name in same}
    return said, Details(text, spans)


@given(st.lists(texts(), min_size=1, max_size=3))
def test_each_answer_is_read_as_if_it_stood_alone(answers):
    before, said = Details(), {}
    for text in answers:
        said, before = whole(text, before, said)
        assert said == json.loads(text)


def test_what_stands_there_as_before_is_not_parsed_again():
    one, two = {"status": "RUNNING", "n": 1}, {"status": "RUNNING", "n": 1.0}
    text = json.dumps({"applications": {"a": one, "b": one}, "proxies": {}})
    _, spans, same = read(text, Details())
    assert not same
    later = json.dumps({"proxies": {}, "applications": {"c": one, "b": two, "a": one}})
    said, _, same = read(later, Details(text, spans))
    assert (said["applications"], same) == ({"c": one, "b": two}, {"a"})
    assert type(said["applications"]["b"]["n"]) is float


def test_of_a_name_that_comes_twice_the_last_counts():
    once, changed = '{"applications": {"a": {"n": 1}}}', '{"applications": {"a": {"n": 2}}}'
    twice = '{"applications": {"a": {"n": 1}, "a": {"n": 2}}}'
    for first in (once, changed):
        said, before = whole(first, Details(), {})
        said, before = whole(twice, before, said)
        assert said == json.loads(changed)
        assert whole(first, before, said)[0] == json.loads(first)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "\ufeff{}",
        "{} {}",
        "{}]",
        '{"a": 1,}',
        "{,}",
        "{1: 2}",
        '{"a" 1}',
        '{"a": 1 "b": 2}',
        '{"applications": {"a": {}',
        '{"applications": {"a": {},}}',
        '{"applications": {"a": {}}, "b": {}',
    ],
)
def test_what_is_no_object_of_json_is_refused(text):
    _, spans, _ = read('{"applications": {"a": {}}}', Details())
    for before in (Details(), Details('{"applications": {"a": {}}}', spans)):
        with pytest.raises(ValueError, match=r"."):
            read(text, before)
