"""The `wheelway` command over a journal that real writes filled."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from packaging.version import Version
from rich.console import Console
from typer.testing import CliRunner

from controller.authoring.gates import Gate
from controller.cli import app
from controller.cli.authoring import as_document
from controller.cli.invocation import Whereabouts, whereabouts
from controller.cli.program import MEANINGS, ExitCode, exit_code_of, global_first
from controller.cli.progress import LASTS, Progress, Warnings, arguments_of
from controller.cli.serving import _command
from controller.config.loading import load
from controller.errors import ConfigError, JournalError, Rejected, TemplateError, Transient, Waiting
from controller.journal import DaemonStatus, Journal
from controller.logs import about, tell
from controller.model import (
    Condition,
    Event,
    Listing,
    Phase,
    Quarantine,
    RefusedWheel,
    Release,
    Revision,
    Transition,
)
from controller.reconcile.report import Report
from tests.support.imports import SLOW, imported_by
from tests.support.wheels import make_wheel
from wheelway import Pipeline, contract, openapi
from wheelway.schema import interface_of

pytestmark = pytest.mark.unit

IRIS_1 = Release("iris", Version("1.0"), "a" * 64)
IRIS_2 = Release("iris", Version("2.0"), "b" * 64)
IRIS_OLD = Release("iris", Version("0.9"), "c" * 64)
UNOPENED = Release("acme-iris", Version("3.0"), "e" * 64)
LOCAL = Release("greeter", Version("1.0+cu12"), "d" * 64)
CONFIG_DIGEST = "ab12" * 16
ANSI = "\x1b"


class Command:
    """Runs `wheelway --config <file> ...` and gives what came of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "controller.toml"
        self.state = root / "state"
        (root / "wheels").mkdir()
        self.configure()

    def configure(self, text: str = "") -> None:
        self.config.write_text(
            '[[sources]]\ntype = "directory"\npath = "wheels"\n'
            f'[paths]\nstate = "state"\ncache = "cache"\n{text}'
        )

    def __call__(self, *args: str):
        return CliRunner().invoke(app, ["--config", str(self.config), *args], prog_name="wheelway")

    def json(self, *args: str):
        result = self(*args, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture
def wheelway(tmp_path):
    return Command(tmp_path)


@pytest.fixture
def filled(wheelway):
    """A journal in which iris 1.0 and greeter are live, iris 2.0 and a whole wheel failed."""
    now = time.time()
    with Journal.open(wheelway.state) as journal:
        _release(journal, IRIS_OLD, [(Phase.RETIRED, "SuccessorLive", now - 500)])
        for release in (IRIS_1, LOCAL):
            steps = [
                (Phase.DISCOVERED, "Listed", now - 300),
                (Phase.FETCHED, "Verified", now - 299.8),
                (Phase.STAGED, "Starting", now - 299),
                (Phase.LIVE, "AnswersAtRoute", now - 296),
            ]
            _release(journal, release, steps)
        _fail(journal, IRIS_2, "stage", "LoadFailed", "model.bin is missing", now - 100)
        _fail(journal, UNOPENED, "inspect", "NotAZip", "it is not a zip file", now - 90)
        journal.save_listing(
            Listing(
                "directory",
                (
                    _revision("acme-iris", IRIS_1),
                    _revision("acme-iris", IRIS_2),
                    _revision("acme-iris", UNOPENED),
                    _revision("greeter", LOCAL),
                ),
            ),
            now,
        )
        journal.set_conditions(
            [
                Condition("Bad Name.whl", "FilenameInvalid", "rename it"),
                Condition("ray", "HAProxyOff", "set RAY_SERVE_ENABLE_HA_PROXY=1"),
            ],
            now - 50,
        )
        journal.sent(
            journal.sending(
                "applications: []\n", CONFIG_DIGEST, "add iris-1.0-0123abcd: staged", now
            )
        )
        _pass(journal, pid=os.getpid())
    return wheelway


def _release(journal, release, steps):
    placement = f"{release.pipeline}-{release.version}-0123abcd"
    for phase, reason, at in steps:
        journal.record(Transition(release, phase, reason, "as said", placement), at, source="shelf")


def _fail(journal, release, stage, reason, message, at):
    tail = f"Traceback\n  \x1b[31min load\n{reason}"
    journal.add_quarantine(Quarantine(release, stage, reason, message, "inputs", tail, at))
    journal.record(Transition(release, Phase.QUARANTINED, reason, message), at, source="shelf")


def _revision(project, release):
    filename = f"{project.replace('-', '_')}-{release.version}-py3-none-any.whl"
    return Revision("shelf", project, release.version, filename, filename, release.digest, 10)


def _pass(journal, *, pid, at=None):
    status = DaemonStatus(7, at or time.time(), "2 live, 2 quarantined", 0.1, pid, "0.1.0", 1.0)
    journal.set_status(status)


def _pid_of_a_process_that_ended() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(60)
    return process.pid


# -- status --------------------------------------------------------------------------------------


def test_status_tells_phases_quarantines_and_conditions_as_plain_text(filled):
    result = filled("status")
    assert result.exit_code == 0
    assert "the daemon runs" in result.stdout
    row = r"^iris +1\.0 +Live +AnswersAtRoute +\d+ min +/predict/iris/1\.0 "
    assert re.search(row, result.stdout, re.MULTILINE)
    assert "iris 2.0: LoadFailed (stage): model.bin is missing" in result.stdout
    assert "wheelway explain iris 2.0" in result.stdout
    assert "ray: HAProxyOff" in result.stdout
    assert "set RAY_SERVE_ENABLE_HA_PROXY=1" in result.stdout
    assert ANSI not in result.stdout
    assert not re.search(r"[^\x00-\x7f]| $", result.stdout, re.MULTILINE)


def test_the_newest_version_of_a_pipeline_comes_first_and_what_is_over_only_with_all(filled):
    def of_iris(*args):
        rows = filled.json("status", *args)["releases"]
        return [row["version"] for row in rows if row["pipeline"] == "iris"]

    assert of_iris() == ["2.0", "1.0"]
    assert of_iris("--all") == ["2.0", "1.0", "0.9"]


def test_a_failed_release_is_past_once_other_bytes_of_its_version_are_live(filled):
    mended = Release("iris", Version("2.0"), "f" * 64)
    with Journal.open(filled.state) as journal:
        _release(journal, mended, [(Phase.LIVE, "AnswersAtRoute", time.time())])
        listing = Listing("directory", (_revision("acme-iris", mended),))
        journal.save_listing(listing, time.time())
    shown = filled.json("status")["releases"]
    assert [row["phase"] for row in shown if row["version"] == "2.0"] == ["Live"]


def test_status_as_json_keeps_its_documented_shape(filled):
    document = filled.json("status")
    assert document.keys() == {*("at", "daemon", "releases", "hidden", "conditions", "overrides")}
    assert document["daemon"].keys() == {
        *("state", "sentence", "last_pass", "pass", "said", "duration", "pid", "version"),
        "started_at",
    }
    assert document["daemon"]["state"] == "running"
    failed = next(row for row in document["releases"] if row["version"] == "2.0")
    assert failed.keys() == {
        *("pipeline", "version", "digest", "phase", "reason", "message", "since", "route"),
        *("placement", "source", "times", "quarantine"),
    }
    assert failed["quarantine"].keys() == {"stage", "reason", "message", "log_tail", "at"}
    assert document["conditions"][1].keys() == {"subject", "reason", "message", "ok", "since"}
    for text in (document["at"], failed["since"], document["daemon"]["last_pass"]):
        assert text.endswith("Z")
        assert datetime.fromisoformat(text).tzinfo is not None


@pytest.mark.parametrize(
    ("dead", "age", "state"),
    [(False, 0, "running"), (False, 3600, "late"), (True, 0, "down"), (True, 3600, "down")],
)
def test_the_daemon_is_judged_by_its_process_and_its_last_pass(filled, dead, age, state):
    pid = _pid_of_a_process_that_ended() if dead else os.getpid()
    with Journal.open(filled.state) as journal:
        _pass(journal, pid=pid, at=time.time() - age)
    assert filled.json("status")["daemon"]["state"] == state


def test_with_the_daemon_down_status_says_whether_ray_still_serves(filled):
    with Journal.open(filled.state) as journal:
        _pass(journal, pid=_pid_of_a_process_that_ended())
    with socket.create_server(("127.0.0.1", 0)) as ray:
        url = f"http://127.0.0.1:{ray.getsockname()[1]}"
        filled.configure(f'[ray]\ndashboard_url = "{url}"\n')
        assert f"Ray answers at {url}: what is served stays up" in filled("status").stdout
    assert f"no Ray answers at {url} either: nothing is served" in filled("status").stdout


def test_a_daemon_that_never_finished_a_pass_is_said_to_be_so(wheelway):
    Journal.open(wheelway.state).close()
    document = wheelway.json("status")
    assert document["daemon"]["state"] == "never"
    assert document["daemon"]["last_pass"] is None
    assert "No releases yet." in wheelway("status").stdout


def test_status_says_that_a_wheel_has_no_pipeline_without_making_a_trouble_of_it(filled):
    with Journal.open(filled.state) as journal:
        alone = [
            Condition(f"lib{n}.whl", "NotAPipelineWheel", "no entry point", ok=True) for n in (1, 2)
        ]
        journal.set_conditions(alone, time.time())
    shown = filled("status").stdout
    assert "Conditions" not in shown
    assert shown.rstrip().endswith("no entry point (1 more like it)")


def test_status_tells_what_holds_of_many_releases_once(filled):
    why = "4 releases are starting (rollout.max_staging)"
    waiting = [Condition(f"wine@{n}.0+0123abcd", "Queued", why) for n in range(24)]
    with Journal.open(filled.state) as journal:
        now = time.time()
        journal.set_conditions(waiting[:3], now - 200)
        journal.set_conditions(waiting, now - 10)
    shown = filled("status").stdout
    assert shown.count(why) == 1
    assert "Queued, 24 times, for 10 s to 3 min\n" in shown
    assert "wine@0.0+0123abcd, wine@1.0+0123abcd, " in shown
    assert shown.count("wine@") == 20
    assert " and 4 more\n" in shown
    assert len(filled.json("status")["conditions"]) == 24


def test_what_failed_alike_is_told_once_and_a_long_first_line_is_cut(filled):
    why = "what x requires cannot be installed: " + "because of zz-alpha " * 60
    with Journal.open(filled.state) as journal:
        for n in range(4):
            four = Release(f"part-{n}", Version("1.0"), "9" * 64)
            _fail(journal, four, "prepare", "RequirementsUnsatisfiable", why, time.time())
        journal.save_listing(Listing("shelf", (_revision("parts", four),)), time.time())
    shown = filled("status").stdout
    (line,) = (line for line in shown.splitlines() if "what x requires" in line)
    assert line.startswith("  part-0 1.0, part-1 1.0, part-2 1.0, part-3 1.0: Requirements")
    assert line.endswith("zz-alpha ...")
    assert len(line) < 400
    assert max(map(len, filled("history").stdout.splitlines())) < 400
    told = filled("explain", "part-0").stdout
    assert told.count(why.strip()) == 1


# -- explain -------------------------------------------------------------------------------------


def test_explain_says_exactly_why_the_new_version_is_not_live(filled):
    result = filled("explain", "IRIS")
    assert result.exit_code == 0
    first, *_ = result.stdout.splitlines()
    assert first.startswith("iris: 1.0 is live; the newest, 3.0, is not")
    for part in (
        "not live: it failed when it was started: LoadFailed",
        "model.bin is missing",
        r"|   \x1b[31min load",
        "wheelway quarantine clear iris 2.0",
        "live at /predict/iris/1.0",
        "+3.0 s  Live",
    ):
        assert part in result.stdout
    assert ANSI not in result.stdout


def test_a_wheel_refused_before_its_pipelines_are_known_is_found_by_pipeline_project_and_file(
    filled,
):
    for name in ("iris", "Acme.Iris", "acme_iris-3.0-py3-none-any.whl"):
        reasons = [row["reason"] for row in filled.json("explain", name)["releases"]]
        assert "NotAZip" in reasons, name
    assert "FilenameInvalid" in filled("explain", "Bad Name.whl").stdout


def test_a_refused_copy_of_a_live_wheel_is_not_taken_for_its_file(filled):
    own, copy = _revision("acme-iris", IRIS_1), "other-1.0-py3-none-any.whl"
    other = replace(own, project="other", filename=copy, locator=copy)
    why = "it says of itself that it is acme-iris"
    with Journal.open(filled.state) as journal:
        for revisions in ((own, other), (other, own)):
            journal.save_listing(Listing("directory", revisions), time.time())
            refused = RefusedWheel(own.sha256, copy, "MetadataMismatch", why, "inputs", 1.0)
            journal.keep_refused([refused])
            for asked in (copy, "iris"):
                told = filled.json("explain", asked)["releases"]
                assert [item["file"] for item in told if item["live"]] == [own.filename], asked


def test_explain_says_since_when_the_reason_holds_which_may_be_newer_than_the_phase(filled):
    now = time.time()
    gone = Transition(IRIS_1, Phase.LIVE, "Missing", "no source lists it", "iris-1.0-0123abcd")
    with Journal.open(filled.state) as journal:
        journal.record(gone, now - 3)
    head = next(line for line in filled("explain", "iris", "1.0").stdout.splitlines()[1:] if line)
    assert re.search(r"Live  Missing, for [3-9] s \(Live for 4 min\)$", head), head
    head = next(line for line in filled("explain", "greeter").stdout.splitlines()[1:] if line)
    assert re.search(r"Live  AnswersAtRoute, for 4 min$", head), head


def test_explain_of_one_version_tells_of_no_other(filled):
    document = filled.json("explain", "iris", "2.0.0")
    assert [row["version"] for row in document["releases"]] == ["2.0"]
    told = document["releases"][0]
    assert told["remedies"]
    assert told["quarantine"]["log_tail"].startswith("Traceback")
    assert told["file"] == "acme_iris-2.0-py3-none-any.whl"
    assert [event["reason"] for event in told["events"]] == ["LoadFailed"]


def test_a_wheel_that_nobody_looked_into_is_explained_as_that(filled):
    unread = Release("acme-iris", Version("0.1"), "9" * 64)
    with Journal.open(filled.state) as journal:
        listing = Listing("shelf", (_revision("acme-iris", unread),))
        journal.save_listing(listing, time.time())
    document = filled.json("explain", "acme-iris", "0.1")
    assert document["unread"][0]["file"] == "acme_iris-0.1-py3-none-any.whl"
    assert "not fetched" in filled("explain", "acme-iris", "0.1").stdout


def test_a_timeline_says_what_is_now_when_the_release_came_back(filled):
    with Journal.open(filled.state) as journal:
        steps = [(Phase.RETIRED, "Absent", 10.0), (Phase.LIVE, "AnswersAtRoute", time.time())]
        _release(journal, LOCAL, steps)
    told = filled("explain", "greeter").stdout
    timeline = told[told.index("timeline, each phase when it was first reached:") :]
    assert re.search(r"^ +\S+ \S+ +now  Live$", timeline, re.MULTILINE)
    assert "now  Live" not in filled("explain", "iris").stdout


def test_an_unknown_name_is_answered_with_those_that_come_near(filled):
    result = filled("explain", "irsi")
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr.startswith("error: ")
    assert "did you mean iris" in result.stderr
    assert "2.0, 1.0, 0.9" in filled("explain", "iris", "7").stderr
    assert filled("explain", "iris", "x.y").exit_code == ExitCode.USAGE


def test_explain_without_a_name_answers_for_each_pipeline_and_file_in_a_sentence(filled):
    result = filled("explain")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any(line.startswith("greeter: 1.0+cu12 is live") for line in lines)
    iris = next(n for n, line in enumerate(lines) if line.startswith("iris: 1.0 is live; the new"))
    assert lines[iris + 1] == "  model.bin is missing"
    assert "Bad Name.whl: not taken (FilenameInvalid)" in lines
    assert "wheelway explain NAME" in lines[-1]
    found = {row["name"]: row for row in filled.json("explain")}
    assert found["iris"]["live"] == ["1.0"]
    assert found["acme-iris"]["why"] == "it is not a zip file"


def test_explain_without_a_name_where_nothing_is_known_says_so(wheelway):
    Journal.open(wheelway.state).close()
    assert "No source has listed any wheel yet" in wheelway("explain").stdout


# -- history and quarantine ----------------------------------------------------------------------


def test_history_tells_events_and_configs_in_order_of_time(filled):
    lines = filled("history").stdout.splitlines()
    times = [line[:19] for line in lines[1:]]
    assert times == sorted(times)
    assert "config ab12ab12" in lines[-1]
    about_greeter = filled.json("history", "Greeter")
    assert {event["subject"] for event in about_greeter["events"]} == {str(LOCAL)}
    assert about_greeter["configs"] == []
    about_iris = filled.json("history", "iris")
    assert [applied["digest"] for applied in about_iris["configs"]] == [CONFIG_DIGEST]
    assert len(filled.json("history", "--limit", "2")["events"]) == 2


def test_history_prints_the_text_of_an_applied_config(filled):
    assert filled("history", "--applied", "ab12").stdout == "applications: []\n"
    unknown = filled("history", "--applied", "ffff")
    assert unknown.exit_code == ExitCode.FAILED
    assert "wheelway history" in unknown.stderr


def test_a_cleared_quarantine_is_gone_and_the_event_stays(filled):
    assert "LoadFailed" in filled("quarantine", "list").stdout
    assert [row["stage"] for row in filled.json("quarantine", "list")] == ["inspect", "stage"]
    cleared = filled("quarantine", "clear", "Iris", "2")
    assert cleared.exit_code == 0
    assert "next pass" in cleared.stdout
    assert [row["stage"] for row in filled.json("quarantine", "list")] == ["inspect"]
    assert "quarantine was lifted" in filled("explain", "iris", "2.0").stdout
    assert filled.json("history", "iris")["events"][-1]["reason"] == "QuarantineCleared"
    again = filled("quarantine", "clear", "iris")
    assert again.exit_code == ExitCode.FAILED
    assert "not quarantined" in again.stderr


# -- config check --------------------------------------------------------------------------------


def test_config_check_says_what_was_understood(wheelway):
    wheelway.configure('[[pipelines]]\nname = "iris"\nversions = ">=1"\nkeep = 3\n')
    result = wheelway("config", "check")
    assert result.exit_code == 0
    assert str(wheelway.root / "wheels") in result.stdout
    assert "iris: the newest 3 of >=1" in result.stdout


def test_config_check_names_file_line_and_key_of_each_mistake(wheelway):
    wheelway.configure("[rollout]\nmax_stagin = 3\nworkers = 0\n")
    result = wheelway("config", "check")
    assert result.exit_code == ExitCode.CONFIG
    assert f"{wheelway.config}:8: rollout.max_stagin: unknown key" in result.stderr
    assert f"{wheelway.config}:9: rollout.workers: " in result.stderr
    assert result.stdout == ""
    other_command = wheelway("status")
    assert other_command.exit_code == ExitCode.CONFIG
    assert "rollout.max_stagin" in other_command.stderr
    as_json = json.loads(wheelway("config", "check", "--json").stdout)
    assert not as_json["ok"]
    assert len(as_json["mistakes"]) == 2


def test_config_check_finds_a_template_that_cannot_be_used(wheelway):
    folder = wheelway.root / "templates"
    folder.mkdir()
    (folder / "application.yaml.j2").write_text("name: {{ name | json }}\nargs: {{ nothing }}\n")
    wheelway.configure('templates = "templates"\n')
    result = wheelway("config", "check")
    assert result.exit_code == ExitCode.CONFIG
    assert "application.yaml.j2:2" in result.stderr


def test_the_schema_lists_every_key_with_type_default_and_meaning(wheelway):
    text = wheelway("config", "check", "--schema").stdout
    assert "[[sources]]" in text
    assert "[serve.defaults]" in text
    assert '  interval  (number > 0 | "30s", default 5.0)\n      Seconds between two passes' in text
    schema = wheelway.json("config", "check", "--schema")
    assert schema["properties"].keys() >= {"sources", "ray", "pipelines", "rollout"}
    for model in schema["$defs"].values():
        for key in model["properties"]:
            assert f"  {key}  (" in text or f".{key}]" in text


# -- errors and exit codes -----------------------------------------------------------------------


def test_without_a_configuration_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["status"], env={"WHEELWAY_CONFIG": None})
    if Path("/etc/wheelway/controller.toml").exists():
        pytest.skip("this machine has a configuration of its own")
    assert result.exit_code == ExitCode.CONFIG
    assert "--config" in result.stderr
    assert "wheelway up" in result.stderr


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """A configuration that another user left in a folder above, and a folder below it."""
    if Path("/etc/wheelway/controller.toml").exists():
        pytest.skip("this machine has a configuration of its own")
    found = tmp_path / ".wheelway/controller.toml"
    found.parent.mkdir()
    found.write_text('[ray]\npython = "evil"\n')
    below = tmp_path / "mine"
    below.mkdir()
    monkeypatch.chdir(below)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return found


