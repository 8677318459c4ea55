"""Replicas' logs: as records, read and followed through a dashboard, and by `wheelway logs`."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from packaging.version import Version
from rich.console import Console
from typer.testing import CliRunner

from controller.cli import app
from controller.cli.program import ExitCode
from controller.cli.progress import BETWEEN_FAILURES, Progress
from controller.config.settings import RayOptions
from controller.daemon.all_in_one import _telling
from controller.errors import Transient, Waiting
from controller.journal import Journal
from controller.model import Phase, Quarantine, Release, Transition
from controller.ops.advice import BY_REASON, BY_STAGE, remedies
from controller.serve.followed import WHOLE
from controller.serve.log_records import FailedRequest, merged, records
from controller.serve.replica_logs import LogFile, ReplicaLogs, following
from tests.support.canned import canned
from tests.support.head import eventually

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.0"), "a" * 64)
PLACEMENT = "iris-1.0-0123abcd"
BUILT = f"serve/replica_{PLACEMENT}_Host_r1.log"
SECOND = f"serve/replica_{PLACEMENT}_Host_r2.log"
HEAD = f"{PLACEMENT}_Host"
FAILED = f"""\
ERROR 2026-11-28 12:00:02,500 {HEAD} r1 4711-ff -- request 4711-ff of {IRIS} failed
Traceback (most recent call last):
  File "pipeline.py", line 9, in infer
    return request["sepal"]
