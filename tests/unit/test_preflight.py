"""What does not fit together on Ray's side is told with its cure."""

from dataclasses import replace

import pytest
from packaging.version import Version

from controller.cache.environments.base import detect
from controller.reconcile.preflight import TESTED, misfits
from controller.serve.cluster import Cluster

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def base():
    """What this very interpreter has: Ray and wheelway."""
    return detect()


@pytest.fixture(scope="module")
def cluster(base):
    """A head that was started with it."""
    return Cluster("session_1", base.ray_version, base.version, 4.0, 2.0, haproxy=True)


def only(cluster, base, own_version=None):
    """The one misfit; it always has a cure."""
    [found] = misfits(cluster, base, own_version or base.wheelway_version)
    assert found.subject == "ray"
    assert not found.ok
    return found.reason, found.message


def without(base, name):
    rest = {key: value for key, value in base.distributions.items() if key != name}
    return replace(base, distributions=rest)


def test_what_fits_is_not_talked_about(cluster, base):
    assert misfits(cluster, base, base.wheelway_version) == []


def test_what_the_head_does_not_say_is_not_held_against_it(base):
    silent = Cluster("session_1", base.ray_version, None, None, None, haproxy=None)
    assert misfits(silent, base, base.wheelway_version) == []


def test_an_interpreter_without_wheelway_gets_the_command_that_installs_it(cluster, base):
    bare = replace(without(base, "wheelway"), importable=frozenset({"ray"}))
    reason, message = only(cluster, bare, "1.2.3")
    assert reason == "WheelwayMissing"
    assert f"`{base.python} -m pip install wheelway==1.2.3`" in message


def test_a_wheelway_that_is_importable_without_being_installed_will_do(cluster, base):
    checkout = replace(without(base, "wheelway"), importable=frozenset({"ray", "wheelway"}))
    assert misfits(cluster, checkout, "1.2.3") == []


def test_another_wheelway_than_the_daemons_gets_the_command_that_evens_it(cluster, base):
    reason, message = only(cluster, base, "99.0")
    assert reason == "WheelwayVersionDiffers"
    assert base.wheelway_version in message
    assert "pip install wheelway==99.0`, then restart the daemon" in message


def test_another_ray_than_the_heads_names_both_and_the_key_to_set(cluster, base):
    reason, message = only(replace(cluster, ray="2.60.99"), base)
    assert reason == "RayVersionDiffers"
    assert "2.60.99" in message
    assert base.ray_version in message
    assert "ray.python" in message


def test_another_python_than_the_heads_names_both_and_the_key_to_set(cluster, base):
    reason, message = only(replace(cluster, python="3.99.1"), base)
    assert reason == "PythonDiffers"
    assert "3.99.1" in message
    assert base.version in message
    assert "ray.python" in message


@pytest.mark.parametrize("ray", ["2.59.0", str(TESTED[1]), "3.0.0", "nightly", "9" * 5000])
def test_a_ray_that_nobody_tested_is_named_with_the_range_that_was(cluster, base, ray):
    found = misfits(replace(cluster, ray=ray), without(base, "ray"), base.wheelway_version)
    assert [condition.reason for condition in found] == ["RayUntested"]
    assert ray in found[0].message
    assert str(TESTED[0]) in found[0].message


def test_the_range_that_was_tested_holds_the_ray_that_runs_these_tests(base):
    assert TESTED[0] <= Version(base.ray_version) < TESTED[1]


def test_a_slow_ingress_gets_the_variables_that_make_it_fast(cluster, base):
    reason, message = only(replace(cluster, haproxy=False), base)
    assert reason == "SlowIngress"
    assert "RAY_SERVE_ENABLE_HA_PROXY=1" in message


def test_an_ingress_that_cuts_long_requests_gets_what_makes_it_wait(cluster, base):
    reason, message = only(replace(cluster, hard_stop=120.0), base)
    assert reason == "LongRequestsCut"
    assert "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S=930" in message
    assert "wheelway ray-head --longest-request 900" in message
    for stop, longest in ((930.0, 900.0), (120.0, 100.0), (None, 900.0)):
        patient = replace(cluster, hard_stop=stop)
        assert misfits(patient, base, base.wheelway_version, longest_request=longest) == []


def test_a_full_cluster_gets_the_ways_to_make_room(cluster, base):
    reason, message = only(replace(cluster, free_cpus=0.0), base)
    assert reason == "NoFreeCpus"
    assert "all 4 CPUs" in message
    assert "num_cpus" in message


def test_several_misfits_are_told_side_by_side(cluster, base):
    found = misfits(replace(cluster, haproxy=False, free_cpus=0.0), base, "99.0")
    assert [condition.reason for condition in found] == [
        "WheelwayVersionDiffers",
        "SlowIngress",
        "NoFreeCpus",
    ]
