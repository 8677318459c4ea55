"""twine, uv and EventBridge's readers find the stand-in to be what they know."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile

import boto3
import httpx
import pytest
import uv
from moto.server import ThreadedMotoServer

from tests.support.acme import DEMO, HERE, ONCE, ONE, WHEEL, code_of
from tests.support.codeartifact import StandIn, to_queue
from tests.support.publishing import run, twine_upload, uv_publish
from tests.support.wheels import make_wheel, sha256

pytestmark = pytest.mark.unit


# -- the package endpoint -------------------------------------------------------------------------


def make_sdist(folder):
    path = folder / "demo-1.0.tar.gz"
    files = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
        "pyproject.toml": b"",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"demo-1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return path


def send(standin, filename, content, token=None, **form):
    """An upload, as every client sends it."""
    return httpx.post(
        standin.packages_url,
        data={":action": "file_upload", "name": "Demo", "version": "1.0"} | form,
        files={"content": (filename, content)},
        auth=("aws", token or standin.access.issue()[0]),
    )


def test_twine_uploads(standin, client, tmp_path, wheel):
    sdist = make_sdist(tmp_path)
    done = twine_upload(standin, wheel, sdist)
    assert done.returncode == 0, done.stdout + done.stderr
    [listed] = client.list_package_versions(**DEMO)["versions"]
    assert listed["origin"]["originType"] == "INTERNAL"
    assets = client.list_package_version_assets(**ONE)["assets"]
    assert {asset["name"]: asset["hashes"]["SHA-256"] for asset in assets} == {
        path.name: sha256(path) for path in (wheel, sdist)
    }
    assert [call.asked.params["filename"] for call in standin.asked("Upload")] == [
        wheel.name,
        sdist.name,
    ]


def test_uv_publishes(standin, client, wheel):
    done = uv_publish(standin, wheel)
    assert done.returncode == 0, done.stderr
    assert client.get_package_version_asset(**WHEEL)["asset"].read() == wheel.read_bytes()


def test_the_same_bytes_may_come_again_and_others_may_not(standin, tmp_path, wheel):
    for _ in range(2):
        assert send(standin, wheel.name, wheel.read_bytes()).status_code == 200
    done = twine_upload(standin, make_wheel(tmp_path / "other", marker="other"))
    assert done.returncode != 0
    assert "409" in done.stdout + done.stderr
    [version] = standin.shelf.package("demo").versions.values()
    assert version.assets[0].content == wheel.read_bytes()


def test_twine_is_told_when_its_token_is_none(standin, wheel):
    done = twine_upload(standin, wheel, TWINE_PASSWORD="made-up")
    assert done.returncode != 0
    assert "401" in done.stdout + done.stderr
    assert standin.shelf.packages() == []


def test_a_token_ends_when_it_was_told_to():
    now = [1_000_000.0]
    with StandIn(clock=lambda: now[0]) as standin:
        client = standin.client(config=ONCE)
        given = client.get_authorization_token(domain="acme", durationSeconds=900)
        token = given["authorizationToken"]
        assert given["expiration"].timestamp() == now[0] + 900
        assert send(standin, WHEEL["asset"], b"", token).status_code == 200
        now[0] += 900
        assert send(standin, WHEEL["asset"], b"", token).status_code == 401
        for wrong in (60, 43201):
            request = {"domain": "acme", "durationSeconds": wrong}
            assert code_of(client.get_authorization_token, **request) == "ValidationException"


def test_any_bytes_survive_an_upload(standin, client):
    content = b"\r\n--boundary\r\n\n\r" + bytes(range(256)) * 40 + b"\r\n\r\n--\n\r"
    assert send(standin, WHEEL["asset"], content).status_code == 200
    assert client.get_package_version_asset(**WHEEL)["asset"].read() == content


@pytest.mark.parametrize(
    "wrong",
    [{"name": "other"}, {"version": "1.1"}, {"sha256_digest": "0" * 64}, {"filename": "demo.txt"}],
    ids=str,
)
def test_an_upload_that_contradicts_itself_is_refused(standin, wrong):
    assert (
        send(standin, **({"filename": WHEEL["asset"], "content": b""} | wrong)).status_code == 400
    )
    assert standin.shelf.packages() == []


def test_uv_installs_a_pipeline_and_what_it_needs(standin, client, tmp_path):
    standin.shelf.publish(make_wheel(tmp_path, "acme-text", "2.0"))
    standin.shelf.publish(make_wheel(tmp_path, "demo", requires=["acme-text>=1"]))
    url = client.get_repository_endpoint(**HERE, format="pypi")["repositoryEndpoint"]
    assert url == standin.packages_url
    target = tmp_path / "target"
    command = (uv.find_uv_bin(), "pip", "install", "--no-cache", "--target", target, "demo")
    refused = run(*command, env={"UV_DEFAULT_INDEX": f"{url}simple/"})
    assert refused.returncode != 0
    done = run(*command, env={"UV_DEFAULT_INDEX": standin.index_url()})
    assert done.returncode == 0, done.stderr
    assert {path.name for path in target.iterdir()} >= {"acme_text", "demo"}
    assert {call.asked.params["package"] for call in standin.asked("Download")} == {
        "acme-text",
        "demo",
    }


def test_the_index_speaks_html_and_json_and_hides_what_is_unlisted(standin, tmp_path):
    for number in (1, 2, 3):
        standin.shelf.publish(make_wheel(tmp_path, "demo", f"{number}.0"))
    standin.shelf.unlist("demo", "2.0")
    standin.shelf.archive("demo", "3.0")
    kinds = {"html": "text/html", "json": "application/vnd.pypi.simple.v1+json"}
    with httpx.Client(base_url=standin.index_url()) as index:
        pages = {
            kind: index.get("demo/", headers={"Accept": accept}) for kind, accept in kinds.items()
        }
        for kind, page in pages.items():
            assert page.headers["Content-Type"].split(";")[0] == kinds[kind]
        [listed] = pages["json"].json()["files"]
        [link] = re.findall(r'href="([^"]+)#sha256=(\w+)">([^<]+)<', pages["html"].text)
        assert link == (listed["url"], listed["hashes"]["sha256"], listed["filename"])
        got = index.get(f"demo/{listed['url']}").content
        assert hashlib.sha256(got).hexdigest() == listed["hashes"]["sha256"]
        assert index.get("demo/2.0/demo-2.0-py3-none-any.whl").status_code == 200
        assert index.get("demo/3.0/demo-3.0-py3-none-any.whl").status_code == 404
        assert index.get("unknown/").status_code == 404
        assert index.get("").status_code == 404


# -- events ---------------------------------------------------------------------------------------


def test_every_change_is_told_as_eventbridge_tells_it(standin, tmp_path, wheel):
    told = []
    standin.subscribe(told.append)
    standin.shelf.publish(wheel)
    standin.shelf.publish(wheel)  # changes nothing
    standin.shelf.publish(make_sdist(tmp_path))
    standin.shelf.unlist("demo", "1.0")
    standin.shelf.delete("demo", "1.0")
    details = [event["detail"] for event in told]
    assert [detail["operationType"] for detail in details] == [
        *("Created", "Updated", "Updated", "Deleted"),
    ]
    assert [detail["packageVersionState"] for detail in details] == [
        *("Published", "Published", "Unlisted", "Deleted"),
    ]
    assert [detail["changes"]["assetsAdded"] for detail in details] == [1, 1, 0, 0]
    assert [detail["changes"]["assetsRemoved"] for detail in details] == [0, 0, 0, 2]
    assert [detail["changes"]["statusChanged"] for detail in details] == [True, False, True, True]
    assert [detail["sequenceNumber"] for detail in details] == [1, 2, 3, 4]
    assert len({detail["eventDeduplicationId"] for detail in details}) == 4
    assert details[0] | {
        "changes": 0,
        "eventDeduplicationId": "",
        "packageVersionRevision": "",
    } == {
        "domainName": "acme",
        "domainOwner": "111122223333",
        "repositoryName": "pipelines",
        "repositoryAdministrator": "111122223333",
        "packageFormat": "pypi",
        "packageNamespace": None,
        "packageName": "demo",
        "packageVersion": "1.0",
        "packageVersionState": "Published",
        "packageVersionRevision": "",
        "changes": 0,
        "operationType": "Created",
        "sequenceNumber": 1,
        "eventDeduplicationId": "",
    }
    assert told[0]["detail-type"] == "CodeArtifact Package Version State Change"
    assert told[0]["source"] == "aws.codeartifact"
    assert told[0]["resources"] == [
        "arn:aws:codeartifact:eu-central-1:111122223333:package/acme/pipelines/pypi//demo"
    ]


def test_events_reach_a_queue(standin, wheel):
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        session = boto3.Session("test", "test", region_name="eu-central-1")
        sqs = session.client("sqs", endpoint_url=f"http://{host}:{port}")
        url = sqs.create_queue(QueueName="wheels")["QueueUrl"]
        standin.subscribe(to_queue(sqs, url))
        assert send(standin, wheel.name, wheel.read_bytes()).status_code == 200
        [message] = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
        assert json.loads(message["Body"])["detail"]["packageName"] == "demo"
    finally:
        moto.stop()
