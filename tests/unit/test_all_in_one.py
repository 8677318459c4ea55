"""The configuration of `wheelway up`: written by it, and a person's from their first edit on."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from controller.cli import app
from controller.cli.progress import Progress
from controller.config.loading import load
from controller.daemon.all_in_one import LocalRun, _end_with_head, prepare, serve
from controller.errors import ConfigError, JournalError, Stalled
from controller.journal import DaemonStatus, Journal
from controller.model import Phase
from tests.support.indexes import free_port

pytestmark = pytest.mark.unit

RULE = '\n[[pipelines]]\nname = "iris"\nkeep = 1\n'


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def made(**said):
        return LocalRun(tmp_path / ".wheelway", tmp_path / "cache", **said)

    return made


def test_it_is_written_at_the_first_start_and_follows_the_command_line(place, tmp_path):
    path, said = prepare(place())
    assert (path, said) == (tmp_path / ".wheelway" / "controller.toml", "")
    config = load(path)
    assert config.ray.ingress_url == "http://127.0.0.1:8000"
    assert [source.path for source in config.sources] == [tmp_path / "wheels"]
    assert (tmp_path / "wheels").is_dir()
    prepare(place(port=8001, dashboard_port=8266, wheels=Path("drop")))
    config = load(path)
    assert (config.ray.ingress_url[-4:], config.ray.dashboard_url[-4:]) == ("8001", "8266")
    assert [source.path for source in config.sources] == [tmp_path / "drop"]


def test_what_a_person_edited_is_kept_and_that_is_said(place):
    path, _ = prepare(place(port=8001))
    path.write_text(path.read_text() + RULE)
    edited = path.read_text()
    for _ in range(2):
        assert prepare(place()) == (
            path,
            f"{path} was edited and is kept; remove it to have it written anew",
        )
        assert path.read_text() == edited
    prepare(place(port=8001, wheels=Path("wheels")))  # as it says
    assert load(path).pipelines[0].keep == 1


def test_what_is_kept_and_says_otherwise_than_the_command_line_is_refused(place):
    path, _ = prepare(place())
    path.write_text(path.read_text() + RULE)
    with pytest.raises(Stalled) as caught:
        prepare(place(port=9000, wheels=Path("elsewhere")))
    assert caught.value.reason == "ConfigKept"
    assert "--port 9000, the folder elsewhere" in caught.value.message
    path.write_text("keep = = 1")
    with pytest.raises(ConfigError):
        prepare(place())


def test_another_start_beside_a_running_daemon_is_refused_with_nothing_written(place, tmp_path):
    path, _ = prepare(place())
    before = path.read_text()
    with Journal.open(path.parent), pytest.raises(JournalError) as caught:
        prepare(place(port=8001, dashboard_port=8266, wheels=Path("drop")))
    assert caught.value.reason == "JournalLocked"
    assert f"{path.parent} is in use by another wheelway daemon, process" in caught.value.message
    assert path.read_text() == before, "the one that runs would follow it"
    assert not (tmp_path / "drop").exists()
    prepare(place(port=8001))  # once that one ended


def test_a_state_in_use_that_an_edited_file_names_is_told_before_a_head_is_started(
    place, tmp_path, monkeypatch
):
    monkeypatch.setattr("controller.rayhead.head.adopt_or_start", pytest.fail)
    path, _ = prepare(place(port=free_port(), dashboard_port=1))
    other = tmp_path / "elsewhere"
    path.write_text(path.read_text().replace(str(path.parent), str(other)))
    said = []
    with Journal.open(other), pytest.raises(JournalError, match=f"{other} is in use by another"):
        serve(path, "", say=said.append)
    assert said == []


def test_a_file_of_before_which_did_not_keep_edits_is_written_anew(place):
    path, _ = prepare(place())
    path.write_text("# Written by `wheelway up` at every start: edits are picked up ...\n")
    assert prepare(place()) == (path, "")
    assert load(path).sources


def test_the_head_is_started_for_the_longest_request_that_is_configured(place, monkeypatch):
    path, _ = prepare(place(port=free_port(), dashboard_port=1))
    path.write_text(f'{path.read_text()}[serve]\nlongest_request = "20m"\n')
    asked = []

    def start(_url, tuning):
        asked.append(tuning.longest_request)
        raise Stalled("HeadEnded", "enough is known")

    monkeypatch.setattr("controller.rayhead.head.adopt_or_start", start)
    with pytest.raises(Stalled, match="enough is known"):
        serve(path, "", say=lambda _: None)
    assert asked == [1200.0]


def test_while_its_head_starts_commands_say_that_it_starts(place, monkeypatch):
    path, _ = prepare(place(port=free_port(), dashboard_port=1))
    told = []

    def ask():
        done = CliRunner().invoke(app, ["--config", str(path), "status"])
        told.append(" ".join((done.stdout + done.stderr).split()))

    def start(_url, _tuning):
        ask()
        raise Stalled("HeadEnded", "enough is known")

    monkeypatch.setattr("controller.rayhead.head.adopt_or_start", start)
    mine = f"process {os.getpid()}"
    for _ in range(2):  # without a journal, then with one of a daemon that is gone
        with pytest.raises(Stalled, match="enough is known"):
            serve(path, "", say=lambda _: None)
        with Journal.open(path.parent) as journal:
            gone = subprocess.Popen(["true"])
            gone.wait()
            journal.set_status(DaemonStatus(7, 1.0, "1 live", 0.1, gone.pid, "0.1.0", 0.0))
    assert f"the daemon ({mine}) is starting, and makes it once a Ray head answers" in told[0]
    assert f"the daemon ({mine}) is starting, for " in told[1]
    assert "last pass" in told[1]
    assert f"({mine} is starting it, or it has no control socket)" in told[1]
    ask()
    assert "the daemon is down (process" in told[2]


def test_a_port_for_the_routes_that_is_not_free_is_told_before_a_head_is_started(
    place, monkeypatch
):
    monkeypatch.setattr("controller.rayhead.head.adopt_or_start", pytest.fail)
    said = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        path, _ = prepare(place(port=port, dashboard_port=1))
        with pytest.raises(Stalled, match=f"holds port {port}, where the routes") as caught:
            serve(path, "", say=said.append)
        assert caught.value.reason == "IngressPortTaken"
        assert f"process {os.getpid()} (`" in caught.value.message
        assert "make run PORT=" in caught.value.message
        path, _ = prepare(place(port=free_port(), dashboard_port=port))
        with pytest.raises(Stalled, match=f"holds port {port}, where Ray's") as caught:
            serve(path, "", say=said.append)
    assert caught.value.reason == "DashboardPortTaken"
    assert f"process {os.getpid()} (`" in caught.value.message
    assert "make run DASHBOARD_PORT=" in caught.value.message
    assert said == []


def test_one_port_for_routes_and_dashboard_is_refused_with_nothing_written(place, tmp_path):
    for asked in ({"port": 9000, "dashboard_port": 9000}, {"port": 8265}):
        with pytest.raises(Stalled, match="cannot both be at port") as caught:
            prepare(place(**asked))
        assert caught.value.reason == "PortsEqual"
        assert "make run PORT=... DASHBOARD_PORT=..." in caught.value.message
    assert not (tmp_path / ".wheelway" / "controller.toml").exists()
    path, _ = prepare(place(port=free_port(), dashboard_port=1))
    path.write_text(path.read_text().replace(':1"', f':{load(path).ray.ingress_url[-5:]}"'))
    with pytest.raises(Stalled, match="cannot both be at port"):
        serve(path, "", say=pytest.fail)


def test_a_head_that_answers_already_has_its_ingress_where_it_is(place, monkeypatch):
    asked = []

    def adopt(url, _tuning):
        asked.append(url)
        raise Stalled("HeadEnded", "enough is known")

    monkeypatch.setattr("controller.rayhead.head.answers", lambda _url: True)
    monkeypatch.setattr("controller.rayhead.head.adopt_or_start", adopt)
    with socket.create_server(("127.0.0.1", 0)) as ingress:
        path, _ = prepare(place(port=ingress.getsockname()[1]))
        with pytest.raises(Stalled, match="enough is known"):
            serve(path, "", say=lambda _: None)
    assert len(asked) == 1


def test_what_ran_on_the_head_before_is_not_waited_for_on_one_just_started(tmp_path):
    _end_with_head(tmp_path)  # there is no journal yet
    with Journal.open(tmp_path) as journal:
        journal.placement_live("iris-1.0-0123abcd", 1.0)
    _end_with_head(tmp_path)
    with Journal.read(tmp_path) as reader:
        assert reader.placements() == {}


class EndedHead:
    """One that was started here and has ended."""

    adopted, dashboard_url = False, "http://127.0.0.1:1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def running(self):
        return False

    def last_words(self):
        return "out of memory"


@pytest.mark.parametrize("error", [None, RuntimeError("a fault of ours")])
def test_nothing_is_said_to_run_once_the_head_ended_however_the_run_did(error, place, monkeypatch):
    path, _ = prepare(place(port=free_port(), dashboard_port=1))

    def run(_):
        with Journal.open(path.parent) as journal:
            journal.placement_live("iris-1.0-0123abcd", 1.0)
        if error:
            raise error

    monkeypatch.setattr("controller.rayhead.head.adopt_or_start", lambda *_: EndedHead())
    monkeypatch.setattr("controller.daemon.loop.Daemon.run", run)
    with pytest.raises(RuntimeError if error else Stalled, match=r"fault of ours|out of memory"):
        serve(path, "", say=lambda _: None)
    with Journal.read(path.parent) as reader:
        assert reader.placements() == {}


def test_what_a_person_ended_is_over_and_not_lost_when_it_is_started_again(work, paper_head):
    work.drop()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    work.journal.close()
    paper_head.forgets()
    _end_with_head(work.state)
    with Journal.read(work.state) as reader:
        [one] = reader.releases()
        assert (one.phase, one.reason) == (Phase.RETIRED, "HeadEnded")
    work.restart()
    printed = io.StringIO()
    out = Console(file=printed, width=500)
    progress = Progress("http://127.0.0.1:1", out=out, get=lambda _: None, clock=work.clock)
    for _ in range(9):
        progress(work.pass_(after=1.0))
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert "no longer on the cluster" not in printed.getvalue()
    assert " live " in printed.getvalue()


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([], "wheelway up 'wheels'"),
        (["PORT=8001"], "wheelway up 'wheels' --port 8001"),
        (
            ["DASHBOARD_PORT=8266", "ARGS=--num-cpus 4 --state s"],
            "wheelway up 'wheels' --dashboard-port 8266 --num-cpus 4 --state s",
        ),
    ],
)
def test_make_run_passes_on_what_it_is_given(given, passed):
    command = ["make", "--no-print-directory", "--dry-run", "run", *given]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert " ".join(done.stdout.split()).endswith(passed)