KeyError: 'sepal'
"""
FIRST = f"""\
INFO 2026-11-28 12:00:01,000 {HEAD} r1 -- loaded 3 models
{FAILED}INFO 2026-11-28 12:00:04,000 {HEAD} r1 4712-aa -- POST /predict/iris/1.0 200 3.1ms
"""
OTHER = f"INFO 2026-11-28 12:00:03,000 {HEAD} r2 4711-ffe -- this is another request\n"


# -- records -------------------------------------------------------------------------------------


def test_a_record_goes_on_to_the_next_and_says_which_request_failed_of_what():
    first, failed, last = records(FIRST.splitlines())
    assert (first.failed(), last.failed()) == (None, None)
    assert failed.text == FAILED.rstrip()
    assert failed.failed() == FailedRequest(str(IRIS), "4711-ff", "KeyError: 'sepal'")
    assert [r.mentions("4711-ff") for r in (first, failed, last)] == [False, True, False]
    (other,) = records(OTHER.splitlines())
    assert not other.mentions("4711-ff")


def test_serves_json_says_the_same():
    line = json.dumps(
        {
            "levelname": "ERROR",
            "asctime": "2026-11-28 12:00:02,500",
            "message": f"request 4711-ff of {IRIS} failed",
            "exc_text": "Traceback (most recent call last):\n  File x\nKeyError: 'sepal'",
        }
    )
    (record,) = records([line])
    assert record.text == line
    assert record.failed() == FailedRequest(str(IRIS), "4711-ff", "KeyError: 'sepal'")


def test_several_logs_are_told_in_the_order_of_time():
    found = merged([FIRST.splitlines(), OTHER.splitlines()])
    assert [record.at[17:19] for record in found] == ["01", "02", "03", "04"]


# -- a dashboard that has logs -------------------------------------------------------------------


class Logs(ThreadingHTTPServer):
    """Two nodes with logs, as the dashboard of Ray 2.60 tells them."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files = {"n1": {BUILT: FIRST}, "n2": {SECOND: OTHER}}
        self.running = {BUILT: "n1"}
        self.silent: set[str] = set()
        self.ending = threading.Event()
        self.cut = threading.Event()
        self.followed: list[str] = []
        self.sent: dict[str, str] = {}

    def end_streams(self):
        """As Ray does after some minutes."""
        self.followed.clear()
        self.cut.set()
        self.cut = threading.Event()

    @property
    def options(self):
        return RayOptions(dashboard_url=f"http://127.0.0.1:{self.server_address[1]}", timeout=5)

    def add(self, name, text):
        self.files["n1"][name] = self.files["n1"].get(name, "") + text


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(asked.query).items()}
        files = self.server.files.get(query.get("node_id"), {})
        if asked.path == "/api/v0/nodes":
            rows = [{"node_id": node, "node_ip": f"ip-{node}"} for node in self.server.files]
            self._say({"result": True, "data": {"result": {"result": rows}}})
        elif asked.path == "/api/v0/logs":
            if query["node_id"] in self.server.silent:
                self._say({"msg": "no agent"}, 500)
                return
            start = query["glob"].removesuffix("*")
            found = [name for name in files if name.startswith(start)]
            self._say({"result": True, "data": {"result": {"internal": found}}})
        elif asked.path == "/api/serve/applications/":
            replicas = [
                {"log_file_path": f"/{name}", "node_id": node, "node_ip": "x"}
                for name, node in self.server.running.items()
            ]
            replicas.append({"log_file_path": None, "node_id": "n1"})  # it was never ready
            application = {"deployments": {"Host": {"replicas": replicas}}}
            self._say({"applications": {PLACEMENT: application}})
        elif query["filename"] not in files:
            self._say("A file is not found", 500)
        else:
            self._log(asked.path, query["filename"], files, int(query["lines"]))

    def _log(self, path, name, files, lines):
        text = files[name].splitlines(keepends=True)
        text = text if lines < 0 else text[-(lines or 1000) :]  # Ray takes 0 for its default
        if not path.endswith("stream"):
            self._say("".join(text))
            return
        sent, told = len(files[name]), bool(text)  # like Ray: nothing before something is logged
        self.server.followed.append(name)
        if told:
            self._begin("".join(text))
        whole, cut = files[name], self.server.cut
        while not (self.server.ending.wait(0.02) or cut.is_set()):
            if files[name].startswith(whole):  # else another has its name: Ray has this one open
                whole = files[name]
            more = whole[sent:]
            if more and not told:
                told = True
                self._begin("")
            self.wfile.write(more.encode())
            sent += len(more)
            self.server.sent[name] = whole[:sent]

    def _begin(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def _say(self, value, status=200):
        content = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def _serving():
    with Logs() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()


@pytest.fixture
def ray():
    with _serving() as server:
        yield server


def _asked(ray, question):
    async def ask():
        async with ReplicaLogs.connect(ray.options) as logs:
            return await question(logs)

    return asyncio.run(ask())


def test_the_logs_of_ended_replicas_and_of_every_node_are_found(ray):
    ray.files["n1"][f"{BUILT}.1"] = "older\n"
    ray.files["n1"]["serve/replica_iris-1.0-ffffffff_Host_r9.log"] = "another's\n"
    found, silent = _asked(ray, lambda logs: logs.files([PLACEMENT]))
    assert [file.name for file in found] == [f"{BUILT}.1", BUILT, SECOND]
    assert silent == []
    ray.silent.add("n2")
    found, [sentence] = _asked(ray, lambda logs: logs.files([PLACEMENT]))
    assert [file.node for file in found] == ["n1", "n1"]
    assert "ip-n2" in sentence
    assert _asked(ray, lambda logs: logs.running()) == [LogFile(BUILT, "n1", "x")]


def test_what_is_logged_is_followed_also_of_a_replica_that_comes_later(ray, monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.LOOK_EVERY", 0.05)
    taken: list[tuple[str, str]] = []

    def take(file, found):
        taken.extend((file.name, line) for record in found for line in record.text.splitlines())

    with following(ray.options, take):
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, "one more\nand half a")
        eventually(lambda: (BUILT, "one more") in taken)
        ray.add(BUILT, " line\n")
        eventually(lambda: (BUILT, "and half a line") in taken)
        late = f"serve/replica_{PLACEMENT}_Host_r3.log"
        ray.add(late, "its first words\n")
        ray.running[late] = "n1"
        eventually(lambda: (late, "its first words") in taken)
    told = ["one more", "and half a line"]  # not what was logged before
    assert [line for name, line in taken if name == BUILT] == told
    assert not [t for t in threading.enumerate() if t.name == "wheelway-replica-logs"]


@pytest.mark.parametrize("lines", [0, 2])
def test_a_stream_that_ends_goes_on_where_it_was_with_nothing_lost_or_twice(
    ray, monkeypatch, lines
):
    monkeypatch.setattr("controller.serve.replica_logs.LOOK_EVERY", 0.05)
    ray.files["n1"][BUILT] = "".join(f"old {n}\n" for n in range(3000))
    told = []

    def take(_, found):
        told.extend(line for record in found for line in record.text.splitlines())

    async def work():
        async with ReplicaLogs.connect(ray.options) as logs:
            await logs.follow(logs.running, take, lines=lines)

    def log():
        for n in range(3):
            eventually(lambda: BUILT in ray.followed)
            ray.add(BUILT, f"while it is followed {n}\nhalf ")
            eventually(lambda: ray.sent.get(BUILT, "").endswith("half "))
            ray.end_streams()
            ray.add(BUILT, f"a line {n}\nin between {n}\nsame\nsame\n")
        eventually(lambda: told.count("same") == 6)

    asyncio.run(_beside(work(), log))
    new = [
        line
        for n in range(3)
        for line in (f"while it is followed {n}", f"half a line {n}", f"in between {n}")
    ]
    assert [line for line in told if line != "same"] == ["old 2998", "old 2999"][2 - lines :] + new


async def _beside(work, log):
    """What is followed in one task, while `log` runs in a thread."""
    task = asyncio.create_task(work)
    try:
        await asyncio.to_thread(log)
    finally:
        task.cancel()


def test_a_log_that_is_put_away_for_a_new_one_is_told_to_its_end_and_the_new_one_wholly(
    ray, monkeypatch
):
    monkeypatch.setattr("controller.serve.replica_logs.LOOK_EVERY", 0.05)
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 0.1)
    told = []

    def take(_, found):
        told.extend(record.text for record in found)

    with following(ray.options, take):
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, FAILED)
        eventually(lambda: told)
        files = ray.files["n1"]
        files[f"{BUILT}.1"] = files[BUILT] + OTHER
        files[BUILT] = OTHER.replace("12:00:03", "12:00:05")
        ray.running[f"{BUILT}.1"] = "n1"
        ray.end_streams()
        eventually(lambda: len(told) == 3)
    assert told == [FAILED.rstrip(), OTHER.rstrip(), files[BUILT].rstrip()]


