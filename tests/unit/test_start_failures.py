"""What a replica that cannot start says of why."""

import pytest

from wheelway.failure import TAIL_LENGTH, blame

pytestmark = pytest.mark.unit


def load(text):
    raise ValueError(text)


def caught(text):
    with pytest.raises(ValueError, match=text[:3]) as error:
        load(text)
    return error.value


def test_an_exception_that_quotes_a_file_whole_does_not_hide_where_it_was_raised():
    failure = blame("LoadFailed", "load() raised", caught("x" * 5_000_000), None)
    assert len(str(failure)) < 2 * TAIL_LENGTH + 1000
    assert "in load\n    raise ValueError(text)\nValueError: xxx" in failure.tail
    assert failure.tail.endswith("xxx...")


def test_a_short_one_is_told_whole():
    failure = blame("LoadFailed", "load() raised", caught("no such file\nmodel.bin"), None)
    assert failure.tail.endswith("\nValueError: no such file\nmodel.bin")