def belongs_to_a_stranger(path, monkeypatch):
    if os.geteuid() == 0:
        os.chown(path, 4242, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)


@pytest.mark.parametrize("which", ["folder", "file", "link"])
def test_a_configuration_that_another_user_left_above_is_not_used(strangers, monkeypatch, which):
    if which == "link":
        strangers.rename(strangers.with_name("elsewhere.toml"))
        strangers.symlink_to("elsewhere.toml")
    belongs_to_a_stranger(strangers.parent if which == "folder" else strangers, monkeypatch)
    for command in (["config", "check"], ["plan"], ["status"]):
        result = CliRunner().invoke(app, command, env={"WHEELWAY_CONFIG": None})
        assert result.exit_code == ExitCode.CONFIG, result.output
        assert "not to you, so it is not used" in result.stderr
        assert f"--config {strangers}" in result.stderr
    named = CliRunner().invoke(app, ["config", "check", str(strangers)])
    assert "not to you" not in named.stderr


def test_a_configuration_of_ones_own_above_is_used(strangers, monkeypatch):
    result = CliRunner().invoke(app, ["config", "check"], env={"WHEELWAY_CONFIG": None})
    assert f"{strangers} is right" in "".join(result.stdout.splitlines())


def test_up_does_not_go_on_where_another_user_left_a_state(strangers, monkeypatch):
    monkeypatch.chdir(strangers.parent.parent)
    belongs_to_a_stranger(strangers.parent, monkeypatch)
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == ExitCode.CONFIG
    assert "not to you" in result.stderr
    assert strangers.read_text() == '[ray]\npython = "evil"\n'


