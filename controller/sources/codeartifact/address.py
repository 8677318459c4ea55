"""What one source talks to, as messages call it, and the resources that permissions are about.

Which action on which resource an operation needs is in the service authorization reference:
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscodeartifact.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_ON_THE_DOMAIN = frozenset({"GetAuthorizationToken"})
_ON_A_PACKAGE = frozenset(
    {
        "DescribePackage",
        "GetPackageVersionAsset",
        "ListPackageVersionAssets",
        "ListPackageVersions",
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

    source: str
    domain: str
    owner: str | None
    repository: str
    region: str | None
    partition: str
    profile: str | None
    role_arn: str | None
    queue_url: str | None
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
        if operation == "AssumeRole":
            return self.role_arn or "the role"
        if _SERVICES.get(operation) == "sqs":
            *_, account, name = f"//{self.queue_url or ''}".rsplit("/", 2)
            return f"arn:{self.partition}:sqs:{self.queue_region or '*'}:{account}:{name}"
        start = f"arn:{self.partition}:codeartifact:{self.region or '*'}:{self.owner or '*'}"
        if operation in _ON_THE_DOMAIN:
            return f"{start}:domain/{self.domain}"
        if operation in _ON_A_PACKAGE:
            return f"{start}:package/{self.domain}/{self.repository}/pypi//{package or '*'}"
        return f"{start}:repository/{self.domain}/{self.repository}"

    @property
    def queue_region(self) -> str | None:
        """Where the events' queue is, which need not be where the repository is."""
        return queue_region(self.queue_url or "") or self.region

    @property
    def lost(self) -> bool:
        """Whether the region is most likely a mistake."""
        return bool(self.regions) and self.region not in self.regions

    def __str__(self) -> str:
        owned = f" of account {self.owner}" if self.owner else ""
        return f"{self.domain}/{self.repository}{owned} in {self.region or 'no region'}"
