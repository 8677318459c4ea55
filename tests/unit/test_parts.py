"""A part is made anew when something that it is made of is another, and not otherwise."""

from __future__ import annotations

import pytest

from controller.reconcile.parts import Parts

pytestmark = pytest.mark.unit


class Part:
    """Tells when it is closed."""

    def __init__(self, closed, name):
        self._closed, self._name = closed, name

    def close(self):
        self._closed.append(self._name)


@pytest.fixture
def closed():
    return []


def made(closed, before=None, *, base="base", clock="clock", anew=False, fails=False):
    """Two parts beside each other, one of which is made of the other, and one of the latter."""

    def broken(part):
        raise OSError(part)

    with Parts(before) as parts:
        first = parts.made("first", lambda _: Part(closed, "first"), base, anew=anew)
        second = parts.made("second", lambda _: Part(closed, "second"), first)
        parts.made("third", broken if fails else lambda _: Part(closed, "third"), second)
        parts.made("beside", lambda _: Part(closed, "beside"), clock)
    return parts


def test_while_nothing_is_another_all_go_on(closed):
    before = made(closed)
    after = made(closed, before)
    assert after.besides(before) == []
    before.close(keep=after)
    assert closed == []


def test_what_is_made_of_a_part_that_was_made_anew_is_made_anew(closed):
    before = made(closed)
    after = made(closed, before, base="another")
    assert after.besides(before) == ["first", "second", "third"]
    before.close(keep=after)
    assert closed == ["third", "second", "first"]
    assert made(closed, after, clock="another", base="another").besides(after) == ["beside"]


def test_a_part_can_be_made_anew_for_another_reason(closed):
    before = made(closed)
    assert made(closed, before, anew=True).besides(before) == ["first", "second", "third"]


def test_equal_parts_make_no_others(closed):
    with Parts() as before:
        before.made("value", list, (1, 2))
        before.made("of it", tuple, [1, 2])
    with Parts(before) as after:
        value = after.made("value", list, (1, 2), anew=True)
        after.made("of it", tuple, value)
    assert after.besides(before) == ["value"]


def test_one_that_cannot_be_made_leaves_those_before_and_nothing_else(closed):
    before = made(closed)
    with pytest.raises(OSError, match="Part"):
        made(closed, before, base="another", fails=True)
    assert closed == ["second", "first"]
    assert made(closed, before).besides(before) == []


def test_a_part_that_does_not_close_keeps_no_other_from_it(closed):
    class Stubborn:
        def close(self):
            raise OSError("no")

    with Parts() as parts:
        parts.made("first", lambda: Part(closed, "first"))
        parts.made("stubborn", Stubborn)
    with pytest.raises(OSError, match="no"):
        parts.close()
    assert closed == ["first"]
