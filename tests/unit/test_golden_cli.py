"""Golden files of the `wheelway` command: what each prints, for people and for scripts."""

from __future__ import annotations

import json
import re
import time

import pytest
import typer
from typer.testing import CliRunner

from controller.cli import app
from controller.journal import Journal
from controller.model import Condition

pytestmark = pytest.mark.unit

TOLD = {
    "status": ["status"],
    "status-all": ["status", "--all"],
    "explain-all": ["explain"],
    "explain-iris": ["explain", "iris"],
    "explain-iris-1.1": ["explain", "iris", "1.1"],
    "explain-ivy": ["explain", "ivy"],
    "explain-fern": ["explain", "fern"],
    "explain-lily": ["explain", "lily"],
    "explain-lily-weights": ["explain", "lily-weights"],
    "explain-moss": ["explain", "moss"],
    "explain-rose": ["explain", "rose"],
    "history": ["history", "--limit", "500"],
    "history-iris": ["history", "iris", "--limit", "8"],
    "plan": ["plan"],
    "quarantine": ["quarantine", "list"],
    "quarantine-all": ["quarantine", "list", "--all"],
}
"""By golden file: what is asked of a daemon that runs, and changes nothing."""
ORDERS = (
    ["pin", "iris", "1.1", "--note", "drift"],
    ["unpin", "iris"],
    ["rollback", "iris"],
    ["suspend"],
    ["suspend", "rose", "--note", "see 43"],
    ["resume", "rose"],
    ["resume"],
    ["resume", "ivy"],
    ["unpin", "rose", "--note", "mended"],
    ["quarantine", "clear", "fern", "1.0"],
    ["rollback", "lily", "--weights"],
    ["pin", "lily", "2026.11.27", "--weights", "--note", "drift"],
    ["unpin", "lily", "--weights"],
    ["quarantine", "clear", "lily", "2026.11.28", "--weights"],
    ["reconcile"],
    ["config", "reload"],
)
"""In this order, of one daemon."""
REFUSED = (
    ["explain", "nothing-like-it"],
    ["explain", "iris", "7.0"],
    ["explain", "iris", "one"],
    ["pin", "iris", "7.0"],
    ["unpin", "lily"],
    ["rollback", "lily"],
    ["rollback", "fern", "--weights"],
    ["pin", "lily", "2025", "--weights"],
    ["unpin", "lily", "--weights"],
    ["resume", "lily"],
    ["quarantine", "clear", "lily"],
    ["quarantine", "clear", "lilly"],
    ["history", "--applied", "ffff"],
    ["history", "--applied", "nope"],
    ["history", "--limit", "0"],
    ["logs", "birch"],
    ["new", "json"],
    ["check", "missing-1.0-py3-none-any.whl"],
    ["nothing"],
)
BROKEN = """\
[[sources]]
type = "directory"
[rollout]
intervall = 5
max_staging = 0
"""


