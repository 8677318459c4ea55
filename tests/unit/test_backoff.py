"""Waiting before another try: long enough, never endless, never in step with others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.planning.backoff import BASE, CAP, delay

pytestmark = pytest.mark.unit

attempts = st.integers(1, 10_000)
jitters = st.floats(0, 1, exclude_max=True)
asked = st.none() | st.floats(0, 86_400)


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
    least = retry_after or 0.0
    assert least < wait <= least + CAP


def test_the_first_failures_double_the_wait_until_the_cap():
    longest = [delay(attempt, jitter=1.0) for attempt in range(1, 12)]
    assert longest == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt):
    with pytest.raises(ValueError, match="count from 1"):
        delay(attempt, jitter=0.5)
