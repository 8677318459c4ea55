"""How a new version takes over behind an alias: step by step, by what the gateway counted."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.config.aliases import ProgressiveRollout
from controller.planning.progressive import Look, Progress, begin, judge
from controller.planning.traffic import BOUNDS, Counters, surely_more, surely_slower

pytestmark = pytest.mark.unit

RULE = ProgressiveRollout()
NOTHING = Counters()
EMPTY = Look("one", NOTHING, NOTHING)


def counted(requests, errors=0, *, within=10):
    """Requests that all took as long: up to `within` milliseconds."""
    place = BOUNDS.index(within) if within in BOUNDS else len(BOUNDS)
    buckets = tuple(requests if each == place else 0 for each in range(len(BOUNDS) + 1))
    return Counters(requests, errors, buckets)


def look(canary, former=None, epoch="one"):
    return Look(epoch, canary, counted(5000) if former is None else former)


def judged(canary, former=None, *, at=0.0, rule=RULE):
    start = begin("1.5", "1.4", rule, EMPTY, 0.0)
    return judge(start, rule, look(canary, former), at)


# -- one step --------------------------------------------------------------------------------------


def test_a_canary_takes_the_steps_one_by_one_and_takes_over():
    progress, shares, total = begin("1.5", "1.4", RULE, EMPTY, 0.0), [], NOTHING
    for number in range(1, 6):
        total += counted(300)
        former = counted(number * 1000)
        decision = judge(progress, RULE, look(total, former), 600.0 * number)
        progress = decision.progress
        shares.append((progress.share, decision.reason))
    assert shares == [
        (25, "CanaryAdvanced"),
        (50, "CanaryAdvanced"),
        (100, "CanaryAdvanced"),
        (100, "CanaryPromoted"),
        (100, "CanaryPromoted"),
    ]
    assert decision.message == "1.5 has taken over from 1.4: 0 of 300 requests failed at 100 %"


def test_a_step_lasts_as_long_as_it_should():
    decision = judged(counted(300, 1), at=599.0)
    assert (decision.progress.share, decision.reason) == (5, "WaitingForTime")
    assert decision.message == (
        "at 5 %: the step lasts for 1 s more; 1 of 300 requests (0.333 %) failed"
    )


def test_too_few_requests_are_waited_for():
    decision = judged(counted(37), at=1e6)
    assert (decision.progress.share, decision.reason) == (5, "WaitingForRequests")
    assert decision.message == "at 5 %: waits for 200 requests to 1.5, has 37"


def test_too_few_requests_to_the_former_version_are_waited_for_where_it_gets_some():
    decision = judged(counted(900), counted(12), at=1e6)
    assert decision.message == "at 5 %: waits for 200 requests to 1.4, has 12"
    at_once = ProgressiveRollout(steps=(100,))
    decision = judged(counted(900), NOTHING, at=1e6, rule=at_once)
    assert decision.reason == "CanaryPromoted"


def test_counters_that_cannot_be_read_are_waited_for():
    start = begin("1.5", "1.4", RULE, EMPTY, 0.0)
    decision = judge(start, RULE, None, 1e6)
    assert (decision.progress, decision.reason) == (start, "CountersUnknown")


def test_more_errors_than_allowed_take_it_back_at_once_and_hold_it():
    decision = judged(counted(250, 31), counted(800, 2))
    assert (decision.progress.share, decision.reason) == (0, "CanaryFailed")
    assert decision.message == (
        "1.5 is back at 0 %, from 5 %: 31 of 250 requests (12.4 %) failed, more than 1 %; of 1.4 "
        "it was 2 of 800 requests (0.25 %). It is held there until an operator says otherwise, or "
        "its wheel is another"
    )
    later = judge(decision.progress, RULE, look(counted(10**6), counted(10**6)), 1e6)
    assert (later.progress, later.reason, later.message) == (
        decision.progress,
        "CanaryFailed",
        decision.message,
    )


@pytest.mark.parametrize(
    ("requests", "errors", "fails"),
    [(20, 1, False), (2, 2, False), (3, 3, True), (60, 50, True), (199, 3, False), (200, 3, True)],
)
def test_few_requests_fail_a_canary_only_when_that_is_no_chance(requests, errors, fails):
    decision = judged(counted(requests, errors))
    assert (decision.reason == "CanaryFailed") is fails


def test_what_fails_both_versions_alike_is_held_against_none():
    decision = judged(counted(300, 200), counted(6000, 3900), at=700.0)
    assert (decision.progress.share, decision.reason) == (5, "FormerFailing")
    assert "200 of 300 requests (66.7 %) failed, more than 1 %; of 1.4 it was" in decision.message
    assert (decision.progress.since, decision.progress.of_canary) == (700.0, NOTHING)
    total = counted(300, 200) + counted(250), counted(6000, 3900) + counted(4000)
    decision = judge(decision.progress, RULE, look(*total), 1300.0)
    assert (decision.progress.share, decision.reason) == (25, "CanaryAdvanced")


def test_a_canary_that_is_worse_than_a_bad_version_fails():
    assert judged(counted(300, 200), counted(6000, 300)).reason == "CanaryFailed"


def test_a_version_that_fails_no_more_than_allowed_excuses_nothing():
    assert judged(counted(200, 3), counted(5000, 25)).reason == "CanaryFailed"


def test_a_canary_that_is_better_than_a_bad_version_goes_on():
    assert judged(counted(300), counted(6000, 300), at=600.0).reason == "CanaryAdvanced"


# -- latency ---------------------------------------------------------------------------------------


def test_a_slow_canary_goes_back():
    decision = judged(counted(250, within=100), counted(5000, within=25))
    assert (decision.progress.share, decision.reason) == (0, "CanaryFailed")
    assert (
        "the 99th percentile of its latency is 50 to 100 ms, more than 1.5 times that of 1.4, 10 "
        "to 25 ms" in decision.message
    )


def test_a_neighbouring_bucket_may_be_no_slower_at_all():
    # All of the one may have taken 24.9 ms, and of the other 25.1.
    assert judged(counted(250, within=50), counted(5000, within=25)).reason == "WaitingForTime"


def test_a_few_slow_requests_are_no_percentile():
    canary = counted(240) + counted(5, within=5000)
    assert judged(canary, counted(5000)).reason == "WaitingForTime"
    assert judged(canary + counted(10, within=5000)).reason == "CanaryFailed"


def test_at_the_last_step_it_is_compared_with_the_former_version_of_the_step_before():
    rule = ProgressiveRollout(steps=(50, 100))
    first = judged(counted(300), counted(300), at=600.0, rule=rule).progress
    assert (first.share, first.reference) == (100, counted(300))
    slow = look(counted(300) + counted(60, within=1000), counted(300))
    assert judge(first, rule, slow, 700.0).reason == "CanaryFailed"


def test_a_bound_belongs_to_the_bucket_below_it():
    assert surely_slower(counted(200, within=100), counted(200, within=25), 2.0)
    assert not surely_slower(counted(200, within=50), counted(200, within=25), 2.0)


def test_nothing_has_no_percentile_and_no_errors():
    assert NOTHING.error_rate == 0
    assert not surely_slower(counted(200, within=5000), NOTHING, 1.5)
    with pytest.raises(ValueError, match="no request has a latency yet"):
        NOTHING.percentile()


def test_no_more_than_all_requests_fail():
    # The gateway's counters are read one after the other.
    assert Counters(10, 12).error_rate == 1


latencies = st.lists(
    st.floats(0.1, 20_000).map(lambda value: round(value, 1)), min_size=1, max_size=300
)


def histogram(values):
    places = [next((n for n, most in enumerate(BOUNDS) if v <= most), len(BOUNDS)) for v in values]
    return Counters(len(values), 0, tuple(map(places.count, range(len(BOUNDS) + 1))))


def percentile(values):
    return sorted(values)[math.ceil(len(values) * 0.99) - 1]


@given(latencies)
def test_a_percentile_lies_between_its_bounds(values):
    low, high = histogram(values).percentile()
    assert low < percentile(values) <= high


@given(latencies, latencies, st.floats(1, 10))
def test_none_is_called_slower_than_it_may_be(new, former, ratio):
    if surely_slower(histogram(new), histogram(former), ratio):
        assert percentile(new) > ratio * percentile(former)


@given(st.floats(5.1, 500), st.floats(5.01, 50))
def test_five_times_as_slow_is_always_seen(former, times):
    slow = former * times
    assert surely_slower(histogram([slow] * 200), histogram([former] * 200), 1.5)


@given(st.integers(0, 400), st.integers(0, 400), st.floats(0, 1))
def test_chance_is_judged_as_the_binomial_distribution_does(hits, total, share):
    hits = min(hits, total)
    if surely_more(hits, total, share):
        tail = sum(
            math.comb(total, n) * share**n * (1 - share) ** (total - n)
            for n in range(hits, total + 1)
        )
        assert tail < 1e-5
    else:
        assert share > 0 or hits == 0
        assert hits < total or share**total > 1e-6


# -- counters --------------------------------------------------------------------------------------


def test_a_gateway_that_starts_again_takes_no_step_and_no_count_away():
    start = begin("1.5", "1.4", RULE, look(counted(70), counted(900)), 0.0)
    before = judge(start, RULE, look(counted(220), counted(1100)), 300.0).progress
    assert before.of_canary == counted(150)
    after = judge(before, RULE, look(counted(49), counted(30), "two"), 600.0)
    assert after.message == "at 5 %: waits for 200 requests to 1.5, has 199"
    last = judge(after.progress, RULE, look(counted(50), counted(30), "two"), 601.0)
    assert (last.progress.share, last.reason) == (25, "CanaryAdvanced")


def test_counters_that_fell_began_anew_whatever_the_gateway_says():
    start = begin("1.5", "1.4", RULE, look(counted(70), counted(900)), 0.0)
    after = judge(start, RULE, look(counted(5), counted(20)), 1.0).progress
    assert (after.of_canary, after.of_former) == (counted(5), counted(20))
    fewer_errors, former = counted(80, 1), counted(900, 2)
    assert fewer_errors.since(counted(70, 2)) == fewer_errors
    assert counted(950, 2, within=50).since(former) == counted(950, 2, within=50)


def test_a_restart_that_no_counter_shows_brings_no_errors_of_before():
    start = begin("1.5", "1.4", RULE, look(counted(1000), counted(1000)), 0.0)
    again = look(counted(1010, 10), counted(1010, 10), "two")
    assert judge(start, RULE, again, 1.0).reason == "WaitingForTime"


@pytest.mark.parametrize(
    "figures", [(-1, 0, (0,) * 10), (1, -1, (0,) * 10), (1, 0, (0,) * 9), (1, 0, (-1, *(0,) * 9))]
)
def test_counters_are_never_negative_nor_of_other_buckets(figures):
    with pytest.raises(ValueError, match="are no counters"):
        Counters(*figures)


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: [],
        lambda document: {**document, "seen": 3},
        lambda document: {**document, "seen": {**document["seen"], "canary": None}},
        lambda document: {**document, "of_canary": {**document["of_canary"], "requests": "3"}},
        lambda document: {**document, "of_canary": {**document["of_canary"], "requests": -3}},
        lambda document: {**document, "of_canary": {**document["of_canary"], "buckets": 3}},
        lambda document: {name: document[name] for name in document if name != "share"},
        lambda document: {**document, "share": "5"},
        lambda document: {**document, "share": 105},
        lambda document: {**document, "since": None},
        lambda document: {**document, "verdict": "unknown"},
    ],
)
def test_a_damaged_state_is_refused(edit):
    document = begin("1.5", "1.4", RULE, EMPTY, 0.0).document()
    with pytest.raises(ValueError, match=r"counters|no progress"):
        Progress.read(edit(document))


def test_an_edited_rule_is_followed_from_where_the_canary_is():
    progress = judged(counted(300), at=600.0).progress
    edited = ProgressiveRollout(steps=(10, 40, 100))
    total = look(counted(600), counted(9000))
    assert judge(progress, edited, total, 1200.0).progress.share == 40
    assert judge(progress, ProgressiveRollout(steps=(100,)), total, 1200.0).progress.share == 100


def test_a_clock_that_was_set_back_only_lengthens_a_step():
    start = begin("1.5", "1.4", RULE, EMPTY, 1e9)
    back = judge(start, RULE, look(counted(300)), 100.0)
    assert (back.reason, back.progress.since) == ("WaitingForTime", 100.0)
    on = judge(back.progress, RULE, look(counted(300)), 700.0)
    assert on.progress.share == 25


# -- whatever happens ------------------------------------------------------------------------------

traffic = st.builds(
    lambda requests, errors, within: counted(requests, min(errors, requests), within=within),
    st.integers(0, 400),
    st.just(0) | st.integers(0, 3) | st.integers(0, 400),
    st.sampled_from((5, 10, 25, 50, 1000, 9000)),
)
good = st.builds(counted, st.integers(0, 400))
events = st.lists(
    st.tuples(
        st.sampled_from(("look", "look", "look", "gateway starts", "daemon starts", "unreadable")),
        st.floats(0, 700),
        good | traffic,
        good | traffic,
    ),
    max_size=25,
)
rules = st.builds(
    ProgressiveRollout,
    steps=st.sets(st.integers(1, 99), max_size=4).map(lambda steps: (*sorted(steps), 100)),
    every=st.sampled_from((1.0, 600.0)),
    max_error_rate=st.sampled_from((0.0, 0.01, 0.5)),
    min_requests=st.sampled_from((1, 200)),
)


def play(rule, history):
    """The decisions of a history, each with the state before it."""
    now, epoch, canary, former = 1000.0, 0, NOTHING, NOTHING
    progress = begin("1.5", "1.4", rule, Look("0", canary, former), now)
    for event, passed, more_canary, more_former in history:
        now += passed
        if event == "gateway starts":
            epoch, canary, former = epoch + 1, NOTHING, NOTHING
        canary, former = canary + more_canary, former + more_former
        seen = None if event == "unreadable" else Look(str(epoch), canary, former)
        if event == "daemon starts":
            assert Progress.read(json.loads(json.dumps(progress.document()))) == progress
        decision = judge(progress, rule, seen, now)
        yield progress, seen, now, decision
        progress = decision.progress


@given(rules, events)
def test_no_step_is_skipped_or_repeated_and_none_follows_a_failure(rule, history):
    shares = [rule.steps[0]]
    failed = False
    for before, _, now, decision in play(rule, history):
        after = decision.progress
        assert decision.message
        assert after.since <= now
        if failed:
            assert after == before
        failed = decision.reason == "CanaryFailed"
        assert failed == (after.share == 0)
        if after.share != before.share and not failed:
            assert decision.reason == "CanaryAdvanced"
            assert now - before.since >= rule.every
            shares.append(after.share)
        if decision.reason == "CanaryPromoted":
            assert after.share == 100
    assert shares == list(rule.steps[: len(shares)])


@given(rules, events, st.floats(0, 1e6))
def test_waiting_longer_takes_nothing_back(rule, history, longer):
    for before, seen, now, decision in play(rule, history):
        later = judge(before, rule, seen, now + longer)
        if decision.reason in {"CanaryAdvanced", "CanaryPromoted", "CanaryFailed"}:
            assert later.reason == decision.reason
            assert later.progress.share == decision.progress.share
        again = judge(before, rule, seen, now)
        assert again == decision


@given(rules, good | traffic, good | traffic, good | traffic, good | traffic, st.floats(0, 700))
def test_a_look_that_was_not_kept_changes_nothing(rule, canary, former, more, others, passed):
    start = begin("1.5", "1.4", rule, EMPTY, 0.0)
    first = judge(start, rule, Look("one", canary, former), passed)
    last = Look("one", canary + more, former + others)
    if first.progress.share == start.share and first.reason.startswith("Waiting"):
        kept = judge(first.progress, rule, last, 2 * passed)
        assert judge(start, rule, last, 2 * passed) == kept


@given(rules, events)
def test_a_state_grows_by_nothing_but_its_numbers(rule, history):
    for before, _, _, decision in play(rule, history):
        document = decision.progress.document()
        assert document.keys() == before.document().keys()
        assert len(json.dumps(replace(decision.progress, why="").document())) < 1500
