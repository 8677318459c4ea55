"""The real daemon, with no Ray to look at, tells log, metrics and a receiver of what it finds."""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import ExitStack, closing

import pytest
from packaging.version import Version

from controller.config.loading import load
from controller.daemon.loop import Daemon
from controller.journal import DaemonStatus, Journal
from controller.logs import PASS
from controller.model import Condition, Event, Phase, Release, Transition
from controller.planning.overrides import Pin, Suspension
from controller.planning.plan import Plan
from controller.reconcile.assembly import assemble
from controller.reconcile.report import Report
from controller.telemetry.observer import Telemetry
from tests.support.canned import canned
from tests.support.head import eventually

pytestmark = pytest.mark.unit

BASICS = """
[[sources]]
type = "directory"
path = "wheels"

[ray]
dashboard_url = "http://127.0.0.1:9"

[paths]
cache = "cache"
state = "state"
"""


class Lines(logging.Handler):
    """Keeps the records, each with the pass that said it."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append((PASS.get(), record))

    def kinds(self):
        return [
            (number, record.wheelway.kind)
            for number, record in list(self.records)
            if hasattr(record, "wheelway")
        ]

    def told(self):
        """The kinds of what the journal has, in order."""
        found = [kind for _, kind in self.kinds()]
        return [kind for kind in found if kind.startswith(("Release", "Condition", "Order"))]


@pytest.fixture
def lines():
    """What the daemon logs."""
    kept, logger = Lines(), logging.getLogger("wheelway")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    yield kept
    logger.removeHandler(kept)
    logger.setLevel(level)


def test_log_and_receivers_hear_what_a_pass_found_and_a_new_configuration(tmp_path, lines):
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "controller.toml"
    path.write_text(BASICS)
    renewed = []
    with canned() as server:
        server.says("/hook", "ok")
        daemon = Daemon(path, renewed=renewed.append)
        thread = threading.Thread(target=daemon.run)
        thread.start()
        try:
            eventually(lambda: (1, "ConditionAppeared") in lines.kinds(), 60)
            receiver = (
                f'\n[[notifications]]\ntype = "webhook"\nurl = "{server.url}/hook"\nhold = 0\n'
            )
            path.write_text(BASICS + receiver)
            eventually(lambda: renewed, 60)
            # It lasts since before this receiver was there: that is told to nobody anew.
            (tmp_path / "wheels").rmdir()
            eventually(lambda: server.asked, 60)
        finally:
            daemon.end()
            thread.join(60)
    assert not thread.is_alive()
    assert lines.kinds()[0] == (0, "DaemonStarted")
    assert "DaemonEnding" in [kind for _, kind in lines.kinds()]
    appeared = next(r for _, r in lines.records if r.wheelway.kind == "ConditionAppeared")
    assert appeared.wheelway.fields["REASON"] == "DashboardUnreachable"
    assert appeared.levelno == logging.WARNING
    (section,) = renewed[0].notifications
    assert section.name == "webhook"
    assert {said["event"] for said in server.bodies()} == {"stalled"}


def test_a_new_receiver_that_cannot_be_used_is_an_edit_that_is_not_in_force(tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "controller.toml"
    path.write_text(BASICS)
    reports = []
    daemon = Daemon(path, watcher=reports.append)
    monkeypatch.setenv("HTTPS_PROXY", "socks9://proxy")
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        eventually(lambda: reports, 60)
        path.write_text(
            BASICS + '\n[[notifications]]\ntype = "webhook"\nurl = "http://a.example"\n'
        )
        told = {("config", "ConfigInvalid")}
        eventually(lambda: told <= {(c.subject, c.reason) for c in reports[-1].conditions}, 60)
    finally:
        daemon.end()
        thread.join(60)
    assert not thread.is_alive()


def test_a_journal_in_trouble_fails_no_pass(tmp_path, lines):
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "controller.toml"
    path.write_text(BASICS)
    config = load(path)
    live = Event(
        1.0, "iris@1.0+abababab", "AnswersAtRoute", "so", {"phase": "Live", "before": "Ready"}
    )
    with Journal.open(config.paths.state) as journal, ExitStack() as stack:
        assembly = assemble(config, journal, wake=threading.Event().set)
        stack.callback(assembly.close)
        telemetry = stack.enter_context(Telemetry(config, journal, version="9.9"))
        journal.append(live)
        with closing(sqlite3.connect(journal.path)) as other, other:
            other.execute("ALTER TABLE releases RENAME TO elsewhere")
        telemetry.observe(Report("", 1.0, plan=Plan((), ())), assembly, duration=0.1)
        assert b'wheelway_passes_total{result="unchanged"} 1' in telemetry.metrics.render()
    assert any(
        "metrics of this pass are incomplete" in record.getMessage() for _, record in lines.records
    )
    assert "ReleaseLive" in {kind for _, kind in lines.kinds()}


def test_who_watches_the_passes_sees_what_the_journal_and_people_wrote_meanwhile(tmp_path):
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "controller.toml"
    path.write_text(BASICS)
    reports: list[Report] = []
    daemon = Daemon(path, watcher=reports.append)
    thread = threading.Thread(target=daemon.run)
    thread.start()

    def told():
        return {event.reason for report in list(reports) for event in report.events}

    try:
        eventually(lambda: reports, 60)
        state = load(path).paths.state
        with Journal.amend(state) as journal:
            journal.order(Suspension("", "ada", "", 1.0), message="suspended by ada")
        daemon.poll()
        eventually(lambda: "SuspensionSet" in told(), 60)
        for file in state.glob("journal.sqlite*"):
            file.unlink()
        daemon.poll()
        eventually(lambda: "JournalRestored" in told(), 60)
    finally:
        daemon.end()
        thread.join(60)
    assert not thread.is_alive()


RELEASE = Release("iris", Version("1.4"), "ab" * 32)


class Site:
    """Telemetry over a journal, with the parts of a daemon that makes no passes."""

    def __init__(self, folder, server, stack):
        (folder / "wheels").mkdir()
        self.path = folder / "controller.toml"
        self.path.write_text(BASICS)
        self.server = server
        server.says("/hook", "ok")
        config = load(self.path)
        self.journal = stack.enter_context(Journal.open(config.paths.state))
        self.assembly = assemble(config, self.journal, wake=threading.Event().set)
        stack.callback(self.assembly.close)
        self.telemetry = stack.enter_context(Telemetry(config, self.journal, version="9.9"))

    def receives(self, options):
        """A receiver is configured."""
        hook = f'type = "webhook"\nurl = "{self.server.url}/hook"\n{options}\n'
        self.path.write_text(f"{BASICS}\n[[notifications]]\n{hook}")
        self.telemetry.renew(load(self.path))


@pytest.fixture
def site(tmp_path):
    with canned() as server, ExitStack() as stack:
        yield Site(tmp_path, server, stack)


def test_the_log_tells_what_people_ordered_through_the_journal(tmp_path, lines):
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "controller.toml"
    path.write_text(BASICS)
    config = load(path)
    with Journal.open(config.paths.state) as journal, ExitStack() as stack:
        journal.set_status(DaemonStatus(1, 1.0, "by a daemon that did not count", 0.1, 1, "0", 0.0))
        journal.order(Suspension("rag", "bob", "", 1.0), message="before it began")
        assembly = assemble(config, journal, wake=threading.Event().set)
        stack.callback(assembly.close)
        telemetry = stack.enter_context(Telemetry(config, journal, version="9.9"))
        with Journal.amend(config.paths.state) as beside:
            order = Pin("iris", (Version("1.4"),), "alice", "worse", 2.0)
            beside.order(order, message=str(order))
        for _ in range(2):
            telemetry.observe(Report("", 1.0), assembly, duration=0.1)
    (said,) = [r for _, r in lines.records if getattr(r, "wheelway", None)]
    assert said.wheelway.kind == "OrderGiven"
    about = {"PIPELINE": "iris", "REASON": "PinSet", "ORDERED_BY": "alice"}
    assert about.items() <= said.wheelway.fields.items()
    assert "pinned to 1.4 by alice (worse)" in said.getMessage()


def test_what_a_pass_wrote_down_before_it_failed_is_told_all_the_same_and_once(site, lines):
    site.receives('hold = 0\nevents = ["live", "condition"]')
    for phase in (Phase.STAGED, Phase.LIVE):
        site.journal.record(Transition(RELEASE, phase, "AsPlanned", "so"), 2.0)
    site.telemetry.observe(Report("cut short", 1.0, failed=True), site.assembly, duration=0.1)
    site.telemetry.observe(Report("well", 1.0), site.assembly, duration=0.1)
    assert lines.told() == ["ReleaseStaged", "ReleaseLive"]
    eventually(lambda: site.server.asked)
    site.telemetry.close()
    assert [said["event"] for said in site.server.bodies()] == ["live"]


def test_a_failed_pass_says_nothing_of_what_lasts(site):
    site.receives("hold = 0")
    down = Condition("ray", "DashboardUnreachable", "nothing answers")
    for report in (
        Report("blind", 1.0, conditions=(down,)),
        Report("cut short", 1.0, failed=True),
        Report("blind", 1.0, conditions=(down,)),
    ):
        site.telemetry.observe(report, site.assembly, duration=0.1)
    eventually(lambda: site.server.asked)
    site.telemetry.close()
    assert [said["event"] for said in site.server.bodies()] == ["condition"]


def test_more_events_than_are_read_at_once_are_all_told(site, lines):
    for number in range(450):
        site.journal.append(Event(1.0, "everything", "SuspensionSet", str(number), {"by": "bob"}))
    site.telemetry.observe(Report("", 1.0), site.assembly, duration=0.1)
    assert lines.told() == ["OrderGiven"] * 450


def test_what_was_ordered_while_the_daemon_was_down_is_logged_by_the_next(tmp_path, lines):
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "controller.toml"
    path.write_text(BASICS)

    def run():
        daemon = Daemon(path)
        thread = threading.Thread(target=daemon.run)
        thread.start()
        eventually(lambda: daemon.passes.liveness().number, 60)
        daemon.end()
        thread.join(60)
        assert not thread.is_alive()

    run()
    with Journal.amend(tmp_path / "state") as journal:
        journal.order(Suspension("", "bob", "", 2.0), message="suspended by bob")
    for _ in range(2):
        run()
    assert lines.told().count("OrderGiven") == 1
    assert lines.told().count("ConditionAppeared") == 1
