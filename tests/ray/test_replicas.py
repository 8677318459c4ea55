"""What happens to replicas, their files and their logs, as Serve really runs them."""

import http.client
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import httpx
import pytest

from controller.model import Phase
from controller.reconcile import upkeep
from tests.support.head import eventually
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.ray

STEADY = """
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def infer(self, request: int) -> int:
        return request + 1
"""
GOING = """
import os
from wheelway import Pipeline

class Demo(Pipeline):
    examples = ("go",)

    def load(self, context):
        if os.path.exists({flag!r}):
            raise RuntimeError("the model store is away")

    def infer(self, request: str) -> str:
        if request == "die":
            os._exit(1)
        return request
"""
PATIENT = """
import asyncio
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    async def infer(self, request: float) -> float:
        await asyncio.sleep(request)
        return {number}
"""
NEEDY = """
import zz_needed
from wheelway import Pipeline

class Demo(Pipeline):
    def infer(self, request: int) -> int:
        return request + zz_needed.ONE
"""
BLOCKING = """
import os, time
from wheelway import Pipeline

class Demo(Pipeline):
    examples = ("",)

    async def infer(self, request: str) -> str:
        end = time.monotonic() + 40
        while request and not os.path.exists(request) and time.monotonic() < end:
            time.sleep(0.05)
        return request
"""
TALKING = """
import io, logging.config, os
import wheelway
from wheelway import Pipeline, Refused

class Demo(Pipeline):
    def load(self, context):
        self.logger = context.logger
        logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}})

    def infer(self, request: int) -> str:
        buffer = io.StringIO()
        print("a", "b", file=buffer)
        self.logger.warning("hello from the pipeline")
        print("printed for", request)
        if request == 2:
            print("last words", flush=True)
            os._exit(5)
        if request == 3:
            found = wheelway.request()
            words = f"{found.id} {found.client} {found.headers['X-Forwarded-For']}"
            raise Refused(409, "Odd", f"{words} {30 < found.remaining < 60}")
        if request:
            raise ValueError("needle")
        return buffer.getvalue()
"""


@pytest.fixture(scope="module")
def sockets():
    """The folder in which every replica here has its socket."""
    with tempfile.TemporaryDirectory(prefix="ww-") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def site(folder, sockets):
    """One daemon for all tests here, with wheels of requirements beside it, and a template by which
    replicas also answer directly.
    """
    shipped = Path("templates/application.yaml.j2").read_text()
    (folder.folder / "templates").mkdir()
    (folder.folder / "templates" / "application.yaml.j2").write_text(
        shipped.replace("  user_config:\n", f"  user_config:\n    direct: {sockets}\n")
    )
    folder.basics = folder.basics.replace("[paths]\n", '[paths]\ntemplates = "templates"\n')
    make_wheel(
        folder.folder / "links",
        "zz-needed",
        pipelines={},
        files={"zz_needed/__init__.py": "ONE = 1\n"},
    )
    folder.configure(
        '[rollout]\ninterval = 1\n[environments]\noffline = true\nfind_links = ["links"]\n'
    )
    with folder.daemon():
        yield folder


def live(site, pipeline):
    """The release at the pipeline's route, once it is live."""
    release = site.wait_for(f"/predict/{pipeline}/1.0")
    site.wait_for_phase(release, Phase.LIVE)
    # A replica that dies before Serve has taken note of its route would be one that never started.
    eventually(lambda: release in running(site))
    return release


def running(site):
    """The releases that Serve has nothing to do about."""
    return {str(a.release) for a in site.dashboard.applications() if a.status == "RUNNING"}


def replicas(site, pipeline, state="RUNNING"):
    """Those in that state, as the dashboard tells of them."""
    told = site.client.get(f"{site.dashboard_url}/api/serve/applications/").json()
    return [
        replica
        for name, app in told["applications"].items()
        if name.startswith(f"{pipeline}-")
        for replica in app["deployments"].get("Host", {}).get("replicas", ())
        if replica["state"] == state
    ]


@pytest.fixture
def look_soon(site, monkeypatch):
    """Has the daemon look for what was lost at each pass, once a new replica has met that."""

    def soon(pipeline):
        eventually(lambda: replicas(site, pipeline, "STARTING"))
        monkeypatch.setattr(upkeep, "EVERY", 1.0)

    return soon


