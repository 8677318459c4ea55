"""The pure parts of the `codeartifact` source: waits, prefixes, choices, addresses."""

from __future__ import annotations

import itertools

import pytest
from botocore import exceptions as boto
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import Tag
from pydantic import TypeAdapter, ValidationError

from controller.config.sources import CodeArtifactSource as Options
from controller.errors import Stalled, Transient
from controller.model import Availability, Condition, Refusal
from controller.retry import ASKED_CAP
from controller.sources.codeartifact.address import RepositoryAddress
from controller.sources.codeartifact.connection import STALE
from controller.sources.codeartifact.failures import meaning, wait_asked_for
from controller.sources.codeartifact.source import prefixes
from controller.sources.codeartifact.versions import (
    Asset,
    Files,
    Listed,
    Locator,
    Ranking,
    judged,
    trusted,
)
from tests.support.wheels import MULTIPLYING

pytestmark = pytest.mark.unit

ANY = Tag("py3", "none", "any")
HERE = {"type": "codeartifact", "domain": "acme", "repository": "pipelines"}


# -- what AWS asks for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 70.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"X-Amz-Retry-After": "1500", "Retry-After": "7"}, 1.5),
        ({"x-amz-retry-after": "-1", "Retry-After": "7"}, 7.0),
        ({"Retry-After": "7200"}, ASKED_CAP),
        ({"Retry-After": "9" * 400}, ASKED_CAP),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, ASKED_CAP),
        ({"x-amz-retry-after": "86400000"}, ASKED_CAP),
        ({"x-amz-retry-after": "9" * 400}, ASKED_CAP),
    ],
)
def test_waits_that_an_answer_asks_for(headers, seconds):
    assert wait_asked_for(headers, now=30.0) == seconds


QUEUE = "https://sqs.eu-west-1.amazonaws.com/111122223333/events"
ROLE = "arn:aws-cn:iam::111122223333:role/poller"
ADDRESS = RepositoryAddress(
    Options(**HERE, role_arn=ROLE, events_queue_url=QUEUE),
    region="eu-weast-1",
    partition="aws-cn",
    looked_in="somewhere",
    regions=("eu-west-1", "eu-west-2"),
)


def denied(operation, said="no.", code="AccessDenied"):
    answer = {"Error": {"Code": code, "Message": said}}
    return meaning(boto.ClientError(answer, operation), ADDRESS, "iris").message


@pytest.mark.parametrize(
    ("operation", "action", "arn"),
    [
        ("AssumeRole", "sts:AssumeRole", "arn:aws-cn:iam::111122223333:role/poller"),
        (
            "ReceiveMessage",
            "sqs:ReceiveMessage",
            "arn:aws-cn:sqs:eu-west-1:111122223333:events",
        ),
        (
            "DeleteMessageBatch",
            "sqs:DeleteMessage",
            "arn:aws-cn:sqs:eu-west-1:111122223333:events",
        ),
        (
            "GetPackageVersionAsset",
            "codeartifact:GetPackageVersionAsset",
            "arn:aws-cn:codeartifact:eu-weast-1:*:package/acme/pipelines/pypi//iris",
        ),
        (
            "GetRepositoryEndpoint",
            "codeartifact:GetRepositoryEndpoint",
            "arn:aws-cn:codeartifact:eu-weast-1:*:repository/acme/pipelines",
        ),
        (
            "GetAuthorizationToken",
            "codeartifact:GetAuthorizationToken",
            "arn:aws-cn:codeartifact:eu-weast-1:*:domain/acme",
        ),
    ],
)
def test_denied_operations_name_what_to_allow(operation, action, arn):
    assert f"may not {action} on {arn};" in denied(operation)


BEARER = "sts:GetServiceBearerToken"
DOMAIN = "arn:aws-cn:codeartifact:eu-weast-1:*:domain/acme"
WHO = "User: arn:aws:iam::111122223333:user/x is not authorized to perform:"


@pytest.mark.parametrize(
    ("operation", "said", "what"),
    [
        (
            "GetAuthorizationToken",
            f"{WHO} {BEARER} on resource: arn:aws:sts::111122223333:x because no policy allows it",
            f"{BEARER} on arn:aws:sts::111122223333:x",
        ),
        ("GetAuthorizationToken", f"{WHO} {BEARER} with an explicit deny", f"{BEARER} on *"),
        (
            "GetAuthorizationToken",
            f"{WHO} codeartifact:GetAuthorizationToken",
            f"codeartifact:GetAuthorizationToken on {DOMAIN}",
        ),
        (
            "ReceiveMessage",
            f'{WHO} sqs:receivemessage on resource: "arn:aws:sqs:eu-west-1:1:q".',
            "sqs:ReceiveMessage on arn:aws:sqs:eu-west-1:1:q",
        ),
    ],
)
def test_what_aws_says_is_lacking_is_told_as_it_says(operation, said, what):
    assert f"may not {what}; allow it" in denied(operation, said)


