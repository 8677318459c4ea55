"""Waiting before another try: long enough, never endless, never in step with others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.retry import ASKED_CAP, BASE, CAP, asked_for, delay

pytestmark = pytest.mark.unit

attempts = st.integers(1, 10_000)
jitters = st.floats(0, 1, exclude_max=True)
asked = st.none() | st.floats(0, 1e300)


@given(attempts, jitters)
def test_a_wait_is_at_least_half_of_its_ceiling_and_never_above_the_cap(attempt, jitter):
    ceiling = min(CAP, BASE * 2.0 ** min(attempt - 1, 1000))
    assert ceiling / 2 <= delay(attempt, jitter=jitter) <= ceiling


@given(attempts, jitters)
def test_with_the_same_luck_a_later_attempt_never_waits_less(attempt, jitter):
    assert delay(attempt, jitter=jitter) <= delay(attempt + 1, jitter=jitter)


@given(attempts)
def test_two_that_failed_together_are_spread_over_half_of_the_wait(attempt):
    assert delay(attempt, jitter=1.0) == 2 * delay(attempt, jitter=0.0)


@given(attempts, jitters, asked)
def test_what_the_other_side_asked_for_is_the_least_and_the_cap_the_most_on_top(
    attempt, jitter, retry_after
):
    wait = delay(attempt, jitter=jitter, retry_after=retry_after)
    least = min(retry_after or 0.0, ASKED_CAP)
    assert least < wait <= least + CAP


@given(st.text() | st.integers(0).map(str), st.floats(0, 4e9))
def test_whatever_is_asked_for_ends(said, now):
    wait = asked_for(said, now=now)
    assert wait is None or 0 <= wait <= ASKED_CAP


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("1000000000", ASKED_CAP),
        ("Thu, 01 Jan 1970 00:03:00 GMT", 80),
        ("Thu, 01 Jan 2099 00:00:00 GMT", ASKED_CAP),
        ("Thu, 01 Jan 99999999999 00:00:00 GMT", None),
        ("-5", None),
        ("", None),
    ],
)
def test_both_forms_of_retry_after_are_read_up_to_a_cap(said, meant):
    assert asked_for(said, now=100.0) == meant


def test_the_first_failures_double_the_wait_until_the_cap():
    longest = [delay(attempt, jitter=1.0) for attempt in range(1, 12)]
    assert longest == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt):
    with pytest.raises(ValueError, match="count from 1"):
        delay(attempt, jitter=0.5)
