"""What the daemon tells the service manager, and when."""

from __future__ import annotations

import os
import signal
import socket
import threading

import pytest

from controller.daemon import supervisor as notify
from controller.daemon.foreground import signals
from controller.daemon.loop import Daemon
from controller.daemon.supervisor import Supervisor, supervisor
from tests.support.head import eventually

pytestmark = pytest.mark.unit

CONFIG = """
[ray]
dashboard_url = "http://127.0.0.1:9"

[paths]
cache = "cache"
state = "state"

[rollout]
interval = {interval}
"""


class Listener:
    """The service manager's end of the socket."""

    def __init__(self, address):
        self.address = address
        self.told = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        while text := self._socket.recv(65536).decode():
            self.told.append(dict(line.split("=", 1) for line in text.splitlines()))

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join(60)
        self._socket.close()

    def first(self, name):
        """The index of the first datagram that has this variable."""
        return next(index for index, lines in enumerate(self.told) if name in lines)

    def count(self, name):
        return sum(name in lines for lines in self.told)

    def count_all(self, name):
        """The same with those that are on their way: they come in their order."""
        mark = f"MARK{len(self.told)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(f"{mark}=1".encode(), self.address)
        eventually(lambda: self.count(mark))
        return self.count(name)


@pytest.fixture
def listener(tmp_path):
    listening = Listener(str(tmp_path / "notify"))
    yield listening
    listening.close()


@pytest.fixture
def environ(listener):
    return {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "30000000"}


@pytest.fixture
def configured(tmp_path):
    path = tmp_path / "controller.toml"
    path.write_text(CONFIG.format(interval=3600))
    return path


@pytest.fixture
def run(configured):
    """Starts the daemon in a thread; ends it at the end."""
    running = []

    def start(told_to):
        daemon = Daemon(configured, supervisor=told_to)
        thread = threading.Thread(target=daemon.run)
        thread.start()
        running.append((daemon, thread))
        return daemon

    yield start
    for daemon, thread in running:
        daemon.end()
        thread.join(60)
        assert not thread.is_alive()


def test_nobody_is_told_without_the_variable():
    nobody = supervisor({})
    nobody.ready()
    nobody.passed("all is well")
    assert nobody.ping_interval is None


def test_a_child_gets_neither_the_socket_nor_the_watchdog(environ):
    environ["WATCHDOG_PID"] = str(os.getpid())
    assert supervisor(environ).watchdog == 30
    assert environ == {}


def test_a_watchdog_for_another_process_is_not_fed(listener, environ):
    environ["WATCHDOG_PID"] = "1"
    assert supervisor(environ).ping_interval is None


def test_an_interval_that_is_no_number_is_none(environ):
    environ["WATCHDOG_USEC"] = "\N{SUPERSCRIPT TWO}"
    assert supervisor(environ).ping_interval is None


def test_a_status_is_one_line_whatever_a_message_holds(listener, environ):
    supervisor(environ).passed("a\nREADY=1\n  b")
    eventually(lambda: listener.told)
    assert listener.told == [{"STATUS": "a READY=1 b", "WATCHDOG": "1"}]


def test_a_socket_in_the_abstract_name_space_is_reached_too():
    listening = Listener(f"\0wheelway-{os.getpid()}")
    try:
        supervisor({"NOTIFY_SOCKET": f"@wheelway-{os.getpid()}"}).ready()
        eventually(lambda: listening.told == [{"READY": "1"}])
    finally:
        listening.close()


