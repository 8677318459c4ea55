"""What the journal keeps of weights."""

from dataclasses import replace

import pytest
from packaging.version import Version

from controller.journal import Journal
from controller.journal.weights_writing import PROVEN_KEPT
from controller.model import Phase, Transition
from controller.planning.overrides import Pin
from controller.planning.weights import JudgedWeights, Proven, WeightsQuarantine
from tests.support.world import NOW, release
from tests.unit.test_weights_choice import weights

pytestmark = pytest.mark.unit

OLD, NEW = weights("2026.1", "1"), weights("2026.2", "2")
REFUSED = WeightsQuarantine(release(), NEW, "LoadFailed", "no such file", "Traceback", NOW)


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path) as made:
        yield made


def test_the_last_that_a_release_was_live_with_come_first(journal):
    journal.weights_live(release(), OLD, NOW)
    event = journal.weights_live(release(), NEW, NOW - 5)  # the wall clock was turned back
    assert journal.proven_weights() == {release(): (Proven(NEW, NOW - 5), Proven(OLD, NOW))}
    assert event.message == f"every replica answers with {NEW}, before with {OLD}"
    assert journal.events(pipeline="iris", version=Version("1.0"))[-1] == event
    journal.weights_live(release(), OLD, NOW + 1)
    assert [one.weights for one in journal.proven_weights()[release()]] == [OLD, NEW]


def test_they_outlive_the_process(journal, tmp_path):
    journal.weights_live(release(), OLD, NOW)
    journal.refuse_weights(REFUSED)
    with Journal.read(tmp_path) as reader:
        assert reader.proven_weights() == {release(): (Proven(OLD, NOW),)}
        assert reader.refused_weights() == {release(): (REFUSED,)}


def test_a_year_of_nightly_weights_leaves_the_last_ones(journal):
    for night in range(50):
        journal.weights_live(release(), weights(f"2026.{night}", f"{night % 16:x}" + "0"), NOW)
    proven = journal.proven_weights()[release()]
    assert len(proven) <= PROVEN_KEPT
    assert proven[0].weights.version == Version("2026.49")


def test_weights_are_refused_for_one_release_until_that_is_lifted(journal):
    event = journal.refuse_weights(REFUSED)
    assert (event.subject, event.reason) == (str(release()), "LoadFailed")
    assert event.message == f"{NEW} are quarantined for it: no such file"
    assert journal.refused_weights() == {release(): (REFUSED,)}
    lifted = journal.clear_refused_weights(lambda _: True, at=NOW, by="anna", note="mended")
    assert lifted == [REFUSED]
    assert journal.refused_weights() == {}
    assert journal.events()[-1].message.startswith(f"that of {NEW} was lifted by anna (mended)")


def test_owners_and_verdicts_are_those_of_the_last_pass(journal):
    judged = [
        JudgedWeights("iris", "iris-weights", Version(version), version[-1] * 64, "Elected", "why")
        for version in ("2026.2", "2026.10", "2026.9")
    ]
    journal.keep_judged_weights(judged)
    journal.keep_weights_owners({"iris": "iris-weights"})
    assert [str(one.version) for one in journal.judged_weights()] == ["2026.10", "2026.9", "2026.2"]
    journal.keep_judged_weights(judged[:1])
    journal.keep_weights_owners({})
    assert journal.judged_weights() == judged[:1]
    assert journal.weights_owners() == {}


def test_a_pin_of_weights_is_not_one_of_the_pipeline(journal):
    order = Pin("iris", (Version("2026.1"),), "anna", "", NOW, of_weights=True)
    event = journal.order(order, message=str(order))
    assert event.reason == "WeightsPinSet"
    assert journal.overrides().pins == {}
    assert journal.overrides().weights == {"iris": order}
    journal.lift(order, at=NOW, by="anna")
    assert journal.overrides().weights == {}


def test_what_is_known_of_a_forgotten_release_goes_with_it(journal):
    other = release("1.1", "b")
    for one in (release(), other):
        journal.weights_live(one, OLD, NOW)
    journal.refuse_weights(REFUSED)
    journal.record(Transition(other, Phase.LIVE, "AnswersAtRoute", "", ""), NOW)
    journal.prune(before=0.0, releases=10, events=10, listed=())
    assert set(journal.proven_weights()) == {other}
    assert journal.refused_weights() == {}


def test_what_failed_is_forgotten_in_time_but_not_where_it_might_come_back(journal):
    journal.record(Transition(release(), Phase.LIVE, "AnswersAtRoute", "", ""), NOW)
    served, listed, gone, fresh = (weights(f"2026.{n}", str(n)) for n in range(3, 7))
    journal.weights_live(release(), served, NOW)
    for one in (served, listed, gone):
        journal.refuse_weights(replace(REFUSED, weights=one))
    journal.refuse_weights(replace(REFUSED, weights=fresh, at=NOW + 2))

    def refused_after(before, names):
        journal.prune(before=before, releases=10, events=10, listed=names)
        return [one.weights for one in journal.refused_weights()[release()]]

    assert refused_after(NOW + 1, None) == [served, listed, gone, fresh]
    assert refused_after(NOW - 1, [listed.digest]) == [served, listed, gone, fresh]
    assert refused_after(NOW + 1, [listed.digest]) == [served, listed, fresh]
