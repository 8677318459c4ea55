"""What Serve reports of applications, and what of it is ours and what went wrong."""

from __future__ import annotations

import pytest

from controller.observed import ApplicationStatus
from controller.serve.application import cause, parse
from tests.support.reports import document, reported

pytestmark = pytest.mark.unit


def only(**more):
    [application] = parse({"applications": {"x": reported(**more)}})
    return application


def test_only_a_deployment_without_deployments_is_building():
    assert only(status="DEPLOYING").building
    assert not only(status="DEPLOYING", deployments={"Host": {"replicas": []}}).building
    assert not only(status="DEPLOY_FAILED").building


def test_a_status_that_only_a_later_serve_knows_is_neither_ready_nor_failed():
    assert only(status="MIGRATING").status is ApplicationStatus.NOT_STARTED


def test_an_imperative_application_is_not_ours_and_holds_the_route_it_has():
    found = only(deployed_app_config=None, source="imperative", route_prefix="/theirs")
    assert (found.document, found.release, found.route) == (None, None, "/theirs")


def test_a_declarative_application_that_says_no_route_has_serves_default():
    found = only(deployed_app_config={"import_path": "a:b"}, route_prefix=None)
    assert (found.route, found.release) == ("/", None)
    assert found.document == {"name": "x", "import_path": "a:b"}


@pytest.mark.parametrize(
    "changed",
    [
        {"import_path": "wheelway.host:build_encoded_routes"},
        {"args": {}},
        {"args": {"release": "iris"}},
        {"args": {"release": {"pipeline": "Iris", "version": "1.0", "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "", "version": "1.0", "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "../x", "version": "1.0", "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "iris", "version": "one", "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "iris", "version": "9" * 5000, "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "iris", "version": "1.0", "digest": "a"}}},
        {"args": {"release": {"version": "1.0", "digest": "a" * 64}}},
    ],
)
def test_what_does_not_name_a_well_formed_release_is_not_ours(changed):
    assert only(deployed_app_config=document(**changed)).release is None


REPLICA_FAILED = """\
The deployment failed to start 3 times in a row. This may be due to a problem with its constructor \
or initial health check failing. See controller logs for details. Error:
\x1b[36mray::ServeReplica:x:Host.initialize_and_get_metadata()\x1b[39m (pid=1, ip=127.0.0.1, )
  File "/v/lib/python3.11/concurrent/futures/_base.py", line 449, in result
    return self.__get_result()
           ^^^^^^^^^^^^^^^^^^^
  File "/v/lib/python3.11/site-packages/ray/serve/_private/replica.py", line 1928, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "/v/lib/python3.11/site-packages/ray/serve/_private/replica.py", line 4008, in _call
    result = callable(*args, **kwargs)
  File "/v/x.py", line 9, in __init__
    raise RuntimeError("wheelway-failure[Quoted] in a source line")
"""


def test_the_hosts_own_words_are_dug_out_of_a_failed_replica():
    said = (
        "wheelway-failure[LoadFailed] load raised ValueError: no model\n"
        "Traceback (most recent call last):\n"
        '  File "iris.py", line 3, in load\nValueError: no model'
    )
    ray = said.replace(
        "Traceback (most recent call last):",
        "\x1b[36mray::ServeReplica:x:Host.initialize_and_get_metadata()\x1b[39m (pid=1, ip=::1)",
    )
    host = {"status": "DEPLOY_FAILED", "message": f"{REPLICA_FAILED}wheelway.X: {ray}"}
    own = "Failed to update the deployments ['Host']."
    found = only(status="DEPLOY_FAILED", message=own, deployments={"Host": host})
    assert found.message == said


def test_a_cause_without_a_marker_keeps_the_frames_that_are_not_rays():
    assert cause(REPLICA_FAILED.replace("wheelway-failure[Quoted] ", "") + "KeyError: 'boom'") == (
        "The deployment failed to start 3 times in a row.\n"
        '  File "/v/x.py", line 9, in __init__\n'
        '    raise RuntimeError("in a source line")\n'
        "KeyError: 'boom'"
    )


def test_a_replica_that_died_is_said_in_words():
    text = REPLICA_FAILED.splitlines()[0] + "\nActorDiedError()"
    assert "the replica's process died" in cause(text)


def test_a_failed_build_is_said_by_the_application_itself():
    found = only(
        status="DEPLOY_FAILED",
        message="Deploying app 'x' failed with exception:\nModuleNotFoundError: No module 'y'",
    )
    assert found.message.endswith("ModuleNotFoundError: No module 'y'")
