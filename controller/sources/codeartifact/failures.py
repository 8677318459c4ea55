"""Translates what botocore raises into the project's own errors.

Error codes are those of botocore's service models and of AWS's common errors; how denials are
worded is in the user guide of IAM:
https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
https://docs.aws.amazon.com/codeartifact/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from botocore import exceptions as boto

from controller import retry
from controller.errors import Stalled, Transient, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.errors import WheelwayError
    from controller.sources.codeartifact.address import RepositoryAddress

_MESSAGES = {
    "AccessDenied": "source {its.name} may not {action} on {resource}; allow it in the role's "
    "policy and in the resource's own, if it has one. AWS says: {said}",
    "AwsConfigInvalid": "source {its.name}: the AWS configuration cannot be used: {said}; "
    "correct it, or `region` in [[sources]]",
    "AwsFailed": "{operation} of {at} failed with {status} {code}: {said}; tried again",
    "AwsUnexpected": "source {its.name} ({at}) got what no CodeArtifact answers: {said}; is "
    "`endpoint_url` right?",
    "ClockSkewed": "AWS takes no requests of source {its.name}, for this machine's clock is "
    "wrong: {said}; set it, best by NTP",
    "CredentialsExpired": "the AWS credentials of source {its.name} have expired: {said}. Renew "
    "them where boto3 found them; it looks, in this order, in: {at.looked_in}",
    "CredentialsInvalid": "AWS does not take the credentials of source {its.name} ({code}): "
    "{said}. Correct them, or `region`; boto3 looks, in this order, in: {at.looked_in}",
    "CredentialsMissing": "source {its.name} has no AWS credentials ({said}). boto3 looked, in "
    "this order, in: {at.looked_in}. Give the daemon's user one of these, or set `profile`",
    "DomainUnknown": "there is no domain {its.domain} {owned} in {at.region}: correct `domain`, "
    "`domain_owner` or `region` of source {its.name}. AWS says: {said}",
    "EndpointUnreachable": "AWS cannot be reached for source {its.name} ({at}): {said}; it is "
    "tried again. If this lasts look at the network, `region` and `endpoint_url`",
    "EndpointUntrusted": "the certificate of CodeArtifact's endpoint in {at.region} is not "
    "trusted: {said}; name the authority in AWS_CA_BUNDLE, or correct `endpoint_url`",
    "ProfileUnknown": "source {its.name}: the AWS configuration files have no profile "
    "{its.profile!r}; correct `profile`, or add it for the daemon's user",
    "QueueUnknown": "source {its.name}: there is no queue {its.events_queue_url} in "
    "{at.queue_region}; correct `events_queue_url`, or make the queue (docs/codeartifact.md)",
    "QuotaExceeded": "a quota of CodeArtifact is used up for source {its.name} ({operation}): "
    "{said}; ask AWS to raise it",
    "RegionMissing": "source {its.name} has no AWS region; set `region` in [[sources]], or "
    "AWS_REGION",
    "RegionUnknown": "source {its.name}: nothing answers for region {at.region}, and "
    "CodeArtifact is not known to be there; correct `region`. It is in {regions}",
    "RepositoryUnknown": "domain {its.domain} in {at.region} has no repository {its.repository}: "
    "correct `repository` or `region` of source {its.name}. AWS says: {said}",
    "RequestRefused": "{operation} of {at} was refused with {status} {code}: {said}; correct "
    "source {its.name} in [[sources]]",
    "Throttled": "AWS asks source {its.name} to send fewer requests ({operation}); it goes "
    "slower for a while. If this lasts raise `poll_interval` or the account's quota",
}
"""By reason; `meaning` fills them in."""
_PASSING = frozenset({"AwsFailed", "AwsUnexpected", "EndpointUnreachable", "Throttled"})
"""Reasons that are tried again. Of all others but a quota a person must know."""

_RAISED: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((boto.LoginRefreshRequired, boto.UnauthorizedSSOTokenError), "CredentialsExpired"),
    (
        (
            *(boto.NoCredentialsError, boto.PartialCredentialsError, boto.NoAuthTokenError),
            *(boto.CredentialRetrievalError, boto.TokenRetrievalError, boto.SSOError),
            *(boto.LoginError, boto.MissingDependencyException, boto.InfiniteLoopConfigError),
            *(boto.InvalidConfigError, boto.RefreshWithMFAUnsupportedError),
            *(boto.UnknownCredentialError, boto.UnknownTokenProviderError),
        ),
        "CredentialsMissing",
    ),
    ((boto.ProfileNotFound,), "ProfileUnknown"),
    ((boto.NoRegionError,), "RegionMissing"),
    ((boto.ConfigParseError, boto.ConfigNotFound, boto.InvalidRegionError), "AwsConfigInvalid"),
    ((boto.SSLError,), "EndpointUntrusted"),
    ((boto.ConnectionError, boto.HTTPClientError), "EndpointUnreachable"),
    ((boto.IncompleteReadError, boto.MetadataRetrievalError), "EndpointUnreachable"),
)
"""What botocore raises by itself; the first that fits counts."""

THROTTLING = frozenset(
    {
        *("BandwidthLimitExceeded", "LimitExceededException", "PriorRequestNotComplete"),
        *("ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled"),
        *("RequestThrottledException", "SlowDown", "Throttling", "ThrottledException"),
        *("ThrottlingException", "TooManyRequestsException"),
    }
)
_KEY_DENIED = ("KMS.AccessDeniedException", "KmsAccessDenied")
"""Of the key that a queue is encrypted with."""
_CODES = {
    "Throttled": THROTTLING,
    "AccessDenied": (
        *("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"),
        *_KEY_DENIED,
    ),
    "CredentialsExpired": ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"),
    "ClockSkewed": ("RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"),
    "CredentialsInvalid": (
        *("IncompleteSignature", "IncompleteSignatureException", "InvalidAccessKeyId"),
        *("InvalidClientTokenId", "InvalidSignatureException", "InvalidToken"),
        *("MissingAuthenticationToken", "MissingAuthenticationTokenException"),
        *("OptInRequired", "SignatureDoesNotMatch", "UnrecognizedClientException"),
    ),
    "QueueUnknown": ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
    "QuotaExceeded": ("ServiceQuotaExceededException",),
    "AwsFailed": ("ConflictException",),
}
_REASON_OF = {code: reason for reason, codes in _CODES.items() for code in codes}
_NOT_THERE = {"domain": "DomainUnknown", "repository": "RepositoryUnknown"}
"""By what a ResourceNotFoundException is about, if it is about the whole source."""

UNLIKE = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading an answer of another shape raises; botocore's parser checks no shape."""
_LACKING = re.compile(
    r"not authorized to perform: (?P<action>[\w-]+:\w+)(?: on resource: (?P<resource>\S+))?"
)


