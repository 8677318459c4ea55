"""The command with a daemon that answers at its socket, and the same with none."""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from packaging.version import Version
from typer.testing import CliRunner

from controller.cli import app, link
from controller.cli.program import ExitCode
from controller.daemon.passes import Passes
from controller.journal import Journal
from controller.model import Condition, Phase, Quarantine, Release
from controller.planning.plan import Plan, Underway
from controller.reconcile.report import Report
from tests.support.imports import SLOW, imported_by
from tests.support.service import Service, fill

pytestmark = pytest.mark.unit


class Command:
    """Runs `wheelway ...` beside a service; `up` says whether that answers."""

    def __init__(self, folder, *, up: bool) -> None:
        self.up = up
        self.config = folder / "controller.toml"
        self.config.write_text(
            f'[ray]\ndashboard_url = "http://127.0.0.1:9"\n[paths]\nstate = "{folder}"\n'
        )
        with Journal.open(folder) as journal:
            fill(journal)
        self.service = Service(folder)

    def __call__(self, *args):
        answering = self.service.serving() if self.up else nullcontext()
        with answering:
            return CliRunner().invoke(app, ["--config", str(self.config), *args])

    def json(self, *args):
        result = self(*args, "--json")
        assert result.exit_code == 0, result.stderr
        assert result.stderr.startswith("note: ") is not self.up
        return json.loads(result.stdout)


@pytest.fixture(params=[True, False], ids=["daemon up", "daemon down"])
def wheelway(request, tmp_path):
    return Command(tmp_path, up=request.param)


@pytest.fixture
def with_daemon(tmp_path):
    return Command(tmp_path, up=True)


@pytest.fixture
def without(tmp_path):
    return Command(tmp_path, up=False)


# -- the same either way -------------------------------------------------------------------------


def test_what_is_told_is_the_same_from_the_daemon_and_from_its_journal(wheelway):
    versions = [r["version"] for r in wheelway.json("status")["releases"]]
    assert versions == ["1.5", "1.4", "1.3"]
    assert len(wheelway.json("status", "--all")["releases"]) == 5
    assert "LoadFailed" in wheelway("status").stdout
    assert wheelway.json("explain", "iris", "1.5")["releases"][0]["remedies"]
    assert "model.bin" in wheelway("explain", "iris").stdout
    assert wheelway.json("history", "iris", "--limit", "3")["events"][-1]["reason"] == "LoadFailed"
    assert "config abababab" not in wheelway("history", "rose").stdout
    assert wheelway("history", "--applied", "ab12").stdout == "applications: []\n"
    assert [q["reason"] for q in wheelway.json("quarantine", "list")] == ["LoadFailed"]


def test_orders_are_kept_and_shown_either_way(wheelway):
    pinned = wheelway.json("pin", "Iris", "1.2", "1.3", "--note", "drift")
    assert pinned["versions"] == ["1.3", "1.2"]
    shown = wheelway("status").stdout
    assert "drift" in shown
    assert "wheelway unpin iris" in shown
    assert "pinned to 1.3" in wheelway("explain", "iris").stdout
    assert wheelway.json("suspend")["pipeline"] == ""
    shown = wheelway("status").stdout
    assert "everything: suspended" in shown
    assert "    wheelway resume\n" in shown
    assert wheelway.json("resume")["pipeline"] == ""
    assert wheelway("suspend", "iris").stdout.startswith("iris is suspended")
    assert wheelway("resume", "iris").stdout.startswith("iris is no longer suspended")
    assert wheelway.json("unpin", "iris")["note"] == "drift"
    assert wheelway.json("rollback", "iris")["after"] == "1.3"
    assert "goes back from 1.4 to 1.3" in wheelway("rollback", "iris").stdout
    assert wheelway("quarantine", "clear", "iris", "1.5").exit_code == 0
    assert wheelway.json("quarantine", "list") == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["unpin", "iris"], "iris is not pinned by command; nothing is"),
        (["resume"], "not everything is suspended"),
        (["resume", "iris"], "iris is not suspended by itself"),
        (["pin", "iris", "7"], "no source lists iris 7; listed are 1.5, 1.4, 1.3, 1.2"),
        (["rollback", "irsi"], "did you mean iris"),
        (["explain", "iris", "7"], "iris has no version 7"),
        (["quarantine", "clear", "iris", "1.4"], "iris 1.4 is not quarantined"),
        (["quarantine", "clear", "irsi"], "did you mean iris"),
    ],
)
def test_a_refusal_has_the_same_words_and_exit_code_either_way(wheelway, args, said):
    result = wheelway(*args)
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stdout == ""


