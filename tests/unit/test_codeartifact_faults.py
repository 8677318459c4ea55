"""Every way in which CodeArtifact fails, over boto3's own wire: what the source makes of it."""

from __future__ import annotations

import socket

import pytest
from botocore.credentials import Credentials

from controller.errors import Stalled, Transient, Waiting
from controller.sources.codeartifact.rate_limiter import LONGEST_WAIT
from tests.support.acme import artifacts_of
from tests.support.codeartifact import (
    Fault,
    access_denied,
    expired_token,
    internal_error,
    throttled,
)

pytestmark = pytest.mark.unit

POLL = "ListPackageVersions"
GET = "GetPackageVersionAsset"


@pytest.fixture
def artifacts(source, clock):
    return artifacts_of(source, clock=clock)


def refused(source, kind=Stalled):
    with pytest.raises(kind) as caught:
        source.list()
    return caught.value


# -- throttling ------------------------------------------------------------------------------------


def test_a_throttled_request_is_sent_again_by_itself(source, at_standin, published):
    at_standin.inject(POLL, throttled(retry_after_ms=20))
    assert len(source.list().revisions) == 1
    assert source.calls[POLL] == 2, "retries are requests, and counted as such"


def test_throttling_that_lasts_is_transient_and_says_when_to_come_again(
    source, at_standin, published
):
    at_standin.inject(POLL, throttled(retry_after=600), times=None)
    error = refused(source, Transient)
    assert error.reason == "Throttled"
    assert LONGEST_WAIT < error.retry_after <= 600
    assert source.calls[POLL] == 1, "no attempt is made before the time that AWS asked for"


def test_what_was_throttled_is_asked_again_when_its_time_has_come(
    artifacts, source, at_standin, published, clock
):
    at_standin.inject(POLL, throttled(retry_after=600), times=1)
    artifacts.poll()
    [condition] = artifacts.conditions()
    assert (condition.subject, condition.reason) == ("codeartifact", "Throttled")
    clock.now += 300
    artifacts.poll()
    assert source.calls[POLL] == 1
    clock.now += 302
    artifacts.poll()
    assert artifacts.conditions() == []
    assert source.calls[POLL] == 2


# -- what passes, and what does not ----------------------------------------------------------------


def test_a_server_error_is_tried_again_and_then_transient(source, at_standin, published):
    at_standin.inject(POLL, internal_error(), times=2)
    assert len(source.list().revisions) == 1
    at_standin.inject(POLL, internal_error(), times=3)
    error = refused(source, Transient)
    assert error.reason == "AwsFailed"
    assert source.calls[POLL] == 6


def test_a_quota_is_a_shortage(source, at_standin, published):
    at_standin.inject(POLL, Fault("ServiceQuotaExceededException", "Too many"))
    assert refused(source, Waiting).reason == "QuotaExceeded"


def test_a_refused_request_says_which(source, at_standin, published):
    fault = Fault("FancyNewException", "you may not do that", status=400)
    at_standin.inject(POLL, fault)
    error = refused(source)
    assert error.reason == "RequestRefused"
    assert "ListPackageVersions" in error.message
    assert "FancyNewException" in error.message


@pytest.mark.parametrize(
    ("operation", "packages", "resource"),
    [
        (
            POLL,
            "demo",
            "arn:aws:codeartifact:eu-central-1:111122223333:package/acme/pipelines/pypi//demo",
        ),
        (
            "ListPackages",
            "demo*",
            "arn:aws:codeartifact:eu-central-1:111122223333:repository/acme/pipelines",
        ),
    ],
)
def test_denied_access_names_the_action_and_the_resource(
    at_standin, opened, published, operation, packages, resource
):
    at_standin.inject(operation, access_denied())
    source = opened(packages=[packages], domain_owner="111122223333")
    error = refused(source)
    assert error.reason == "AccessDenied"
    assert f"may not codeartifact:{operation} on {resource};" in error.message


@pytest.mark.parametrize(
    ("options", "reason", "word"),
    [
        ({"domain": "other"}, "DomainUnknown", "`domain`"),
        ({"domain_owner": "999999999999"}, "DomainUnknown", "999999999999"),
        ({"repository": "other"}, "RepositoryUnknown", "`repository`"),
    ],
)
@pytest.mark.parametrize("packages", [["demo"], ["*"]])
def test_a_wrong_name_is_told_with_its_fix(
    at_standin, opened, published, options, reason, word, packages
):
    error = refused(opened(packages=packages, **options))
    assert error.reason == reason
    assert word in error.message


def test_a_wrong_region_is_told_with_its_fix(at_standin, opened, published):
    error = refused(opened(packages=["demo"], region="us-east-1"))
    assert error.reason == "CredentialsInvalid"
    assert "`region`" in error.message


# -- credentials -----------------------------------------------------------------------------------


def test_without_credentials_it_is_told_where_they_were_looked_for(
    standin, alone, opened, tmp_path
):
    error = refused(opened(packages=["demo"], region="eu-central-1", endpoint_url=standin.url))
    assert error.reason == "CredentialsMissing"
    for place in ("AWS_ACCESS_KEY_ID", str(tmp_path / "aws-credentials"), "instance's metadata"):
        assert place in error.message
    assert standin.asked() == []


