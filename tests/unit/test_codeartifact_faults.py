"""What can be made to go wrong with the stand-in goes wrong in just that way."""

from __future__ import annotations

import threading

import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError, ResponseStreamingError

from tests.support.acme import DEMO, HERE, ONCE, WHEEL, code_of
from tests.support.codeartifact import (
    Fault,
    StandIn,
    access_denied,
    expired_token,
    internal_error,
    not_found,
    throttled,
)
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit


def test_a_throttled_call_says_when_to_come_again_if_it_is_told_to(standin, client):
    standin.inject("ListPackages", throttled(retry_after=7))
    standin.inject("ListPackages", throttled(retry_after_ms=250))
    standin.inject("ListPackages", throttled())
    seen = []
    for _ in range(3):
        with pytest.raises(client.exceptions.ThrottlingException) as caught:
            client.list_packages(**HERE)
        seen.append(caught.value.response)
    headers = [response["ResponseMetadata"]["HTTPHeaders"] for response in seen]
    assert seen[0]["retryAfterSeconds"] == 7
    assert [found.get("retry-after") for found in headers] == ["7", None, None]
    assert [found.get("x-amz-retry-after") for found in headers] == [None, "250", None]
    assert client.list_packages(**HERE)["packages"] == []


def test_a_fault_comes_as_often_as_it_was_asked_for_and_boto_retries(standin):
    standin.inject("ListPackages", internal_error(), times=2, after=1)
    client = standin.client(config=Config(retries={"mode": "standard", "total_max_attempts": 3}))
    client.list_packages(**HERE)
    assert client.list_packages(**HERE)["ResponseMetadata"]["RetryAttempts"] == 2
    assert [call.status for call in standin.asked("ListPackages")] == [200, 500, 500, 200]


def test_a_fault_without_an_end_lasts_until_it_is_healed(standin, client):
    standin.inject("ListPackages", Fault("SlowDown", status=503), times=None)
    assert {code_of(client.list_packages, **HERE) for _ in range(3)} == {"SlowDown"}
    standin.heal()
    client.list_packages(**HERE)


@pytest.mark.parametrize(
    ("operation", "params", "resource"),
    [
        ("list_packages", HERE, "repository/acme/pipelines"),
        ("list_package_versions", DEMO, "package/acme/pipelines/pypi//demo"),
        ("get_authorization_token", {"domain": "acme"}, "domain/acme"),
    ],
)
def test_a_denied_call_names_action_and_resource(standin, client, operation, params, resource):
    action = "".join(word.title() for word in operation.split("_"))
    standin.inject(action, access_denied())
    with pytest.raises(client.exceptions.AccessDeniedException) as caught:
        getattr(client, operation)(**params)
    arn = f"arn:aws:codeartifact:eu-central-1:111122223333:{resource}"
    assert f"perform: codeartifact:{action} on resource: {arn} " in str(caught.value)


def test_errors_that_pass(standin, client, wheel):
    standin.shelf.publish(wheel)
    standin.inject("GetPackageVersionAsset", not_found())
    standin.inject("GetPackageVersionAsset", expired_token())
    codes = [code_of(client.get_package_version_asset, **WHEEL) for _ in range(2)]
    assert codes == ["ResourceNotFoundException", "ExpiredTokenException"]
    assert client.get_package_version_asset(**WHEEL)["asset"].read() == wheel.read_bytes()


def test_a_cut_body_is_seen_only_if_its_length_was_announced(standin, client, wheel):
    standin.shelf.publish(wheel)
    size = wheel.stat().st_size
    standin.inject("GetPackageVersionAsset", Fault(cut=0.5))
    standin.inject("GetPackageVersionAsset", Fault(cut=0.5, announced=False))
    with pytest.raises(ResponseStreamingError):
        client.get_package_version_asset(**WHEEL)["asset"].read()
    assert (
        client.get_package_version_asset(**WHEEL)["asset"].read()
        == (wheel.read_bytes()[: size // 2])
    )
    assert [call.size for call in standin.asked("GetPackageVersionAsset")] == [size // 2] * 2


def test_wrong_bytes_have_the_right_length(standin, client, wheel):
    standin.shelf.publish(wheel)
    standin.inject("GetPackageVersionAsset", Fault(wrong=True))
    got = client.get_package_version_asset(**WHEEL)["asset"].read()
    assert len(got) == wheel.stat().st_size
    assert got != wheel.read_bytes()


def test_a_slow_body_is_whole_in_the_end(standin, client):
    standin.shelf.store("demo-1.0-py3-none-any.whl", b"drop by drop")
    standin.inject("GetPackageVersionAsset", Fault(drip=(5, 0.01)))
    assert client.get_package_version_asset(**WHEEL)["asset"].read() == b"drop by drop"


def test_the_end_does_not_wait_for_a_slow_body(wheel):
    with StandIn() as standin:
        standin.shelf.publish(wheel)
        standin.inject("GetPackageVersionAsset", Fault(drip=(1, 3600)))
        body = standin.client(config=ONCE).get_package_version_asset(**WHEEL)["asset"]
        errors = []

        def read():
            try:
                body.read()
            except ResponseStreamingError as error:
                errors.append(error)

        reader = threading.Thread(target=read)
        reader.start()
    reader.join(30)
    assert not reader.is_alive()
    assert errors


def test_pages_come_in_another_order_and_twice(standin, client):
    for letter in "abcd":
        standin.shelf.store(f"{letter}-1.0-py3-none-any.whl", b"")
    standin.page_size = 2

    def listed():
        pages = client.get_paginator("list_packages").paginate(**HERE)
        return "".join(one["package"] for page in pages for one in page["packages"])

    standin.inject("ListPackages", Fault(pages="repeated"), after=1)
    assert listed() == "abcdcd"
    standin.inject("ListPackages", Fault(pages="reversed"), times=2)
    assert listed() == "dcba"
    assert listed() == "abcd"


def test_something_can_happen_between_two_calls(standin, client, tmp_path, wheel):
    revision = standin.shelf.publish(wheel).revision
    other = make_wheel(tmp_path / "other", marker="other")
    standin.inject(
        "GetPackageVersionAsset", Fault(meanwhile=lambda: standin.shelf.republish(other))
    )
    pinned = {**WHEEL, "packageVersionRevision": revision}
    assert code_of(client.get_package_version_asset, **pinned) == "ResourceNotFoundException"
    assert client.get_package_version_asset(**WHEEL)["asset"].read() == other.read_bytes()


def test_after_the_end_nobody_answers_on_a_connection_that_was_kept():
    with StandIn() as standin:
        client = standin.client(config=ONCE)
        client.list_packages(**HERE)
    with pytest.raises(EndpointConnectionError):
        client.list_packages(**HERE)