@pytest.mark.parametrize("code", ["KMS.AccessDeniedException", "KmsAccessDenied"])
@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("The ciphertext refers to a key.", "kms:Decrypt on the key of the queue"),
        (
            f"{WHO} kms:Decrypt on resource: arn:aws:kms:eu-west-1:1:key/k with an explicit deny.",
            "kms:Decrypt on arn:aws:kms:eu-west-1:1:key/k",
        ),
    ],
)
def test_a_queues_key_that_may_not_be_used_is_told(code, said, what):
    assert f"may not {what};" in denied("ReceiveMessage", said, code)


def test_a_queue_that_is_not_there_is_told_with_its_own_region():
    answer = {"Error": {"Code": "AWS.SimpleQueueService.NonExistentQueue", "Message": "no"}}
    found = meaning(boto.ClientError(answer, "ReceiveMessage"), ADDRESS)
    assert found.reason == "QueueUnknown"
    assert f"{QUEUE} in eu-west-1;" in found.message


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (boto.EndpointConnectionError(endpoint_url="https://x"), Stalled, "RegionUnknown"),
        (boto.ConnectTimeoutError(endpoint_url="https://x"), Transient, "EndpointUnreachable"),
        (boto.ProxyConnectionError(proxy_url="x", error="e"), Transient, "EndpointUnreachable"),
        (
            boto.SSLError(endpoint_url="https://x", error="self-signed"),
            Stalled,
            "EndpointUntrusted",
        ),
        (boto.UnauthorizedSSOTokenError(), Stalled, "CredentialsExpired"),
        (boto.LoginRefreshRequired(), Stalled, "CredentialsExpired"),
        (
            boto.TokenRetrievalError(provider="sso", error_msg="Token has expired and no refresh"),
            Stalled,
            "CredentialsExpired",
        ),
        (boto.TokenRetrievalError(provider="sso", error_msg="?"), Stalled, "CredentialsMissing"),
        (boto.SSOTokenLoadError(error_msg="no file"), Stalled, "CredentialsMissing"),
        (boto.LoginTokenLoadError(error_msg="no file"), Stalled, "CredentialsMissing"),
        (boto.MissingDependencyException(msg="awscrt"), Stalled, "CredentialsMissing"),
        (boto.PartialCredentialsError(provider="env", cred_var="x"), Stalled, "CredentialsMissing"),
        (boto.ConfigParseError(path="/etc/aws"), Stalled, "AwsConfigInvalid"),
        (boto.InvalidRegionError(region_name="eu west"), Stalled, "AwsConfigInvalid"),
        (boto.PaginationError(message="The same next token"), Transient, "AwsUnexpected"),
        (boto.ParamValidationError(report="too short"), Stalled, "RequestRefused"),
    ],
)
def test_what_botocore_raises_has_a_meaning(error, kind, reason):
    found = meaning(error, ADDRESS)
    assert isinstance(found, kind)
    assert found.reason == reason


def test_no_error_of_botocore_is_without_a_meaning():
    kinds = [one for one in vars(boto).values() if isinstance(one, type)]
    plain = [one for one in kinds if issubclass(one, boto.BotoCoreError)]
    assert len(plain) > 50
    for kind in plain:
        found = meaning(kind.__new__(kind), ADDRESS)
        assert isinstance(found, Stalled | Transient), kind


def test_errors_about_credentials_are_never_blamed_on_the_endpoint():
    about = ("Login", "SSO", "Token", "Credential")
    kinds = [
        one
        for name, one in vars(boto).items()
        if isinstance(one, type)
        and issubclass(one, boto.BotoCoreError)
        and any(word in name for word in about)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        found = meaning(kind.__new__(kind), ADDRESS)
        assert found.reason in STALE, kind  # after which they are looked for again


# -- packages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("globs", "wanted"),
    [
        ((), ()),
        (("*",), ("",)),
        (("acme-*", "other-*"), ("acme-", "other-")),
        (("acme-*", "acme-iris-?", "acme-[ab]*"), ("acme-",)),
        (("acme-*", "*"), ("",)),
        (("a*", "a?"), ("a",)),
    ],
)
def test_globs_are_listed_by_the_fewest_prefixes(globs, wanted):
    assert prefixes(globs) == wanted


def test_packages_are_normalised_and_told_once():
    options = Options(**HERE, packages=["Acme_Iris", "acme-iris", "ACME.*"])
    assert options.packages == ("acme-iris", "acme-*")


