"""Which routes the ingress is asked at, and when: what is needed, and the others in turns."""

import socket
from collections import Counter

import pytest

from controller.observed import Answer
from controller.planning.paths import path_of
from controller.planning.probing import ROUND, due
from controller.planning.rollout import plan
from controller.reconcile.observer import Probes
from controller.serve.ingress import Ingress
from tests.support.world import NOW, answer, application, elected, placement, record, release
from tests.support.world import situation as situated

pytestmark = pytest.mark.unit

SETTLED = [f"/predict/settled/{number}" for number in range(400)]


def rounds(settled, *, every, seconds):
    """Who is asked in each of the passes of so many seconds, one pass `every` some."""
    asked, since, told = {}, None, []
    for number in range(round(seconds / every) + 1):
        now = NOW + number * every
        told.append(due([], settled, asked, since=since, now=now))
        asked |= dict.fromkeys(told[-1], now)
        since = now
    return told


@pytest.mark.parametrize("every", [0.125, 0.5, 5.0])
@pytest.mark.parametrize("number", [1, 7, 400])
def test_each_settled_route_is_asked_once_a_round_and_as_many_in_each_pass(every, number):
    first, *passes = rounds(SETTLED[:number], every=every, seconds=3 * ROUND)
    assert sorted(first) == sorted(SETTLED[:number])
    assert set(Counter(route for told in passes for route in told).values()) == {3}
    each = [len(told) for told in passes]
    assert max(each) - min(each) <= 1


def test_after_a_time_without_looks_all_are_asked_and_none_twice():
    told = due([], SETTLED, dict.fromkeys(SETTLED, 1.0), since=NOW, now=NOW + 10 * ROUND)
    assert sorted(told) == sorted(SETTLED)


def test_what_is_needed_is_asked_in_each_pass_before_all_others_and_the_newest_first():
    asked = {"/old": NOW - 1, "/older": NOW - 2, **dict.fromkeys(SETTLED, NOW - 60)}
    told = due(["/old", "/new", "/older"], SETTLED, asked, since=NOW - 5, now=NOW)
    assert told[:3] == ["/new", "/older", "/old"]
    assert 0 < len(told) - 3 < 70


# -- the ingress hangs ---------------------------------------------------------------------------


class Counted(Ingress):
    """An ingress that remembers where it was asked."""

    def __init__(self, url, **how):
        super().__init__(url, **how)
        self.asked = []

    def probe(self, route):
        self.asked.append(route)
        return super().probe(route)


@pytest.fixture
def hanging():
    """It takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        ingress = Counted(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.1)
        yield ingress
        ingress.close()


@pytest.fixture
def probes(hanging):
    made = Probes(hanging, probe_deadline=30.0, budget=0.2)
    yield made
    made.close()


def live(number):
    """So many applications that hold their routes, and their records."""
    of = [release(pipeline=f"pipeline-{one}") for one in range(number)]
    applications = [application(one, route=path_of(one)) for one in of]
    records = [record(app, routed=NOW - 90, live=NOW - 80) for app in applications]
    return applications, {one.name: one for one in records}


def waves(probes, hanging, applications, records, now):
    """How many questions of one look hang one after the other, and what is known then."""
    hanging.asked.clear()
    asked = probes.ask(applications, records, now, progressed=lambda: None)
    records, answers = asked.records, asked.answers
    return -(-len(hanging.asked) // 8), records, answers


def test_an_ingress_that_hangs_at_400_routes_holds_a_pass_for_a_few_of_them(probes, hanging):
    applications, records = live(400)
    heard = set()
    for number in range(4):
        found, _, _ = waves(probes, hanging, applications, records, NOW + 5 * number)
        assert 0 < found <= 2
        assert heard.isdisjoint(hanging.asked)
        heard.update(hanging.asked)


def test_it_is_one_condition_and_no_release_is_blamed_or_taken_away(probes, hanging):
    applications, records = live(400)
    successor = release("2.0", "b", pipeline="pipeline-0")
    promoted = application(successor, route=path_of(successor))
    applications.append(promoted)
    records[promoted.name] = record(promoted, routed=NOW - 1)
    told = set()
    for number in range(8):
        now = NOW + 5 * number
        _, records, answers = waves(probes, hanging, applications, records, now)
        decided = plan(
            situated(
                [elected(app.release) for app in applications],
                [placement(app.release) for app in applications],
                applications,
                records.values(),
                answers,
                now=now,
            )
        )
        assert (decided.changes, decided.quarantines) == ((), ())
        told.add(decided.conditions)
    [[condition]] = told
    assert (condition.subject, condition.reason) == ("ray", "IngressUnreachable")
    assert "ExchangeTimeout" in condition.message


def test_what_was_just_promoted_is_asked_first_though_others_hang(probes, hanging):
    applications, records = live(400)
    waves(probes, hanging, applications, records, NOW)
    fresh = application(release(pipeline="fresh"), route="/predict/fresh/1.0")
    records[fresh.name] = record(fresh, routed=NOW)
    waves(probes, hanging, [*applications, fresh], records, NOW + 5)
    assert fresh.route in hanging.asked


# -- and is back ---------------------------------------------------------------------------------


class Said:
    """An ingress that answers what a test lays down."""

    def __init__(self, applications):
        self.answers = {app.route: answer(app) for app in applications}
        self.away = False

    def probe(self, route):
        away = Answer(None, None, detail="refused", reached=False)
        return away if self.away else self.answers[route]

    def vouched(self, answers, _applications):
        return answers


def test_once_it_answers_at_one_route_what_it_last_said_counts_at_the_others():
    applications, records = live(60)
    ingress = Said(applications)
    probes = Probes(ingress, probe_deadline=30.0)

    def known(after):
        return probes.ask(applications, records, NOW + after, progressed=lambda: None).answers

    before = known(0)
    assert before == ingress.answers
    ingress.away = True
    assert {said.reached for said in known(5).values()} == {True, False}
    assert {said.reached for said in known(5.1).values()} == {True, False}  # nobody was asked
    ingress.away = False
    assert known(10) == before
    probes.close()


# -- and has just begun --------------------------------------------------------------------------


def test_an_ingress_without_any_route_is_told_of_once_that_lasts_and_blames_nobody():
    promoted = application(release(), route="/predict/iris/1.0")
    records = {promoted.name: record(promoted, routed=NOW)}
    ingress = Said([promoted])
    fresh = Answer(None, 404, detail="no route at all", reached=False, routeless=True)
    probes = Probes(ingress, probe_deadline=30.0)

    def told(after):
        nonlocal records
        known = [promoted]
        asked = probes.ask(known, records, NOW + after, progressed=lambda: None)
        records, answers = asked.records, asked.answers
        facts = ([elected(promoted.release)], [placement(promoted.release)], known)
        decided = plan(situated(*facts, records.values(), answers, now=NOW + after))
        assert (decided.changes, decided.quarantines) == ((), ())
        return [condition.reason for condition in decided.conditions]

    lives = ingress.answers[promoted.route]
    ingress.answers[promoted.route] = fresh
    assert [told(after) for after in (0, 5, 10)] == [[], [], []]
    ingress.answers[promoted.route] = lives
    assert told(12) == []
    ingress.answers[promoted.route] = fresh  # the head came back: it is counted anew
    assert [told(after) for after in (14, 20)] == [[], []]
    assert [told(after) for after in (30, 60)] == [["IngressUnreachable"]] * 2
    ingress.answers[promoted.route] = lives
    assert told(65) == []
    probes.close()