def test_a_journal_that_is_not_there_yet_is_unavailable(wheelway):
    result = wheelway("status")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(wheelway):
    result = wheelway("--debug", "status")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "Traceback" in result.stderr


def test_ray_that_does_not_answer_makes_plan_unavailable(wheelway):
    wheelway.configure('[ray]\ndashboard_url = "http://127.0.0.1:9"\n')
    for command in ("plan", "render"):
        result = wheelway(command)
        assert result.exit_code == ExitCode.UNAVAILABLE, result.stderr
        assert "127.0.0.1:9" in result.stderr


def test_what_was_not_understood_leaves_exit_code_2_to_plan(wheelway):
    for args in (["statsu"], ["status", "--nope"], ["pin"], ["config"]):
        result = wheelway(*args)
        assert result.exit_code == ExitCode.USAGE
        assert "--help`" in result.stderr
    assert "Did you mean 'status'" in wheelway("statsu").stderr


def test_help_documents_every_exit_code(wheelway):
    shown = wheelway("--help").stdout
    for code, meaning in MEANINGS.items():
        assert re.search(rf"^ +{code.value}  {re.escape(meaning)}$", shown, re.MULTILINE)
    assert CliRunner().invoke(app, []).exit_code == 0


def test_each_kind_of_error_has_its_exit_code():
    assert exit_code_of(ConfigError("x")) == ExitCode.CONFIG
    assert exit_code_of(TemplateError("x")) == ExitCode.CONFIG
    assert exit_code_of(JournalError("JournalNewer", "x")) == ExitCode.UNAVAILABLE
    assert exit_code_of(Transient("DashboardUnreachable", "x")) == ExitCode.UNAVAILABLE
    assert exit_code_of(Waiting("DiskFull", "x")) == ExitCode.UNAVAILABLE
    assert exit_code_of(Rejected("NotAZip", "x")) == ExitCode.FAILED


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        (["run", "--config", "x"], ["--config", "x", "run"]),
        (["run", "--config=x", "--debug"], ["--config=x", "--debug", "run"]),
        (["config", "check", "--config", "x", "y"], ["--config", "x", "config", "check", "y"]),
        (["explain", "--", "--config", "x"], ["explain", "--", "--config", "x"]),
        (["run", "--config"], ["--config"]),
        ([], []),
    ],
)
def test_the_configuration_may_be_named_after_the_command_too(given, understood):
    assert global_first(given) == understood


