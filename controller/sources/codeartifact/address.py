"""Where the requests of one source go, in the words of messages and of permissions.

Which action on which resource an operation needs is in the service authorization reference:
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscodeartifact.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from controller.config.sources import CodeArtifactSource

_ON_A_PACKAGE = frozenset(
    {
        *("DescribePackage", "GetPackageVersionAsset"),
        *("ListPackageVersionAssets", "ListPackageVersions"),
    }
)
_ACTIONS = {"DeleteMessageBatch": "DeleteMessage"}
"""Operations that are allowed under another name."""
_SERVICES = {"AssumeRole": "sts", "ReceiveMessage": "sqs", "DeleteMessageBatch": "sqs"}
_SQS_HOST = re.compile(r"(?:sqs\.)?(?P<region>[a-z]{2}(?:-[a-z0-9]+)+-\d)\.(?:queue|amazonaws)\.")


def queue_region(url: str) -> str | None:
    """The region in a queue's host; None when that does not tell."""
    found = _SQS_HOST.match(urlsplit(url).netloc)
    return found["region"] if found else None


@dataclass(frozen=True, slots=True)
class RepositoryAddress:
    """Where the requests of one source go."""

    options: CodeArtifactSource
    region: str | None
    partition: str
    looked_in: str
    """Where boto3 looks for credentials, in words."""
    regions: tuple[str, ...] = ()
    """Those that have CodeArtifact, as far as botocore knows; empty when it need not know."""

    def action(self, operation: str) -> str:
        """What must be allowed for an operation, such as `codeartifact:ListPackages`."""
        service = _SERVICES.get(operation, "codeartifact")
        return f"{service}:{_ACTIONS.get(operation, operation)}"

    def arn(self, operation: str, package: str = "") -> str:
        """The resource that an operation is allowed or denied on; `*` for what is not known."""
        its = self.options
        if operation == "AssumeRole":
            return its.role_arn or "the role"
        if _SERVICES.get(operation) == "sqs":
            *_, account, name = f"//{its.events_queue_url or ''}".rsplit("/", 2)
            return f"arn:{self.partition}:sqs:{self.queue_region or '*'}:{account}:{name}"
        start = f"arn:{self.partition}:codeartifact:{self.region or '*'}:{its.domain_owner or '*'}"
        if operation == "GetAuthorizationToken":
            return f"{start}:domain/{its.domain}"
        if operation in _ON_A_PACKAGE:
            return f"{start}:package/{its.domain}/{its.repository}/pypi//{package or '*'}"
        return f"{start}:repository/{its.domain}/{its.repository}"

    @property
    def queue_region(self) -> str | None:
        """Where the events' queue is, which need not be where the repository is."""
        return queue_region(self.options.events_queue_url or "") or self.region

    @property
    def lost(self) -> bool:
        """Whether the region is most likely a mistake."""
        return bool(self.regions) and self.region not in self.regions

    def __str__(self) -> str:
        its = self.options
        owned = f" of account {its.domain_owner}" if its.domain_owner else ""
        return f"{its.domain}/{its.repository}{owned} in {self.region or 'no region'}"


def named(options: CodeArtifactSource) -> dict[str, Any]:
    """The domain, as every operation takes it."""
    owner = {"domainOwner": options.domain_owner} if options.domain_owner else {}
    return {"domain": options.domain, **owner}