def test_a_followed_record_that_comes_in_pieces_is_told_whole(ray, monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 600.0)
    told: list[FailedRequest] = []
    begin, rest = FAILED.split("\n", 1)
    with following(ray.options, _telling(told.append)):
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, f"{begin}\n")
        eventually(lambda: ray.sent.get(BUILT, "").endswith(f"{begin}\n"))
        ray.add(BUILT, rest)
        ray.add(BUILT, OTHER)
        eventually(lambda: told)
    assert told == [FailedRequest(str(IRIS), "4711-ff", "KeyError: 'sepal'")]


def test_the_last_record_is_told_once_nothing_comes_any_more(ray, monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 0.1)
    told: list[FailedRequest] = []
    with following(ray.options, _telling(told.append)):
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, FAILED)
        eventually(lambda: told)
    assert told[0].request == "4711-ff"


def test_a_log_that_is_read_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.READING", 0.3)
    for how in ("drip", "trickle"):
        with canned() as server:
            server.answers["/api/v0/logs/file"] = how

            async def ask(url=server.url):
                async with ReplicaLogs.connect(RayOptions(dashboard_url=url)) as logs:
                    return [line async for line in logs.read(LogFile(BUILT, "n1", "x"), WHOLE)]

            with pytest.raises(Waiting) as caught:
                asyncio.run(asyncio.wait_for(ask(), 60))
        assert "not complete within 0.3 s" in caught.value.message


def test_a_record_without_end_is_told_in_parts(monkeypatch):
    monkeypatch.setattr("controller.serve.log_records.LONGEST_RECORD", 100)
    found = list(records([*FAILED.splitlines(), *["x" * 30] * 20]))
    assert len(found) > 3
    assert [record.failed() is not None for record in found] == [True] + [False] * (len(found) - 1)


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def wheelway(tmp_path, ray):
    config = tmp_path / "controller.toml"
    config.write_text(
        f'[ray]\ndashboard_url = "{ray.options.dashboard_url}"\n[paths]\nstate = "{tmp_path}"\n'
    )
    with Journal.open(tmp_path) as journal:
        moved = Transition(IRIS, Phase.LIVE, "AnswersAtRoute", "as said", PLACEMENT)
        journal.record(moved, time.time(), source="shelf")

    def command(*args):
        return CliRunner().invoke(app, ["--config", str(config), *args])

    command.state = tmp_path
    return command