def test_a_command_takes_the_configuration_from_after_it(filled):
    after = CliRunner().invoke(app, ["status", "--json", "--config", str(filled.config)])
    assert after.exit_code == 0
    assert json.loads(after.stdout)["releases"]
    nothing = CliRunner().invoke(app, ["status", "--config"])
    assert nothing.exit_code == ExitCode.USAGE
    assert "--config" in nothing.stderr


def test_a_reader_that_goes_away_is_met_in_silence(filled):
    script = "from controller.__main__ import main; main()"
    command = [sys.executable, "-c", script, "--config", str(filled.config), "status", "--json"]
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        _, errors = process.communicate(timeout=60)
    assert re.fullmatch(rb"note: the daemon does not answer at [^\n]+\n", errors)
    assert process.returncode == ExitCode.BROKEN_PIPE


@pytest.mark.parametrize(
    "args",
    [
        *(["--help"], ["status", "--help"], ["run", "--help"], ["check", "--help"]),
        *(["explain", "iris"], ["history"], ["quarantine", "list"], ["pin", "iris", "1.0"]),
    ],
    ids=" ".join,
)
def test_quick_commands_import_nothing_slow(filled, args):
    imported = imported_by(filled.config, *args)
    assert not imported & SLOW
    assert "--help" not in args or "rich" not in imported
    assert len(imported) < 450  # 250 to 420 today; a thousand, where they started slowly


