"""Whose a pipeline's name is: decided once, kept across restarts, moved by the operator alone."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from packaging.version import Version
from pydantic import ValidationError

from controller.account.story import as_document, tell
from controller.config import PipelinePolicy
from controller.errors import Transient
from controller.model import Phase, Revision
from controller.planning.ownership import PATIENCE, Unread, owners_of
from tests.support.passes import reasons, routes
from tests.support.world import candidate

pytestmark = pytest.mark.unit

MOVED = [{"name": "iris", "project": "beta"}]


def carry(work, project, version):
    package = project.replace("-", "_")
    return work.drop(project, version, pipelines={"iris": f"{package}.pipeline:Demo"})


def served(paper_head):
    return sorted(filter(None, routes(paper_head)[-1].values()))


def decided(
    offers, *, ordered=None, recorded=None, gone=(), serving=None, seen=None, unread=(), present=()
):
    return owners_of(
        {"iris": offers} if offers else {},
        ordered=lambda _: ordered,
        recorded=recorded or {},
        there=lambda _, project: project not in gone,
        serving=serving or {},
        first_seen=lambda digest: (seen or {}).get(digest[0], 0.0),
        unread=unread,
        present=present,
    )


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
    told = as_document(tell(work.journal, "iris"))
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
    phases = {(r.release.version.major, r.phase) for r in work.journal.releases()}
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


def test_a_wheel_that_cannot_be_had_is_not_waited_for_for_ever():
    unread, wheel = Unread(), listed("alpha", "a")
    assert unread.waited_for([wheel], [], 0.0) == [wheel]
    assert unread.waited_for([], [wheel], 1000.0) == [wheel]
    assert unread.waited_for([wheel], [], 1000.0 + PATIENCE) == [wheel]  # it is tried again
    assert unread.waited_for([], [wheel], 1000.0 + PATIENCE) == []


@pytest.fixture
def slow(work, monkeypatch):
    """Has the wheels of a project be away until some time."""
    means, until = work.supply._means, {}

    def received(source, revision):
        if work.clock.now < until.get(revision.project, 0.0):
            raise Transient("SourceSlow", "it is slow")
        return means.receive(source, revision)

    monkeypatch.setattr(work.supply, "_means", replace(means, receive=received))
    return until


def test_the_first_that_was_published_has_the_name_though_it_is_looked_into_last(
    work, paper_head, slow
):
    slow["alpha"] = work.clock.now + 20
    carry(work, "alpha", "1.0")
    carry(work, "beta", "9.0")
    report = work.pass_()
    assert not work.journal.owners()
    [verdict] = [r for r in work.records().values() if r.release.pipeline == "iris"]
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