@pytest.fixture(autouse=True)
def anywhere(monkeypatch):
    """Neither this machine's zone, nor its user, nor the terminal decide what is printed."""
    for name, value in {"TZ": "UTC", "LOGNAME": "operator", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "WHEELWAY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def served(scene):
    """For those who only ask."""
    with scene.serving() as served:
        yield served


def run(config, args):
    arguments = ["--config", str(config), *args]
    return CliRunner().invoke(app, arguments, prog_name="wheelway")


def transcript(config, args):
    """A command and what came of it, as on a terminal of a person who writes it down."""
    done = run(config, args)
    said = [f"$ wheelway {' '.join(args)}", done.stdout.rstrip(), done.stderr.rstrip()]
    return "\n".join([*filter(None, said), f"exit code {done.exit_code}", ""])


def undated(text):
    """Without how long ago it was, where a command asks the clock itself."""
    return re.sub(r"\b\d{5} d\b", "<long ago>", text)


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told_to_people_and_to_scripts(name, golden, scene, served):
    golden.check(f"cli/{name}.txt", undated(transcript(served.config, TOLD[name])), scene.names)
    done = run(served.config, [*TOLD[name], "--json"])
    assert (done.exit_code, done.stderr) == (0, "")
    golden.check(f"cli/{name}.json", json.loads(done.stdout), scene.names)


def test_the_config_that_would_be_sent_and_one_that_was(golden, scene, served):
    golden.check("cli/render.yaml", run(served.config, ["render"]).stdout, scene.names)
    sent = json.loads(run(served.config, ["history", "--json"]).stdout)["configs"][0]["digest"]
    shown = run(served.config, ["history", "--applied", sent]).stdout
    golden.check("cli/history-applied.yaml", shown, scene.names)


def test_a_plan_with_changes_is_told_to_people_and_to_scripts(golden, scene):
    reports = [r for r in scene.reports if r.plan.changes and r.failures]
    promoted = next(r for r in scene.reports if len(r.plan.changes) > 1 and r.conditions)
    with scene.serving() as served:
        for name, report in {"plan-failure": reports[0], "plan-changes": promoted}.items():
            served.told.ended(41, report, complete=True)
            golden.check(f"cli/{name}.txt", transcript(served.config, ["plan"]), scene.names)
            done = run(served.config, ["plan", "--json"])
            golden.check(f"cli/{name}.json", json.loads(done.stdout), scene.names)


def test_what_is_ordered_is_answered_to_people(golden, scene):
    with scene.serving() as served:
        said = [transcript(served.config, args) for args in ORDERS]
        golden.check("cli/orders.txt", "\n".join(said), scene.names)


def test_what_is_ordered_is_answered_to_scripts(golden, scene):
    with scene.serving() as served:
        answers = []
        for args in ORDERS:
            done = run(served.config, [*args, "--json"])
            document = json.loads(done.stdout)
            answers.append({"command": " ".join(args), "exit": done.exit_code, "says": document})
        golden.check("cli/orders.json", answers, scene.names)
        after = {
            "overrides": json.loads(run(served.config, ["status", "--json"]).stdout)["overrides"],
            "events": json.loads(run(served.config, ["history", "--json"]).stdout)["events"][-12:],
        }
        golden.check("cli/after-orders.json", after, scene.names)


def test_what_is_refused_says_why_with_its_exit_code(golden, scene, served, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = [transcript(served.config, args) for args in REFUSED]
    golden.check("cli/refused.txt", "\n".join(said), scene.names)


def test_what_the_daemon_cannot_write_down_is_told_all_the_same(golden, scene):
    full = Condition("journal", "JournalUnwritable", "the disk is full")
    with scene.serving() as served:
        served.told.ended(41, scene.reports[-1], complete=True, unrecorded=full)
        shown = transcript(served.config, ["status"])
        golden.check("cli/status-unrecorded.txt", shown, scene.names)


def test_without_a_daemon_the_journal_is_told_or_nothing(golden, scene, tmp_path):
    config = tmp_path / "controller.toml"
    config.write_text('[paths]\nstate = "state"\n')
    names = {str(tmp_path): "<folder>"}
    missing = [transcript(config, args) for args in (["status"], ["pin", "iris", "1"])]
    with Journal.open(tmp_path / "state"):
        pass
    empty = [transcript(config, args) for args in (["status"], ["explain"], ["history"])]
    golden.check("cli/no-daemon.txt", "\n".join([*missing, *empty]), names)


@pytest.mark.parametrize("text", ["", BROKEN], ids=["right", "wrong"])
def test_the_configuration_is_checked(text, golden, tmp_path):
    config = tmp_path / "controller.toml"
    config.write_text(text or '[[sources]]\ntype = "directory"\npath = "wheels"\n')
    names = {str(tmp_path): "<folder>"}
    name = "config-broken" if text else "config-right"
    golden.check(f"cli/{name}.txt", transcript(config, ["config", "check"]), names)
    document = json.loads(run(config, ["config", "check", "--json"]).stdout)
    golden.check(f"cli/{name}.json", document, names)


def test_every_key_of_the_configuration_is_listed(golden, tmp_path):
    config = tmp_path / "controller.toml"
    golden.check("cli/config-schema.txt", transcript(config, ["config", "check", "--schema"]))
    document = json.loads(run(config, ["config", "check", "--schema", "--json"]).stdout)
    golden.check("cli/config-schema.json", document)


def test_every_command_says_what_it_takes(golden):
    def helped(group, *before):
        yield [*before, "--help"]
        for name, command in sorted(getattr(group, "commands", {}).items()):
            yield from helped(command, *before, name)

    runner = CliRunner()
    pages = []
    for args in helped(typer.main.get_command(app)):
        shown = runner.invoke(app, args, prog_name="wheelway", terminal_width=100)
        pages.append(f"$ wheelway {' '.join(args)}\n{shown.stdout}")
    golden.check("cli/help.txt", "\n".join(pages))
