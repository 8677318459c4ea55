"""`wheelway logs`, and failed requests on the terminal of `wheelway up`."""

from __future__ import annotations

import io
import sys
import threading
import time
from dataclasses import replace

import pytest
from packaging.version import Version
from rich.console import Console
from typer.testing import CliRunner

from controller.cli import app
from controller.cli.program import ExitCode
from controller.cli.progress import BETWEEN_FAILURES, Progress
from controller.journal import Journal
from controller.model import Listing, Phase, Quarantine, Release, Revision, Transition
from controller.ops.advice import BY_REASON, BY_STAGE, remedies
from controller.serve.log_records import FailedRequest
from tests.support.head import eventually
from tests.support.replica_logs import (
    BUILT,
    FAILED,
    FIRST,
    IRIS,
    OTHER,
    PLACEMENT,
    serving_logs,
)

pytestmark = pytest.mark.unit


@pytest.fixture
def ray():
    with serving_logs() as server:
        yield server


@pytest.fixture
def wheelway(tmp_path, ray):
    config = tmp_path / "controller.toml"
    config.write_text(
        f'[ray]\ndashboard_url = "{ray.options.dashboard_url}"\n[paths]\nstate = "{tmp_path}"\n'
    )
    with Journal.open(tmp_path) as journal:
        moved = Transition(IRIS, Phase.LIVE, "AnswersAtRoute", "as said", PLACEMENT)
        journal.record(moved, time.time(), source="shelf")

    def command(*args):
        return CliRunner().invoke(app, ["--config", str(config), *args])

    command.state = tmp_path
    return command


def test_logs_prints_all_replicas_of_a_release_in_order_of_time(wheelway):
    result = wheelway("logs", "iris")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[:2] == FIRST.splitlines()[:2]
    assert result.stdout.splitlines()[-2:] == [OTHER.strip(), FIRST.splitlines()[-1]]
    last = wheelway("logs", "Iris", "1.0.0", "-n", "1").stdout
    assert last == FIRST.splitlines(keepends=True)[-1]


def test_logs_are_of_the_pipeline_of_that_name_whatever_else_its_project_carries(wheelway):
    iris = Revision("shelf", "iris", IRIS.version, "iris-1.0.whl", "x", IRIS.digest, 1)
    with Journal.amend(wheelway.state) as journal:
        journal.save_listing(Listing("shelf", (iris,)), 1.0)
        beside = replace(IRIS, pipeline="rose")
        moved = Transition(beside, Phase.LIVE, "AnswersAtRoute", "as said", "rose-1.0-1")
        journal.record(moved, time.time() + 9, source="shelf")
    assert "loaded 3 models" in wheelway("logs", "iris").stdout


def test_logs_prints_what_is_about_one_request_with_its_traceback(wheelway):
    assert wheelway("logs", "iris", "--request", "4711-ff").stdout == FAILED
    unknown = wheelway("logs", "iris", "--request", "none-such")
    assert unknown.exit_code == ExitCode.FAILED
    assert "logged anything of a request none-such" in unknown.stderr


def test_followed_logs_print_a_requests_traceback_that_comes_in_pieces(wheelway, ray, monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 600.0)
    monkeypatch.setattr("controller.serve.replica_logs.POLL_EVERY", 0.05)
    begin, rest = FAILED.split("\n", 1)
    printed: list[str] = []

    def log():
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, f"{begin}\n")
        eventually(lambda: ray.sent.get(BUILT, "").endswith(f"{begin}\n"))
        ray.add(BUILT, f"{rest}{OTHER}")

    def until_enough(lines):
        printed.extend(lines)
        if printed:
            raise RuntimeError("enough")

    monkeypatch.setattr(sys.modules["controller.cli.logs"], "_print", until_enough)
    logging = threading.Thread(target=log)
    logging.start()
    wheelway("logs", "iris", "--follow", "--request", "4711-ff", "-n", "0")
    logging.join(60)
    assert printed == FAILED.splitlines()


def test_a_wheels_log_does_not_steer_the_terminal(wheelway, ray):
    ray.add(BUILT, "\x1b[2Jgone\n")
    assert r"\x1b[2Jgone" in wheelway("logs", "iris").stdout


def test_a_node_that_does_not_answer_is_told_beside_what_others_have(wheelway, ray):
    ray.silent.add("n2")
    result = wheelway("logs", "iris")
    assert "note: node ip-n2 does not tell its logs" in result.stderr
    assert "loaded 3 models" in result.stdout