def test_logs_prints_all_replicas_of_a_release_in_order_of_time(wheelway):
    result = wheelway("logs", "iris")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[:2] == FIRST.splitlines()[:2]
    assert result.stdout.splitlines()[-2:] == [OTHER.strip(), FIRST.splitlines()[-1]]
    last = wheelway("logs", "Iris", "1.0.0", "-n", "1").stdout
    assert last == FIRST.splitlines(keepends=True)[-1]


def test_logs_prints_what_is_about_one_request_with_its_traceback(wheelway):
    assert wheelway("logs", "iris", "--request", "4711-ff").stdout == FAILED
    unknown = wheelway("logs", "iris", "--request", "none-such")
    assert unknown.exit_code == ExitCode.FAILED
    assert "logged anything of a request none-such" in unknown.stderr


def test_followed_logs_print_a_requests_traceback_that_comes_in_pieces(wheelway, ray, monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 600.0)
    monkeypatch.setattr("controller.serve.replica_logs.LOOK_EVERY", 0.05)
    begin, rest = FAILED.split("\n", 1)
    printed: list[str] = []

    def log():
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, f"{begin}\n")
        eventually(lambda: ray.sent.get(BUILT, "").endswith(f"{begin}\n"))
        ray.add(BUILT, f"{rest}{OTHER}")

    def until_enough(lines):
        printed.extend(lines)
        if printed:
            raise RuntimeError("enough")

    monkeypatch.setattr(sys.modules["controller.cli.logs"], "_print", until_enough)
    logging = threading.Thread(target=log)
    logging.start()
    wheelway("logs", "iris", "--follow", "--request", "4711-ff", "-n", "0")
    logging.join(60)
    assert printed == FAILED.splitlines()


def test_a_wheels_log_does_not_steer_the_terminal(wheelway, ray):
    ray.add(BUILT, "\x1b[2Jgone\n")
    assert r"\x1b[2Jgone" in wheelway("logs", "iris").stdout


def test_a_node_that_does_not_answer_is_told_beside_what_others_have(wheelway, ray):
    ray.silent.add("n2")
    result = wheelway("logs", "iris")
    assert "note: node ip-n2 does not tell its logs" in result.stderr
    assert "loaded 3 models" in result.stdout


def test_without_a_log_what_was_kept_of_the_failure_is_printed_else_why_there_is_none(
    wheelway, ray
):
    ray.files = {"n1": {BUILT: ""}}
    gone = wheelway("logs", "iris")
    assert gone.exit_code == ExitCode.FAILED
    assert "Ray has nothing in its logs of iris 1.0" in gone.stderr
    with Journal.open(wheelway.state) as journal:
        kept = Quarantine(IRIS, "stage", "LoadFailed", "no model", "i", "its last words\n", 1.0)
        journal.add_quarantine(kept)
    ray.files = {"n1": {}}
    told = wheelway("logs", "iris")
    assert (told.exit_code, told.stdout) == (0, "its last words\n")
    assert "what was kept of its failure: no model" in told.stderr


def test_a_release_that_was_never_started_has_no_log(wheelway):
    waiting = Release("rose", Version("1.0"), "b" * 64)
    with Journal.open(wheelway.state) as journal:
        journal.record(Transition(waiting, Phase.FETCHED, "NotKept", "as said"), time.time())
    result = wheelway("logs", "rose", "1.0")
    assert result.exit_code == ExitCode.FAILED
    assert "no replica of rose 1.0 was started yet" in result.stderr
    assert "`wheelway explain rose 1.0`" in result.stderr


def test_without_ray_that_is_said(wheelway, ray):
    ray.shutdown()
    ray.server_close()
    result = wheelway("logs", "iris")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "is the head running?" in result.stderr


def test_explain_says_where_the_log_is(wheelway):
    shown = wheelway("explain", "iris").stdout
    assert f"logs/serve/replica_{PLACEMENT}_*.log" in shown
    assert "`wheelway logs iris 1.0`" in shown


@pytest.mark.parametrize("reason", [*BY_REASON, "of no reason"])
@pytest.mark.parametrize("stage", BY_STAGE)
def test_what_helps_names_the_release_in_its_commands(reason, stage):
    told = " ".join(remedies(Quarantine(IRIS, stage, reason, "", "i", "", 1.0)))
    assert "NAME VERSION" not in told


