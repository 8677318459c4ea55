"""The daemon beside a paper head: what it does with its configuration, signals and trouble."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack

import httpx
import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.daemon import loop as module
from controller.daemon.config_file import ConfigurationFile
from controller.daemon.foreground import signals
from controller.daemon.loop import Daemon
from controller.errors import ConfigError, JournalError
from controller.journal import Journal
from controller.model import Phase
from controller.sources.directory.source import DirectorySource
from tests.support.head import eventually
from tests.support.indexes import free_port
from tests.support.site import Site

pytestmark = pytest.mark.unit

ROUTE = "/predict/demo/1.0"
IDLE = "[rollout]\ninterval = 300\n"
"""Passes only when something wakes the daemon."""
BUSY = "[rollout]\nabsence_grace = 0\ninterval = 0.2\n"
"""A pass, and a look at the configuration file, at every turn."""


# -- the configuration file ----------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "controller.toml"
    path.write_text("[rollout]\ninterval = 1\n")
    return path


def test_a_file_that_cannot_be_used_at_the_start_is_an_error(tmp_path):
    path = tmp_path / "controller.toml"
    with pytest.raises(ConfigError, match="cannot be read"):
        ConfigurationFile(path)
    path.write_text("[rollout]\nintervall = 1\n")
    with pytest.raises(ConfigError, match=r"controller\.toml:2: rollout\.intervall: unknown key"):
        ConfigurationFile(path)


def test_an_edit_counts_when_the_file_looks_the_same_twice(file):
    opened = ConfigurationFile(file)
    assert not opened.edited()
    assert not opened.settling
    for half in ("[rollout]\n", "[rollout]\ninterval", "[rollout]\ninterval = 2"):
        file.write_text(half)  # the first and the last of them are whole by accident
        assert not opened.edited()
        assert opened.settling
        assert (opened.config.rollout.interval, opened.trouble) == (1, None)
    file.write_text("[rollout]\ninterval = 20\n")
    assert [opened.edited(), opened.edited(), opened.edited()] == [False, True, False]
    assert opened.config.rollout.interval == 20
    assert not opened.settling


def test_a_broken_edit_is_reported_until_it_is_mended_or_undone(file):
    opened, good = ConfigurationFile(file), file.read_text()
    for mended, changed in ((good, False), ("[rollout]\ninterval = 2\n", True)):
        file.write_text("[rollout]\ninterval = 0\n")
        assert [opened.edited(), opened.edited()] == [False, False]
        assert (opened.trouble.subject, opened.trouble.reason) == ("config", "ConfigInvalid")
        assert f"{file}:2: rollout.interval" in opened.trouble.message
        assert opened.config.rollout.interval == 1
        file.write_text(mended)
        assert [opened.edited(), opened.edited()] == [False, changed]
        assert opened.trouble is None


def test_a_file_that_went_away_is_reported_until_it_is_back(file):
    opened, good = ConfigurationFile(file), file.read_text()
    file.unlink()
    assert not opened.edited()
    assert opened.trouble.reason == "ConfigUnreadable"
    file.write_text(good)
    assert not opened.edited()
    assert opened.trouble is None


def test_an_edit_that_means_the_same_changes_nothing(file):
    opened = ConfigurationFile(file)
    file.write_text("# slowly\n" + file.read_text())
    assert [opened.edited(), opened.edited()] == [False, False]
    assert opened.trouble is None


def test_an_edit_of_a_type_counts_though_python_takes_the_values_for_the_same(file):
    opened, rule = ConfigurationFile(file), '[[pipelines]]\nname = "demo"\nsettings = {{n = {}}}\n'
    for value in ("0", "false", "0.0"):
        file.write_text(rule.format(value))
        assert [opened.edited(), opened.edited(), opened.edited()] == [False, True, False]


def test_an_edit_that_meets_a_bug_is_a_condition_as_long_as_it_stays(file, monkeypatch):
    opened, before = ConfigurationFile(file), file.read_text()

    def buggy(text, path):
        raise RuntimeError("a bug")

    monkeypatch.setattr("controller.config.loading.parse", buggy)
    file.write_text(before + "max_staging = 2\n")
    for _ in range(4):
        assert not opened.edited()
    assert opened.trouble.reason == "InternalError"
    assert opened.config.rollout.interval == 1
    monkeypatch.undo()
    file.write_text(before + "max_staging = 3\n")
    assert [opened.edited(), opened.edited()] == [False, True]
    assert opened.trouble is None


def test_another_folder_for_the_journal_needs_a_restart(file):
    opened = ConfigurationFile(file)
    file.write_text('[paths]\nstate = "elsewhere"\n')
    assert [opened.edited(), opened.edited()] == [False, True]
    assert opened.trouble.reason == "RestartNeeded"


# -- the daemon ----------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, paper_head):
    opened = Site(tmp_path, paper_head)
    opened.configure(BUSY)
    yield opened
    opened.dashboard.close()


@pytest.fixture
def inquisitive(monkeypatch):
    """Looks at Ray's side in every pass."""
    monkeypatch.setattr(module, "INSPECT_EVERY", 0.0)


