"""Which weights a release takes, and which wheels must be looked into for that."""

from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from controller.config.settings import PipelinePolicy
from controller.model import Availability, Revision
from controller.planning.overrides import Pin
from controller.planning.policy import Candidate
from controller.planning.weights import (
    Weights,
    WeightsCase,
    WeightsOffer,
    blamed,
    choose,
    former_in_document,
    in_document,
)
from controller.planning.weights_look import look
from tests.support.world import NOW, release

pytestmark = pytest.mark.unit


def weights(version="2026.1", digest="1", project="iris-weights"):
    return Weights(project, Version(version), digest * 64, f"/trees/{digest}", "r" * 64, "data")


def revision(version="2026.1", digest="1", project="iris-weights", **more):
    name = f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
    return Revision("wheels", project, Version(version), name, name, digest * 64, 1, **more)


def offer(version="2026.1", digest="1", project="iris-weights", fits="", **more):
    listed, own = revision(version, digest, project, **more), weights(version, digest, project)
    candidate = Candidate(own.as_release("iris"), project, "wheels", listed.availability)
    return WeightsOffer(listed, candidate, own, fits)


def rule(versions="", **more):
    more = {"keep": 1, **more}
    return PipelinePolicy(name="iris", versions=SpecifierSet(versions), **more)


def case(*offers, by=None, **more):
    return WeightsCase(more.pop("release", release()), offers, by or rule(), **more)


def pin(*versions):
    return Pin("iris", tuple(map(Version, versions)), "anna", "", NOW)


def reasons(chosen):
    return {str(v.release.version): v.reason for v in chosen.verdicts}


def test_the_newest_is_taken():
    chosen = choose(case(offer("2026.2", "2"), offer("2026.10", "3"), offer("2026.1", "1")))
    assert chosen.wanted == weights("2026.10", "3")
    assert chosen.former is None
    assert reasons(chosen) == {"2026.10": "Elected", "2026.2": "NotKept", "2026.1": "NotKept"}


def test_nothing_is_taken_where_nothing_is_offered():
    assert choose(case()).wanted is None


@pytest.mark.parametrize(
    ("version", "taken"), [("1.5", "2026.1"), ("2.0", "2026.2"), ("2.1rc1", "2026.2")]
)
def test_each_release_takes_the_newest_that_fits(version, taken):
    offers = offer("2026.1", "1"), offer("2026.2", "2", fits=">=2.0")
    chosen = choose(case(*offers, release=release(version)))
    assert chosen.wanted.version == Version(taken)


def test_what_fits_nothing_says_so():
    chosen = choose(case(offer("2026.1", fits=">=3")))
    assert chosen.wanted is None
    (verdict,) = chosen.verdicts
    assert verdict.reason == "FitsNot"
    assert verdict.message == "its wheel says fits = '>=3', which 1.0 is not"


def test_a_long_list_of_what_fits_is_cut():
    (verdict,) = choose(case(offer(fits=", ".join(f"!=1.{n}" for n in range(500))))).verdicts
    assert len(verdict.message) < 120
    assert "!=1.2, !=1.3" in verdict.message
    assert verdict.message.endswith("...', which 1.0 is not")


@pytest.mark.parametrize(
    ("by", "taken"),
    [
        (rule("<2026.2"), "2026.1"),
        (rule(pins=[Version("2026.1")]), "2026.1"),
        (rule(prereleases=True), "2026.3rc1"),
        (rule(), "2026.2"),
        (rule(keep=2), "2026.2"),
    ],
)
def test_the_words_of_policy_are_those_of_pipelines(by, taken):
    offers = offer("2026.1", "1"), offer("2026.2", "2"), offer("2026.3rc1", "3")
    assert choose(case(*offers, by=by)).wanted.version == Version(taken)


def test_a_yanked_one_is_not_newly_taken_but_stays_where_it_is():
    yanked = offer("2026.2", "2", availability=Availability.RETAINED)
    offers = offer("2026.1", "1"), yanked
    assert choose(case(*offers)).wanted == weights("2026.1", "1")
    assert choose(case(*offers, proven=[yanked.weights])).wanted == yanked.weights


