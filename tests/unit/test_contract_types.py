"""How a pipeline's methods are called, its examples, and what is no stream."""

import functools
import io
import itertools
from typing import Any

import pytest

from tests.support.strict import refused
from wheelway import Pipeline
from wheelway.local import loaded
from wheelway.results import ResultInvalid
from wheelway.schema import interface_of

pytestmark = pytest.mark.unit

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


# -- what is no stream ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: (n for n in range(3)),
        lambda: map(int, "12"),
        lambda: zip("ab", "cd", strict=True),
        lambda: iter([1]),
        lambda: itertools.chain([1]),
        lambda: reversed((1, 2)),
        lambda: io.StringIO("1"),
    ],
    ids=["generator", "map", "zip", "iter", "chain", "reversed", "file"],
)
@pytest.mark.parametrize("declared", [list, list[Any], dict])
def test_an_iterator_where_the_declared_type_is_no_stream_is_refused(declared, make):
    class Lazy(Pipeline):
        def infer(self, request: int) -> declared:
            return make()

    with loaded(Lazy) as ask, pytest.raises(ResultInvalid, match=r"result: is a .* a list of what"):
        ask(3)


def test_an_iterator_within_a_result_is_read_to_its_end():
    class Lazy(Pipeline):
        def infer(self, request: int):
            return {"rows": map(str, range(request)), "all": (n for n in range(request))}

    with loaded(Lazy) as ask:
        assert ask(2) == {"rows": ["0", "1"], "all": [0, 1]}
