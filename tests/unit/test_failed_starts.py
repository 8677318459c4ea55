"""What Serve says of a failed start while it tries again, and of a replica that it replaces."""

from dataclasses import replace

import pytest

from controller.planning.health import Health, diagnose
from controller.planning.rollout import plan
from controller.serve.application import parse
from tests.support.reports import document, reported
from tests.support.world import NOW, record, routes
from tests.unit.test_parts_on_cluster import ARGS, deployment
from tests.unit.test_rollout import replacing

pytestmark = pytest.mark.unit

RETRYING = """\
A replica failed to start with exception. Retrying 2 more time(s). Error:
\x1b[36mray::ServeReplica:x:Host.initialize_and_get_metadata()\x1b[39m (pid=1, ip=127.0.0.1, )
  File "/v/lib/python3.11/site-packages/ray/serve/_private/replica.py", line 1928, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "/v/lib/python3.11/site-packages/ray/serve/_private/replica.py", line 4008, in _call
    result = callable(*args, **kwargs)
wheelway.failure.StartFailure: """
"""Line for line as Serve writes it (`DeploymentState.record_replica_startup_failure`)."""
SLOW = "wheelway-failure[ExampleTimeout] example 1 of 1 had no result within 120 s\nat pipeline.py"
RAISED = "wheelway-failure[LoadFailed] `load` failed: KeyError: 'x'\nat pipeline.py"
REPLACING = (
    "A replica's health check failed. This deployment will be UNHEALTHY until the replica recovers "
    "or a new deploy happens."
)


def starting(said, *states, state="UPDATING", status="DEPLOYING"):
    """An application of two deployments whose pipeline's own says this."""
    host = deployment(*(states or ("STARTING",)), status=state, message=said)
    return seen(host, deployment("RUNNING"), status=status)


def seen(host, risk, **more):
    told = reported(
        deployed_app_config=document(args=ARGS), deployments={"Host": host, "risk": risk}, **more
    )
    [app] = parse({"applications": {"x": told}})
    return app


def planned(app, *, now=NOW, was_live=False):
    """The plan for a release whose application is told so; another version of it serves."""
    old, new, facts = replacing("DEPLOYING", now=now)
    told = replace(new, message=app.message, failed_start=app.failed_start)
    records = facts.records
    if was_live:
        records = {**records, new.name: record(new, live=3.0)}
    return old, plan(replace(facts, applications=[old, told], records=records))


def test_the_first_example_that_takes_too_long_is_the_verdict():
    old, decided = planned(starting(RETRYING + SLOW))
    [failure] = decided.quarantines
    assert (failure.stage, failure.reason) == ("stage", "ExampleTimeout")
    assert failure.message == "example 1 of 1 had no result within 120 s"
    assert failure.log_tail.endswith("at pipeline.py")
    assert list(routes(decided)) == [old.name]


def test_any_other_failed_start_is_told_while_serve_tries_again():
    _, decided = planned(starting(RETRYING + RAISED))
    assert not decided.quarantines
    assert not decided.conditions
    [message] = [one.message for one in decided.transitions if one.reason == "Starting"]
    assert message == (
        "a replica failed to start (LoadFailed: `load` failed: KeyError: 'x'); Serve starts another"
    )


def test_a_failed_start_without_a_report_of_the_host_is_told_by_its_cause():
    _, decided = planned(starting(RETRYING.splitlines()[0] + "\nRuntimeEnvSetupError: no pip"))
    [message] = [one.message for one in decided.transitions if one.reason == "Starting"]
    assert message.startswith("a replica failed to start (DeployFailed: RuntimeEnvSetupError: no")


def test_a_start_that_takes_too_long_ends_with_the_reason_of_its_last_replica():
    _, decided = planned(starting(RETRYING + RAISED), now=NOW + 301)
    [failure] = decided.quarantines
    assert (failure.reason, failure.message) == ("LoadFailed", "`load` failed: KeyError: 'x'")


@pytest.mark.parametrize("now", [NOW, NOW + 301])
def test_what_was_live_is_not_judged_by_one_replica_that_fails_to_start(now):
    _, decided = planned(starting(RETRYING + SLOW), now=now, was_live=True)
    assert not decided.quarantines


@pytest.mark.parametrize(
    "app",
    [
        starting(RETRYING + SLOW, "STARTING", "RUNNING"),
        starting(RETRYING.replace(" 2 more time(s)", "") + SLOW),
        starting(RETRYING + SLOW, state="HEALTHY"),
        starting("The deployment failed to start 3 times in a row. Error:\n" + SLOW),
        starting(RETRYING + SLOW, state="DEPLOY_FAILED"),
        starting(RETRYING + SLOW, status="DELETING"),
    ],
    ids=["one-runs", "one-ran", "well", "over", "of-the-config-before", "leaving"],
)
def test_a_message_that_no_longer_holds_is_no_failed_start(app):
    assert not app.failed_start


def test_a_part_that_fails_to_start_is_named():
    host = deployment("STARTING", status="UPDATING")
    risk = deployment("STARTING", status="UPDATING", message=RETRYING + SLOW)
    _, decided = planned(seen(host, risk, status="DEPLOYING"))
    [failure] = decided.quarantines
    assert failure.reason == "ExampleTimeout"
    assert failure.message == "the part 'risk': example 1 of 1 had no result within 120 s"


def test_a_part_that_runs_is_not_blamed_for_one_of_its_replicas():
    host = deployment("STARTING", status="UPDATING")
    risk = deployment("RUNNING", "STARTING", status="UPDATING", message=RETRYING + SLOW)
    assert not seen(host, risk, status="DEPLOYING").failed_start


# -- a replica that is replaced ------------------------------------------------------------------


def unhealthy(host, risk, sick):
    told = f"The deployments {sick} are UNHEALTHY."
    found = diagnose(seen(host, risk, status="UNHEALTHY", message=told))
    assert (found.health, found.reason) == (Health.FAILED, "Unhealthy")
    return found.message


def test_a_replica_that_serve_replaces_is_told_with_those_that_go_on():
    sick = deployment("RUNNING", "STARTING", status="UNHEALTHY", message=REPLACING)
    assert unhealthy(sick, deployment("RUNNING"), ["Host"]) == (
        "a replica ended, or did not answer Serve's health checks; Serve starts another; "
        "meanwhile 1 other goes on"
    )


def test_the_last_replica_of_a_part_is_told_as_that():
    sick = deployment("STARTING", status="UNHEALTHY", message=REPLACING)
    told = unhealthy(deployment("RUNNING"), sick, ["risk"])
    assert told.startswith("a replica of the part 'risk' ended")
    assert told.endswith("meanwhile no other runs: requests wait for it, or fail")


def test_what_else_serve_says_of_an_unhealthy_deployment_is_told_instead():
    sick = deployment("RUNNING", status="UNHEALTHY", message="KeyError: 'boom'")
    assert unhealthy(sick, deployment("RUNNING"), ["Host"]) == "KeyError: 'boom'"