@pytest.mark.parametrize(
    "more", ["", "[paths]\n", '[paths]\nstate = "s"\n', '[api]\nsocket = "/run/x.sock"\n']
)
def test_where_the_daemon_is_is_read_as_the_whole_configuration_says_it(tmp_path, more):
    file = tmp_path / "controller.toml"
    file.write_text(f"[policy]\n{more}")
    config = load(file)
    found = whereabouts(file)
    assert found == Whereabouts(config.paths.state, config.api.path(config.paths.state))


@pytest.mark.parametrize(
    "text", ["x = = 1", "paths = 1", '[paths]\nstate = "~/s"', "[api]\nsocket = 1"]
)
def test_what_is_said_otherwise_is_left_to_the_whole_reading(tmp_path, text, monkeypatch):
    file = tmp_path / "controller.toml"
    file.write_text(text)
    assert whereabouts(file) is None
    file.write_text("")
    monkeypatch.setenv("WHEELWAY_PATHS__STATE", "/elsewhere")
    assert whereabouts(file) is None


def test_new_makes_a_project_and_says_how_to_go_on(tmp_path):
    result = CliRunner().invoke(app, ["new", "Churn_Score", "--into", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    assert "src/churn_score/pipeline.py" in result.stdout
    assert "wheelway check dist/*.whl" in result.stdout
    again = CliRunner().invoke(app, ["new", "churn-score", "--into", str(tmp_path)])
    assert again.exit_code == ExitCode.FAILED
    assert "nothing was written" in again.stderr


def test_check_refuses_what_is_no_wheel_and_runs_nothing_of_it(tmp_path):
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    wheel.write_bytes(b"no zip")
    result = CliRunner().invoke(app, ["check", str(wheel), "--json"])
    assert result.exit_code == ExitCode.FAILED, result.stderr
    document = json.loads(result.stdout)
    assert not document["ok"]
    first, *others = document["gates"]
    assert (first["gate"], first["ok"], first["reason"]) == ("inspect", False, "NotAZip")
    assert {gate["ok"] for gate in others} == {None}
    assert document["pipelines"] == {}
    told = CliRunner().invoke(app, ["check", str(wheel)])
    assert "demo-1.0-py3-none-any.whl would not be served." in told.stdout


def test_check_says_which_pipelines_of_a_wheel_would_be_served(tmp_path):
    targets = {name: f"demo.pipeline:{name.title()}" for name in ("good", "bad", "fine")}
    code = "from wheelway import Pipeline\n"
    for name in targets:
        body = "self, request, other" if name == "bad" else "self, request"
        code += f"class {name.title()}(Pipeline):\n    def infer({body}):\n        return 1\n"
    wheel = make_wheel(tmp_path, pipelines=targets, code=code)

    told = CliRunner().invoke(app, ["check", str(wheel), "--offline"])

    assert told.exit_code == ExitCode.FAILED
    verdict = f"Of {wheel.name} fine, good would be served, bad would not."
    assert verdict in " ".join(told.stdout.split())
    document = as_document(wheel, [Gate("load", ok=True, pipeline="a"), Gate("inspect", ok=True)])
    assert document["pipelines"] == {"a": True}


# -- progress ------------------------------------------------------------------------------------

OPENAPI = {
    "paths": {
        "/predict/iris/1.0": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {
                            "examples": {"example1": {"value": {"name": "it's me"}}}
                        }
                    }
                }
            },
            "get": {},
        }
    }
}


