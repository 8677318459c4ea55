"""Replicas that die again and again, whose successors look well: told once, until it is over."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from controller.cli.progress import Progress
from controller.observed import Application, ApplicationStatus, Part, Replica
from controller.planning.deaths import OFTEN, WINDOW, Deaths
from tests.support.passes import reasons
from tests.support.world import NOW, application

pytestmark = pytest.mark.unit


def serving(*ids: str, risk: tuple[str, ...] = (), **deployment) -> Application:
    app = replace(
        application(route="/r"),
        replicas=tuple(Replica("RUNNING", 1, one) for one in ids),
        parts=(Part("risk"),),
        part_replicas=tuple(("risk", one) for one in risk),
    )
    named = [{"name": "risk", **deployment}, {"name": "Host"}]
    return replace(app, document={**app.document, "deployments": named})


def told(deaths: Deaths, apps: list[Application], *, every: float = 1.0) -> list[str]:
    """The messages after all of these were seen one after another."""
    for number, app in enumerate(apps):
        found = deaths.conditions([app], NOW + every * number)
    return [one.message for one in found]


def same(apps: list[Application]) -> list[Application]:
    """With one document, as they are read of a cluster where nothing is changed."""
    return [replace(app, document=apps[0].document) for app in apps]


def test_three_deaths_of_a_replica_are_told_in_one_line_and_end_after_a_time_of_peace(
    at_work, paper_head
):
    work = at_work()
    work.drop()
    work.settle()
    printed = io.StringIO()
    out = Console(file=printed, width=500)
    how = {"get": lambda _: None, "clock": work.clock, "monotonic": work.clock}
    progress = Progress("http://127.0.0.1:1", out=out, **how)
    for _ in range(OFTEN - 1):
        paper_head.replica_dies("demo")
        assert reasons(work.pass_(after=5.0)) == {}
    for _ in range(4):
        paper_head.replica_dies("demo")
        progress(report := work.pass_(after=5.0))
        assert "RepeatedDeaths" in reasons(report).values()
    assert printed.getvalue().count("RepeatedDeaths") == 1
    assert "logs demo 1.0" in printed.getvalue()
    progress(report := work.pass_(after=WINDOW))
    assert reasons(report) == {}
    assert printed.getvalue().count("resolved") == 1


def test_a_part_is_named_and_the_deaths_of_others_are_not_added():
    apps = same([serving("a", risk=(f"r{n}", "kept")) for n in range(OFTEN + 1)])
    [message] = told(Deaths(), apps)
    assert "the part 'risk'" in message
    mixed = [serving("a", risk=("r",)), serving("b", risk=("r",)), serving("b", risk=("s",))]
    assert told(Deaths(), same([*mixed, serving("c", risk=("s",))])) == []


def test_few_deaths_in_a_long_time_are_not_told():
    apps = same([serving(f"a{n}") for n in range(9)])
    assert told(Deaths(), apps, every=WINDOW / 2 + 1.0) == []


def test_what_shall_end_has_not_died():
    apps = [serving(f"a{n}") for n in range(9)]
    assert told(Deaths(), apps) == []  # each has another document
    rolling = [replace(app, status=ApplicationStatus.DEPLOYING) for app in same(apps)]
    assert told(Deaths(), rolling) == []
    scaled = [serving("a", risk=(f"r{n}",), num_replicas="auto") for n in range(9)]
    assert told(Deaths(), same(scaled)) == []