# -- with a daemon -------------------------------------------------------------------------------


def test_who_takes_an_order_back_may_say_why(wheelway):
    wheelway("suspend", "iris")
    assert wheelway("resume", "iris", "--note", "migrated").exit_code == 0
    wheelway("pin", "iris", "1.3")
    answer = wheelway("unpin", "iris", "-m", "mended")
    assert "the newest versions that it allows come back" in answer.stdout
    assert wheelway("quarantine", "clear", "iris", "--note", "new model").exit_code == 0
    told = [event["message"] for event in wheelway.json("history", "iris")["events"]]
    for why in ("(migrated); it was", "(mended); it was", "(new model); it was"):
        assert any(why in message for message in told), why


def test_a_running_daemon_is_told_at_once_and_by_whom(with_daemon, monkeypatch):
    monkeypatch.setenv("LOGNAME", "alice")
    assert with_daemon("pin", "iris", "1.3").stderr == ""
    assert with_daemon.service.made == 1
    with Journal.read(with_daemon.service.folder) as journal:
        assert journal.overrides().pins["iris"].by == "alice"


def test_plan_is_the_daemons_last_pass(with_daemon):
    too_soon = with_daemon("plan")
    assert too_soon.exit_code == ExitCode.UNAVAILABLE
    assert "has not finished a pass" in too_soon.stderr
    with_daemon.service.passes.ended(1, with_daemon.service.report, complete=True)
    result = with_daemon("plan")
    assert result.exit_code == ExitCode.CHANGES
    assert "add iris-1.4-0123abcd: ExamplesPassed: it is ready" in result.stdout
    assert with_daemon("plan", "--json").exit_code == ExitCode.CHANGES
    with_daemon.service.passes.ended(2, Report("waiting for Ray", 1.0), complete=True)
    assert with_daemon("plan").exit_code == ExitCode.UNAVAILABLE


def test_a_plan_without_changes_says_what_is_still_on_its_way_and_each_reason_once(with_daemon):
    short, queued = "no CPU is free", "4 releases are starting"
    waiting = [
        *(Underway(f"a@{n}+0", Phase.PREPARED, "Queued", queued) for n in range(20)),
        *(Underway(f"b@{n}+0", Phase.STAGED, "InsufficientResources", short) for n in range(4)),
    ]
    conditions = tuple(Condition(w.subject, w.reason, w.message) for w in waiting)
    old, new = (
        Quarantine(Release("c", Version(v), v * 64), "stage", "LoadFailed", f"bad {v}", "")
        for v in "12"
    )
    report = Report("0 live", 5.0, plan=Plan((), ()), waiting=tuple(waiting))
    report = replace(report, conditions=conditions, quarantines=(old, new), failures=(new,))
    with_daemon.service.passes.ended(1, report, complete=True)
    result = with_daemon("plan")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "Nothing to send now; 24 are not live yet:"
    assert lines[1] == f"  Queued (Prepared), 20 times: {queued}"
    assert lines[2].startswith("    a@0+0, a@1+0, ")
    assert lines[3] == f"  InsufficientResources (Staged), 4 times: {short}"
    assert lines[5] == "Quarantined: c@2+22222222: LoadFailed (stage): bad 2"
    assert lines[6] == "Quarantined before: 1 (`wheelway quarantine list`)."
    assert len(lines) == 8
    document = with_daemon.json("plan")
    assert len(document["waiting"]) == 24
    assert [failed["new"] for failed in document["quarantines"]] == [False, True]
    with_daemon.service.passes.ended(2, Report("2 live", 5.0, plan=Plan((), ())), complete=True)
    assert with_daemon("plan").stdout == "Nothing to change.\nNow: 2 live\n"


