"""The dashboard client, the probe and the head itself, against real Ray."""

from __future__ import annotations

import json
import math
import os
import resource
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest
from packaging.version import Version

from controller.config.settings import Options, RayOptions, ServeOptions
from controller.errors import Rejected
from controller.model import Artifact, Environment, PipelineEntry, Release
from controller.observed import ApplicationStatus
from controller.rayhead import haproxy
from controller.rayhead.head import adopt_or_start, answers
from controller.rayhead.subreaper import descendants
from controller.serve.cluster import inspect
from controller.serve.dashboard import Dashboard
from controller.serve.ingress import Ingress
from controller.serve.rendering import Renderer
from tests.support.head import CPUS, application, eventually

pytestmark = pytest.mark.ray

APPLICATIONS = """
from ray import serve
from starlette.responses import JSONResponse

@serve.deployment(name="Host")
class Sound:
    async def __call__(self, request):
        return JSONResponse({"path": request.url.path}, headers={"x-wheelway-release": "sound"})

@serve.deployment(name="Host")
class Broken:
    def __init__(self):
        raise RuntimeError("wheelway-failure[" + "LoadFailed] no model\\nKeyError: 'weights'")
    async def __call__(self, request):
        return ""

def sound(args):
    return Sound.bind()

def broken(args):
    return Broken.bind()

def unbuildable(args):
    return args["missing"]
"""


@pytest.fixture(scope="module")
def dashboard(head):
    options = RayOptions(dashboard_url=head.dashboard_url, timeout=60)
    with closing(Dashboard.connect(options)) as connected:
        yield connected


@pytest.fixture(scope="module")
def put(head, dashboard, tmp_path_factory):
    """PUTs applications of the module above, given as `name="function"` or as documents; those of
    the PUT before that are not among them go.
    """
    folder = tmp_path_factory.mktemp("applications")
    (folder / "applications_of_the_test.py").write_text(APPLICATIONS)
    renderer = Renderer(wheelway="0.1.0")

    def send(*documents, **functions):
        made = [
            {
                "name": name,
                "route_prefix": f"/{name}",
                "import_path": f"applications_of_the_test:{function}",
                "runtime_env": {"env_vars": {"PYTHONPATH": str(folder)}},
                "args": {},
                "deployments": [{"name": "Host", "ray_actor_options": {"num_cpus": 0.1}}]
                if function != "unbuildable"
                else [],
            }
            for name, function in functions.items()
        ]
        config = renderer.serve_config([*made, *documents], ServeOptions(), head.ingress_url)
        renderer.validate(config)
        dashboard.put(config)
        return {document["name"]: document for document in [*made, *documents]}

    yield send
    send()


def is_haproxy(pid):
    name = Path(f"/proc/{pid}/comm")
    return name.exists() and name.read_text().strip() == "haproxy"


def test_what_was_put_is_observed_with_its_document_verbatim_and_answers(head, dashboard, put):
    sent = put(sound="sound")

    def running():
        found = application(dashboard, "sound")
        assert found.document == sent["sound"]
        assert found.route == "/sound"
        return found.status is ApplicationStatus.RUNNING and found

    found = eventually(running)
    assert [replica.state for replica in found.replicas] == ["RUNNING"]
    serving = {found.replicas[0].pid, *(p for p in descendants(head.pid) if is_haproxy(p))}
    assert len(serving) > 1
    assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in serving} == {0}  # docs/adr/0010
    assert found.release is None
    answer = eventually(lambda: (a := Ingress(head.ingress_url).probe("/sound")).header and a)
    assert (answer.header, answer.status) == ("sound", 200)
    assert Ingress(head.ingress_url).probe("/nobody").status == 404


