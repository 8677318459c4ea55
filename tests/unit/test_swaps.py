"""Whether weights serve, by what each replica says: with the time as a parameter."""

from dataclasses import replace

import pytest

from controller.observed import Answer, Replica, WeightsError
from controller.planning.paths import path_of
from controller.planning.swaps import GRACE, Swaps
from controller.planning.weights import Proven
from tests.support.world import NOW, application, release
from tests.unit.test_weights_choice import weights

pytestmark = pytest.mark.unit

OLD, NEW = weights("2026.1", "1"), weights("2026.2", "2")
OF = release()
ROUTE = path_of(OF)


def app(*ids, named=NEW, route=ROUTE):
    there = application(OF, route=route)
    config = {"weights": named.document, "former_weights": OLD.document}
    deployments = [{"name": "Host", "user_config": config}]
    replicas = tuple(Replica("RUNNING", 1, one) for one in ids)
    document = {**there.document, "deployments": deployments}
    return replace(there, document=document, replicas=replicas)


def said(replica, with_weights=NEW, **more):
    name = application(OF).name
    return Answer(OF.header, 200, name, weights=str(with_weights), replica=replica, **more)


class Watched:
    def __init__(self, *ids, **how):
        self.swaps, self.app, self.now = Swaps(), app(*ids, **how), NOW
        self.proven = {OF: (Proven(OLD, NOW),)}

    def poll(self, *answers, after=1.0, settled=()):
        self.now += after
        swaps = self.swaps.under_way([self.app], self.proven)
        heard = {ROUTE: list(answers)} if answers else {}
        return self.swaps.judge(
            *(swaps, [self.app], dict(zip([ROUTE], settled, strict=False)), heard),
            now=self.now,
            deadline=100.0,
        )


def test_every_replica_must_have_answered_with_them():
    watched = Watched("a", "b")
    assert watched.poll(said("a")).live == []
    assert watched.poll(said("a"), said("b", OLD)).live == []
    assert watched.poll(said("b")).live == [(OF, NEW)]


def test_a_replica_that_goes_back_counts_no_longer():
    watched = Watched("a", "b")
    watched.poll(said("a"))
    assert watched.poll(said("a", OLD), said("b")).live == []


def test_a_replica_that_is_gone_is_not_waited_for():
    watched = Watched("a", "b")
    watched.poll(said("a"))
    watched.app = app("a")
    assert watched.poll(said("a")).live == [(OF, NEW)]


def test_going_back_is_followed_until_every_replica_did():
    watched = Watched("a", "b")
    watched.poll(said("a"), said("b", OLD))
    watched.app = app("a", "b", named=OLD)
    found = watched.poll(said("a"), after=5.0)
    assert (found.live, found.hurries) == ([], True)
    found = watched.poll(said("b", OLD), after=5.0)
    (condition,) = found.conditions
    assert condition.message == f"replicas go back to {OLD}; {NEW} serve until then"
    found = watched.poll(said("a", OLD))
    assert (found.live, found.hurries, found.conditions) == ([], False, [])
    assert watched.swaps.under_way([watched.app], watched.proven) == []


def test_a_replica_that_has_others_than_it_should_is_followed_by_who_comes_later():
    watched = Watched("a", "b", named=OLD)
    assert not watched.poll(said("b", OLD)).hurries
    assert not watched.poll(said("a")).hurries
    assert watched.poll(said("a")).hurries
    assert not watched.poll(said("a", OLD), said("b", OLD)).hurries
    assert watched.swaps.under_way([watched.app], watched.proven) == []


def test_going_back_never_takes_away_what_it_goes_back_to():
    watched = Watched("a")
    watched.poll(said("a"))
    watched.app = app("a", named=OLD)
    for _ in range(4):
        found = watched.poll(said("a"), after=100.0)
    assert (found.refused, found.hurries) == ([], False)
    assert [condition.reason for condition in found.conditions] == ["WeightsUnobserved"]


def test_what_another_application_answers_says_nothing():
    watched = Watched("a")
    assert watched.poll(replace(said("a"), application="other")).live == []


def test_what_is_scaled_to_none_is_not_asked():
    watched = Watched()
    assert watched.swaps.under_way([watched.app], {}) == []


def test_what_is_proven_is_not_asked_again():
    watched = Watched("a")
    proven = {OF: (Proven(NEW, NOW), Proven(OLD, NOW))}
    assert watched.swaps.under_way([watched.app], proven) == []


def test_several_questions_reach_several_replicas_within_bounds():
    watched = Watched(*"abcdefghijklmnop")
    swaps = watched.swaps.under_way([watched.app], watched.proven)
    assert watched.swaps.questions(swaps) == [ROUTE] * 16
    watched.poll(*(said(one) for one in "abcdefghijklmn"))
    assert watched.swaps.questions(swaps) == [ROUTE] * 16, "two of them are not easily met"


def test_all_have_their_turn_though_they_are_too_many_for_one_pass():
    watched = Watched()
    apps = [replace(app(*"abcdefgh", route=f"/predict/{n}/1"), name=f"n{n}") for n in range(12)]
    asked = set()
    for _ in range(3):
        swaps = watched.swaps.under_way(apps, {})
        questions = watched.swaps.questions(swaps)
        assert len(questions) <= 64
        asked |= set(questions)
    assert asked == {one.route for one in apps}