def test_those_that_failed_with_the_release_are_passed_over():
    offers = offer("2026.1", "1"), offer("2026.2", "2")
    chosen = choose(case(*offers, refused={"2" * 64}))
    assert chosen.wanted == weights("2026.1", "1")
    assert reasons(chosen)["2026.2"] == "Quarantined"


def test_other_bytes_of_a_version_that_failed_are_tried():
    chosen = choose(case(offer("2026.2", "3"), refused={"2" * 64}))
    assert chosen.wanted == weights("2026.2", "3")


def test_the_former_are_the_last_proven_others():
    old, new = offer("2026.1", "1"), offer("2026.2", "2")
    before = choose(case(old, new, proven=[old.weights]))
    assert (before.wanted, before.former) == (new.weights, old.weights)
    after = choose(case(old, new, proven=[new.weights, old.weights]))
    assert after.wanted == before.wanted
    assert after.former == before.former, "it is not told anew once they are proven"


def test_what_is_proven_and_refused_since_is_no_former():
    old, new = offer("2026.1", "1"), offer("2026.2", "2")
    chosen = choose(case(old, new, proven=[new.weights, old.weights], refused={"2" * 64}))
    assert (chosen.wanted, chosen.former) == (old.weights, None)


def test_what_is_in_force_outlives_its_source():
    old, new = offer("2026.1", "1"), weights("2026.2", "2")
    chosen = choose(case(old, proven=[new]))
    assert chosen.wanted == new
    assert choose(case(proven=[new])).wanted == new
    assert choose(case(offer("2026.3", "3"), proven=[new])).wanted == weights("2026.3", "3")


@pytest.mark.parametrize("by", [rule(">=2027"), rule(pins=[Version("2027")])])
def test_a_rule_that_nothing_meets_takes_nothing_away(by):
    chosen = choose(case(offer("2026.1"), by=by, proven=[weights("2026.1")]))
    assert chosen.wanted == weights("2026.1")
    assert chosen.verdict.reason == "WeightsStay"


def test_weights_may_be_switched_off():
    chosen = choose(case(offer(), by=rule(active=False), proven=[weights()]))
    assert (chosen.wanted, chosen.former) == (None, None)
    assert reasons(chosen) == {"2026.1": "Inactive"}


def test_a_pin_goes_back_and_keeps_what_is_newer_at_hand():
    old, new = offer("2026.1", "1"), offer("2026.2", "2")
    chosen = choose(case(old, new, pin=pin("2026.1"), proven=[new.weights, old.weights]))
    assert (chosen.wanted, chosen.former) == (old.weights, new.weights)
    assert chosen.verdict.reason == "Pinned"


def test_a_pin_that_nothing_meets_leaves_what_is_in_force():
    chosen = choose(case(offer("2026.2", "2"), pin=pin("2025"), proven=[weights("2026.2", "2")]))
    assert chosen.wanted == weights("2026.2", "2")


def test_what_another_project_offers_is_refused():
    own, other = offer("2026.1"), offer("2027", "9", project="rival")
    chosen = choose(case(own, other, owner="iris-weights"))
    assert chosen.wanted == own.weights
    assert reasons(chosen)["2027"] == "Conflict"


def test_without_a_journal_those_in_the_document_count():
    running = weights("2026.2", "2")
    assert choose(case(running=running)).wanted == running
    assert choose(case(offer("2026.1"), running=running)).wanted == running
    assert choose(case(running=running, refused={"2" * 64})).wanted is None


def test_without_a_journal_the_former_in_the_document_count():
    former, running, new = weights("2026.1", "1"), weights("2026.2", "2"), offer("2026.3", "3")
    told = {"running": running, "fallback": former}
    chosen = choose(case(**told))
    assert (chosen.wanted, chosen.former) == (running, former)
    chosen = choose(case(proven=[running], **told))
    assert (chosen.wanted, chosen.former) == (running, former)
    chosen = choose(case(new, proven=[new.weights, running], **told))
    assert (chosen.wanted, chosen.former) == (new.weights, running), "what is recorded goes first"
    back = {"proven": [running], "refused": {"2" * 64}}
    assert choose(case(**back, **told)).wanted == former
    assert choose(case(**back, running=former)).wanted == former, "and so it stays"
    assert choose(case(**told, lost={"1" * 64})).former is None