def reload(site, *more):
    args = ["--config", str(site.config), "config", "reload", *more]
    return CliRunner().invoke(app, args, prog_name="wheelway")


def source(site, folder):
    (site.folder / folder).mkdir(exist_ok=True)
    return f'[[sources]]\ntype = "directory"\nname = "{folder}"\npath = "{folder}"\n'


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


def test_a_broken_edit_is_a_condition_and_the_last_good_one_stays_in_force(site):
    with site.daemon():
        site.configure(BUSY + "[policy]\nunlisted = 'sometimes'\n")
        [condition] = eventually(lambda: site.conditions("ConfigInvalid"))
        assert "policy.unlisted" in condition.message
        site.drop("demo")
        site.wait_for(ROUTE)
        assert site.conditions("ConfigInvalid")
        site.configure(BUSY)
        eventually(lambda: not site.conditions("ConfigInvalid"))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ('[environments]\nfind_links = ["~nobody-here/x"]\n', "ConfigInvalid"),
        (f"[[pipelines]]\nname = 'x'\nsettings.{'a.' * 5000}a = 1\n", "ConfigInvalid"),
        ("[log]\nlevel = 'debug'\n", "InternalError"),
    ],
)
def test_no_edit_ends_the_daemon_not_even_by_a_bug(site, monkeypatch, wrong, reason):
    def buggy(self, config):
        raise RuntimeError("a bug")

    monkeypatch.setattr(module.Telemetry, "renew", buggy)
    with site.daemon():
        site.configure(BUSY + wrong)
        [condition] = eventually(lambda: site.conditions(reason))
        assert condition.subject == "config"
        site.drop("demo")
        site.wait_for(ROUTE)


def test_an_edit_that_a_bug_keeps_out_is_told_until_it_is_in_force(site, monkeypatch):
    def buggy(*_, **__):
        raise RuntimeError("a bug")

    def passes(count):
        seen = len(site.reports)
        eventually(lambda: len(site.reports) > seen + count)

    with site.daemon() as daemon:
        monkeypatch.setattr(module, "assemble", buggy)
        site.configure(BUSY.replace("0.2", "0.3"))
        eventually(lambda: site.conditions("InternalError"))
        passes(5)
        assert site.conditions("InternalError")
        refused = reload(site, "--json")
        assert json.loads(refused.stdout)["reason"] == "InternalError"
        passes(3)
        assert site.conditions("InternalError")
        monkeypatch.undo()
        assert reload(site).stdout == "The configuration is in force.\n"
        eventually(lambda: not site.conditions("InternalError"))
        assert daemon.config.rollout.interval == 0.3


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


def test_a_good_edit_takes_effect_and_can_be_undone(site):
    site.drop("demo")
    with site.daemon():
        release = site.wait_for(ROUTE)
        site.configure(BUSY + "[policy]\nunlisted = 'inactive'\n")
        site.wait_for_phase(release, Phase.RETIRED)
        assert site.release_at(ROUTE) == ""
        site.configure(BUSY)
        assert site.wait_for(ROUTE) == release


