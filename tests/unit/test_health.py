"""What Serve's report of an application means for its release."""

from dataclasses import replace

import pytest

from controller.observed import ApplicationStatus
from controller.planning.health import Health, diagnose
from tests.support.world import application

pytestmark = pytest.mark.unit

SHORT = (
    "Deployment 'Host' in application 'iris' has 1 replicas that have taken more than 30s to be "
    "scheduled. This may be due to waiting for the cluster to auto-scale or for a runtime "
    'environment to be installed. Resources required for each replica: {"CPU": 64.0}, total '
    'resources available: {"CPU": 1.5}. Use `ray status` for more details.'
)


def test_a_replica_that_serve_lost_track_of_comes_with_what_helps():
    lost = diagnose(application(status="UNHEALTHY", message=SHORT.replace("64.0", "0.05")))
    assert (lost.health, lost.reason) == (Health.FAILED, "Unhealthy")
    assert "end the head's process `ray::ServeController`" in lost.message
    full = diagnose(application(status="UNHEALTHY", message=SHORT))
    assert "ServeController" not in full.message


def test_a_running_application_has_passed_everything():
    found = diagnose(application(status="RUNNING"))
    assert (found.health, found.reason) == (Health.READY, "Running")


def test_an_application_without_deployments_is_being_built():
    found = diagnose(application(status="DEPLOYING", building=True))
    assert (found.health, found.reason) == (Health.STARTING, "Building")


@pytest.mark.parametrize("status", ["DEPLOYING", "NOT_STARTED", "DELETING"])
def test_what_neither_runs_nor_failed_is_starting(status):
    assert diagnose(application(status=status)).health is Health.STARTING


def test_a_replica_without_room_is_nobodys_fault_and_the_figures_are_told():
    found = diagnose(application(status="DEPLOYING", message=SHORT))
    assert (found.health, found.reason) == (Health.SHORT, "InsufficientResources")
    assert 'Resources required for each replica: {"CPU": 64.0}' in found.message
    assert "lower `num_cpus`" in found.message


def test_a_replica_that_has_room_and_is_not_started_is_not_blamed_on_the_room():
    found = diagnose(application(status="DEPLOYING", message=SHORT.replace("64.0", "0.05")))
    assert (found.health, found.reason) == (Health.SHORT, "SlowToSchedule")
    assert "the node is busy" in found.message


@pytest.mark.parametrize("figures", ["{'CPU': 1}", '{"GPU": 1}', "{"])
def test_figures_that_do_not_prove_room_prove_none(figures):
    said = SHORT.replace('{"CPU": 64.0}', figures)
    found = diagnose(application(status="DEPLOYING", message=said))
    assert found.reason == "InsufficientResources"


def test_without_figures_what_serve_says_is_told_as_one_line():
    found = diagnose(application(status="DEPLOYING", message="waiting\nto be scheduled"))
    assert found.message.endswith("Serve says: waiting to be scheduled")


def test_the_hosts_own_report_gives_reason_and_message_and_the_rest_is_the_tail():
    said = 'wheelway-failure[LoadFailed] `load` failed: KeyError: "x"\n  File "p.py", line 3'
    found = diagnose(application(status="DEPLOY_FAILED", message=said))
    assert (found.health, found.reason) == (Health.FAILED, "LoadFailed")
    assert found.message == '`load` failed: KeyError: "x"'
    assert found.log_tail == said


def test_a_report_amid_what_serve_says_is_found():
    said = "The deployment failed to start.\n  wheelway-failure[OutOfMemory] it wants more  \nrest"
    found = diagnose(application(status="UNHEALTHY", message=said))
    assert (found.reason, found.message) == ("OutOfMemory", "it wants more")


@pytest.mark.parametrize(
    "said",
    [
        "the replica's process died while it started",
        "ray.exceptions.ActorDiedError: its worker exited",
        "The actor died unexpectedly before finishing this task.",
        "ActorUnschedulable",
    ],
)
def test_a_process_that_ended_is_told_apart_from_an_exception(said):
    found = diagnose(application(status="DEPLOY_FAILED", message=said))
    assert (found.health, found.reason) == (Health.FAILED, "ReplicaDied")
    assert found.log_tail == said


def test_a_replica_that_missed_its_health_checks_is_not_told_to_have_died():
    said = "Error:\nA replica of the new version failed its health check."
    found = diagnose(application(status="DEPLOY_FAILED", message=said))
    assert (found.health, found.reason) == (Health.FAILED, "ReplicaDied")
    assert "or did not answer Serve's health check in time" in found.message
    assert found.log_tail == said


@pytest.mark.parametrize(
    "said", ["KeyError: 'embodied'", "ValueError: patients studied: 3, died: 1", "we died inside"]
)
def test_an_exception_that_speaks_of_dying_is_not_the_end_of_a_process(said):
    found = diagnose(application(status="DEPLOY_FAILED", message=said))
    assert (found.reason, found.message) == ("DeployFailed", said)


@pytest.mark.parametrize(
    ("status", "reason"), [("DEPLOY_FAILED", "DeployFailed"), ("UNHEALTHY", "Unhealthy")]
)
def test_any_other_failure_is_told_by_its_first_line(status, reason):
    found = diagnose(application(status=status, message="\nno such file\nmore\n"))
    assert (found.health, found.reason, found.message) == (Health.FAILED, reason, "no such file")
    silent = diagnose(application(status=status))
    assert silent.message == "Serve gives no cause"


def test_a_failure_wins_over_waiting_for_room():
    assert diagnose(application(status="DEPLOY_FAILED", message=SHORT)).health is Health.FAILED


def test_a_long_tail_keeps_its_end():
    said = "\n".join(f"line {number}" for number in range(100))
    found = diagnose(application(status="DEPLOY_FAILED", message=said))
    assert found.log_tail.splitlines()[-1] == "line 99"
    assert len(found.log_tail.splitlines()) == 30


@pytest.mark.parametrize("status", list(ApplicationStatus))
def test_every_status_has_a_diagnosis_with_a_reason_and_a_message(status):
    found = diagnose(replace(application(), status=status))
    assert found.reason.isalnum()
    assert found.message