def test_a_release_is_reported_with_exactly_the_document_that_was_rendered(dashboard, put):
    release = Release("iris", Version("1.0+cu1"), "a" * 64)
    artifact = Artifact(
        digest=release.digest,
        project="iris",
        version=release.version,
        filename="iris-1.0+cu1-py3-none-any.whl",
        size=1,
        wheel=Path("/nowhere.whl"),
        tree=Path("/nowhere"),
        record_digest="b" * 64,
        requires=(),
        pipelines=(),
    )
    placement = Renderer(wheelway="0.1.0").place(
        release,
        PipelineEntry("iris", "iris:Iris", {}, {}),
        artifact,
        Environment("", None),
        Options(autoscaling_config={"max_replicas": 2}, env_vars={"A": "größe"}),
        {"text": "\u2028 😀 {{ x }}", "number": 1e-7},
    )
    put(placement.document, sound="sound")
    found = application(dashboard, placement.name)
    assert found.document == placement.document
    assert found.release == release
    assert found.building
    assert found.route is None


def test_ray_takes_and_reports_what_no_json_has_and_answers_go_on(dashboard, put):
    odd = {"limits": [math.inf, -math.inf, math.nan], "text": "\ud800"}
    theirs = {"name": "theirs", "import_path": "applications_of_the_test:sound", "args": odd}
    put(theirs, sound="sound")
    found = application(dashboard, "theirs")
    assert json.dumps(found.document["args"]) == json.dumps(odd)
    assert found.oddity
    put({**found.document, "route_prefix": None}, sound="sound")
    again = application(dashboard, "theirs")
    assert json.dumps(again.document["args"]) == json.dumps(odd)
    assert application(dashboard, "sound").oddity == ""


def test_the_cause_of_a_failure_is_dug_out(dashboard, put):
    put(sound="sound", broken="broken", unbuildable="unbuildable")

    def failed(name):
        found = application(dashboard, name)
        return found.status is ApplicationStatus.DEPLOY_FAILED and found

    replica = eventually(lambda: failed("broken"))
    assert replica.message == "wheelway-failure[LoadFailed] no model\nKeyError: 'weights'"
    build = eventually(lambda: failed("unbuildable"))
    assert "KeyError: 'missing'" in build.message
    assert "site-packages/ray" not in build.message


def test_a_config_that_ray_refuses_is_rejected_and_changes_nothing(dashboard, put):
    put(sound="sound")
    with pytest.raises(Rejected, match="application 'bad'"):
        dashboard.put({"applications": [{"name": "bad", "import_path": "nocolon"}]})
    assert application(dashboard, "sound")


def test_the_head_says_what_it_is(dashboard, put):
    put(sound="sound")
    found = eventually(lambda: (c := inspect(dashboard)).haproxy and c)
    assert found.ray.startswith("2.")
    assert found.session.startswith("session_")
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.cpus == CPUS
    assert found.free_cpus <= CPUS


def test_the_ingress_is_as_it_was_asked_for(head, dashboard, put):
    put(sound="sound")
    eventually(lambda: (c := inspect(dashboard)).haproxy and c)
    assert inspect(dashboard).hard_stop == 930
    [written] = head.log.parent.rglob("haproxy*.cfg")
    connections = haproxy.connections(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    wanted = {
        f"maxconn {connections}",
        "hard-stop-after 930s",
        "timeout http-request 10s",
        "timeout client 60s",
        "timeout http-keep-alive 20s",
    }
    # Ray writes it anew with what it serves, and HAProxy's start puts in the rest.
    eventually(lambda: wanted <= {line.strip() for line in written.read_text().splitlines()})


def test_more_idle_connections_than_ray_allows_stop_nobody(head, put):
    put(sound="sound")
    ingress = Ingress(head.ingress_url)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    address = ("127.0.0.1", head.ports.ingress)
    idle = []
    try:
        idle.extend(socket.create_connection(address) for _ in range(4200))
        assert ingress.probe("/-/healthz").status is not None
        for connection in idle:
            connection.settimeout(30)
        assert idle[0].recv(12) == b"HTTP/1.1 408"  # each ends by itself
    finally:
        for connection in idle:
            connection.close()
        ingress.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_running_head_is_adopted_and_left_alone(head):
    adopted = adopt_or_start(head.dashboard_url)
    assert adopted.adopted
    adopted.stop()
    assert answers(head.dashboard_url)
