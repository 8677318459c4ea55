"""Downloads from CodeArtifact that fail, over boto3's own wire."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from controller.cache.environments.base import detect
from controller.cache.wheels.store import Store
from controller.config.settings import InspectionLimits
from controller.errors import Rejected, Stalled, Transient
from controller.model import Artifact
from controller.reconcile.assembly import _receive
from controller.reconcile.mismatches import MOST as MISMATCHES
from tests.support.acme import artifacts_of
from tests.support.codeartifact import (
    Fault,
    access_denied,
    not_found,
    throttled,
)
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit

POLL = "ListPackageVersions"
GET = "GetPackageVersionAsset"


@pytest.fixture
def artifacts(source, clock, tmp_path):
    """Over the real store."""
    return artifacts_of(
        source,
        clock=clock,
        receive=partial(_receive, Store(tmp_path / "cache"), detect(), InspectionLimits()),
        prepare=lambda _: None,
        is_sound=lambda _: True,
        mend=lambda *_: False,
    )


def listed(artifacts):
    artifacts.poll()
    [revision] = artifacts.listings()["codeartifact"].revisions
    return revision


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (not_found(), "AssetMissing"),
        (Fault(cut=0.5), "DownloadBroken"),
        (Fault(cut=0.5, announced=False), "DownloadBroken"),
        (Fault(cut=0.0, announced=False), "DownloadBroken"),
        (Fault(wrong=True), "DigestMismatch"),
        (throttled(retry_after=600), "Throttled"),
    ],
)
def test_a_download_that_fails_is_tried_again_after_its_backoff(
    artifacts, source, at_standin, published, clock, fault, reason
):
    revision = listed(artifacts)
    at_standin.inject(GET, fault)
    error = artifacts.artifact(revision)
    assert isinstance(error, Transient)
    assert error.reason == reason
    assert artifacts.artifact(revision) is error
    clock.now += 700
    artifact = artifacts.artifact(revision)
    assert isinstance(artifact, Artifact)
    assert artifact.wheel.read_bytes() == published.read_bytes()


def test_an_answer_without_a_length_is_whole_when_its_bytes_are(artifacts, at_standin, published):
    revision = listed(artifacts)
    at_standin.inject(GET, Fault(announced=False))
    assert isinstance(artifacts.artifact(revision), Artifact)


def test_bytes_that_stay_wrong_quarantine_the_release_and_not_the_source(
    artifacts, source, at_standin, published, clock, tmp_path
):
    revision = listed(artifacts)
    at_standin.inject(GET, Fault(wrong=True), times=MISMATCHES)
    for _ in range(MISMATCHES - 1):
        error = artifacts.artifact(revision)
        assert isinstance(error, Transient)
        clock.now += 3600
    rejected = artifacts.artifact(revision)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "WrongBytes"
    clock.now += 3600
    assert artifacts.artifact(revision) is rejected, "it is not fetched any more"
    assert source.calls[GET] == MISMATCHES
    assert artifacts.conditions() == []
    at_standin.shelf.publish(make_wheel(tmp_path / "next", version="2.0"))
    artifacts.poll()
    found = artifacts.listings()["codeartifact"].revisions
    assert [str(one.version) for one in found] == ["1.0", "2.0"]
    assert isinstance(artifacts.artifact(found[1]), Artifact)
    artifacts.clear_failures(revision.sha256)
    assert isinstance(artifacts.artifact(revision), Artifact), "a person lifted the quarantine"


def test_wrong_bytes_in_between_are_forgiven(artifacts, at_standin, published, clock):
    revision = listed(artifacts)
    at_standin.inject(GET, Fault(wrong=True), times=MISMATCHES - 1)
    for _ in range(MISMATCHES - 1):
        artifacts.artifact(revision)
        clock.now += 3600
    assert isinstance(artifacts.artifact(revision), Artifact)


def test_a_drip_ends_at_its_deadline(at_standin, opened, published):
    source = opened(packages=["demo"], download_timeout=0.3)
    [revision] = source.list().revisions
    at_standin.inject(GET, Fault(drip=(1, 0.05)))
    with pytest.raises(Transient) as caught:
        list(source.fetch(revision))
    assert caught.value.reason == "DownloadBroken"
    assert "within 0.3 s" in caught.value.message


def test_closing_ends_a_download_at_once(source, at_standin, published):
    [revision] = source.list().revisions
    begun = threading.Event()
    at_standin.inject(GET, Fault(meanwhile=begun.set, drip=(1, 20.0)))
    body = source.fetch(revision)
    ended: list[Exception] = []

    def read():
        try:
            list(body)
        except Transient as error:
            ended.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    source.close()
    reader.join(60)
    assert not reader.is_alive()
    assert [error.reason for error in ended] == ["SourceClosed"]
    with pytest.raises(Transient) as caught:
        source.list()
    assert caught.value.reason == "SourceClosed"


def test_a_consumer_that_stops_gives_the_connection_back(source, at_standin, published):
    [revision] = source.list().revisions
    body = source.fetch(revision)
    assert next(body)
    body.close()
    assert b"".join(source.fetch(revision)) == published.read_bytes()


def test_a_denied_download_is_of_its_own_wheel(artifacts, at_standin, published):
    revision = listed(artifacts)
    at_standin.inject(GET, access_denied())
    error = artifacts.artifact(revision)
    assert isinstance(error, Stalled)
    assert "may not codeartifact:GetPackageVersionAsset on" in error.message
    assert artifacts.conditions() == []
