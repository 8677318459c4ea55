"""What botocore raises, in the project's own errors: what failed, at what, why, what to do next.

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

THROTTLING = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_UNKNOWN_KEY = frozenset(
    {
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_SKEWED = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})
_KEY_DENIED = frozenset({"KMS.AccessDeniedException", "KmsAccessDenied"})
"""Of the key that a queue is encrypted with."""
_DENIED = _KEY_DENIED | {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_LACKING = re.compile(
    r"not authorized to perform: (?P<action>[\w-]+:\w+)(?: on resource: (?P<resource>\S+))?"
)
_NO_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_ENDED = (boto.LoginRefreshRequired, boto.UnauthorizedSSOTokenError)
"""A session that somebody has to begin anew."""
_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
    boto.MissingDependencyException,
    boto.NoAuthTokenError,
    boto.InfiniteLoopConfigError,
    boto.InvalidConfigError,
    boto.RefreshWithMFAUnsupportedError,
    boto.UnknownCredentialError,
    boto.UnknownTokenProviderError,
)
_UNREACHABLE = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.MetadataRetrievalError,
)
_CONFIGURATION = (boto.ConfigParseError, boto.ConfigNotFound, boto.InvalidRegionError)
UNLIKE = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading an answer of another shape raises; botocore's parser looks at neither."""
LONGEST_WAIT = 3600.0
"""Seconds that an answer may make a source wait: what asks for more is a mistake."""


class MissingThere(Exception):  # noqa: N818 - an answer, translated by who asked
    """There is no such package, version or asset (now)."""


def meaning(
    error: Exception, where: RepositoryAddress, package: str = ""
) -> WheelwayError | MissingThere:
    """What an exception of botocore means for its source.

    Args:
        error: as botocore raised it, or one of `UNLIKE`.
        where: what was talked to.
        package: which one it was about, if about one.
    """
    if isinstance(error, boto.ClientError):
        return _refusal(error, where, package)
    return _unready(error, where) or _broken(error, where)


def _unready(error: Exception, where: RepositoryAddress) -> Stalled | None:
    """What on this side must be there before a request can be made; None when that is not it."""
    found = None
    if _has_ended(error):
        found = _expired(where, _text(error))
    elif isinstance(error, _NO_CREDENTIALS):
        found = Stalled(
            "CredentialsMissing",
            f"source {where.source} has no AWS credentials ({_text(error)}). boto3 looked, in this "
            f"order, in: {where.looked_in}. Give the daemon's user one of these, or set `profile`",
        )
    elif isinstance(error, boto.ProfileNotFound):
        found = Stalled(
            "ProfileUnknown",
            f"source {where.source}: the AWS configuration files have no profile "
            f"{where.profile!r}; correct `profile`, or add it for the daemon's user",
        )
    elif isinstance(error, boto.NoRegionError):
        found = Stalled(
            "RegionMissing",
            f"source {where.source} has no AWS region; set `region` in [[sources]], or AWS_REGION",
        )
    elif isinstance(error, _CONFIGURATION):
        found = Stalled(
            "AwsConfigInvalid",
            f"source {where.source}: the AWS configuration cannot be used: {_text(error)}; correct "
            "it, or `region` in [[sources]]",
        )
    elif isinstance(error, boto.ParamValidationError):
        found = Stalled("RequestRefused", f"source {where.source}: {_text(error)}; correct it")
    return found


def _has_ended(error: Exception) -> bool:
    """Whether there were credentials, and a person has to renew them."""
    if isinstance(error, boto.TokenRetrievalError):  # of which there is only the text
        return "expired" in str(error)
    return isinstance(error, _ENDED)


def _expired(where: RepositoryAddress, said: str) -> Stalled:
    return Stalled(
        "CredentialsExpired",
        f"the AWS credentials of source {where.source} have expired: {said}. Renew them where "
        f"boto3 found them; it looks, in this order, in: {where.looked_in}",
    )


def _broken(error: Exception, where: RepositoryAddress) -> WheelwayError:
    """What a failure of the connection means, or one that nobody foresaw."""
    if isinstance(error, boto.SSLError):
        return Stalled(
            "EndpointUntrusted",
            f"the certificate of CodeArtifact's endpoint in {where.region} is not trusted: "
            f"{_text(error)}; name the authority in AWS_CA_BUNDLE, or correct `endpoint_url`",
        )
    if isinstance(error, boto.EndpointConnectionError) and where.lost:
        return Stalled(
            "RegionUnknown",
            f"source {where.source}: nothing answers for region {where.region}, and CodeArtifact is"
            f" not known to be there; correct `region`. It is in {', '.join(where.regions)}",
        )
    if isinstance(error, _UNREACHABLE):
        return Transient(
            "EndpointUnreachable",
            f"AWS cannot be reached for source {where.source} ({where}): {_text(error)}; it is "
            "tried again. If this lasts look at the network, `region` and `endpoint_url`",
        )
    return Transient(
        "AwsUnexpected",
        f"source {where.source} ({where}) got what no CodeArtifact answers: {_text(error)}; is "
        "`endpoint_url` right?",
    )