class Told:
    """A progress renderer that prints into a text, fed with events."""

    def __init__(self, get=lambda _: None, clock=time.time) -> None:
        self._text = io.StringIO()
        out = Console(file=self._text, width=500, highlight=False)
        self._progress = Progress("http://127.0.0.1:8000/", out=out, get=get, clock=clock)

    def feed(self, *events: Event) -> list[str]:
        read = self.reading()
        self._progress(Report("a pass", 1.0, tuple(events)))
        return read()

    def reading(self):
        """What gives the lines that are printed from here on."""
        start = self._text.tell()

        def read() -> list[str]:
            self._text.seek(start)
            return self._text.read().splitlines()

        return read


def _reached(release, phase, at, reason="AsPlanned", message=""):
    fields = {"phase": phase.value, "digest": release.digest, "placement": ""}
    return Event(at, str(release), reason, message, fields)


def test_progress_shows_each_step_once_with_the_seconds_it_took():
    told = Told(get=lambda _: OPENAPI)
    lines = told.feed(
        _reached(IRIS_1, Phase.DISCOVERED, 100.0),
        _reached(IRIS_1, Phase.FETCHED, 100.2, "Verified"),
        _reached(IRIS_1, Phase.FETCHED, 100.3, "Preparing"),
    )
    lines += told.feed(_reached(IRIS_1, Phase.PREPARED, 101.0))
    lines += told.feed(
        _reached(IRIS_1, Phase.STAGED, 101.5, "Building"),
        _reached(IRIS_1, Phase.STAGED, 102.0, "Starting"),
    )
    lines += told.feed(
        _reached(IRIS_1, Phase.READY, 103.0), _reached(IRIS_1, Phase.READY, 103.1, "Promoted")
    )
    lines += told.feed(_reached(IRIS_1, Phase.LIVE, 103.4))
    steps = [re.sub(r"^\d\d:\d\d:\d\d  iris 1\.0 +", "", line) for line in lines]
    assert [re.sub(r"  +", "  ", step) for step in steps[:5]] == [
        "fetched, verified  0.2 s",
        "prepared  1.0 s  +0.8 s",
        "staged  1.5 s  +0.5 s",
        "ready  3.0 s  +1.5 s",
        "live  3.4 s  +0.4 s  /predict/iris/1.0",
    ]
    assert lines[5].strip() == (
        "curl -sS http://127.0.0.1:8000/predict/iris/1.0 -H 'content-type: application/json' "
        """-d '{"name": "it'"'"'s me"}'"""
    )
    assert len(lines) == 6
    assert ANSI not in "\n".join(lines)


def test_progress_counts_a_release_that_comes_back_from_its_return():
    told = Told()
    told.feed(_reached(IRIS_1, Phase.DISCOVERED, 100.0), _reached(IRIS_1, Phase.LIVE, 103.0))
    told.feed(_reached(IRIS_1, Phase.RETIRING, 500.0, "Absent"))
    lines = told.feed(
        _reached(IRIS_1, Phase.PREPARED, 600.0), _reached(IRIS_1, Phase.STAGED, 600.5, "Building")
    )
    assert [line.split(maxsplit=4)[4] for line in lines] == ["0.0 s", "0.5 s"]


def test_progress_tells_a_failure_with_its_reason_and_where_to_read_on():
    line, more = Told().feed(
        _reached(IRIS_2, Phase.QUARANTINED, 100.0, "LoadFailed", "model.bin is missing\nmore")
    )
    assert "quarantined" in line
    assert line.endswith("LoadFailed: model.bin is missing")
    assert more.strip() == "wheelway explain iris 2.0"