def test_without_a_region_it_is_told_where_to_say_it(standin, alone, opened):
    assert refused(opened(packages=["demo"])).reason == "RegionMissing"


def test_a_profile_that_is_not_there_is_told(at_standin, opened):
    error = refused(opened(packages=["demo"], profile="nobody"))
    assert error.reason == "ProfileUnknown"
    assert "'nobody'" in error.message


def test_credentials_come_from_a_profile(standin, alone, opened, published_by, tmp_path):
    keys = standin.access.credentials
    (tmp_path / "aws-credentials").write_text(
        f"[poller]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = "
        f"{keys.secret_key}\naws_session_token = {keys.token}\n"
    )
    source = opened(
        packages=["demo"], profile="poller", region="eu-central-1", endpoint_url=standin.url
    )
    assert len(source.list().revisions) == 1


@pytest.fixture
def published_by(standin, wheel):
    return standin.shelf.publish(wheel)


def test_expired_credentials_that_were_renewed_in_their_file_are_taken_up(
    standin, alone, opened, published_by, tmp_path
):
    def write(keys):
        (tmp_path / "aws-credentials").write_text(
            f"[default]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = "
            f"{keys.secret_key}\naws_session_token = {keys.token}\n"
        )

    write(standin.access.credentials)
    source = opened(packages=["demo"], region="eu-central-1", endpoint_url=standin.url)
    source.list()
    standin.access.expire()
    error = refused(source)
    assert error.reason == "CredentialsExpired"
    assert str(tmp_path / "aws-credentials") in error.message
    write(standin.access.renew())
    assert len(source.list().revisions) == 1


def test_unknown_keys_are_told(standin, alone, opened, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret of anybody")
    error = refused(opened(packages=["demo"], region="eu-central-1", endpoint_url=standin.url))
    assert error.reason == "CredentialsInvalid"
    assert "not the secret" not in error.message


def test_a_token_that_expires_for_one_call_is_over_with_the_next(source, at_standin, published):
    at_standin.inject(POLL, expired_token())
    assert refused(source).reason == "CredentialsExpired"
    assert len(source.list().revisions) == 1


def test_a_clock_that_is_wrong_is_told(source, at_standin, published):
    said = "Signature expired: 20200101T000000Z is now earlier than 20260101T000000Z"
    at_standin.inject(POLL, Fault("InvalidSignatureException", said))
    assert refused(source).reason == "ClockSkewed"


def test_a_role_is_assumed_with_the_credentials_that_are_found(
    at_standin, opened, published, monkeypatch
):
    """moto is STS; the credentials that it gives are those the stand-in is told to accept."""
    from moto.server import ThreadedMotoServer

    from controller.sources.codeartifact import connection

    seen = []

    class Fetcher(connection.AssumeRoleCredentialFetcher):
        """The real one; what it brings is shown to the stand-in."""

        def fetch_credentials(self):
            found = super().fetch_credentials()
            seen.append(self._assume_kwargs)
            at_standin.access.accept(
                Credentials(found["access_key"], found["secret_key"], found["token"])
            )
            return found

    monkeypatch.setattr(connection, "AssumeRoleCredentialFetcher", Fetcher)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{host}:{port}")
        role = "arn:aws:iam::111122223333:role/poller"
        source = opened(packages=["demo"], role_arn=role, external_id="wheels")
        assert len(source.list().revisions) == 1
    finally:
        moto.stop()
    assert seen == [{"RoleArn": role, "RoleSessionName": "wheelway", "ExternalId": "wheels"}]


def test_a_role_without_credentials_to_assume_it_with_is_told(standin, alone, opened):
    role = "arn:aws:iam::111122223333:role/poller"
    source = opened(
        packages=["demo"], role_arn=role, region="eu-central-1", endpoint_url=standin.url
    )
    assert refused(source).reason == "CredentialsMissing"


# -- the connection --------------------------------------------------------------------------------


def test_an_endpoint_that_does_not_answer_is_transient(at_standin, opened):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        error = refused(opened(packages=["demo"], endpoint_url=url), Transient)
    assert error.reason == "EndpointUnreachable"
    assert url in error.message


def test_an_endpoint_that_says_nothing_is_transient(at_standin, opened):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        source = opened(packages=["demo"], endpoint_url=url, read_timeout=0.2)
        assert refused(source, Transient).reason == "EndpointUnreachable"


def test_sources_fail_each_for_itself(at_standin, opened, published, clock):
    good, bad = opened(packages=["demo"]), opened(name="bad", packages=["demo"], profile="nobody")
    artifacts = artifacts_of(bad, good, clock=clock)
    artifacts.poll()
    assert [len(listing.revisions) for listing in artifacts.listings().values()] == [1]
    assert [(one.subject, one.reason) for one in artifacts.conditions()] == [
        ("bad", "ProfileUnknown")
    ]
