"""Whose a pipeline's name is: decided once, kept across restarts, moved by the operator alone."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from packaging.version import Version
from pydantic import ValidationError

from controller.config.settings import PipelinePolicy
from controller.errors import Transient
from controller.model import Phase, Revision
from controller.ops.explain import tell
from controller.planning.ownership import LONGEST_WAIT, Facts, Names, Unknown, owners_of
from controller.planning.policy import Case, undecided
from tests.support.names import at, carry, served
from tests.support.passes import reasons
from tests.support.world import candidate

pytestmark = pytest.mark.unit

MOVED = [{"name": "iris", "project": "beta"}]


def facts(offers, *, ordered=None, recorded=None, gone=(), serving=None, seen=None, present=()):
    return Facts(
        {"iris": offers} if offers else {},
        ordered=lambda _: ordered,
        recorded=recorded or {},
        there=lambda _, project: project not in gone,
        serving=serving or {},
        present=present,
        first_seen=lambda digest: (seen or {}).get(digest[0], 0.0),
    )


def decided(offers, *, unread=(), unlisted=(), **known):
    return owners_of(facts(offers, **known), Unknown(unread, unlisted))


ALPHA, BETA = candidate("1.0", "a", project="alpha"), candidate("2.0", "b", project="beta")


def test_the_operators_word_counts_first_then_the_record_then_what_serves_then_who_came_first():
    both = [BETA, ALPHA]
    assert decided(both, seen={"a": 1.0, "b": 2.0}) == {"iris": "alpha"}
    assert decided(both, seen={"a": 2.0, "b": 1.0}) == {"iris": "beta"}
    assert decided(both, serving={"iris": "alpha"}) == {"iris": "alpha"}
    recorded = {"iris": "beta"}
    assert decided(both, serving={"iris": "alpha"}, recorded=recorded) == {"iris": "beta"}
    assert decided(both, recorded=recorded, ordered="alpha") == {"iris": "alpha"}


def test_the_operators_word_is_a_projects_name_however_it_is_spelled():
    assert PipelinePolicy(name="iris", project="Acme_Iris").project == "acme-iris"
    with pytest.raises(ValidationError, match=r"'acme iris' is no distribution's name"):
        PipelinePolicy(name="iris", project="acme iris")


def test_a_name_whose_owner_has_nothing_left_is_free_again():
    recorded = {"iris": "alpha"}
    assert decided([BETA], recorded=recorded) == {"iris": "alpha"}
    assert decided([BETA], recorded=recorded, gone=["alpha"]) == {"iris": "beta"}
    assert decided([], recorded=recorded, gone=["alpha"]) == {}


def test_another_project_takes_over_no_name_whatever_restarts(work, paper_head):
    first = carry(work, "alpha", "1.0")
    work.settle()
    carry(work, "beta", "2.0")
    report = work.settle()
    assert set(reasons(report).values()) == {"Conflict"}
    work.restart()
    work.settle()
    paper_head.forgets()
    work.settle()
    assert served(paper_head) == ["/predict/iris/1.0"]
    told = tell(work.journal, "iris", now=work.clock.now)
    [refused] = [r for r in told["releases"] if not r["live"]]
    assert (refused["version"], refused["reason"]) == ("2.0", "Conflict")
    assert "belongs to alpha" in refused["message"]
    first.chmod(0o600)  # as if it were published again, later than the other
    work.restart()
    paper_head.forgets()
    work.settle()
    assert served(paper_head) == ["/predict/iris/1.0"]
    assert '`project = "beta"` in [[pipelines]]' in refused["message"]


def test_the_operator_moves_a_name_and_what_had_it_leaves_once_its_successor_is_live(
    work, paper_head
):
    carry(work, "alpha", "1.0")
    carry(work, "alpha", "2.0")
    work.settle()
    carry(work, "beta", "2.0")
    work.restart(pipelines=MOVED)
    report = work.settle()
    assert reasons(report) == {}
    assert served(paper_head) == ["/predict/iris/2.0"]
    phases = {(r.subject.version.major, r.phase) for r in work.journal.releases()}
    assert phases == {(1, Phase.RETIRED), (2, Phase.RETIRED), (2, Phase.LIVE)}
    work.restart()  # the rule is gone: who has the name keeps it
    work.settle()
    assert served(paper_head) == ["/predict/iris/2.0"]


def test_a_name_that_is_given_to_a_project_that_has_nothing_stays_where_it_serves(work, paper_head):
    carry(work, "alpha", "1.0")
    work.settle()
    work.restart(pipelines=MOVED)
    report = work.settle()
    assert set(reasons(report).values()) == {"Conflict"}
    assert served(paper_head) == ["/predict/iris/1.0"]


def test_a_project_that_follows_one_whose_last_wheel_is_gone_takes_its_name(work, paper_head):
    old = carry(work, "alpha", "1.0")
    work.settle()
    work.remove(old)
    carry(work, "beta", "2.0")
    work.settle()
    assert served(paper_head) == ["/predict/iris/1.0"]
    work.clock.now += 60.0
    work.settle()
    work.settle()
    assert served(paper_head) == ["/predict/iris/2.0"]


# -- who came first ------------------------------------------------------------------------------


def listed(project, digest):
    filename = f"{project}-1.0-py3-none-any.whl"
    return Revision("wheels", project, Version("1.0"), filename, "", digest * 64, None)


def test_a_name_has_nobody_while_a_wheel_of_another_project_that_came_no_later_is_unread():
    unread = [listed("alpha", "a")]
    for first, owners in ((1.0, {}), (2.0, {}), (3.0, {"iris": "beta"})):
        assert decided([BETA], seen={"a": first, "b": 2.0}, unread=unread) == owners
    early = {"a": 1.0, "b": 2.0}
    beta = {"iris": "beta"}
    assert decided([BETA], seen=early, unread=[listed("beta", "a")]) == beta
    assert decided([BETA], seen=early, unread=unread, ordered="beta") == beta
    assert decided([BETA], seen=early, unread=unread, recorded=beta) == beta
    assert decided([BETA], seen=early, unread=unread, serving=beta) == beta
    assert decided([BETA], seen=early, unread=unread, present=["iris"]) == beta


def test_a_name_has_nobody_while_anything_was_never_listed():
    beta = {"iris": "beta"}
    assert decided([BETA], unlisted=["late"]) == {}
    assert decided([BETA], unlisted=["late"], recorded=beta) == beta
    assert decided([BETA], unlisted=["late"], ordered="beta") == beta
    assert decided([BETA], unlisted=["late"], present=["iris"]) == beta


OWNED = {"iris": "beta"}


@pytest.mark.parametrize("unknown", [Unknown([listed("alpha", "a")]), Unknown((), ["late"])])
def test_what_is_not_known_for_long_is_waited_for_no_longer(unknown):
    names, known = Names(), facts([BETA])
    assert names.owners_of(facts([]), unknown, 0.0) == {}
    assert names.owners_of(known, unknown, LONGEST_WAIT - 1) == {}
    assert names.owners_of(known, unknown, LONGEST_WAIT) == OWNED
    other = replace(known, offers={"wine": [BETA]})
    assert names.owners_of(other, unknown, LONGEST_WAIT + 1) == {"wine": "beta"}


def test_what_is_waited_for_is_told_alike_while_one_wheel_after_the_other_is_looked_into():
    wheels = [listed(f"wheel-{number}", f"{number:x}") for number in range(9)]
    told = {str(Unknown(wheels[:number], ["late"])) for number in range(4, 9)}
    [text] = told
    assert text.startswith("not looked into yet: wheel-0-1.0-py3-none-any.whl, ")
    assert text.endswith(" and others; not listed yet: late")
    assert str(Unknown((), ["a", "b"])) == "not listed yet: a, b"


def test_a_name_waits_no_longer_however_many_wheels_turn_up_one_after_the_other():
    names, known = Names(), facts([BETA])
    for second in range(int(LONGEST_WAIT)):
        wheels = [listed(f"new-{second}", f"{second:x}")]
        assert names.owners_of(known, Unknown(wheels), float(second)) == {}
    assert names.owners_of(known, Unknown([listed("newer", "f")]), LONGEST_WAIT) == OWNED
    # Until it is recorded, as by a pass that only plans, it does not wait anew.
    assert names.owners_of(known, Unknown([listed("newest", "e")]), LONGEST_WAIT + 1) == OWNED
    recorded = replace(known, recorded=OWNED)
    assert names.owners_of(recorded, Unknown([listed("newest", "e")]), LONGEST_WAIT + 2) == OWNED


def test_what_policy_would_not_serve_of_a_name_that_waits_has_policys_reason():
    newest, older = candidate("3.0", "c", project="beta"), candidate("1.0", "d", project="beta")
    case = Case([newest, BETA, older, ALPHA], PipelinePolicy(name="iris"))
    told = {v.release.digest[0]: v for v in undecided(case, "not looked into yet: x.whl")}
    undecided_ones = dict.fromkeys("abc", "NameUndecided")
    assert {digest: v.reason for digest, v in told.items()} == undecided_ones | {"d": "NotKept"}
    assert not any(verdict.elected for verdict in told.values())
    assert "x.whl" in told["a"].message
    assert '`project = "alpha"` in [[pipelines]]' in told["a"].message
    inactive = replace(case, rule=PipelinePolicy(name="iris", active=False))
    assert {verdict.reason for verdict in undecided(inactive, "")} == {"Inactive"}


@pytest.fixture
def slow(work, monkeypatch):
    """Has the wheels of a project be away until some time."""
    means, until = work.artifacts._means, {}

    def received(source, revision):
        if work.clock.now < until.get(revision.project, 0.0):
            raise Transient("SourceSlow", "it is slow")
        return means.receive(source, revision)

    monkeypatch.setattr(work.artifacts, "_means", replace(means, receive=received))
    return until


def test_the_first_that_was_published_has_the_name_though_it_is_looked_into_last(
    work, paper_head, slow
):
    slow["alpha"] = work.clock.now + 10
    carry(work, "alpha", "1.0")
    carry(work, "beta", "9.0")
    report = work.pass_()
    assert not work.journal.owners()
    [verdict] = [r for r in work.records().values() if r.subject.pipeline == "iris"]
    assert verdict.reason == "NameUndecided"
    assert "alpha-1.0-py3-none-any.whl" in verdict.message
    for _ in range(12):
        report = work.pass_(after=5.0)
    assert work.journal.owners() == {"iris": "alpha"}
    assert served(paper_head) == ["/predict/iris/1.0"]
    assert set(reasons(report).values()) == {"Conflict"}


def test_a_wheel_that_never_comes_keeps_a_name_from_nobody_for_long(work, paper_head, slow):
    slow["alpha"] = float("inf")
    carry(work, "alpha", "1.0")
    carry(work, "beta", "9.0")
    for _ in range(16):
        work.pass_(after=5.0)
    assert served(paper_head) == ["/predict/iris/9.0"]


@pytest.mark.parametrize("names", [("alpha", "beta"), ("beta", "alpha")])
def test_of_two_projects_that_are_new_at_once_the_one_published_first_has_the_name(work, names):
    first, other = names
    for number, (name, version) in enumerate([(first, "1.0"), (other, "2.0"), (first, "3.0")]):
        at = work.clock.now + 10 * number
        os.utime(carry(work, name, version), (at, at))
    work.settle()
    assert work.journal.owners() == {"iris": first}


def test_wheels_are_looked_into_in_the_order_in_which_they_were_published(work):
    for number, name in enumerate(["gamma", "alpha", "beta"]):
        at(work, work.drop(name), -100 + number)
    work.pass_()
    assert [name.split("-")[0] for name in work.received] == ["gamma", "alpha", "beta"]


def test_an_owner_whose_files_cannot_be_listed_for_now_keeps_its_name(at_work, monkeypatch):
    work = at_work(pipelines=[{"name": "iris", "active": False}])
    carry(work, "alpha", "1.0")
    work.settle()
    carry(work, "beta", "9.0")
    source = work.artifacts.sources["wheels"]
    all_of_it = source.list

    def without_alpha():
        listing = all_of_it()
        others = tuple(r for r in listing.revisions if r.project != "alpha")
        return replace(listing, revisions=others, unobserved=("alpha",))

    monkeypatch.setattr(source, "list", without_alpha)
    work.artifacts._listings.clear()  # as those of a source that has another name now
    for _ in range(8):
        work.pass_(after=5.0)
    assert [r.project for r in work.artifacts.listed().listings[0].revisions] == ["beta"]
    assert work.journal.owners() == {"iris": "alpha"}
