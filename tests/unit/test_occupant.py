"""`wheelway up` at a head that serves another daemon: told at once, and nothing is changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller.config.loading import load
from controller.daemon.all_in_one import LocalRun, prepare
from controller.daemon.occupant import require_unserved
from controller.errors import Stalled
from controller.journal import Journal, identity
from controller.planning.daemons import KEY, DaemonMark, mark_of, marked
from tests.support.head import eventually
from tests.support.indexes import free_port
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit

WHEELWAY = Path(sys.executable).with_name("wheelway")


def mine(tmp_path, head):
    """The configuration of a run in a folder of its own."""
    ports = free_port(), head.ports.ingress
    run = LocalRun(tmp_path / "mine", tmp_path / "cache", tmp_path / "drop", *ports)
    return load(prepare(run)[0])


def bear(head, mark):
    """The one application on the head bears this mark now."""
    [document] = head.puts[-1]["applications"]
    head.receives(marked(document, mark))


@pytest.fixture
def served(work, paper_head):
    """A release of another daemon, which does not run any more."""
    work.drop()
    work.settle()
    return work


def test_a_daemon_that_runs_is_named_with_what_to_do_and_nothing_is_sent(
    served, paper_head, tmp_path
):
    config, puts = mine(tmp_path, paper_head), len(paper_head.puts)
    theirs = served.mark.folder
    (Path(theirs) / "controller.toml").write_text(
        '[[sources]]\ntype = "directory"\npath = "/theirs"\n'
    )
    with pytest.raises(Stalled) as caught:  # the passes' journal holds the lock
        require_unserved(config)
    told = caught.value.message
    assert caught.value.reason == "AnotherDaemon"
    assert f"{served.mark.user}'s on {served.mark.host}, with its state in {theirs}" in told
    assert f"process {os.getpid()}, since 20" in told
    assert "drop the wheels into /theirs, which it watches" in told
    assert f"kill {os.getpid()}" in told
    assert "make run PORT=" in told
    assert len(paper_head.puts) == puts


def test_a_mark_that_was_left_behind_keeps_nobody_out(served, paper_head, tmp_path):
    config = mine(tmp_path, paper_head)
    served.journal.close()
    assert require_unserved(config) == ""


def test_of_a_daemon_that_cannot_be_seen_from_here_it_is_told_whose_it_is(
    served, paper_head, tmp_path
):
    config = mine(tmp_path, paper_head)
    bear(paper_head, DaemonMark("far", 1.0, "elsewhere", "ada", "/nowhere/state"))
    assert require_unserved(config) == "ada's on elsewhere, with its state in /nowhere/state"
    bear(paper_head, DaemonMark("former", 1.0, "elsewhere"))  # of a version that said no more
    assert require_unserved(config) == ""


def test_a_folder_that_is_another_daemons_by_now_is_not_taken_for_the_one_that_left_the_mark(
    served, paper_head, tmp_path
):
    config = mine(tmp_path, paper_head)
    state = tmp_path / "again"
    with Journal.open(state):
        identity(state, make=True)
        bear(paper_head, DaemonMark("former", 1.0, "here", "ada", str(state)))
        assert require_unserved(config) == ""


def test_a_copy_of_the_folder_is_not_the_daemon_itself(served, paper_head, tmp_path):
    config = mine(tmp_path, paper_head)
    copied = Path(served.mark.folder) / "daemon.json"
    (config.paths.state / "daemon.json").write_text(copied.read_text())
    with pytest.raises(Stalled, match=f"state in {served.mark.folder}"):
        require_unserved(config)


def test_what_a_former_version_wrote_is_read_and_a_restart_changes_nothing(tmp_path):
    document = {"deployments": [{"user_config": {KEY: {"id": "a", "since": 1.0, "host": "h"}}}]}
    assert mark_of(document) == DaemonMark("a", 1.0, "h")
    (tmp_path / "daemon.json").write_text(json.dumps({"id": "a", "since": 1.0, "host": "h"}))
    first = identity(tmp_path, make=True)
    assert (first.id, first.folder) == ("a", str(tmp_path))
    assert identity(tmp_path, make=False) == first
    assert mark_of(marked(document, first)) == first


def test_a_second_up_in_another_folder_is_refused_until_the_first_is_gone(paper_head, tmp_path):
    dashboard = str(paper_head.ports.ingress)
    command = [WHEELWAY, "up", "--port", str(free_port()), "--dashboard-port", dashboard]
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    make_wheel(first / "wheels", "demo")
    with (first / "said").open("wb") as said:
        one = subprocess.Popen(command, cwd=first, stdout=said, stderr=said)
    try:
        eventually(lambda: paper_head.puts, deadline=120)
        puts = len(paper_head.puts)
        done = subprocess.run(
            command, cwd=second, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 1
        assert done.stdout == ""
        told = " ".join(done.stderr.split())
        assert f"process {one.pid}, since" in told
        assert f"its state in {first / '.wheelway'}" in told
        assert all(
            mark_of(app).folder == str(first / ".wheelway")
            for put in paper_head.puts[puts:]
            for app in put["applications"]
            if mark_of(app)
        )
    finally:
        one.kill()
        one.wait()
    with (second / "said").open("wb") as said:
        other = subprocess.Popen(command, cwd=second, stdout=said, stderr=said)
    try:
        eventually(lambda: "using the Ray head" in (second / "said").read_text(), deadline=120)
    finally:
        other.send_signal(signal.SIGINT)
        other.wait(120)