class MissingThere(Exception):  # noqa: N818 - an answer, translated by who asked
    """There is no such package, version or asset (now)."""


def meaning(
    error: Exception, at: RepositoryAddress, package: str = ""
) -> WheelwayError | MissingThere:
    """What an exception of botocore means for its source.

    Args:
        error: as botocore raised it, or one of `UNLIKE`.
        at: what was talked to.
        package: which one it was about, if about one.
    """
    if isinstance(error, boto.ClientError):
        return _refusal(error, at, package)
    said = _text(error)
    if isinstance(error, boto.ParamValidationError):
        return Stalled("RequestRefused", f"source {at.options.name}: {said}; correct it")
    if isinstance(error, boto.TokenRetrievalError) and "expired" in said:  # the only sign of it
        reason = "CredentialsExpired"
    elif isinstance(error, boto.EndpointConnectionError) and at.lost:
        reason = "RegionUnknown"
    else:
        those = (reason for kinds, reason in _RAISED if isinstance(error, kinds))
        reason = next(those, "AwsUnexpected")
    return _error(reason, at=at, its=at.options, said=said, regions=", ".join(at.regions))


def _refusal(
    error: boto.ClientError, at: RepositoryAddress, package: str
) -> WheelwayError | MissingThere:
    answer: Mapping[str, Any] = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    said = str(answer.get("Error", {}).get("Message", "")).strip().rstrip(".") or code
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if code == "ResourceNotFoundException":
        # Only CodeArtifact tells of which kind it is, and that not always.
        kind = str(answer.get("resourceType") or said.partition(" ")[0]).lower()
        if kind not in _NOT_THERE:
            return MissingThere(said)
        reason = _NOT_THERE[kind]
    elif status == 429:
        reason = "Throttled"
    elif "Signature expired" in said or "Signature not yet current" in said:
        reason = "ClockSkewed"
    else:
        reason = _REASON_OF.get(code, "AwsFailed" if status >= 500 else "RequestRefused")
    owner = at.options.domain_owner
    action, resource = at.action(error.operation_name), at.arn(error.operation_name, package)
    if code in _KEY_DENIED:
        action, resource = "kms:Decrypt", "the key of the queue"
    action, resource = _lacking(said, action, resource)
    return _error(
        reason,
        wait_asked_for(headers, now=time.time()),
        at=at,
        its=at.options,
        said=said,
        code=code,
        status=status,
        operation=error.operation_name,
        action=action,
        resource=resource,
        owned=f"of account {owner}" if owner else "in the credentials' own account",
    )


def _error(reason: str, retry_after: float | None = None, **facts: object) -> WheelwayError:
    message = _MESSAGES[reason].format(**facts)
    if reason in _PASSING:
        wait = retry_after if reason == "Throttled" else None
        return Transient(reason, message, retry_after=wait)
    return (Waiting if reason == "QuotaExceeded" else Stalled)(reason, message)


def _lacking(said: str, action: str, resource: str) -> tuple[str, str]:
    """What AWS says must be allowed, and on what; where it does not say, what is given here.

    It need not be the operation's own action: a token takes `sts:GetServiceBearerToken` as well.
    """
    found = _LACKING.search(said)
    if found is None:
        return action, resource
    same = found["action"].lower() == action.lower()  # SQS has it in lower case
    named = (found["resource"] or "").strip("\"'.,;")
    return action if same else found["action"], named or (resource if same else "*")


def wait_asked_for(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that an answer asks to wait, at most `retry.ASKED_CAP`; None when it does not say.

    `x-amz-retry-after` is in milliseconds, as the SDKs read it, `Retry-After` as RFC 9110 has it.
    """
    lower = {key.lower(): str(value).strip() for key, value in headers.items()}
    exact = lower.get("x-amz-retry-after", "")
    if exact.isascii() and exact.isdigit():
        return min(float(exact) / 1000, retry.ASKED_CAP)
    return retry.asked_for(lower.get("retry-after", ""), now=now)


def _text(error: Exception) -> str:
    own = isinstance(error, boto.BotoCoreError)
    return " ".join((str(error) if own else f"{type(error).__name__}: {error}").split())[:500]