def test_without_a_log_what_was_kept_of_the_failure_is_printed_else_why_there_is_none(
    wheelway, ray
):
    ray.files = {"n1": {BUILT: ""}}
    gone = wheelway("logs", "iris")
    assert gone.exit_code == ExitCode.FAILED
    assert "Ray has nothing in its logs of iris 1.0" in gone.stderr
    with Journal.open(wheelway.state) as journal:
        kept = Quarantine(IRIS, "stage", "LoadFailed", "no model", "i", "its last words\n", 1.0)
        journal.add_quarantine(kept)
    ray.files = {"n1": {}}
    told = wheelway("logs", "iris")
    assert (told.exit_code, told.stdout) == (0, "its last words\n")
    assert "what was kept of its failure: no model" in told.stderr


def test_which_version_was_chosen_is_told_unless_it_was_named(wheelway):
    def told(*args):
        said = wheelway("logs", "iris", *args).stderr
        return next((line for line in said.splitlines() if line.startswith("note: this is")), "")

    def now(release, phase):
        with Journal.open(wheelway.state) as journal:
            journal.record(Transition(release, phase, "AsSaid", "as said", PLACEMENT), time.time())

    assert told() == "note: this is iris 1.0, the only one that is live"
    assert told("1.0") == ""
    now(Release("iris", Version("0.9"), "c" * 64), Phase.LIVE)
    assert told() == "note: this is iris 1.0; 0.9 is live as well"
    now(Release("iris", Version("0.8"), "d" * 64), Phase.LIVE)
    assert told() == "note: this is iris 1.0; 0.9, 0.8 are live as well"
    for version, digest in (("0.9", "c"), ("0.8", "d")):
        now(Release("iris", Version(version), digest * 64), Phase.RETIRED)
    now(IRIS, Phase.RETIRED)
    assert told() == "note: this is iris 1.0, which is Retired; none is live"


def test_a_release_that_was_never_started_has_no_log(wheelway):
    waiting = Release("rose", Version("1.0"), "b" * 64)
    with Journal.open(wheelway.state) as journal:
        journal.record(Transition(waiting, Phase.FETCHED, "NotKept", "as said"), time.time())
    result = wheelway("logs", "rose", "1.0")
    assert result.exit_code == ExitCode.FAILED
    assert "no replica of rose 1.0 was started yet" in result.stderr
    assert "`wheelway explain rose 1.0`" in result.stderr


def test_without_ray_that_is_said(wheelway, ray):
    ray.shutdown()
    ray.server_close()
    result = wheelway("logs", "iris")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "is the head running?" in result.stderr


def test_explain_says_where_the_log_is(wheelway):
    shown = wheelway("explain", "iris").stdout
    assert f"logs/serve/replica_{PLACEMENT}_*.log" in shown
    assert "`wheelway logs iris 1.0`" in shown


@pytest.mark.parametrize("reason", [*BY_REASON, "of no reason"])
@pytest.mark.parametrize("stage", BY_STAGE)
def test_what_helps_names_the_release_in_its_commands(reason, stage):
    told = " ".join(remedies(Quarantine(IRIS, stage, reason, "", "i", "", 1.0)))
    assert "NAME VERSION" not in told


# -- on the terminal of `wheelway up` ------------------------------------------------------------


def test_a_failed_request_is_told_with_its_cause_and_of_many_the_first_and_then_the_latest():
    text, due = io.StringIO(), []
    out = Console(file=text, width=500, highlight=False)
    progress = Progress("http://x", out=out, later=lambda *what: due.append(what))
    for request in ("4711-ff; rm", "2", "3", "4", "5"):
        progress.failed(FailedRequest(str(IRIS), request, "KeyError: 'sepal'"))
    line, more = text.getvalue().splitlines()
    assert line.split(maxsplit=1)[1] == "iris 1.0              request failed     KeyError: 'sepal'"
    assert more.strip() == "wheelway logs iris 1.0 --request '4711-ff; rm'"
    [(seconds, tell)] = due
    assert seconds == BETWEEN_FAILURES
    tell()  # though nothing fails any more
    line, more = text.getvalue().splitlines()[2:]
    assert line.endswith("KeyError: 'sepal' (and 3 more before it)")
    assert more.endswith("--request 5")
    due[1][1]()
    assert len(text.getvalue().splitlines()) == 4
    progress.failed(FailedRequest(str(IRIS), "6", ""))
    assert text.getvalue().splitlines()[4].endswith("see its log")