def test_clients_of_a_release_that_cannot_start_again_are_told_so(site, tmp_path):
    flag, route = tmp_path / "away", "/predict/going/1.0"
    toml = "[options]\nrequest_timeout = 4\n"
    site.drop("going", code=GOING.format(flag=str(flag)), wheelway_toml=toml)
    live(site, "going")
    flag.touch()
    with suppress(httpx.TransportError):  # nobody is left to answer
        site.ask(route, "die")
    eventually(lambda: not replicas(site, "going"))
    begin = time.monotonic()
    answer = site.client.get(f"{site.ingress}{route}/healthz")
    seconds = time.monotonic() - begin
    assert (answer.status_code, answer.json()["reason"]) == (503, "NotLoaded")
    assert answer.headers["retry-after"] == "1"
    assert seconds < 27  # not the 30 s of a release that names no shorter time
    answer = site.ask(route, "go")
    assert (answer.status_code, answer.json()["reason"]) == (503, "NotLoaded")
    flag.unlink()
    eventually(lambda: site.ask(route, "go").status_code == 200, 180)


def test_a_stage_that_blocks_keeps_nobody_beyond_the_request_timeout(site, tmp_path):
    route = "/predict/blocking/1.0"
    site.drop("blocking", code=BLOCKING, wheelway_toml="[options]\nrequest_timeout = 3\n")
    release = live(site, "blocking")

    def late():
        path = tmp_path / str(next(numbers))  # until it exists the stage blocks
        headers = {"x-forwarded-for": "203.0.113.9, 127.0.0.1:6379"}  # of whomever
        answer = site.client.post(f"{site.ingress}{route}", json=str(path), headers=headers)
        path.touch()
        assert (answer.status_code, answer.json()["reason"]) == (504, "TimedOut")
        # Until HAProxy knows the replica it is Serve's proxy that says so, and for no release.
        return answer.headers.get("x-wheelway-release")

    numbers = count()
    for _ in range(2):
        assert eventually(late) == release


def test_a_tree_that_was_altered_is_made_again_and_its_replica_comes_back(site, look_soon):
    route = "/predict/steady/1.0"
    site.drop("steady", code=STEADY)
    live(site, "steady")
    [code] = site.folder.glob("cache/trees/*/*/steady/pipeline.py")
    tree = code.parent.parent
    content = code.read_bytes()
    code.chmod(0o644)
    code.write_bytes(content.replace(b"+ 1", b"+ 2"))
    [replica] = replicas(site, "steady")
    os.kill(replica["pid"], signal.SIGKILL)
    eventually(lambda: replicas(site, "steady") not in ([], [replica]), 180)
    assert code.read_bytes() == content
    assert site.ask(route, 1).json() == 2
    [replica] = replicas(site, "steady")
    shutil.rmtree(tree)
    shutil.rmtree(next(site.folder.glob(f"cache/wheels/*/{tree.name}")))
    os.kill(replica["pid"], signal.SIGKILL)
    look_soon("steady")
    eventually(lambda: replicas(site, "steady") not in ([], [replica]), 180)
    assert site.ask(route, 1).json() == 2


def test_an_environment_that_was_deleted_is_made_again_and_its_replica_comes_back(site, look_soon):
    route = "/predict/needy/1.0"
    site.drop("needy", code=NEEDY, requires=["zz-needed"])
    live(site, "needy")
    [replica] = replicas(site, "needy")
    [place] = [p for p in site.folder.glob("cache/environments/*") if p.name[0] != "."]
    shutil.rmtree(place)
    os.kill(replica["pid"], signal.SIGKILL)
    look_soon("needy")
    eventually(lambda: replicas(site, "needy") not in ([], [replica]), 240)
    assert site.ask(route, 1).json() == 2