def test_render_prints_the_config_of_the_daemons_last_pass(with_daemon):
    report = Report("2 live", 5.0, plan=Plan((), ()), serve_config="applications: []\n")
    with_daemon.service.passes.ended(1, report, complete=True)
    assert with_daemon("render").stdout == "applications: []\n"
    broken = Condition("serve config", "TemplateInvalid", "config.yaml.j2:3: no such variable")
    report = Report("2 live", 5.0, plan=Plan((), ()), conditions=(broken, broken))
    with_daemon.service.passes.ended(2, report, complete=True)
    result = with_daemon("render")
    assert result.exit_code == ExitCode.CONFIG
    assert result.stderr == "error: config.yaml.j2:3: no such variable\n"
    report = Report("suspended", 5.0, plan=Plan((), ()))
    with_daemon.service.passes.ended(3, report, complete=True)
    assert "there is no config to print: suspended" in with_daemon("render").stderr
    with_daemon.service.passes.ended(4, Report("waiting for Ray", 1.0), complete=True)
    assert with_daemon("render").exit_code == ExitCode.UNAVAILABLE


def test_what_a_daemon_answers_is_printed_without_importing_what_it_needs_itself(with_daemon):
    plan = Plan((), ())
    report = Report("2 live", 5.0, plan=plan, serve_config="applications: []\n")
    with_daemon.service.passes.ended(1, report, complete=True)
    asked = ("status", "explain iris", "render", "plan")
    with with_daemon.service.serving():
        assert not imported_by(with_daemon.config, *asked)[-1] & SLOW


def test_reconcile_prints_what_the_pass_found(with_daemon):
    found = Condition("shelf", "DirectoryMissing", "there is no folder")
    with_daemon.service.report = replace(with_daemon.service.report, conditions=(found,))
    result = with_daemon("reconcile")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "2 live",
        "add iris-1.4-0123abcd: ExamplesPassed: it is ready",
        "shelf: DirectoryMissing: there is no folder",
    ]
    assert with_daemon.json("reconcile", "--timeout", "1")["complete"]


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_reconcile_is_no_success_when_ray_was_not_seen_or_time_is_up(with_daemon, how):
    service = with_daemon.service
    service.report = Report("waiting for Ray: nobody", 1.0)
    blind = with_daemon("reconcile", *how)
    service.passes = Passes(lambda: None, lambda: 60.0)
    service.passes.ended(9, Report("2 live", 5.0, plan=Plan((), ())), complete=False)
    late = with_daemon("reconcile", "--timeout", "0", *how)
    for result, said in ((blind, "waiting for Ray: nobody"), (late, "2 live")):
        assert result.exit_code == ExitCode.UNAVAILABLE
        assert said in result.stdout


# -- without one ---------------------------------------------------------------------------------


def test_without_a_daemon_that_is_said_beside_the_answer(without):
    result = without("status")
    assert result.exit_code == 0
    assert "control.sock (it is down, or has no control socket)" in result.stderr
    assert "this is from its journal" in result.stderr
    ordered = without("pin", "iris", "1.3")
    assert ordered.exit_code == 0
    assert "it is in its journal now, for its next pass" in ordered.stderr
    assert without("reconcile").exit_code == ExitCode.UNAVAILABLE