@pytest.mark.parametrize(
    "wrong",
    [
        {"packages": []},
        {"packages": [""]},
        {"packages": ["a b"]},
        {"domain": "Acme"},
        {"domain_owner": "1"},
        {"repository": "x"},
        {"role_arn": "poller"},
        {"endpoint_url": "codeartifact"},
        {"events_queue_url": "queue"},
        {"origin": "external"},
        {"poll_interval": 0},
        {"concurrency": 0},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(Options).validate_python(HERE | wrong)


# -- versions ------------------------------------------------------------------------------------


def asset(name="demo-1.0-py3-none-any.whl", sha256="ab" * 32):
    return Asset(name, 10, sha256)


def listed(status="Published", version="1.0", origin="INTERNAL", entry="pipelines"):
    return Listed(version, "r1", status, origin, entry)


def verdict(*assets, status="Published", version="1.0", known=True):
    files = Files("r1", assets) if known else None
    return judged("demo", listed(status, version), files, "wheels", Ranking([ANY]))


@pytest.mark.parametrize(
    ("assets", "reason"),
    [
        ([], "WheelNotArrived"),
        ([asset("demo-1.0.tar.gz")], "SdistOnly"),
        ([asset("demo-1.0.tar.gz.asc")], "WheelNotArrived"),
        ([asset("demo.whl")], "FilenameInvalid"),
        ([asset("demo-1.0-py3-none-any.WHL")], "FilenameInvalid"),
        ([asset(f"demo-1.0-{MULTIPLYING}.whl")], "FilenameInvalid"),
        ([asset("demo-2.0-py3-none-any.whl")], "FilenameInvalid"),
        ([asset("other-1.0-py3-none-any.whl"), asset("demo-1.0.tar.gz")], "FilenameInvalid"),
        ([asset("demo-1.0-cp39-cp39-win32.whl")], "TagsIncompatible"),
        ([asset(sha256="")], "DigestInvalid"),
        ([asset(sha256="xyz")], "DigestInvalid"),
    ],
)
def test_a_version_without_a_usable_wheel_says_why(assets, reason):
    found = verdict(*assets)
    assert isinstance(found, Refusal)
    assert found.reason == reason


def test_a_wheel_counts_whatever_the_version_is_spelt_like():
    found = verdict(asset("Demo-1.0.0-py3-none-any.whl"), version="1.0")
    assert (found.filename, str(found.version)) == ("Demo-1.0.0-py3-none-any.whl", "1.0")


@pytest.mark.parametrize("status", ["Unlisted", "Archived", "Disposed", "Deleted"])
def test_a_retracted_version_without_a_known_wheel_is_a_note(status):
    for found in (verdict(status=status), verdict(status=status, known=False)):
        assert isinstance(found, Condition)
        assert (found.reason, found.ok) == (status, True)


def test_a_disposed_version_is_remembered_by_its_wheel():
    assert verdict(asset(), status="Disposed").availability is Availability.GONE


@pytest.mark.parametrize(
    ("origin", "entry", "options", "reason"),
    [
        ("INTERNAL", "pipelines", {}, ""),
        ("EXTERNAL", "public:pypi", {}, "OriginExternal"),
        ("EXTERNAL", "pipelines", {}, "OriginExternal"),
        ("UNKNOWN", "pipelines", {}, "OriginExternal"),
        ("INTERNAL", "", {}, "EntryRepositoryForeign"),
        ("INTERNAL", "staging", {}, "EntryRepositoryForeign"),
        ("INTERNAL", "staging", {"entry_repositories": ["staging"]}, ""),
        ("EXTERNAL", "staging", {"entry_repositories": ["*"]}, "OriginExternal"),
        ("EXTERNAL", "public:pypi", {"origin": "any"}, ""),
    ],
)
def test_origins_are_trusted_as_the_operator_says(origin, entry, options, reason):
    assert trusted(listed(origin=origin, entry=entry), Options(**HERE, **options)) == reason


def test_a_summary_that_says_nothing_of_its_origin_is_not_trusted():
    found = Listed.of({"version": "1.0", "status": "Published"})
    assert trusted(found, Options(**HERE)) == "OriginExternal"


@given(st.tuples(*[st.text()] * 5))
def test_a_locator_comes_back_as_it_was(parts):
    assert Locator.of(str(Locator(*parts))) == Locator(*parts)


def test_the_order_in_which_files_are_listed_does_not_matter():
    tags = [Tag("cp311", "cp311", "linux_x86_64"), Tag("cp311", "abi3", "linux_x86_64"), ANY]
    wheels = [
        asset("demo-1.0-py3-none-any.whl"),
        asset("demo-1.0-cp39-cp39-win32.whl"),
        asset("demo-1.0-1-cp311-cp311-linux_x86_64.whl"),
        asset("demo-1.0-2-cp311-cp311-linux_x86_64.whl"),
    ]
    chosen = {Ranking(tags).best(order) for order in itertools.permutations(wheels)}
    assert chosen == {wheels[-1]}
