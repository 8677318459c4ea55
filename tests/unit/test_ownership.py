"""Whose a pipeline's name is: decided once, kept across restarts, moved by the operator alone."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from controller.account.story import as_document, tell
from controller.config import PipelinePolicy
from controller.model import Phase
from controller.planning.ownership import owners_of
from tests.support.passes import reasons, routes
from tests.support.world import candidate

pytestmark = pytest.mark.unit

MOVED = [{"name": "iris", "project": "beta"}]


def carry(work, project, version):
    package = project.replace("-", "_")
    return work.drop(project, version, pipelines={"iris": f"{package}.pipeline:Demo"})


def served(paper_head):
    return sorted(filter(None, routes(paper_head)[-1].values()))


def decided(offers, *, ordered=None, recorded=None, gone=(), serving=None, seen=None):
    return owners_of(
        {"iris": offers} if offers else {},
        ordered=lambda _: ordered,
        recorded=recorded or {},
        there=lambda _, project: project not in gone,
        serving=serving or {},
        first_seen=lambda digest: (seen or {}).get(digest[0], 0.0),
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
    carry(work, "alpha", "1.0")
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