@contextmanager
def hanging_up(path, *, after=0):
    """A socket that takes a request and closes the connection, once it has answered some."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1)

        def take_and_hang_up():
            for number in range(after + 1):
                taken, _ = listening.accept()
                taken.recv(65536)
                if number < after:
                    taken.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                taken.close()

        thread = threading.Thread(target=take_and_hang_up)
        thread.start()
        yield
        thread.join(60)


def test_a_daemon_that_takes_an_order_and_dies_leaves_the_question_open(without):
    with hanging_up(without.service.folder / "control.sock", after=1):
        result = without("pin", "iris", "1.3")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "took the request and did not answer it" in result.stderr
    assert "`history` show whether it did it" in result.stderr
    with Journal.read(without.service.folder) as journal:
        assert journal.overrides().pins == {}, "it is not written twice"


@contextmanager
def hung(path):
    """A socket whose process does not come to take what connects."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1)
        yield


def test_a_hung_daemon_is_ordered_nothing_and_waited_for_no_longer_than_a_question_takes(
    without, monkeypatch
):
    """The order goes into its journal, as with one that is down; what needs it fails at once."""
    monkeypatch.setattr(link, "READING", 0.2)
    monkeypatch.setattr(link, "ORDERING", 3600.0)
    with hung(without.service.folder / "control.sock"):
        pinned = without("pin", "iris", "1.3")
        looked = without("reconcile")
    assert pinned.exit_code == 0
    for result in (pinned, looked):
        assert "does not answer (timed out): it hangs" in result.stderr
    assert "it is in its journal now, for its next pass" in pinned.stderr
    assert looked.exit_code == ExitCode.UNAVAILABLE
    with Journal.read(without.service.folder) as journal:
        assert list(journal.overrides().pins) == ["iris"]


def test_an_order_to_a_daemon_whose_passes_do_not_go_on_says_so(with_daemon):
    with_daemon.service.passes._late_after = lambda: -1.0
    result = with_daemon("pin", "iris", "1.3")
    assert result.exit_code == 0
    assert "note: no pass has come to its end for" in result.stderr


def test_a_daemon_that_does_not_answer_a_question_is_not_needed_for_it(without):
    with hanging_up(without.service.folder / "control.sock"):
        result = without("status")
    assert result.exit_code == 0
    assert "did not answer it" in result.stderr
    assert "/predict/iris/1.4" in result.stdout


# -- whoever may not -----------------------------------------------------------------------------

COMMANDS = {
    "status": ["status"],
    "history": ["history"],
    "explain": ["explain", "iris"],
    "pin": ["pin", "iris", "1.4"],
    "suspend": ["suspend"],
    "quarantine": ["quarantine", "list"],
    "reconcile": ["reconcile"],
}
NOBODY = 4242


@pytest.fixture
def open_folder():
    """A folder that everybody may look into; other runs of pytest shut others out of theirs."""
    with TemporaryDirectory(prefix="wheelway-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def as_a_stranger(folder, mode):
    """Inside, this process may not use a folder; its group is one that we are not in."""
    root = os.geteuid() == 0
    if root:
        os.chown(folder, -1, NOBODY)
    folder.chmod(mode if root else 0)
    try:
        if root:
            os.seteuid(NOBODY)
        yield
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o755)


@pytest.mark.parametrize("up", [True, False], ids=["daemon up", "daemon down"])
@pytest.mark.parametrize("command", COMMANDS)
def test_whoever_may_not_is_told_which_group_may(command, up, open_folder):
    state = open_folder / "closed"
    state.mkdir()
    wheelway = Command(state, up=up)
    wheelway.config = wheelway.config.rename(open_folder / "controller.toml")
    wheelway(*COMMANDS[command])  # what it imports has to be read before
    serving = wheelway.service.serving() if up else nullcontext()
    with serving, as_a_stranger(state, 0o750):
        result = CliRunner().invoke(app, ["--config", str(wheelway.config), *COMMANDS[command]])
    assert result.exit_code == ExitCode.NOT_PERMITTED, result.output
    assert " may not " in result.stderr
    if os.geteuid() == 0:
        assert f"members of the group number {NOBODY}: `sudo usermod -aG" in result.stderr
