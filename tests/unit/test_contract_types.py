"""How a pipeline's methods are called, its examples, and what is no stream."""

import functools
import io
import itertools
from collections.abc import AsyncIterator, Iterator
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
