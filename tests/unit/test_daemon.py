"""The daemon beside a paper head: what it does with heads, signals and trouble."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from controller.daemon import loop as module
from controller.daemon.foreground import signals
from controller.daemon.loop import Daemon
from controller.errors import JournalError
from controller.journal import Journal
from controller.model import Phase
from controller.sources.directory.source import DirectorySource
from tests.support.head import eventually
from tests.support.indexes import free_port
from tests.support.site import BUSY, IDLE

pytestmark = pytest.mark.unit

ROUTE = "/predict/demo/1.0"


def test_a_wheel_wakes_the_daemon_and_goes_live(site, paper_head):
    site.basics = site.basics.replace("poll_interval = 1", "poll_interval = 300")
    site.configure(IDLE)
    with site.daemon():
        site.drop("demo")
        release = site.wait_for(ROUTE)
        site.wait_for_phase(release, Phase.LIVE)
    assert len(paper_head.puts) == 2
    with Journal.read(site.folder / "state") as journal:
        status = journal.status()
    assert (status.number, status.pid) == (len(site.reports), os.getpid())
    assert status.sentence == site.reports[-1].sentence


def test_a_head_that_is_known_needs_no_version_for_what_is_to_start(site, paper_head, inquisitive):
    with site.daemon():
        eventually(lambda: "/api/version" in " ".join(paper_head.asked) and site.reports)
        paper_head.broken.add("/api/version")
        [condition] = eventually(lambda: site.conditions("HeadUnknown"))
        assert (condition.subject, condition.ok) == ("ray", True)
        assert "what it said before still counts" in condition.message
        site.drop("demo")
        site.wait_for(ROUTE)
        assert site.conditions("HeadUnknown")
        paper_head.broken.clear()
        eventually(lambda: not site.conditions("HeadUnknown"))


def test_a_head_that_nobody_knows_starts_nothing_and_is_told_of(site, paper_head, inquisitive):
    paper_head.broken.add("/api/version")
    with site.daemon():
        site.drop("demo")
        [condition] = eventually(lambda: site.conditions("HeadUnknown"))
        assert (condition.subject, condition.ok) == ("ray", False)
        assert "/api/version" in condition.message
        assert "nothing new is started" in condition.message
        eventually(lambda: site.conditions("Queued"))
        assert not paper_head.puts
        paper_head.fails(500)
        eventually(lambda: site.conditions("DashboardFailed"))
        assert not site.conditions("HeadUnknown")
        paper_head.recovers()
        paper_head.broken.clear()
        site.wait_for(ROUTE)


def test_another_head_that_a_bug_keeps_from_being_used_is_tried_again(
    site, paper_head, monkeypatch, inquisitive
):
    def buggy(*_, **__):
        tried.append(paper_head.session)
        raise RuntimeError("a bug")

    tried = []
    with site.daemon():
        with monkeypatch.context() as patched:
            patched.setattr(module, "assemble", buggy)
            paper_head.session = "session_another"
            eventually(lambda: len(tried) > 2)
            assert site.conditions("InternalError")
        eventually(lambda: not site.conditions("InternalError"))


def test_nothing_starts_on_a_head_that_came_back_as_another_before_it_was_looked_at(
    site, paper_head
):
    def comes_back(ray):
        paper_head.fails(503)
        eventually(lambda: site.conditions("DashboardFailed"))
        site.drop("other")
        paper_head.ray = ray
        paper_head.recovers()

    fits = paper_head.ray
    with site.daemon():
        site.drop("demo")
        site.wait_for_phase(site.wait_for(ROUTE), Phase.LIVE)
        comes_back("2.59.0")
        # Before it was looked at, and because of what was seen then.
        eventually(lambda: site.conditions("Queued") and site.conditions("RayVersionDiffers"))
        assert len(paper_head.puts) == 2
        comes_back(fits)
        site.wait_for("/predict/other/1.0")


def test_the_interpreter_is_looked_at_anew_when_ray_was_restarted(site, paper_head, inquisitive):
    asked = site.folder / "asked"
    python = site.folder / "python"
    python.write_text(f'#!/bin/sh\necho >> "{asked}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    site.basics = site.basics.replace("[ray]", "[ray]\npython = 'python'")
    site.configure(BUSY)
    with site.daemon():
        eventually(lambda: site.reports[-1].plan is not None)
        before = asked.stat().st_size
        paper_head.session = "session_2"
        eventually(lambda: asked.stat().st_size > before)


def test_a_fetch_that_takes_all_threads_keeps_no_source_from_being_listed(site, monkeypatch):
    goes_on, original = threading.Event(), DirectorySource.fetch

    def slow(self, revision):
        goes_on.wait(300)
        return original(self, revision)

    monkeypatch.setattr(DirectorySource, "fetch", slow)
    site.configure(f"{BUSY}workers = 1\n")
    with site.daemon() as daemon:
        site.drop("demo")
        eventually(lambda: _listed(site) == 1)
        site.drop("other")
        daemon.passes.wake()
        try:
            eventually(lambda: _listed(site) == 2)
        finally:
            goes_on.set()


def _listed(site):
    with Journal.read(site.folder / "state") as journal:
        return sum(len(listing.revisions) for listing in journal.listings().values())


def test_a_pass_that_was_asked_for_is_not_told_of_before_all_was_listed(site, monkeypatch):
    goes_on, listing, original = threading.Event(), threading.Event(), DirectorySource.list

    def slow(self):
        listing.set()
        goes_on.wait(60)
        return original(self)

    with site.daemon() as daemon, ThreadPoolExecutor() as pool:
        assert daemon.passes.reconcile(60)["complete"]
        monkeypatch.setattr(DirectorySource, "list", slow)
        asked = pool.submit(daemon.passes.reconcile, 60)
        try:
            assert listing.wait(60)
            seen = len(site.reports)
            eventually(lambda: len(site.reports) > seen + 1)
            assert not asked.done()
        finally:
            goes_on.set()
        assert asked.result()["complete"]


def test_a_bug_in_a_pass_does_not_end_the_daemon(site, caplog, monkeypatch):
    with site.daemon() as daemon:
        monkeypatch.setattr("controller.reconcile.reconciler.Planner.plan", [].__getattribute__)
        daemon.poll()
        eventually(lambda: "the pass failed unexpectedly" in site.reports[-1].sentence)
        assert "attribute name must be string" in caplog.text
        monkeypatch.undo()
        site.drop("demo")
        site.wait_for(ROUTE)


def test_a_second_daemon_does_not_start(site):
    with site.daemon(), pytest.raises(JournalError, match="another"):
        Daemon(site.config).run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_make_it_look_and_end_it(site, number):
    site.configure(IDLE)
    before = signal.getsignal(number)
    with ExitStack() as stack:
        daemon = Daemon(site.config, watcher=site.reports.append, asker=site.asker)
        stack.enter_context(signals(daemon))
        thread = threading.Thread(target=daemon.run)
        thread.start()
        stack.callback(thread.join, 60)
        stack.callback(daemon.end)
        eventually(lambda: site.reports)
        seen = len(site.reports)
        os.kill(os.getpid(), signal.SIGHUP)
        eventually(lambda: len(site.reports) > seen)
        os.kill(os.getpid(), number)
        thread.join(60)
        assert not thread.is_alive()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_comes_while_the_main_thread_holds_a_lock_waits_for_nothing(site, number):
    daemon = Daemon(site.config)
    with signals(daemon):
        with daemon._wake._cond, daemon._ending._cond, daemon._reload._cond:
            os.kill(os.getpid(), number)  # its handler runs here, in this thread
        happened = daemon._reload if number == signal.SIGHUP else daemon._ending
        assert happened.wait(60)
        assert daemon._wake.wait(60)


def test_a_journal_that_cannot_be_written_is_told_everywhere_until_it_can_be(site, monkeypatch):
    opened = []
    original = Journal.open
    monkeypatch.setattr(
        Journal, "open", lambda *a, **h: opened.append(original(*a, **h)) or opened[-1]
    )
    port = free_port()
    site.configure(f'{BUSY}[api]\nlisten = "127.0.0.1:{port}"\n')

    def asked(path):
        return httpx.get(f"http://127.0.0.1:{port}{path}")

    def ready():
        return (found := asked("/readyz")).status_code, found.json().get("reason")

    with site.daemon() as daemon:
        site.drop("demo")
        site.wait_for_phase(site.wait_for(ROUTE), Phase.LIVE)
        eventually(lambda: ready() == (200, None))
        assert "wheelway_journal_writable 1.0" in asked("/metrics").text
        opened[0]._connection.execute("PRAGMA query_only = 1")  # SQLite itself refuses, as then
        eventually(lambda: ready() == (503, "JournalUnwritable"))
        assert asked("/livez").status_code == 200
        assert "wheelway_journal_writable 0.0" in asked("/metrics").text
        conditions = asked("/status.json").json()["conditions"]
        assert ("journal", "JournalUnwritable") in {(c["subject"], c["reason"]) for c in conditions}
        assert daemon.passes.liveness().unrecorded.message
        opened[0]._connection.execute("PRAGMA query_only = 0")
        eventually(lambda: ready() == (200, None))
        assert "wheelway_journal_writable 1.0" in asked("/metrics").text
        assert site.release_at(ROUTE)