def test_the_log_has_what_a_request_failed_of_whatever_the_pipeline_did_to_logging(site):
    route = "/predict/talking/1.0"
    site.drop("talking", code=TALKING)
    live(site, "talking")
    assert site.ask(route, 0).json() == "a b\n"
    [replica] = replicas(site, "talking")

    def log():
        query = {
            "node_id": replica["node_id"],
            "filename": replica["log_file_path"].lstrip("/"),
            "lines": -1,
        }
        return site.client.get(f"{site.dashboard_url}/api/v0/logs/file", params=query).text

    eventually(lambda: "hello from the pipeline" in log())
    answer = site.ask(route, 1)
    assert answer.status_code == 500
    text = eventually(lambda: (found := log()) and "needle" in found and found)
    assert f"request {answer.json()['instance']} of talking@1.0" in text
    assert "Traceback (most recent call last):" in text
    assert "ValueError: needle" in text
    request = f" {answer.json()['instance']} -- "
    for line in ("hello from the pipeline", "printed for 1"):
        eventually(lambda line=line: f"{request}{line}" in log(), 30)
    refused = site.client.post(
        f"{site.ingress}{route}", json=3, headers={"x-forwarded-for": "10.9.9.9"}
    ).json()
    # Who asks from this machine is believed what it says of others.
    words = f"{refused['instance']} 10.9.9.9 10.9.9.9, 127.0.0.1 True"
    assert (refused["status"], refused["reason"], refused["detail"]) == (409, "Odd", words)
    told = f"{refused['instance']} of talking@1.0"
    line = eventually(lambda: [one for one in log().splitlines() if told in one])
    assert len(line) == 1
    assert line[0].startswith("INFO ")
    assert f"was refused: 409 Odd: {words!r}" in line[0]
    with suppress(httpx.TransportError):  # nobody is left to answer
        site.ask(route, 2)
    eventually(lambda: " -- last words" in log(), 30)


class Directly(http.client.HTTPConnection):
    """A kept connection to a replica's socket."""

    def __init__(self, path):
        super().__init__("gateway", timeout=90)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))

    def ask(self, route, body):
        self.request("POST", route, json.dumps(body), {"content-type": "application/json"})
        answer = self.getresponse()
        return answer.status, answer.read(), answer.headers


@contextmanager
def gateway(site, route, path, clients=4):
    """Clients that ask one socket, and the ingress where it refuses; what came of it, by way."""
    answers, failures, ending = {"direct": [], "ingress": []}, [], threading.Event()

    def client():
        direct, ingress = Directly(path), httpx.Client(trust_env=False, timeout=60)
        while not ending.wait(0.01):
            way = "direct"
            try:
                try:
                    status, body, _ = direct.ask(route, 0)
                except (ConnectionRefusedError, FileNotFoundError):
                    way = "ingress"
                    direct.close()
                    answer = ingress.post(f"{site.ingress}{route}", json=0)
                    status, body = answer.status_code, answer.content
            except (OSError, http.client.HTTPException, httpx.HTTPError) as error:
                failures.append((way, repr(error)))
                direct.close()
            else:
                (answers[way] if status == 200 else failures).append(body)
        direct.close()
        ingress.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers, failures
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def test_a_replica_that_is_asked_directly_fails_nobody_when_it_is_replaced(site, sockets):
    route = "/predict/patient/1.0"
    toml = "[options]\ngraceful_shutdown_timeout = 60\n"
    site.drop("patient", code=PATIENT.format(number=1), wheelway_toml=toml)
    former = live(site, "patient")
    [replica] = replicas(site, "patient")
    path = sockets / f"{replica['replica_id']}.sock"
    eventually(path.exists)
    kept = Directly(path)
    status, body, headers = kept.ask(route, 0)
    assert (status, body, headers["x-wheelway-release"]) == (200, b"1.0", former)
    assert headers["x-request-id"]
    with gateway(site, route, path) as (answers, failures):
        site.drop("patient", code=PATIENT.format(number=2), wheelway_toml=toml)
        eventually(lambda: not path.exists(), 180)
        # Longer than Serve drains for what it knows of.
        status, body, headers = kept.ask(route, 20)
        assert (status, body, headers["connection"]) == (200, b"1.0", "close")
        eventually(lambda: len(answers["ingress"]) > 20)
    assert failures == []
    assert set(answers["direct"]) == {b"1.0"}
    assert answers["ingress"][-1] == b"2.0"
    [replica] = eventually(lambda: replicas(site, "patient"))
    path = sockets / f"{replica['replica_id']}.sock"
    with gateway(site, route, path) as (answers, _):
        eventually(lambda: answers["direct"])
        os.kill(replica["pid"], signal.SIGKILL)
        eventually(lambda: answers["ingress"])
        eventually(lambda: replicas(site, "patient") not in ([], [replica]), 180)
    eventually(lambda: not path.exists())
    [replica] = replicas(site, "patient")
    path = sockets / f"{replica['replica_id']}.sock"
    assert eventually(lambda: path.exists() and Directly(path).ask(route, 0)[1]) == b"2.0"