def test_what_cannot_be_put_together_is_tried_again_while_the_old_parts_go_on(site, inquisitive):
    blocked = site.folder / "blocked"
    blocked.write_text("a file where a folder should be")
    with site.daemon():
        good = site.basics
        site.basics = good.replace('cache = "cache"', 'cache = "blocked/cache"')
        site.configure(BUSY)
        [condition] = eventually(lambda: site.conditions("CacheUnusable"))
        assert condition.subject == "config"
        assert "goes on with the configuration before" in condition.message
        site.drop("demo")
        site.wait_for(ROUTE)
        blocked.unlink()
        eventually(lambda: not site.conditions("CacheUnusable"))
        site.drop("other")
        site.wait_for("/predict/other/1.0")
        assert list((blocked / "cache").rglob("other*.whl"))


def test_an_edit_that_could_not_be_put_together_can_be_undone(site):
    with site.daemon():
        site.configure(BUSY + "[environments]\nindex_url = 'https://a.example/'\n")
        good = site.basics
        site.basics = good.replace("[ray]", "[ray]\nca_file = 'no-such-file.pem'")
        site.configure(BUSY)
        eventually(lambda: site.conditions("CertificateUnreadable"))
        site.basics = good
        site.configure(BUSY)
        eventually(lambda: not site.conditions("CertificateUnreadable"))


def test_a_source_that_left_the_configuration_is_forgotten_and_so_is_what_it_brought(site):
    more = source(site, "more")
    site.configure(BUSY + more)
    site.drop("demo")
    with site.daemon():
        kept = site.wait_for(ROUTE)
        site.drop("other").rename(site.folder / "more" / "other-1.0-py3-none-any.whl")
        gone = site.wait_for("/predict/other/1.0")
        site.configure(BUSY)
        site.wait_for_phase(gone, Phase.RETIRED)
        with Journal.read(site.folder / "state") as journal:
            assert list(journal.listings()) == ["directory"]
        assert site.release_at(ROUTE) == kept


def test_an_edit_says_what_was_made_anew_for_it_and_keeps_the_rest(site, caplog):
    caplog.set_level(logging.INFO)
    site.configure(BUSY + source(site, "beside"))
    site.drop("demo")
    with site.daemon():
        release = site.wait_for(ROUTE)
        site.configure(BUSY + source(site, "beside") + "poll_interval = 7\n")
        eventually(lambda: "made anew: source beside; all else goes on" in caplog.text)
        site.configure(BUSY + source(site, "more"))
        eventually(lambda: "made anew: source more; all else goes on" in caplog.text)
        make = site.drop("other")
        make.rename(site.folder / "more" / make.name)
        site.wait_for("/predict/other/1.0")  # it is watched, or polled
        assert site.release_at(ROUTE) == release


@pytest.mark.parametrize(
    ("edit", "made"),
    [
        (("poll_interval = 1", "poll_interval = 2"), "source directory"),
        (("[ray]", "[inspection]\nmax_files = 999\n[ray]"), "inspection"),
        (("[ray]", "[environments]\ntimeout = 60\n[ray]"), "environments"),
        (('cache = "cache"', 'cache = "cache"\nretention = 60'), "pruning"),
    ],
)
def test_what_is_live_stays_so_untouched_while_parts_are_made_anew(
    site, paper_head, caplog, edit, made
):
    caplog.set_level(logging.INFO)
    site.drop("demo")
    with site.daemon():
        site.wait_for_phase(site.wait_for(ROUTE), Phase.LIVE)
        sent = len(paper_head.puts)
        site.basics = site.basics.replace(*edit)
        site.configure(BUSY)
        eventually(lambda: f"made anew: {made}" in caplog.text)
        site.drop("other")
        site.wait_for_phase(site.wait_for("/predict/other/1.0"), Phase.LIVE)
    before, *after = paper_head.sent()[sent - 1 :]
    assert all(before.items() <= put.items() for put in after)