def test_the_cache_of_today_counts_for_what_is_offered():
    moved = replace(weights(), tree="/elsewhere")
    assert choose(case(offer(), proven=[moved])).wanted == weights()


# -- what must be looked into --------------------------------------------------------------------

LISTED = [revision(f"2026.{number}", str(number)) for number in (4, 3, 2, 1)]


def offers(*numbers, fits=""):
    return [offer(f"2026.{number}", str(number), fits=fits) for number in numbers]


def uninspected(*given):
    return look(*given).missing


def test_older_wheels_are_not_looked_into():
    assert uninspected(case(*offers(4)), LISTED) is None


def test_they_are_when_newer_ones_do_not_do():
    assert uninspected(case(*offers(4, fits=">=9")), LISTED) == LISTED[1]
    assert uninspected(case(*offers(4), refused={"4" * 64}), LISTED) == LISTED[1]
    assert uninspected(case(*offers(4), by=rule(keep=2)), LISTED) == LISTED[1]
    assert uninspected(case(*offers(4), by=rule("<2026.3")), LISTED) == LISTED[2]
    assert uninspected(case(*offers(4), pin=pin("2026.1")), LISTED) == LISTED[3]
    assert uninspected(case(*offers(4), by=rule(active=False)), LISTED) is None


def test_a_look_at_what_does_not_fit_has_an_end():
    many = [revision(f"2026.{number}", f"{number:x}"[0]) for number in range(15, 0, -1)]
    seen = [offer(str(one.version), one.sha256[0], fits=">=9") for one in many]
    assert uninspected(case(*seen[:9]), many) == many[9]
    assert look(case(*seen[:10]), many) == (None, tuple(one.sha256 for one in many[:10]), True)
    assert look(case(), many, many[:10].__contains__).in_vain
    found = look(case(*seen[:10], pin=pin("2026.1")), many)
    assert (found.missing, found.in_vain) == (many[14], False)


def test_what_cannot_be_taken_is_passed_over():
    assert uninspected(case(), LISTED, LISTED[:2].__contains__) == LISTED[2]
    assert uninspected(case(), LISTED, LISTED.__contains__) is None


# -- in documents --------------------------------------------------------------------------------


def test_weights_are_read_from_settings_and_arguments():
    config = {"weights": weights().document, "former_weights": weights("2025", "5").document}
    document = {"args": {}, "deployments": [{"name": "Host", "user_config": config}]}
    assert in_document(document) == weights()
    assert former_in_document(document) == weights("2025", "5")
    assert in_document({"args": {"weights": weights().document}}) == weights()


@pytest.mark.parametrize(
    "document",
    [None, {}, {"deployments": [{"user_config": {"weights": None}}]}, {"args": {"weights": {}}}],
)
def test_a_document_may_name_none(document):
    assert in_document(document) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("with the weights iris-weights@2026.1+11111111: `load` failed", True),
        ("the part 'risk': with the weights iris-weights@2026.1+11111111: `load` failed", True),
        ("the part 'risk': `load` failed", False),
        ("`load` failed: it does not go with the weights that it has", False),
    ],
)
def test_new_weights_are_blamed_where_they_took_part_in_what_failed(message, expected):
    document = {"args": {"weights": weights().document}}
    assert blamed(weights(), document, "LoadFailed", message) is expected
    assert not blamed(weights(digest="2"), document, "LoadFailed", message)
    assert not blamed(None, document, "LoadFailed", message)


def test_what_replicas_were_told_to_load_stays_until_somebody_looked_into_it():
    """A daemon that starts anew amid a swap does not take it back, to order it once more."""
    one, two, three = (weights(f"2026.{n}", str(n)) for n in (1, 2, 3))
    before = {"proven": [two, one], "running": three}
    unread = choose(case(is_unread=True, **before))
    assert (unread.wanted, unread.former) == (three, two)
    assert choose(case(is_unread=True, refused={three.digest}, **before)).wanted == two
    assert choose(case(offer("2026.2", "2"), **before)).wanted == two, "its wheel is gone"