def test_progress_tells_a_condition_once_it_has_lasted_and_nothing_of_one_that_has_not():
    now = [100.0]
    told = Told(clock=lambda: now[0])
    appeared, gone = (
        Event(at, "iris@1.0+aaaaaaaa", "IngressUnreachable", "a 404", {"condition": what})
        for at, what in ((100.0, "appeared"), (100.4, "gone"))
    )
    assert told.feed(appeared) == []
    now[0] = 100.4
    assert told.feed(gone) == []
    now[0] = 200.0
    assert told.feed() == []
    again = Event(200.0, "ray", "DashboardUnreachable", "nobody answers", {"condition": "appeared"})
    assert told.feed(again) == []
    now[0] = 200.0 + LASTS
    (line,) = told.feed()
    assert line.split(maxsplit=1)[1].split() == ["ray", "DashboardUnreachable", "nobody", "answers"]
    gone = Event(204.0, "ray", "DashboardUnreachable", "no longer", {"condition": "gone"})
    (line,) = told.feed(gone)
    assert "resolved" in line


def test_progress_tells_a_failure_of_a_whole_wheel_once():
    why = (Phase.QUARANTINED, 100.0, "RequirementsUnsatisfiable", "no zz-alpha")
    first, _, second, _ = Told().feed(_reached(IRIS_1, *why), _reached(IRIS_2, *why))
    assert first.endswith("RequirementsUnsatisfiable: no zz-alpha")
    assert second.endswith("RequirementsUnsatisfiable, as iris 1.0")


def test_progress_says_why_a_release_does_not_go_on_and_says_it_once():
    told = Told()
    short = _reached(IRIS_2, Phase.STAGED, 100.0, "InsufficientResources", "no CPU is free")
    assert "no CPU is free" in told.feed(short)[0]
    assert told.feed(short) == []
    assert "staged" in told.feed(_reached(IRIS_2, Phase.STAGED, 101.0, "Starting"))[0]
    kept_out = _reached(IRIS_OLD, Phase.FETCHED, 100.0, "NotKept", "keep = 2: 2.0, 1.0")
    assert "NotKept: keep = 2" in told.feed(kept_out)[0]
    unnamed = _reached(IRIS_1, Phase.FETCHED, 100.0, "NameUndecided", "somebody may have it")
    (line,) = told.feed(unnamed)
    assert line.split(maxsplit=3)[3].split(maxsplit=1) == ["waiting", "somebody may have it"]


def test_progress_tells_what_the_daemon_warns_of_unless_an_event_tells_it():
    told = Told()
    read = told.reading()
    warnings = Warnings(told._progress)
    logger = logging.getLogger("a daemon's")
    logger.addHandler(warnings)
    logger.setLevel(logging.INFO)
    logger.info("a round of looking")
    logger.warning("the files of %s had been altered;\nthey were made again", "a.whl")
    tell(logger, Event(1.0, "ray", "HAProxyOff", "slow", {"condition": "appeared", "ok": False}))
    logger.error("the pass was cut short", extra=about("PassFailed", REASON="DiskFull"))
    logger.removeHandler(warnings)
    lines = [line.split(maxsplit=1)[1] for line in read()]
    assert lines == ["the files of a.whl had been altered;", "the pass was cut short"]


def test_progress_of_what_ran_already_has_no_seconds_and_a_curl_that_works_anyway():
    line, more = Told().feed(_reached(LOCAL, Phase.LIVE, 100.0))
    assert line.split()[1:] == ["greeter", "1.0+cu12", "live", "/predict/greeter/1.0+cu12"]
    assert more.strip() == "curl -sS http://127.0.0.1:8000/predict/greeter/1.0+cu12"


def test_progress_notes_conditions_but_not_those_of_every_rollout():
    told = Told()
    fields = {"condition": "appeared", "ok": False}
    assert told.feed(Event(1.0, "x.whl", "StillCopying", "wait", fields)) == []
    assert told.feed(Event(1.0, str(IRIS_1), "CheckingFiles", "wait", fields)) == []
    (line,) = told.feed(Event(1.0, "ray", "DashboardUnreachable", "nobody\nanswers", fields))
    assert line.split(maxsplit=1)[1].split() == ["ray", "DashboardUnreachable", "nobody", "answers"]
    (line,) = told.feed(
        Event(2.0, "ray", "DashboardUnreachable", "no longer", {"condition": "gone", "ok": False})
    )
    assert "resolved" in line


def test_progress_tells_in_order_though_what_jobs_did_is_heard_of_late():
    told = Told()
    lines = told.feed(_reached(IRIS_1, Phase.LIVE, 200.0))
    lines += told.feed(  # fetched at 190, heard of only now
        _reached(IRIS_2, Phase.DISCOVERED, 188.0),
        _reached(IRIS_2, Phase.FETCHED, 190.0, "Verified"),
    )
    times = [line[:8] for line in lines if line[:1] != " "]
    assert times == sorted(times)
    assert lines[-1].endswith("fetched, verified     2.0 s")


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"paths": {}},
        {"paths": {"/": {"post": {}}}},
        {"paths": {"/": {"post": {"requestBody": {"content": {}}}}}},
        {"paths": {"/": {"post": {"requestBody": {"content": {"application/json": 1}}}}}},
    ],
)
def test_an_odd_document_gives_no_request(document):
    assert arguments_of(document) == []


class _Scale(Pipeline):
    def infer(self, request: list[float]) -> list[float]:
        return request