def test_what_is_live_moves_to_another_cache_without_losing_its_route(site, paper_head):
    site.drop("demo")
    with site.daemon():
        release = site.wait_for(ROUTE)
        site.wait_for_phase(release, Phase.LIVE)
        sent = len(paper_head.puts)
        site.basics = site.basics.replace('cache = "cache"', 'cache = "larger"')
        site.configure(BUSY)
        larger = str(site.folder / "larger")

        def moved():
            last = paper_head.puts[-1]["applications"]
            return [larger in json.dumps(application) for application in last] == [True]

        eventually(moved)
        assert site.release_at(ROUTE) == release
    for put in paper_head.sent()[sent:]:
        assert ROUTE in put.values()


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
        eventually(lambda: site.conditions("Queued"))
        assert site.conditions("RayVersionDiffers")
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
    goes_on, original = threading.Event(), DirectorySource.list

    def slow(self):
        goes_on.wait(60)
        return original(self)

    with site.daemon() as daemon:
        assert daemon.passes.reconcile(60)["complete"]
        monkeypatch.setattr(DirectorySource, "list", slow)
        try:
            assert not daemon.passes.reconcile(2)["complete"]
        finally:
            goes_on.set()
        assert daemon.passes.reconcile(60)["complete"]


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
        daemon = Daemon(site.config, watcher=site.reports.append)
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


@pytest.mark.parametrize("change", ["kind", "place"])
def test_what_another_source_listed_under_the_same_name_is_not_believed(site, tmp_path, change):
    site.drop("demo")
    with site.daemon():
        site.wait_for_phase(site.wait_for(ROUTE), Phase.LIVE)
    other = {
        "kind": 'type = "index"\nurl = "http://127.0.0.1:9/simple"\npackages = ["demo"]',
        "place": 'type = "directory"\npath = "nowhere"',
    }[change]
    site.basics = (
        f"[[sources]]\n{other}\nname = 'directory'\n{site.basics[site.basics.index('[ray]') :]}"
    )
    site.configure(BUSY)
    with site.daemon():
        eventually(
            lambda: site.conditions("IndexUnreachable") or site.conditions("DirectoryMissing")
        )
        with Journal.read(tmp_path / "state") as journal:
            assert journal.listings() == {}
        # Nobody knows yet what this one lists, so nothing is missing.
        assert site.release_at(ROUTE)


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


def test_a_reload_says_whether_the_configuration_is_in_force(site):
    site.configure(IDLE)
    with site.daemon() as daemon:
        done = reload(site)
        assert (done.exit_code, done.stdout) == (0, "The configuration is in force.\n")
        site.configure(IDLE.replace("300", "200"))
        assert json.loads(reload(site, "--json").stdout) == {
            "in_force": True,
            "reason": "",
            "message": "",
        }
        assert daemon.config.rollout.interval == 200
        site.configure(IDLE.replace("300", "-1"))
        refused = reload(site, "--json")
        assert refused.exit_code == 78
        assert json.loads(refused.stdout)["reason"] == "ConfigInvalid"
        site.configure(IDLE + "[environments]\nindex = 'nowhere'\n")
        refused = reload(site)
        assert refused.exit_code == 78
        assert "the last good configuration is in force" in refused.stderr
        assert daemon.config.rollout.interval == 200


def test_a_reload_that_is_not_taken_up_in_time_is_no_success(site, monkeypatch):
    entered, stuck = threading.Event(), threading.Event()

    def hang(self, run):
        entered.set()
        stuck.wait(60)
        return original(self, run)

    original = Daemon._pass
    site.configure(IDLE)
    with site.daemon() as daemon:
        monkeypatch.setattr(Daemon, "_pass", hang)
        daemon.poll()
        assert entered.wait(60)
        args = ["--config", str(site.config), "config", "reload", "--timeout", "0.1"]
        late = CliRunner().invoke(app, args, prog_name="wheelway")
        monkeypatch.undo()
        stuck.set()
    assert late.exit_code == 69
    assert "has not taken up its configuration within 0.1 s" in late.stderr


def test_a_refused_edit_is_logged_once(site, caplog):
    site.configure(BUSY)
    with site.daemon() as daemon, caplog.at_level(logging.INFO):
        site.configure(BUSY.replace("0.2", "-2"))
        daemon.reload()
        eventually(lambda: site.conditions("ConfigInvalid"))
        passed = len(site.reports)
        eventually(lambda: len(site.reports) > passed + 2)
        said = [r.getMessage() for r in caplog.records if "rollout.interval" in r.getMessage()]
        assert len(said) == 1
