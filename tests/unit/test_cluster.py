"""The facts about a cluster, of a dashboard that tells them, or not."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.rayhead.haproxy import LABEL
from controller.serve.cluster import Cluster, inspect
from tests.support.canned import canned
from tests.support.reports import anything, dashboard_at, failure

pytestmark = pytest.mark.unit


@pytest.fixture
def server():
    with canned() as running:
        yield running


@pytest.fixture
def dashboard(server):
    with dashboard_at(server.url) as connected:
        yield connected


def test_the_clusters_facts_are_gathered(server, dashboard):
    server.says("/api/version", {"ray_version": "2.60.0", "session_name": "session_1"})
    server.says("/api/v0/cluster_metadata", {"data": {"pythonVersion": "3.11.7"}})
    usage = {"CPU": [0.5, 2.0], "memory": [0.0, 1.0]}
    status = {"clusterStatus": {"loadMetricsReport": {"usage": usage}}}
    server.says("/api/cluster_status", {"data": status})
    actors = "/api/v0/actors?filter_keys=class_name&filter_predicates=%3D&filter_values="
    alive = {"data": {"result": {"result": [{"state": "ALIVE"}]}}}
    none = {"data": {"result": {"result": []}}}
    server.says(f"{actors}HAProxyManager", alive)
    assert inspect(dashboard) == Cluster("session_1", "2.60.0", "3.11.7", 2.0, 1.5, haproxy=True)
    server.says(f"{actors}HAProxyManager", none)
    server.says(f"{actors}ProxyActor", alive)
    assert inspect(dashboard).haproxy is False
    server.says(f"{actors}ProxyActor", none)
    assert inspect(dashboard).haproxy is None


@pytest.mark.parametrize(
    ("labels", "stop"),
    [({LABEL: "930"}, 930.0), ({}, 120.0), ({LABEL: "soon"}, None), (None, None)],
)
def test_how_long_the_ingress_waits_is_read_from_the_heads_label(server, dashboard, labels, stop):
    server.says("/api/version", {"ray_version": "2.60.0"})
    worker = {"is_head_node": False, "labels": {LABEL: "7"}}
    rows = [worker, {"is_head_node": True, "labels": labels}]
    server.says("/api/v0/nodes", {"data": {"result": {"result": rows}}})
    assert inspect(dashboard).hard_stop == stop


def test_haproxys_restart_is_not_taken_for_a_slow_ingress(server, dashboard):
    server.says("/api/version", {"ray_version": "2.60.0"})
    actors = "/api/v0/actors?filter_keys=class_name&filter_predicates=%3D&filter_values="
    restarting = {"state": "RESTARTING", "name": "SERVE_PROXY_ACTOR-node1"}
    fallback = {"state": "ALIVE", "name": "SERVE_PROXY_ACTOR-fallback-node1"}
    server.says(f"{actors}HAProxyManager", {"data": {"result": {"result": [restarting]}}})
    server.says(f"{actors}ProxyActor", {"data": {"result": {"result": [fallback]}}})
    assert inspect(dashboard).haproxy is None


def test_what_a_cluster_does_not_say_is_unknown(server, dashboard):
    server.says("/api/version", {"ray_version": "2.60.0"})
    assert inspect(dashboard) == Cluster("", "2.60.0", None, None, None, haproxy=None)


OPTIONAL = (
    "/api/cluster_status",
    "/api/v0/cluster_metadata",
    "/api/v0/actors",
    "/api/v0/nodes",
)


@pytest.mark.parametrize("how", ["hang", "drip", "trickle"])
def test_an_optional_part_that_is_slow_hides_nothing_but_itself(server, monkeypatch, how):
    monkeypatch.setattr("controller.serve.cluster.OPTIONAL_DEADLINE", 0.3)
    server.says("/api/version", {"ray_version": "2.60.0", "session_name": "session_1"})
    for path in OPTIONAL:
        server.answers[path] = how
    unknown = Cluster("session_1", "2.60.0", None, None, None, haproxy=None)
    began = time.monotonic()
    with dashboard_at(server.url, timeout=90.0) as dashboard:
        assert inspect(dashboard) == unknown
    assert time.monotonic() - began < 60  # what else is asked may take 90 s


def wrapped(odd):
    """An optional part's answer that is odd at one of the depths at which something is read."""
    return st.sampled_from(
        [
            odd,
            {"data": odd},
            {"data": {"pythonVersion": odd, "result": odd}},
            {"data": {"result": {"result": odd}}},
            {"data": {"result": {"result": [{"is_head_node": True, "labels": odd}]}}},
            {"data": {"clusterStatus": {"loadMetricsReport": {"usage": {"CPU": odd}}}}},
        ]
    )


@given(said=st.lists(anything.flatmap(wrapped), min_size=4, max_size=4))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_optional_part_that_is_odd_is_unknown(server, dashboard, said):
    server.says("/api/version", {"ray_version": "2.60.0"})
    for path, answer in zip(OPTIONAL, said, strict=True):
        server.says(path, json.dumps(answer))
    found = inspect(dashboard)
    assert (found.ray, found.haproxy) == ("2.60.0", None)
    assert found.cpus is None or math.isfinite(found.cpus)
    assert found.python is None or isinstance(found.python, str)


def test_something_else_at_the_address_is_not_taken_for_ray(server, dashboard):
    server.says("/api/version", {"version": 1})
    assert failure(lambda: inspect(dashboard)).reason == "DashboardUnexpected"
