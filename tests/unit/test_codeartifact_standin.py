"""The stand-in of AWS CodeArtifact answers boto3 as the real one does."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys

import boto3
import httpx
import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.support.acme import DEMO, HERE, ONCE, ONE, WHEEL, code_of
from tests.support.codeartifact import Address, StandIn, wire
from tests.support.wheels import make_wheel, sha256

pytestmark = pytest.mark.unit


def statuses(client):
    versions = client.list_package_versions(**DEMO)["versions"]
    return {one["version"]: one["status"] for one in versions}


# -- listings and bytes ---------------------------------------------------------------------------


def test_botos_paginators_see_everything_once(standin, client, tmp_path):
    for number in range(5):
        standin.shelf.publish(make_wheel(tmp_path, f"model-{number}"))
        standin.shelf.publish(make_wheel(tmp_path, "demo", f"1.{number}"))
    standin.page_size = 2
    pages = client.get_paginator("list_packages").paginate(**HERE, maxResults=1000)
    found = [one["package"] for page in pages for one in page["packages"]]
    assert found == ["demo", *(f"model-{number}" for number in range(5))]
    pages = client.get_paginator("list_package_versions").paginate(**DEMO)
    found = [one["version"] for page in pages for one in page["versions"]]
    assert found == [f"1.{number}" for number in range(5)]
    assert len(standin.asked("ListPackages")) == 3
    assert len(standin.asked("ListPackageVersions")) == 3
    assert standin.asked()[0].asked.params == {**HERE, "maxResults": 1000}


def test_a_page_holds_fifty_unless_more_are_asked_for(standin, client):
    for number in range(60):
        standin.shelf.store(f"model_{number}-1.0-py3-none-any.whl", b"same")
    assert len(client.list_packages(**HERE)["packages"]) == 50
    assert len(client.list_packages(**HERE, maxResults=1000)["packages"]) == 60


def test_an_asset_comes_as_it_was_published(standin, client, wheel):
    published = standin.shelf.publish(wheel)
    listed = client.list_package_version_assets(**ONE)
    assert listed["versionRevision"] == published.revision
    [asset] = listed["assets"]
    assert asset["name"] == wheel.name
    assert asset["size"] == wheel.stat().st_size
    assert asset["hashes"]["SHA-256"] == sha256(wheel)
    assert set(asset["hashes"]) == {"MD5", "SHA-1", "SHA-256", "SHA-512"}
    got = client.get_package_version_asset(**WHEEL, packageVersionRevision=published.revision)
    assert got["asset"].read() == wheel.read_bytes()
    assert got["assetName"] == wheel.name
    assert got["packageVersionRevision"] == published.revision
    assert standin.asked("GetPackageVersionAsset")[0].size == wheel.stat().st_size
    other = {**WHEEL, "packageVersionRevision": "another"}
    assert code_of(client.get_package_version_asset, **other) == "ResourceNotFoundException"


def test_a_revision_changes_with_the_assets_alone(standin, client):
    def revision():
        return client.list_package_versions(**DEMO)["versions"][0]["revision"]

    standin.shelf.store("demo-1.0.tar.gz", b"first")
    before = revision()
    standin.shelf.unlist("demo", "1.0")
    assert revision() == before
    standin.shelf.store("demo-1.0-py3-none-any.whl", b"second")
    assert revision() != before
    assert statuses(client) == {"1.0": "Unlisted"}


def test_a_version_is_described_with_its_time(client):
    with StandIn(clock=lambda: 1_700_000_000.5) as standin:
        standin.shelf.store("demo-1.0-py3-none-any.whl", b"")
        told = standin.client().describe_package_version(**ONE)["packageVersion"]
    assert told["publishedTime"].timestamp() == 1_700_000_000.5
    assert told["status"] == "Published"


def test_listings_can_be_narrowed(standin, client):
    shelf = standin.shelf
    shelf.store("demo-1.0-py3-none-any.whl", b"")
    shelf.store("demo-2.0-py3-none-any.whl", b"", origin="EXTERNAL", entry="public:pypi")
    shelf.store("demo-3.0-py3-none-any.whl", b"", entry="elsewhere", status="Unfinished")
    shelf.store("other-1.0-py3-none-any.whl", b"")
    shelf.restrict("Other", upstream="ALLOW")

    def versions(**more):
        listed = client.list_package_versions(**DEMO, **more)["versions"]
        return {one["version"]: one["origin"]["domainEntryPoint"] for one in listed}

    assert versions(originType="EXTERNAL") == {"2.0": {"externalConnectionName": "public:pypi"}}
    assert versions(originType="INTERNAL", status="Published") == {
        "1.0": {"repositoryName": "pipelines"}
    }
    assert versions(status="Unfinished") == {"3.0": {"repositoryName": "elsewhere"}}
    assert list(versions(sortBy="PUBLISHED_TIME")) == ["3.0", "2.0", "1.0"]
    [found] = client.list_packages(**HERE, upstream="ALLOW")["packages"]
    assert found["package"] == "other"
    assert found["originConfiguration"]["restrictions"] == {"publish": "ALLOW", "upstream": "ALLOW"}
    assert client.list_packages(**HERE, packagePrefix="de")["packages"][0]["package"] == "demo"
    assert client.list_packages(**HERE, format="npm")["packages"] == []


# -- states ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["Published", "Unlisted", "Unfinished"])
def test_these_states_can_be_downloaded(standin, client, status):
    standin.shelf.store("demo-1.0-py3-none-any.whl", b"bytes")
    standin.shelf.set_status("demo", "1.0", status)
    assert statuses(client) == {"1.0": status}
    assert client.get_package_version_asset(**WHEEL)["asset"].read() == b"bytes"


@pytest.mark.parametrize(
    ("change", "status", "assets"), [("archive", "Archived", 1), ("dispose", "Disposed", 0)]
)
def test_these_states_cannot_and_take_nothing_new(standin, client, change, status, assets):
    standin.shelf.store("demo-1.0-py3-none-any.whl", b"bytes")
    getattr(standin.shelf, change)("demo", "1.0")
    assert statuses(client) == {"1.0": status}
    assert len(client.list_package_version_assets(**ONE)["assets"]) == assets
    assert code_of(client.get_package_version_asset, **WHEEL) == "ResourceNotFoundException"
    with pytest.raises(wire.Refused, match=status):
        standin.shelf.store("demo-1.0.tar.gz", b"more")


def test_a_state_that_nobody_knows_passes_through_boto(standin, client):
    standin.shelf.store("demo-1.0-py3-none-any.whl", b"bytes")
    standin.shelf.set_status("demo", "1.0", "Embargoed")
    assert statuses(client) == {"1.0": "Embargoed"}


def test_a_deleted_version_can_come_back_as_something_else(standin, client, tmp_path, wheel):
    first = standin.shelf.publish(wheel)
    with pytest.raises(wire.Refused, match="would become another"):
        standin.shelf.store(wheel.name, b"other bytes")
    standin.shelf.delete("demo", "1.0")
    assert statuses(client) == {}
    assert [one["package"] for one in client.list_packages(**HERE)["packages"]] == ["demo"]
    second = standin.shelf.republish(make_wheel(tmp_path / "again", marker="other"))
    assert second.revision != first.revision
    third = standin.shelf.republish(wheel)
    assert third.revision == first.revision
    standin.shelf.delete("demo")
    assert code_of(client.list_package_versions, **DEMO) == "ResourceNotFoundException"


# -- what the model says --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"maxResults": 1001},
        {"status": "Sleeping"},
        {"package": "de mo"},
        {"domainOwner": "12345678901x"},
        {"nextToken": "made-up"},
    ],
    ids=str,
)
def test_what_boto_lets_through_and_the_service_does_not_is_refused(standin, client, wrong):
    standin.shelf.store("demo-1.0-py3-none-any.whl", b"")
    assert code_of(client.list_package_versions, **{**DEMO, **wrong}) == "ValidationException"


@pytest.mark.parametrize(
    ("elsewhere", "what"),
    [
        ({"domain": "other"}, "Domain 'other'"),
        ({"domainOwner": "999999999999"}, "'999999999999'"),
        ({"repository": "other"}, "Repository 'other'"),
    ],
    ids=str,
)
def test_another_place_is_not_found_by_name(client, elsewhere, what):
    with pytest.raises(client.exceptions.ResourceNotFoundException, match=what):
        client.list_packages(**{**HERE, **elsewhere})


@pytest.mark.parametrize(
    "result",
    [
        {"pakages": []},
        {"packages": "demo"},
        {"packages": [{"package": 1}]},
        {"packages": [{"originConfiguration": {"restrictions": {"publish": "ALLOW"}}}]},
        {"packages": [{"package": "two words"}]},
        {"nextToken": "x" * 2001},
    ],
    ids=lambda result: str(result)[:60],
)
def test_an_answer_that_the_service_could_not_give_is_a_bug(result):
    with pytest.raises(wire.ModelError):
        wire.write(wire.SERVICE.operation_model("ListPackages"), result)


def test_a_bug_fails_the_test_that_met_it(wheel):
    standin = StandIn()
    standin.shelf.publish(wheel)
    standin.shelf.set_status("demo", "1.0", 7)
    client = standin.client(config=ONCE)
    assert code_of(client.list_package_versions, **DEMO) == "InternalServerException"
    assert code_of(client.list_domains) == "InternalServerException"
    with pytest.raises(ExceptionGroup) as caught:
        standin.close()
    assert [type(bug) for bug in caught.value.exceptions] == [wire.ModelError, NotImplementedError]


# -- signatures -----------------------------------------------------------------------------------


def test_a_request_without_a_signature_is_refused(standin):
    client = standin.client(config=Config(signature_version=UNSIGNED))
    assert code_of(client.list_packages, **HERE) == "MissingAuthenticationTokenException"
    assert [call.status for call in standin.asked("ListPackages")] == [403]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"aws_secret_access_key": "wrong"}, "InvalidSignatureException"),
        ({"region_name": "us-west-2"}, "InvalidSignatureException"),
        ({"aws_session_token": None}, "UnrecognizedClientException"),
        ({"aws_access_key_id": "ASIAUNKNOWN"}, "UnrecognizedClientException"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_credentials_are_refused(standin, changed, code):
    mine = standin.access.credentials
    session = {
        "aws_access_key_id": mine.access_key,
        "aws_secret_access_key": mine.secret_key,
        "aws_session_token": mine.token,
        "region_name": standin.address.region,
    }
    client = boto3.Session(**{**session, **changed}).client(
        "codeartifact", endpoint_url=standin.url, config=ONCE
    )
    assert code_of(client.list_packages, **HERE) == code


def test_a_signature_holds_for_one_request_and_one_service(standin):
    def ask(service, signed, sent):
        request = AWSRequest("POST", f"{standin.url}/v1/packages?{signed}")
        SigV4Auth(standin.access.credentials, service, standin.address.region).add_auth(request)
        headers = dict(request.headers)
        return httpx.post(f"{standin.url}/v1/packages?{sent}", headers=headers)

    query = "domain=acme&repository=pipelines"
    assert ask("codeartifact", query, query).status_code == 200
    for refused in (
        ask("codeartifact", query, f"{query}&max-results=1"),
        ask("sqs", query, query),
    ):
        assert refused.status_code == 403
        assert refused.headers["x-amzn-errortype"].startswith("InvalidSignatureException:")


def test_credentials_end_and_are_renewed(standin, client):
    client.list_packages(**HERE)
    standin.access.expire()
    assert code_of(client.list_packages, **HERE) == "ExpiredTokenException"
    standin.access.renew()
    assert standin.client().list_packages(**HERE)["packages"] == []
    role = Credentials("ASIAROLE", "secret", "token")
    standin.access.accept(role)
    assert {**standin.environment}["AWS_ACCESS_KEY_ID"] != role.access_key
    session = boto3.Session(role.access_key, role.secret_key, role.token, standin.address.region)
    assumed = session.client("codeartifact", endpoint_url=standin.url)
    assert assumed.list_packages(**HERE)["packages"] == []


# -- on its own -----------------------------------------------------------------------------------


def test_it_runs_on_its_own_and_tells_a_shell_how_to_reach_it(wheel):
    command = [sys.executable, "-m", "tests.support.codeartifact", "--domain", "shop", str(wheel)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            told = {}
            while "UV_INDEX" not in told:
                name, value = process.stdout.readline().removeprefix("export ").split("=", 1)
                told[name] = value.strip()
            session = boto3.Session(
                told["AWS_ACCESS_KEY_ID"],
                told["AWS_SECRET_ACCESS_KEY"],
                told["AWS_SESSION_TOKEN"],
                told["AWS_REGION"],
            )
            endpoint = told["AWS_ENDPOINT_URL_CODEARTIFACT"]
            client = session.client("codeartifact", endpoint_url=endpoint)
            listed = client.list_packages(domain="shop", repository="pipelines")["packages"]
            assert [one["package"] for one in listed] == ["demo"]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_two_stand_in_for_two_repositories(tmp_path):
    with StandIn(Address(repository="one")) as one, StandIn(Address(repository="two")) as two:
        one.shelf.publish(make_wheel(tmp_path))
        listed = [
            each.client().list_packages(domain="acme", repository=each.address.repository)
            for each in (one, two)
        ]
    assert [len(found["packages"]) for found in listed] == [1, 0]


def test_a_body_of_unknown_length_is_refused(standin):
    connection = http.client.HTTPConnection("127.0.0.1", int(standin.url.rsplit(":", 1)[1]))
    connection.putrequest("POST", "/v1/packages")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()  # and no body: it would meet a connection that may be closed already
    assert connection.getresponse().status == 411
    connection.close()
