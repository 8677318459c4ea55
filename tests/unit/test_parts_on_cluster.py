"""What Serve reports of the parts of releases, and where it is told."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from controller.cli import watching
from controller.cli.explain import drawn as drawn_story
from controller.cli.status import drawn as drawn_status
from controller.config.settings import Config, PathOptions, RayOptions
from controller.journal import Journal
from controller.model import Phase, Transition
from controller.observed import Part
from controller.ops import explain, status
from controller.planning.health import Health, diagnose, doubts_its_files
from controller.planning.rollout import plan
from controller.serve.application import parse
from controller.serve.dashboard import METRICS_TARGETS, Dashboard
from controller.serve.traffic import HISTOGRAM, Traffic
from controller.telemetry.metrics import Metrics
from tests.support.canned import canned
from tests.support.reports import document, reported
from tests.support.world import application, elected, placement, record, release, situation
from tests.unit.test_health import SHORT
from tests.unit.test_watching import NAME, page

pytestmark = pytest.mark.unit

PARTS = {
    "risk": {"target": "m:Risk", "inline": False, "threads": 4, "max_memory": None},
    "churn": {"target": "m:Churn", "inline": True, "threads": 4, "max_memory": None},
}
ARGS = {**document()["args"], "parts": PARTS}
FAILED = "The deployment failed to start 3 times in a row. Error:\n"


def deployment(*states, status="HEALTHY", wanted=1, message="", **more):
    replicas = [{"state": state, "pid": 7} for state in states]
    return {
        "name": "?",
        "status": status,
        "target_num_replicas": wanted,
        "message": message,
        "replicas": replicas,
        **more,
    }


def seen(host, risk, **more):
    deployments = {"Host": host, "risk": risk}
    told = reported(deployed_app_config=document(args=ARGS), deployments=deployments, **more)
    [app] = parse({"applications": {"x": told}})
    return app


# -- reading it ----------------------------------------------------------------------------------


def test_parts_have_replicas_of_their_own_and_those_of_the_release_are_its_pipelines():
    app = seen(deployment("RUNNING"), deployment("RUNNING", "STARTING", wanted=3))
    assert [replica.state for replica in app.replicas] == ["RUNNING"]
    assert app.parts == (
        Part("churn", inline=True),
        Part("risk", state="HEALTHY", running=1, wanted=3),
    )


def test_a_part_without_a_deployment_is_told_as_it_is():
    told = reported(deployed_app_config=document(args=ARGS), status="DEPLOYING")
    [app] = parse({"applications": {"x": told}})
    assert app.building
    assert app.parts == (Part("churn", inline=True), Part("risk"))


@pytest.mark.parametrize("parts", [None, [], "risk", {"risk": None}])
def test_odd_arguments_of_another_program_break_nothing(parts):
    args = {**ARGS, "parts": parts}
    told = reported(deployed_app_config=document(args=args), deployments={"risk": deployment("X")})
    [app] = parse({"applications": {"x": told}})
    assert [part.name for part in app.parts] == (["risk"] if isinstance(parts, dict) else [])


def test_a_dashboard_that_tells_less_of_a_deployment_is_believed():
    app = seen({"replicas": []}, {"message": None})
    assert app.parts[1] == Part("risk", running=0, wanted=None)


def test_a_part_that_fails_is_the_failure_and_named():
    said = FAILED + "wheelway-failure[LoadFailed] load raised ValueError: no model\nValueError: no"
    app = seen(
        deployment("STARTING", status="UPDATING"),
        deployment(status="DEPLOY_FAILED", message=said),
        status="DEPLOY_FAILED",
        message="Failed to update the deployments ['risk'].",
    )
    found = diagnose(app)
    assert (found.health, found.reason) == (Health.FAILED, "LoadFailed")
    assert found.message == "the part 'risk': load raised ValueError: no model"
    assert "ValueError: no" in found.log_tail


def test_what_names_its_part_already_is_not_named_twice():
    said = "wheelway-failure[ImportFailed] the part 'risk': no module m"
    app = seen(deployment(), deployment(message=said), status="DEPLOY_FAILED")
    assert diagnose(app).message == "the part 'risk': no module m"


def test_the_cause_is_the_part_when_the_pipeline_fails_with_it():
    host = "wheelway-failure[ExampleFailed] example 1: PartUnavailable: no replica of 'risk'"
    risk = "wheelway-failure[LoadFailed] load raised KeyError"
    app = seen(deployment(message=host), deployment(message=risk), status="DEPLOY_FAILED")
    assert diagnose(app).reason == "LoadFailed"
    assert "no replica of 'risk'" in app.message


def test_a_process_of_a_part_that_dies_is_told_as_that():
    app = seen(deployment(), deployment(message=FAILED + "ActorDiedError()"), status="UNHEALTHY")
    found = diagnose(app)
    assert (found.health, found.reason) == (Health.FAILED, "ReplicaDied")
    assert found.log_tail.startswith("the part 'risk': ")


def test_damaged_files_that_a_part_finds_are_doubted():
    said = "wheelway-failure[DigestMismatch] m.py is not as published"
    assert doubts_its_files(seen(deployment(), deployment(message=said), status="DEPLOYING"))


def test_a_part_without_room_waits_and_is_named():
    short = SHORT.replace("'Host'", "'risk'")
    app = seen(deployment("RUNNING"), deployment("STARTING", message=short), status="DEPLOYING")
    found = diagnose(app)
    assert (found.health, found.reason) == (Health.SHORT, "InsufficientResources")
    assert "no node has room for a replica of the part risk: let parts run `inline`" in (
        found.message
    )


def test_while_parts_start_they_are_named():
    app = seen(deployment("RUNNING"), deployment("STARTING"), status="DEPLOYING")
    assert diagnose(app).message.endswith("of the parts risk too")
    app = seen(deployment("STARTING"), deployment("RUNNING"), status="DEPLOYING")
    assert diagnose(app).message == "a replica imports, loads and runs the examples"


def test_a_part_that_was_scaled_away_before_it_was_proven_is_not_ready():
    idle = Part("risk", state="HEALTHY", wanted=0)
    app = replace(application(), parts=(Part("churn", inline=True), idle))
    decided = plan(situation([elected()], [placement()], [app], [record(app)]))
    [condition] = [c for c in decided.conditions if c.reason == "NeverStarted"]
    assert "scaled the part 'risk' to no replica" in condition.message


# -- telling of it -------------------------------------------------------------------------------

CONFIG = Config(paths=PathOptions(state=Path("no-such-folder")))
IRIS = release()
SICK = Part("risk", False, "UNHEALTHY", 1, 2, "wheelway-failure[LoadFailed] no model\nTraceback")


@pytest.fixture
def journal(tmp_path):
    """Iris is live with a part that ails and one inline."""
    with Journal.open(tmp_path / "state") as opened:
        opened.record(Transition(IRIS, Phase.LIVE, "AnswersAtRoute", "so", NAME), 1.0)
        opened.keep_parts({NAME: (Part("churn", inline=True), SICK)})
        yield opened


def test_the_journal_keeps_the_parts_that_are_there_and_no_others(journal):
    assert journal.parts() == {NAME: (Part("churn", inline=True), SICK)}
    journal.keep_parts({"other": (SICK,)})
    with Journal.read(journal.path.parent) as reader:
        assert reader.parts() == {"other": (SICK,)}
    journal.keep_parts({})
    assert journal.parts() == {}


def drawn(renderables):
    out = Console(file=io.StringIO(), width=200)
    for one in renderables:
        out.print(one)
    return out.file.getvalue()


def test_status_has_each_part_below_its_release(journal):
    told = status.tell(journal, lambda: CONFIG, 2.0, everything=False)
    [iris] = told["releases"]
    assert iris["parts"][1] == {
        "name": "risk",
        "inline": False,
        "state": "UNHEALTHY",
        "running": 1,
        "wanted": 2,
        "message": "LoadFailed: no model",
    }
    rows = drawn(drawn_status(told)).splitlines()
    at = next(number for number, row in enumerate(rows) if row.startswith("iris"))
    assert rows[at + 1].split() == [".churn", "inline", "in", "its", "pipeline's", "replicas", "-"]
    assert rows[at + 2].split() == [".risk", "UNHEALTHY", "1", "of", "2", "replicas", "-"]


def test_explain_says_how_each_part_is(journal):
    told = drawn(drawn_story(explain.tell(journal, "iris", now=2.0)))
    assert "part churn: in its pipeline's replicas" in told
    assert "part risk: UNHEALTHY, 1 of 2 replicas: LoadFailed: no model" in told


def test_metrics_count_the_replicas_of_parts_that_have_any(journal, tmp_path):
    text = Metrics(journal, version="9.9", cache=tmp_path).render().decode()
    labels = '{part="risk",pipeline="iris",version="1.0"}'
    assert f"wheelway_part_replicas{labels} 1.0" in text
    assert f"wheelway_part_replicas_wanted{labels} 2.0" in text
    assert "churn" not in text
    journal.keep_parts({})
    assert labels not in Metrics(journal, version="9.9", cache=tmp_path).render().decode()


def test_the_table_that_stays_open_has_them_as_they_are_now(journal):
    told = status.tell(journal, lambda: CONFIG, 2.0, everything=False)
    now = watching.Beside({NAME: (1, 1)}, {}, {NAME: (replace(SICK, running=2, message=""),)})
    seen_now = watching.document(told, now)
    assert [part["running"] for part in seen_now["releases"][0]["parts"]] == [2]
    rows = drawn([watching.shown(seen_now)]).splitlines()
    assert next(row for row in rows if ".risk" in row).split() == [".risk", "UNHEALTHY", "2"]
    json.dumps(seen_now)
    away = watching.document(told, watching.Beside())
    assert len(away["releases"][0]["parts"]) == 2


def test_calls_of_parts_are_no_requests():
    host = page((10, 0, 0, 0, 0))
    risk = page((70, 0, 0, 0, 0)).replace('deployment="Host"', 'deployment="risk"')
    assert HISTOGRAM in risk
    with canned() as ray:
        target = ray.url.removeprefix("http://")
        ray.says(METRICS_TARGETS, [{"labels": {"job": "ray"}, "targets": [target]}])
        ray.says("/metrics", page((0, 0, 0, 0, 0)))
        dashboard, now = Dashboard.connect(RayOptions(dashboard_url=ray.url)), [0.0]
        traffic = Traffic(dashboard, clock=lambda: now[0])
        traffic.poll({(NAME, "risk")})
        now[0] += 10
        ray.says(
            "/metrics", host + "\n".join(line for line in risk.splitlines() if "_bucket" in line)
        )
        flows = traffic.poll({(NAME, "risk")})
        traffic.close()
        dashboard.close()
    assert flows[NAME].requests_per_second == 1.0