def test_who_cannot_be_told_is_no_reason_to_stop(tmp_path, caplog):
    supervisor({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
    assert "could not be told" in caplog.text


def test_the_daemon_is_ready_after_its_first_pass_whether_ray_is_there_or_not(
    listener, environ, run
):
    run(supervisor(environ))
    eventually(lambda: listener.count("READY"))
    assert listener.count("WATCHDOG") == 1
    assert listener.first("EXTEND_TIMEOUT_USEC") < listener.first("WATCHDOG")
    assert listener.first("WATCHDOG") < listener.first("READY")
    assert listener.told[listener.first("WATCHDOG")]["STATUS"].startswith("waiting for Ray")


def test_a_pass_is_made_in_time_for_the_watchdog_however_long_the_interval(listener, environ, run):
    environ["WATCHDOG_USEC"] = "400000"
    run(supervisor(environ))
    eventually(lambda: listener.count("WATCHDOG") >= 3)


def test_a_daemon_that_makes_no_pass_feeds_no_watchdog(listener, environ, run, monkeypatch):
    environ["WATCHDOG_USEC"] = "400000"
    entered, stuck = threading.Event(), threading.Event()

    def hang(self, run):
        entered.set()
        stuck.wait(60)
        return original(self, run)

    original = Daemon._pass
    daemon = run(supervisor(environ))
    eventually(lambda: listener.count("READY"))
    monkeypatch.setattr(Daemon, "_pass", hang)
    daemon.poll()
    assert entered.wait(60)
    fed = listener.count_all("WATCHDOG")
    assert not stuck.wait(1.0)  # more than twice its patience
    assert listener.count_all("WATCHDOG") == fed
    monkeypatch.undo()
    stuck.set()
    eventually(lambda: listener.count("WATCHDOG") > fed)


def test_a_pass_of_many_parts_may_take_longer_than_the_watchdog_if_none_of_them_does(
    listener, environ, run, monkeypatch
):
    monkeypatch.setattr("controller.daemon.loop.PROGRESS_EVERY", 0.0)
    environ["WATCHDOG_USEC"] = "100000"
    daemon = run(supervisor(environ))
    eventually(lambda: listener.count("READY"))
    entered, parts, go_on = threading.Event(), threading.Semaphore(0), threading.Event()

    def slow(self, run):
        entered.set()
        while not go_on.is_set():
            if parts.acquire(timeout=1):
                run.assembly.reconciler.progressed()
        return original(self, run)

    original = Daemon._pass
    monkeypatch.setattr(Daemon, "_pass", slow)
    assert entered.wait(60)
    fed = listener.count_all("WATCHDOG")  # once more, perhaps, for the part before the pass
    for part in range(1, 5):
        parts.release()
        eventually(lambda part=part: listener.count("WATCHDOG") >= fed + part)
    monkeypatch.undo()
    go_on.set()
    eventually(lambda: daemon._number > 1)


def test_the_first_pass_gets_more_time_for_its_start_with_each_part(
    listener, environ, configured, run, paper_head, monkeypatch
):
    monkeypatch.setattr("controller.daemon.loop.PROGRESS_EVERY", 0.0)
    here = configured.read_text().replace("http://127.0.0.1:9", paper_head.dashboard_url)
    configured.write_text(here)
    run(supervisor(environ))
    eventually(lambda: listener.count("READY"))
    first = [said for said in listener.told if said.get("STATUS") == "making the first pass"]
    assert len(first) > 3
    assert all("EXTEND_TIMEOUT_USEC" in said for said in first)


def test_passes_that_fail_are_no_sign_of_life_and_make_nobody_ready(
    listener, environ, configured, run, paper_head, monkeypatch
):
    monkeypatch.setattr(
        "controller.reconcile.reconciler.Planner.plan", [].__getattribute__
    )  # a bug
    here = configured.read_text().replace("http://127.0.0.1:9", paper_head.dashboard_url)
    configured.write_text(here)
    daemon = run(supervisor(environ))
    eventually(lambda: "the pass failed" in daemon.passes.liveness().sentence)
    daemon.poll()
    failed = {"STATUS": "the pass failed unexpectedly, see the log"}
    eventually(lambda: listener.told.count(failed) >= 2)  # news may have begun one of their own
    assert (listener.count("WATCHDOG"), listener.count("READY")) == (0, 0)
    assert (daemon.passes.liveness().number, daemon.passes.liveness().failed) == (0, True)
    monkeypatch.undo()
    daemon.poll()
    eventually(lambda: listener.count("READY") == 1)
    assert listener.first("WATCHDOG") < listener.first("READY")
    assert not daemon.passes.liveness().failed


def test_a_hangup_takes_up_an_edit_at_once_and_says_so(listener, environ, configured):
    daemon = Daemon(configured, supervisor=supervisor(environ))
    failures = []

    def at_work():
        try:
            eventually(lambda: listener.count("READY"))
            configured.write_text(CONFIG.format(interval=1800))
            os.kill(os.getpid(), signal.SIGHUP)
            eventually(lambda: listener.count("READY") == 2)
        except AssertionError as error:
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    person = threading.Thread(target=at_work)
    with signals(daemon):
        person.start()
        daemon.run()
    person.join(60)
    assert not failures
    assert daemon.config.rollout.interval == 1800
    begun = listener.told[listener.first("RELOADING")]
    assert int(begun["MONOTONIC_USEC"]) > 0
    assert listener.first("RELOADING") < len(listener.told) - 1
    eventually(lambda: listener.count("STOPPING") == 1)


def test_a_reload_of_a_broken_file_keeps_what_is_in_force(listener, environ, configured, run):
    daemon = run(supervisor(environ))
    eventually(lambda: listener.count("READY"))
    configured.write_text("rollout = 1\n")
    daemon.reload()
    eventually(lambda: listener.count("READY") == 2)
    assert daemon.config.rollout.interval == 3600
    assert daemon._file.trouble is not None


def test_steps_are_measured_on_the_clock_that_systemd_compares_with(listener):
    Supervisor(listener.address, clock=lambda: 12.5).reloading()
    eventually(lambda: listener.told)
    assert listener.told == [{"RELOADING": "1", "MONOTONIC_USEC": "12500000"}]


def test_a_status_line_has_an_end(listener):
    Supervisor(listener.address).passed("x" * 100_000)
    eventually(lambda: listener.told)
    assert len(listener.told[0]["STATUS"]) == notify.STATUS_LENGTH
