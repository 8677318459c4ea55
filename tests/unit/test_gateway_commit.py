"""A table is in force, or the one before it: whoever is killed, whatever others change."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from controller.errors import Waiting
from controller.gateway.commit import MAP, commit, correct, drift, write
from controller.gateway.routing import Alias, table
from controller.gateway.runtime import GatewayRefused, GatewayUnreachable, Runtime
from tests.support.gateway import RELEASE, Ingress, Load, routes, running, until

pytestmark = pytest.mark.unit

KILLED = """
import os, signal, sys
from pathlib import Path
from controller.gateway.commit import commit
from controller.gateway.runtime import Runtime
from tests.support.gateway import table, routes

left = int(sys.argv[1])
made, folder = table(routes(*sys.argv[3:])), Path(sys.argv[2])
WATCHED = {"open", "os.remove", "os.rename", "socket.connect", "socket.sendto"}

def step(event, args):
    global left
    if event in WATCHED:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(step)
commit(made, folder, Runtime(folder / "admin.sock"))
os._exit(0)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ingress():
    made = Ingress()
    yield made
    made.end()


@pytest.fixture(scope="module")
def front(ingress, tmp_path_factory):
    with running(tmp_path_factory.mktemp("gateway"), ingress, access_log=False) as front:
        yield front


def serving(front, of):
    """Whether exactly this table is in force, in the file and at run time."""
    return drift(of, front.folder, front.running.admin, whole=True) == ""


def test_a_table_is_in_force_when_it_was_committed(front):
    made = front.put(routes("iris/1.0"))
    assert serving(front, made)
    assert (front.folder / MAP).stat().st_mode & 0o777 == 0o600
    assert front.get("/predict/iris/1.0").status_code == 200
    other = front.put(routes("iris/1.1"))
    assert serving(front, other)
    assert front.get("/predict/iris/1.0").status_code == 404


def test_what_was_committed_is_there_after_a_reload_and_after_a_new_start(front, ingress, tmp_path):
    made = front.put(routes("iris/1.0", "iris/1.1"))
    front.running.reload()
    assert serving(front, made)
    with running(tmp_path / "other", ingress) as other:
        shutil.copy(front.folder / MAP, other.folder / MAP)
        other.running.reload()
        assert serving(other, made)


def test_ten_thousand_entries_are_put_in_force_whole(front):
    made = front.put(routes(*(f"pipeline-{n}/{n}.0" for n in range(5000))))
    assert len(made.entries) > 10_000
    assert serving(front, made)
    assert front.get("/predict/pipeline-4999/4999.0").headers[RELEASE] == "pipeline-4999@4999.0"
    small = front.put(routes("iris/1.0"))
    assert serving(front, small)


# -- drift -----------------------------------------------------------------------------------------


def test_what_somebody_sets_is_noticed_and_corrected(front):
    made = front.put(routes("iris/1.0", "iris/1.1"))
    admin = front.running.admin
    for command, named in (
        (f"set map {MAP} R:iris/1.0 *|/predict/iris/1.1|", "R:iris/1.0"),
        (f"add map {MAP} R:mine/1 *|/predict/iris/1.1|", "R:mine/1"),
        (f"del map {MAP} K:iris", "K:iris"),
        (f"add map {MAP} R:iris/1.1 ray|/other|", "R:iris/1.1"),
    ):
        admin.ask(command)
        assert drift(made, front.folder, admin, whole=False) == ""
        assert named in drift(made, front.folder, admin, whole=True)
        assert named in correct(made, front.folder, admin, whole=True)
        assert serving(front, made)
    admin.ask(f"clear map {MAP}")
    assert "another table" in correct(made, front.folder, admin, whole=False)
    assert serving(front, made)


def test_a_stale_file_and_a_start_with_it_are_noticed_and_corrected(front):
    old = front.put(routes("iris/1.0"))
    made = front.put(routes("iris/1.1"))
    write(front.folder / MAP, old.text)
    front.running.reload()
    assert serving(front, old)
    assert "is not the one" in correct(made, front.folder, front.running.admin, whole=False)
    assert serving(front, made)
    (front.folder / MAP).unlink()
    assert correct(made, front.folder, front.running.admin, whole=False)
    assert serving(front, made)


def test_two_that_write_at_once_end_with_one_whole_table(front):
    one = table(routes(*(f"a/{n}" for n in range(300))))
    two = table(routes(*(f"b/{n}" for n in range(300))))

    def put(of):
        for _ in range(10):
            try:
                commit(of, front.folder, front.running.admin)
            except (GatewayRefused, Waiting):
                continue

    threads = [threading.Thread(target=put, args=[of]) for of in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    correct(one, front.folder, front.running.admin, whole=True)
    assert serving(front, one)


# -- kill -9 ---------------------------------------------------------------------------------------


def test_killed_between_any_two_steps_nothing_is_lost(front):
    before = ["iris/1.0", *(f"old/{n}" for n in range(400))]
    after = ["iris/1.0", *(f"new/{n}" for n in range(400))]
    old, new = table(routes(*before)), table(routes(*after))
    admin, met = front.running.admin, set()
    for steps in range(200):
        commit(old, front.folder, admin)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(steps), front.folder, *after], cwd=ROOT, check=False
        )
        at_run_time = next(
            name
            for name, of in (("old", old), ("new", new))
            if sorted(admin.entries(MAP)) == sorted(of.entries)
        )
        in_file = next(
            name
            for name, of in (("old", old), ("new", new))
            if (front.folder / MAP).read_text() == of.text
        )
        met.add((in_file, at_run_time))
        assert front.get("/predict/iris/1.0").status_code == 200
        correct(new, front.folder, admin, whole=True)
        assert serving(front, new)
        assert f"entry_cnt={len(new.entries)}" in admin.ask("show map"), "entries of nobody"
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert steps > 8
    assert met == {("old", "old"), ("new", "old"), ("new", "new")}  # the map is never ahead