class _Upside(Pipeline):
    def infer(self, image: bytes) -> bytes:
        return image


class _Count(Pipeline):
    def infer(self, text: bytes) -> int:
        return len(text)


@pytest.mark.parametrize(
    ("pipeline", "examples", "arguments"),
    [
        (_Scale, ([1, 2],), ["-H", "content-type: application/json", "-d", "[1, 2]"]),
        (_Scale, ([1] * 500,), []),
        (_Scale, (), []),
        (_Count, (b"it's\n",), ["--data-binary", "it's\n"]),
        (_Count, (b"@FILE",), ["--data-raw", "@FILE"]),
        (_Count, (b"@" * 500,), ["--data-binary", "@FILE"]),
        (_Count, (b"\x89PNG",), ["--data-binary", "@FILE"]),
        (_Count, (b"\x00",), ["--data-binary", "@FILE"]),
        (_Count, (b"x" * 500,), ["--data-binary", "@FILE"]),
        (_Count, (), ["--data-binary", "@FILE"]),
        (_Upside, (), ["--data-binary", "@FILE", "-o", "RESULT"]),
    ],
)
def test_the_request_to_copy_is_one_that_the_pipeline_takes(pipeline, examples, arguments):
    release = contract.Release("demo", "1.0", "ab" * 32)
    document = openapi.document(release, interface_of(pipeline), examples, "/predict/demo/1.0")
    found = arguments_of(document)
    if pipeline is not _Scale:
        assert found[:2] == ["-H", "content-type: application/octet-stream"]
        found = found[2:]
    assert found == arguments


def test_without_the_commands_own_dependencies_it_says_how_to_get_them():
    script = (
        "import sys\n"
        "sys.modules['typer'] = None\n"  # what importing it finds where it is not installed
        "from controller.__main__ import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "pip install 'wheelway[controller]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_explain_of_a_version_that_is_not_live_says_which_are(filled):
    said = filled("explain", "iris", "2.0").stdout.splitlines()[0]
    assert said == "iris: 2.0 is not live: it failed when it was started (LoadFailed); 1.0 is live"
    assert filled("explain", "iris", "1.0").stdout.startswith("iris: 1.0 is live\n")


@pytest.mark.parametrize("mistake", ["keep = = 2", "[rollout]\nnope = 1"])
def test_a_mistake_in_the_configuration_does_not_hide_the_journal(filled, mistake):
    filled.config.write_text(f"{filled.config.read_text()}\n{mistake}\n")
    result = filled("status")
    assert result.exit_code == 0
    assert "iris" in result.stdout
    assert result.stderr.count("warning: ") == 1
    assert f"{filled.config}:" in result.stderr


def test_what_up_left_is_found_from_a_folder_below(filled, tmp_path, monkeypatch):
    beside = tmp_path / ".wheelway" / "controller.toml"
    beside.parent.mkdir()
    beside.write_text(f'[paths]\nstate = "{filled.state}"\n')
    below = tmp_path / "project" / "src"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    result = CliRunner().invoke(app, ["status"], prog_name="wheelway")
    assert result.exit_code == 0, result.stderr
    assert "iris" in result.stdout


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Where a service would have its configuration."""
    system = tmp_path / "etc" / "controller.toml"
    system.parent.mkdir()
    monkeypatch.setattr("controller.cli.invocation.SYSTEM", system)
    monkeypatch.delenv("WHEELWAY_CONFIG", raising=False)
    monkeypatch.setattr(sys, "argv", ["wheelway", "up"])
    return system


def test_lines_to_copy_name_the_configuration_wherever_a_plain_call_finds_another(
    installed, tmp_path, monkeypatch
):
    beside = tmp_path / "here" / ".wheelway" / "controller.toml"
    beside.parent.mkdir(parents=True)
    beside.touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("controller.cli.serving.shutil.which", lambda _: "/usr/bin/wheelway")
    own = Path(".wheelway/controller.toml")
    assert _command(own) == "wheelway"
    assert _command(Path("state/controller.toml")).endswith("--config state/controller.toml")
    installed.touch()  # now a service is installed as well
    assert _command(own) == "wheelway --config .wheelway/controller.toml"
    installed.unlink()
    other = tmp_path / "other.toml"
    other.touch()
    monkeypatch.setenv("WHEELWAY_CONFIG", str(other))
    assert _command(own) == "wheelway --config .wheelway/controller.toml"
    monkeypatch.setenv("WHEELWAY_CONFIG", str(beside))
    assert _command(own) == "wheelway"


def test_a_wheel_that_is_not_there_is_said_to_be_so(wheelway, tmp_path):
    result = wheelway("check", str(tmp_path / "nope.whl"))
    assert result.exit_code == ExitCode.USAGE
    assert "there is no such file" in result.stderr


# -- completion ----------------------------------------------------------------------------------


def _completed(wheelway, line):
    """What bash would offer at the end of a command line."""
    words = ["wheelway", "--config", str(wheelway.config), *line.split(" ")]
    done = subprocess.run(
        [sys.executable, "-c", "from controller.cli import app; app(prog_name='wheelway')"],
        check=False,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "_WHEELWAY_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        },
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_commands_options_pipelines_and_versions(filled):
    assert _completed(filled, "sta") == ["status"]
    assert "--watch" in _completed(filled, "status --")
    assert _completed(filled, "explain ") == ["acme-iris", "greeter", "iris"]
    assert _completed(filled, "history gr") == ["greeter"]
    assert _completed(filled, "explain iris ") == ["2.0", "1.0", "0.9"]


def test_without_a_journal_the_shell_is_offered_nothing_and_told_nothing(wheelway):
    assert _completed(wheelway, "explain ") == []
