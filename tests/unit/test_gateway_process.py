"""HAProxy as a process: what is refused before it starts, reloads, certificates, ends, kills."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from controller.config.gateway import GatewayOptions
from controller.errors import ConfigError, Stalled, TemplateError, Waiting
from controller.gateway import process
from controller.gateway.configuration import CONFIG, Cluster, files
from controller.gateway.routing import Route, Routes, Shift
from controller.templates import shipped
from tests.support.gateway import BINARY, Ingress, Load, place, routes, running, until
from tests.support.indexes import free_port

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def ingress():
    made = Ingress()
    yield made
    made.end()


def is_gone(pid):
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# -- before it starts ------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/base", "http://127.0.0.1:8000/?x"])
def test_an_ingress_that_haproxy_cannot_reach_is_refused(url):
    with pytest.raises(ConfigError, match="a host and a port"):
        files(
            GatewayOptions(listen="127.0.0.1:1"),
            [Cluster("ray", url)],
            longest_request=60,
            descriptors=4000,
        )


def test_an_operators_template_wins_and_its_mistakes_have_a_line(ingress, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    text = (shipped() / "haproxy.cfg.j2").read_text()
    better = text.replace("timeout tunnel 1h", "timeout tunnel 2h")
    (own / "haproxy.cfg.j2").write_text(better)
    with running(tmp_path / "g", ingress, template=own) as front:
        assert "timeout tunnel 2h" in (front.folder / CONFIG).read_text()
        good = (front.folder / CONFIG).read_text()
        for broken, said in (
            (
                text.replace("{{ listen |", "{{ listn |"),
                r"haproxy\.cfg\.j2:\d+: 'listn' is undefin",
            ),
            (text.replace("{%- endmacro %}", "", 1), r"haproxy\.cfg\.j2:\d+: "),
        ):
            (own / "haproxy.cfg.j2").write_text(broken)
            with pytest.raises(TemplateError, match=said):
                front.renew()
        (own / "haproxy.cfg.j2").write_text(text.replace("timeout tunnel 1h", "timeout tunel 1h"))
        with pytest.raises(ConfigError, match=r"HAProxy refuses it: .*got 'tunel'"):
            front.renew()
        assert (front.folder / CONFIG).read_text() == good
        assert not list(front.folder.glob("candidate*"))


def test_values_cannot_become_directives(tmp_path):
    text = GatewayOptions.model_construct(
        **{
            **GatewayOptions(listen="127.0.0.1:1").model_dump(),
            "listen": "127.0.0.1:1",
            "sticky_header": "x) -m found } # ",
        }
    )
    with pytest.raises(TemplateError, match="is no name"):
        files(text, [Cluster("ray", "http://h:1")], longest_request=60, descriptors=4000)
    with pytest.raises(TemplateError, match="control characters"):
        files(
            GatewayOptions(listen="127.0.0.1:1"),
            [Cluster("ray", "https://h:1", tmp_path / "a\n    server x y:1")],
            longest_request=60,
            descriptors=4000,
        )


def test_a_binary_that_is_none_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no program"):
        process.find(tmp_path / "none", Path(sys.executable))
    with pytest.raises(ConfigError, match="has no HAProxy"):
        process.find(None, tmp_path / "python")
    assert process.find(BINARY, tmp_path / "python") == BINARY
    with pytest.raises(ConfigError, match="cannot be run"):
        process.start(tmp_path / "none", tmp_path)


# -- running ---------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told_in_haproxys_words(ingress, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(Stalled, match=rf"ended with status 1: .*:{port}") as caught,
            running(tmp_path / "g", ingress, listen=f"127.0.0.1:{port}"),
        ):
            pass
        assert caught.value.reason == "GatewayEnded"


def test_a_second_one_in_the_same_folder_is_refused(ingress, tmp_path):
    with running(tmp_path / "g", ingress) as front:
        front.put(routes("iris/1.0"))
        with pytest.raises(Stalled, match=r"runs in .* already"):
            process.start(BINARY, front.folder)
        assert front.get("/predict/iris/1.0").status_code == 200


def test_a_reload_that_cannot_succeed_leaves_what_serves(ingress, tmp_path):
    with running(tmp_path / "g", ingress) as front, socket.socket() as taken:
        front.put(routes("iris/1.0"))
        good = (front.folder / CONFIG).read_text()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = front.options.listen.rpartition(":")[2]
        for bad in (
            good.replace("mode http", "mode htp", 1),
            good.replace(f":{port}", f":{taken.getsockname()[1]}"),
        ):
            (front.folder / CONFIG).write_text(bad)
            with pytest.raises(Stalled, match="goes on with what it had") as caught:
                front.running.reload()
            assert "it does not say why" not in str(caught.value)
            assert front.get("/predict/iris/1.0").status_code == 200
        (front.folder / CONFIG).write_text(good)
        front.running.reload()
        assert front.get("/predict/iris/1.0").status_code == 200


def test_options_that_only_fail_when_it_starts_anew_are_taken_back(ingress, tmp_path):
    with running(tmp_path / "g", ingress) as front, socket.socket() as taken:
        front.put(routes("iris/1.0"))
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        good, before = front.options, (front.folder / CONFIG).read_text()
        front.options = GatewayOptions(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Stalled, match="goes on with what it had"):
            front.renew()
        front.options = good
        assert (front.folder / CONFIG).read_text() == before
        assert front.get("/predict/iris/1.0").status_code == 200
        assert not front.renew()
        front.options = GatewayOptions(listen=f"127.0.0.1:{free_port()}")
        assert front.renew()
        assert front.get("/predict/iris/1.0").status_code == 200


def test_it_ends_and_lets_requests_end_first(ingress, tmp_path):
    with running(tmp_path / "g", ingress) as front:
        front.put(routes("iris/1.0"))
        workers = front.running._processes().workers
        with Load(front, ["/predict/iris/1.0"]) as load:
            load.more(20)
        front.running.end(30)
        assert load.failed == []
        assert front.running._process.returncode == 0
        assert all(map(is_gone, workers))


def test_workers_end_with_a_master_that_is_killed(ingress, tmp_path):
    with running(tmp_path / "g", ingress) as front:
        workers = front.running._processes().workers
        os.kill(front.running.pid, signal.SIGKILL)
        until(lambda: all(map(is_gone, workers)))
        until(lambda: not front.running.is_running())
        again = process.start(BINARY, front.folder)
        again.end(0)
        assert not again.is_running()


def test_a_worker_that_is_killed_ends_the_master_too(ingress, tmp_path):
    """So that whoever watches the master knows; the table is in the file."""
    with running(tmp_path / "g", ingress) as front:
        made = front.put(routes("iris/1.0"))
        (worker,) = front.running._processes().workers
        os.kill(worker, signal.SIGKILL)
        until(lambda: not front.running.is_running())
        again = process.start(BINARY, front.folder)
        assert again.admin.value("routes.map", "G:") == made.digest
        assert front.get("/predict/iris/1.0").status_code == 200
        again.end(0)


def test_an_idle_connection_of_the_worker_before_is_closed(ingress, tmp_path):
    with running(tmp_path / "g", ingress) as front:
        front.put(routes("iris/1.0"))
        host, port = front.options.listen.split(":")
        with socket.create_connection((host, int(port)), timeout=90) as kept:
            kept.sendall(b"GET /predict/iris/1.0 HTTP/1.1\r\nhost: x\r\n\r\n")
            assert kept.recv(65536)
            front.running.reload()
            while kept.recv(65536):
                pass


def test_it_needs_no_privilege(ingress, tmp_path):
    """It runs as any user; here as nobody, without a capability."""
    if os.geteuid() != 0:
        pytest.skip("already without")
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        subprocess.run([BINARY, "-v"], **nobody, capture_output=True, check=True)
    except PermissionError:
        pytest.skip("nobody else may run what lies here")
    folder = Path("/tmp", f"wheelway-gateway-{os.getpid()}")
    folder.mkdir()
    try:
        place(
            GatewayOptions(listen=f"127.0.0.1:{free_port()}"), [Cluster("ray", ingress.url)], folder
        )
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65534, 65534)
        with subprocess.Popen(
            process.command(BINARY), cwd=folder, stderr=subprocess.DEVNULL, **nobody
        ) as running_as:
            until((folder / "admin.sock").exists)
            assert (folder / "admin.sock").stat().st_uid == 65534
            running_as.terminate()
    finally:
        shutil.rmtree(folder)


# -- clusters --------------------------------------------------------------------------------------


def test_a_release_goes_to_its_cluster_by_shares_and_to_the_other_when_one_is_gone(tmp_path):
    blue, green = Ingress("blue"), Ingress("green")
    both = ("blue", "green")
    made = (
        Route("iris", "1.0", "/predict/iris/1.0", both),
        Route("iris", "2.0", "/predict/iris/2.0", ("green",)),
    )
    with running(tmp_path / "g", blue, green) as front:

        def by(path="/predict/iris/1.0", count=60):
            return [front.get(path).json()["by"] for _ in range(count)]

        front.put(Routes(both, made))
        until(lambda: "DOWN" not in front.running.admin.ask("show stat"))
        assert set(by()) == {"blue"}
        assert set(by("/predict/iris/2.0", 5)) == {"green"}
        front.put(Routes(both, made, shifts={"*": Shift("blue", "green", 5000)}))
        assert 10 < by().count("green") < 50
        front.put(Routes(both, made, shifts={"iris/1.0": Shift("green")}))
        assert set(by()) == {"green"}
        green.end()

        def status():
            found = front.running.admin.ask("show stat").splitlines()
            return next(line for line in found if line.startswith("clusters,green,"))

        until(lambda: ",DOWN," in status())
        assert set(by(count=10)) == {"blue"}
        gone = front.get("/predict/iris/2.0")
        assert gone.json()["reason"] == "ClusterDown"
    blue.end()


def test_wheelways_processes_leave_nothing_behind(ingress, tmp_path):
    with running(tmp_path / "g", ingress) as front:
        front.put(routes("iris/1.0"))
        pids = {front.running.pid, *front.running._processes().workers}
    assert all(map(is_gone, pids))
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(Waiting, match="cannot be written"):
        place(
            GatewayOptions(listen="127.0.0.1:1"),
            [Cluster("ray", "http://127.0.0.1:1")],
            tmp_path / "none" / "below",
        )