# -- under load ------------------------------------------------------------------------------------


def test_flips_replacements_and_reloads_under_load_fail_nothing(front):
    def of(version, extra):
        alias = Alias("iris", "stable", version)
        keys = (f"more{extra}/{n}" for n in range(500))
        return routes("iris/1.0", "iris/1.1", *keys, aliases=(alias,))

    front.put(of("1.0", "a"))
    with Load(front, ["/predict/iris/stable", "/predict/iris/1.0"]) as load:
        for turn in range(6):
            load.more(40)
            front.put(of(f"1.{turn % 2}", "ab"[turn % 2]))
            seen = len(load.seen)
            load.more(40)
            if turn % 2:
                front.running.reload()
            assert "iris@1.1" in load.seen[seen:] or turn % 2 == 0
        load.more(40)
    assert load.failed == []
    assert {"iris@1.0", "iris@1.1"} <= set(load.seen)


# -- the runtime API lies, hangs, floods, is gone --------------------------------------------------


@pytest.fixture
def liar(tmp_path):
    """A socket that answers as a test says."""
    path = tmp_path / "admin.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"/proc/self/fd/{os.open(tmp_path, os.O_PATH)}/admin.sock")
    server.listen(8)
    answer = {}

    def serve():
        while True:
            try:
                stream, _ = server.accept()
            except OSError:
                return
            with stream:
                stream.recv(65536)
                try:
                    answer["how"](stream)
                except OSError:
                    continue

    threading.Thread(target=serve, daemon=True).start()
    yield path, answer
    server.close()


def drip(stream):
    for _ in range(1000):
        stream.sendall(b"x")
        time.sleep(0.02)


def flood(stream):
    while True:
        stream.sendall(b"x" * 65536)


def test_a_socket_that_hangs_or_drips_is_left_in_time(liar):
    path, answer = liar
    over = threading.Event()
    answer["how"] = lambda _: over.wait(60)
    with pytest.raises(GatewayUnreachable, match="does not answer `show info`"):
        Runtime(path, seconds=0.2).ask("show info")
    over.set()
    answer["how"] = drip
    with pytest.raises(GatewayUnreachable, match="does not answer"):
        Runtime(path, seconds=0.2).ask("show info")


def test_a_socket_that_never_ends_is_left(liar):
    path, answer = liar
    answer["how"] = flood
    with pytest.raises(GatewayRefused, match="more than 1000000 bytes"):
        Runtime(path, limit=1_000_000).ask("show info")


@pytest.mark.parametrize("said", [b"", b"Unknown command: 'prepare'\n", b"\xff\x00\n", b"New\n"])
def test_an_answer_that_is_none_is_told(liar, said):
    path, answer = liar
    answer["how"] = lambda stream: stream.sendall(said)
    for ask in (
        lambda: Runtime(path).replace(MAP, [("a", "b")]),
        lambda: Runtime(path).value(MAP, "G:"),
    ):
        with pytest.raises(GatewayRefused, match="answers `"):
            ask()


def test_nobody_at_the_socket_is_told_and_the_file_is_written(tmp_path):
    made = table(routes("iris/1.0"))
    with pytest.raises(GatewayUnreachable, match="is the gateway running"):
        commit(made, tmp_path, Runtime(tmp_path / "admin.sock"))
    assert (tmp_path / MAP).read_text() == made.text


def test_a_command_that_is_too_long_is_not_sent(tmp_path):
    with pytest.raises(GatewayRefused, match="takes at most"):
        Runtime(tmp_path / "none").ask("add map @1 m", "x" * 20_000)


def test_a_map_that_is_unknown_is_told(front):
    with pytest.raises(GatewayRefused, match="Unknown map"):
        front.running.admin.replace("no.map", [("a", "b")])


def test_a_file_that_cannot_be_written_changes_nothing(front, tmp_path):
    made = front.put(routes("iris/1.0"))
    with pytest.raises(Waiting, match=r"cannot be written: .*make room"):
        commit(table(routes("iris/2")), tmp_path / "none", front.running.admin)
    assert serving(front, made)


def test_a_path_of_any_length_can_be_asked(ingress, tmp_path):
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    with running(deep / "g", ingress) as front:
        until(lambda: serving(front, front.put(routes("iris/1.0"))))
