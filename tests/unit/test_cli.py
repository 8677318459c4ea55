"""The `wheelway` command over a journal that real writes filled."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest
from packaging.version import Version
from rich.console import Console
from typer.testing import CliRunner

from controller.authoring.gates import Gate
from controller.cli import app
from controller.cli.authoring import as_document
from controller.cli.output import stack, table
from controller.cli.program import ExitCode, exit_code_of
from controller.errors import ConfigError, JournalError, Rejected, TemplateError, Transient, Waiting
from controller.journal import Journal
from controller.model import (
    Condition,
    Listing,
    Phase,
    Release,
)
from tests.support.command import (
    CONFIG_DIGEST,
    LOCAL,
    Command,
    fail,
    passed,
    pid_of_a_process_that_ended,
    reach,
    revision,
)
from tests.support.imports import SLOW, imported_by
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit


@pytest.fixture
def wheelway(tmp_path):
    return Command(tmp_path)


@pytest.fixture
def filled(wheelway):
    wheelway.fill()
    return wheelway


# -- status --------------------------------------------------------------------------------------


def test_a_failed_release_is_past_once_other_bytes_of_its_version_are_live(filled):
    mended = Release("iris", Version("2.0"), "f" * 64)
    with Journal.open(filled.state) as journal:
        reach(journal, mended, [(Phase.LIVE, "AnswersAtRoute", time.time())])
        listing = Listing("directory", (revision("acme-iris", mended),))
        journal.save_listing(listing, time.time())
    shown = filled.json("status")["releases"]
    assert [row["phase"] for row in shown if row["version"] == "2.0"] == ["Live"]


def test_a_quarantined_release_that_is_not_shown_is_counted(filled):
    assert filled.json("status")["hidden_quarantined"] == 0
    assert "quarantined not shown" not in filled("status").stdout
    with Journal.open(filled.state) as journal:
        journal.save_listing(Listing("directory", (revision("greeter", LOCAL),)), time.time())
    told = filled("status").stdout
    assert "2 quarantined not shown (`wheelway quarantine list --all`)" in told
    listed = filled("quarantine", "list", "--all").stdout
    assert "LoadFailed" in listed
    assert "NotAZip" in listed


@pytest.mark.parametrize(
    ("dead", "age", "state"),
    [(False, 0, "running"), (False, 3600, "late"), (True, 0, "down"), (True, 3600, "down")],
)
def test_the_daemon_is_judged_by_its_process_and_its_last_pass(filled, dead, age, state):
    pid = pid_of_a_process_that_ended() if dead else os.getpid()
    with Journal.open(filled.state) as journal:
        passed(journal, pid=pid, at=time.time() - age)
    assert filled.json("status")["daemon"]["state"] == state


def test_with_the_daemon_down_status_says_whether_ray_still_serves(filled):
    with Journal.open(filled.state) as journal:
        passed(journal, pid=pid_of_a_process_that_ended())
    with socket.create_server(("127.0.0.1", 0)) as ray:
        url = f"http://127.0.0.1:{ray.getsockname()[1]}"
        filled.configure(f'[ray]\ndashboard_url = "{url}"\n')
        assert f"Ray answers at {url}: what is served stays up" in filled("status").stdout
    assert f"no Ray answers at {url} either: nothing is served" in filled("status").stdout


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
            fail(journal, four, "prepare", "RequirementsUnsatisfiable", why, time.time())
        journal.save_listing(Listing("shelf", (revision("parts", four),)), time.time())
    shown = filled("status").stdout
    (line,) = (line for line in shown.splitlines() if "what x requires" in line)
    assert line.startswith("  part-0 1.0, part-1 1.0, part-2 1.0, part-3 1.0: Requirements")
    assert line.endswith("zz-alpha ...")
    assert len(line) < 400
    assert max(map(len, filled("history").stdout.splitlines())) < 400
    told = filled("explain", "part-0").stdout
    assert told.count(why.strip()) == 1


def test_a_terminal_shows_the_gaps_and_the_columns_that_it_has_room_for():
    rows = [("iris", "Live", "iris-1.0-0123abcd")]
    for width, heads in ((40, "pipeline  phase"), (60, "pipeline  phase  placement")):
        out = Console(file=io.StringIO(), force_terminal=True, no_color=True, width=width)
        out.print(stack("told", "", table(("pipeline", "phase", "placement"), rows, wide=50)))
        told, gap, head, *_ = re.sub("\x1b[^m]*m", "", out.file.getvalue()).splitlines()
        assert [told.rstrip(), gap, head.rstrip()] == ["told", "", heads]


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


# -- errors and exit codes -----------------------------------------------------------------------


def test_a_journal_that_is_not_there_yet_is_unavailable_and_debug_shows_where(wheelway):
    plain, debug = wheelway("status"), wheelway("--debug", "status")
    assert plain.exit_code == debug.exit_code == ExitCode.UNAVAILABLE
    assert plain.stderr.startswith("error: ")
    assert ("Traceback" in plain.stderr, "Traceback" in debug.stderr) == (False, True)


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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), ExitCode.CONFIG),
        (TemplateError("x"), ExitCode.CONFIG),
        (JournalError("JournalNewer", "x"), ExitCode.UNAVAILABLE),
        (Transient("DashboardUnreachable", "x"), ExitCode.UNAVAILABLE),
        (Waiting("DiskFull", "x"), ExitCode.UNAVAILABLE),
        (Rejected("NotAZip", "x"), ExitCode.FAILED),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error, code):
    assert exit_code_of(error) == code


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


def test_quick_commands_import_nothing_slow(filled):
    helping = ["--help", "status --help", "run --help", "check --help"]
    asking = ["explain iris", "history", "quarantine list", "pin iris 1.0"]
    imported = imported_by(filled.config, *helping, *asking)
    assert "pydantic" not in imported[0]
    assert "rich" not in imported[len(helping) - 1]
    assert not imported[-1] & SLOW
    assert len(imported[-1]) < 450  # 420 today; a thousand, where they started slowly


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


def test_check_of_a_folder_says_what_to_give_instead(tmp_path):
    def told(path):
        result = CliRunner().invoke(app, ["check", str(path)])
        assert result.exit_code == ExitCode.USAGE
        return " ".join(result.stderr.split())

    project = tmp_path / "my project"
    project.mkdir()
    assert f"that is a folder; give a wheel: `uv build --wheel '{project}'` puts one" in told(
        project
    )
    (project / "dist").mkdir()
    (project / "dist" / "a-1.0-py3-none-any.whl").touch()
    wheels = f"give the wheels in it: '{project}/dist'/*.whl"
    assert wheels in told(project)
    assert wheels in told(project / "dist")
    assert "there is no such file" in told(tmp_path / "a.whl")


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


# -- completion ----------------------------------------------------------------------------------