# -- on the terminal of `wheelway up` ------------------------------------------------------------


def test_a_failed_request_is_told_with_its_cause_and_of_many_the_first_and_then_the_latest():
    text, due = io.StringIO(), []
    out = Console(file=text, width=500, highlight=False)
    progress = Progress("http://x", out=out, later=lambda *what: due.append(what))
    for request in ("4711-ff; rm", "2", "3", "4", "5"):
        progress.failed(FailedRequest(str(IRIS), request, "KeyError: 'sepal'"))
    line, more = text.getvalue().splitlines()
    assert line.split(maxsplit=1)[1] == "iris 1.0              request failed     KeyError: 'sepal'"
    assert more.strip() == "wheelway logs iris 1.0 --request '4711-ff; rm'"
    [(seconds, tell)] = due
    assert seconds == BETWEEN_FAILURES
    tell()  # though nothing fails any more
    line, more = text.getvalue().splitlines()[2:]
    assert line.endswith("KeyError: 'sepal' (and 3 more before it)")
    assert more.endswith("--request 5")
    due[1][1]()
    assert len(text.getvalue().splitlines()) == 4
    progress.failed(FailedRequest(str(IRIS), "6", ""))
    assert text.getvalue().splitlines()[4].endswith("see its log")


ODD = [None, 7, "text", [1], {"result": 7}, {"result": {"result": [7, None, {"node_id": 3}]}}]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_answer_lists_no_log_and_raises_nothing_of_pythons(odd):
    applications = {"x": {"deployments": {"Host": {"replicas": odd}}}, "y": odd}
    with canned() as server:
        server.says("/api/v0/nodes", {"data": odd})
        server.says("/api/v0/logs", {"data": {"result": odd}})
        server.says("/api/serve/applications/", {"applications": applications})

        async def ask():
            options = RayOptions(dashboard_url=server.url)
            async with ReplicaLogs.connect(options) as logs:
                return await logs.files(["x"]), await logs.running()

        assert asyncio.run(ask()) == (([], []), [])


@pytest.mark.parametrize("how", ["hang", "drip", "trickle"])
def test_a_list_of_logs_that_never_ends_is_given_up(how):
    with canned() as server:
        server.answers["/api/v0/nodes"] = how

        async def ask():
            options = RayOptions(dashboard_url=server.url, timeout=0.3)
            async with ReplicaLogs.connect(options) as logs:
                await logs.files(["x"])

        with pytest.raises(Waiting) as caught:
            asyncio.run(ask())
        assert caught.value.reason == "DashboardUnreachable"


def test_a_line_without_an_end_is_told_in_parts_and_not_kept(monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.LONGEST_LINE", 1 << 20)
    with canned() as server:
        server.answers["/api/v0/logs/file"] = server.answers["/api/v0/logs/stream"] = "flood"

        async def ask():
            async with ReplicaLogs.connect(RayOptions(dashboard_url=server.url)) as logs:
                return len(await anext(logs.read(LogFile(BUILT, "n1", "x"), WHOLE)))

        assert 1 << 20 < asyncio.run(ask()) < 4 << 20
        taken: list[int] = []

        async def follow():
            async with asyncio.timeout(60), ReplicaLogs.connect(options) as logs:
                await logs.follow(present, take, lines=WHOLE)

        def take(_, found):
            taken.extend(len(record.text) for record in found)

        async def present():
            if taken:
                raise asyncio.CancelledError
            return [LogFile(BUILT, "n1", "x")]

        options = RayOptions(dashboard_url=server.url)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(follow())
        assert 1 << 20 < taken[0] < 4 << 20


@pytest.mark.parametrize("body", [b"A file is not found", b"x" * (1 << 20)])
def test_why_a_log_cannot_be_read_is_told_in_a_line(body):
    with canned() as server:
        server.answers["/api/v0/logs/file"] = (500, body, {})

        async def ask():
            async with ReplicaLogs.connect(RayOptions(dashboard_url=server.url)) as logs:
                await anext(logs.read(LogFile(BUILT, "n1", "x"), WHOLE))

        with pytest.raises(Transient) as caught:
            asyncio.run(ask())
    assert caught.value.message == f"{BUILT}: 500 {body.decode()[-300:]}"