def test_the_last_replica_is_asked_for_as_often_as_there_are_replicas():
    watched = Watched(*"abcde")
    watched.poll(*(said(one) for one in "abcd"))
    swaps = watched.swaps.under_way([watched.app], watched.proven)
    assert watched.swaps.questions(swaps) == [ROUTE] * 5


def test_a_replicas_own_word_refuses_them_and_other_words_do_not():
    watched, error = Watched("a"), WeightsError(NEW.digest, "LoadFailed", "no file", "tail")
    old = replace(error, digest=OLD.digest)
    assert watched.poll(said("a", OLD, weights_error=old)).refused == []
    (refused,) = watched.poll(said("a", OLD, weights_error=error)).refused
    assert (refused.release, refused.weights, refused.reason) == (OF, NEW, "LoadFailed")
    assert (refused.message, refused.log_tail) == ("no file", "tail")


def test_an_answer_of_before_the_config_says_nothing_of_what_came_with_it():
    watched = Watched("a")
    stale = said("a", OLD, weights_error=WeightsError(NEW.digest, "LoadFailed", "no file"))
    assert watched.poll(settled=[stale]).refused == []


ROOM = WeightsError(NEW.digest, "OutOfMemory", "it has no room")


def test_those_that_served_are_not_refused_by_one_replica_that_starts_later():
    watched = Watched("a", "b", "c")
    watched.proven = {OF: (Proven(NEW, NOW), Proven(OLD, NOW))}
    found = watched.poll(settled=[said("b", OLD, weights_error=ROOM)])
    assert found.refused == []
    (condition,) = found.conditions
    assert (condition.reason, condition.ok) == ("WeightsMixed", False)
    assert condition.message.startswith(f"1 of 3 replicas could not take {NEW}")
    # It is not over because another answers, but once the replica takes them, or is gone.
    assert watched.poll(settled=[said("a")]).conditions == [condition]
    assert watched.poll(settled=[said("b")]).conditions == []
    assert watched.poll(settled=[said("b", OLD, weights_error=ROOM)]).conditions == [condition]
    watched.app = app("a", "c")
    assert watched.poll(settled=[said("b", OLD, weights_error=ROOM)]).conditions == []


def test_those_that_served_are_refused_once_every_replica_says_so():
    watched = Watched("a", "b")
    watched.proven = {OF: (Proven(NEW, NOW), Proven(OLD, NOW))}
    assert watched.poll(settled=[said("a", OLD, weights_error=ROOM)]).refused == []
    (refused,) = watched.poll(settled=[said("b", OLD, weights_error=ROOM)]).refused
    assert (refused.weights, refused.reason) == (NEW, "OutOfMemory")


def test_a_replica_that_goes_on_with_others_for_too_long_is_not_waited_for_for_ever():
    watched = Watched("a")
    watched.poll(said("a", OLD))
    assert watched.poll(said("a", OLD), after=100.0).refused == []
    (refused,) = watched.poll(said("a", OLD), after=GRACE).refused
    assert refused.reason == "StartTimeout"
    assert f"still serves with {OLD}" in refused.message


def test_what_was_heard_in_time_accuses_nobody_later():
    watched = Watched("a", "b")
    watched.poll(said("a", OLD), said("b", OLD))
    for _ in range(4):
        found = watched.poll(said("a"), after=100.0)
    assert (found.refused, found.live) == ([], [])
    (condition,) = found.conditions
    assert (condition.reason, condition.ok) == ("WeightsUnobserved", False)
    assert condition.message.startswith("1 of 2 replicas were not heard")
    assert watched.poll(said("b")).live == [(OF, NEW)]


def test_those_that_served_are_not_refused_because_one_replica_is_late():
    watched = Watched("a", "b")
    watched.proven = {OF: (Proven(OLD, NOW), Proven(NEW, NOW))}  # rolled back to
    for _ in range(4):
        found = watched.poll(said("a", OLD), said("b"), after=100.0)
    assert found.refused == []
    assert [condition.reason for condition in found.conditions] == ["WeightsUnobserved"]


def test_what_cannot_be_heard_hurries_nobody_for_ever():
    watched = Watched("a")
    assert watched.poll().hurries
    assert watched.poll(after=100.0).hurries
    found = watched.poll(after=GRACE)
    assert not found.hurries
    assert [(c.reason, c.ok) for c in found.conditions] == [("WeightsUnobserved", False)]
    assert watched.poll(said("a")).live == [(OF, NEW)]


def test_time_in_which_nobody_answered_does_not_count():
    watched = Watched("a")
    watched.poll(said("a", OLD))
    watched.poll(after=1000.0)
    assert watched.poll(said("a", OLD), after=1000.0).refused == []


def test_what_cannot_serve_without_weights_is_told():
    watched = Watched("a")
    watched.app = application(OF, route=ROUTE)
    error = WeightsError("", "LoadFailed", "no weights")
    found = watched.poll(settled=[said("a", weights_error=error)])
    assert found.refused == []
    (condition,) = found.conditions
    assert condition.message.startswith("it cannot serve without weights")


def test_time_in_which_the_cluster_could_not_be_observed_is_not_that_of_replicas():
    watched = Watched("a")
    watched.poll(said("a", OLD))
    watched.swaps.interrupted()
    found = watched.poll(after=1200.0)
    assert (found.conditions, found.hurries) == ([], True)
    assert watched.poll(after=99.0).hurries
    found = watched.poll(after=GRACE + 1.0)
    assert [condition.reason for condition in found.conditions] == ["WeightsUnobserved"]