def _refusal(
    error: boto.ClientError, where: RepositoryAddress, package: str
) -> WheelwayError | MissingThere:
    answer: Mapping[str, Any] = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    said = str(answer.get("Error", {}).get("Message", "")).strip().rstrip(".") or code
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    operation = error.operation_name
    if code in THROTTLING or status == 429:
        return Transient(
            "Throttled",
            f"AWS asks source {where.source} to send fewer requests ({operation}); it goes slower "
            "for a while. If this lasts raise `poll_interval` or the account's quota",
            retry_after=wait_asked_for(headers, now=time.time()),
        )
    if (stalled := _not_admitted(code, said, operation, where, package)) is not None:
        return stalled
    if code == "ResourceNotFoundException" or code in _NO_QUEUE:
        return _missing(answer, said, where)
    if code == "ServiceQuotaExceededException":
        return Waiting(
            "QuotaExceeded",
            f"a quota of CodeArtifact is used up for source {where.source} ({operation}): {said}; "
            "ask AWS to raise it",
        )
    if status >= 500 or code == "ConflictException":
        return Transient(
            "AwsFailed", f"{operation} of {where} failed with {status} {code}: {said}; tried again"
        )
    return Stalled(
        "RequestRefused",
        f"{operation} of {where} was refused with {status} {code}: {said}; correct source "
        f"{where.source} in [[sources]]",
    )


def _not_admitted(
    code: str, said: str, operation: str, where: RepositoryAddress, package: str
) -> Stalled | None:
    """Why whoever asks may not; None when that was not the trouble."""
    if code in _DENIED:
        action, resource = where.action(operation), where.arn(operation, package)
        if code in _KEY_DENIED:
            action, resource = "kms:Decrypt", "the key of the queue"
        action, resource = _lacking(said, action, resource)
        return Stalled(
            "AccessDenied",
            f"source {where.source} may not {action} on {resource}; allow it in the role's policy "
            f"and in the resource's own, if it has one. AWS says: {said}",
        )
    if code in _EXPIRED:
        return _expired(where, said)
    if code in _SKEWED or "Signature expired" in said or "Signature not yet current" in said:
        return Stalled(
            "ClockSkewed",
            f"AWS takes no requests of source {where.source}, for this machine's clock is wrong: "
            f"{said}; set it, best by NTP",
        )
    if code in _UNKNOWN_KEY:
        return Stalled(
            "CredentialsInvalid",
            f"AWS does not take the credentials of source {where.source} ({code}): {said}. Correct "
            f"them, or `region`; boto3 looks, in this order, in: {where.looked_in}",
        )
    return None


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


def _missing(
    answer: Mapping[str, Any], said: str, where: RepositoryAddress
) -> Stalled | MissingThere:
    """What does not exist. Only CodeArtifact tells of which kind it is, and that not always."""
    code = answer.get("Error", {}).get("Code")
    if code in _NO_QUEUE:
        return Stalled(
            "QueueUnknown",
            f"source {where.source}: there is no queue {where.queue_url} in "
            f"{where.queue_region}; correct `events_queue_url`, or make the queue "
            "(docs/codeartifact.md)",
        )
    kind = str(answer.get("resourceType") or said.partition(" ")[0]).lower()
    if kind == "domain":
        return Stalled(
            "DomainUnknown",
            f"there is no domain {where.domain}"
            + (f" of account {where.owner}" if where.owner else " in the credentials' own account")
            + f" in {where.region}: correct `domain`, `domain_owner` or `region` of source "
            f"{where.source}. AWS says: {said}",
        )
    if kind == "repository":
        return Stalled(
            "RepositoryUnknown",
            f"domain {where.domain} in {where.region} has no repository {where.repository}: "
            f"correct `repository` or `region` of source {where.source}. AWS says: {said}",
        )
    return MissingThere(said)


def wait_asked_for(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that an answer asks to wait; None when it does not say.

    `x-amz-retry-after` is in milliseconds, as the SDKs read it, `Retry-After` as RFC 9110 has it.
    At most `LONGEST_WAIT`.
    """
    lower = {key.lower(): str(value).strip() for key, value in headers.items()}
    exact = lower.get("x-amz-retry-after", "")
    if exact.isascii() and exact.isdigit():
        return min(float(exact) / 1000, LONGEST_WAIT)
    asked = retry.asked_for(lower.get("retry-after", ""), now=now)
    return None if asked is None else min(asked, LONGEST_WAIT)


def _text(error: Exception) -> str:
    if not isinstance(error, boto.BotoCoreError | boto.ClientError):
        return f"{type(error).__name__}: {error}"[:500]
    return " ".join(str(error).split())[:500]
