"""Changes as Amazon EventBridge tells them, and on to an SQS queue as its rule would send them.

The event: https://docs.aws.amazon.com/codeartifact/latest/ug/service-event-format-example.html
"""

from __future__ import annotations

import json
import secrets
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.codeartifact.shelf import Address, Change

Event = dict[str, Any]


def event(change: Change, address: Address, *, number: int, moment: float) -> Event:
    """The event for a change.

    Args:
        change: of one version.
        address: of the repository.
        number: later changes have greater ones.
        moment: seconds since the epoch.
    """
    before, after = change.before, change.after
    version = after or before
    if version is None:
        raise ValueError("from nothing to nothing is no change")
    old = {asset.name: asset for asset in before.assets} if before else {}
    new = {asset.name: asset for asset in after.assets} if after else {}
    operation = "Updated" if before and after else "Created" if after else "Deleted"
    status = after.status if after else "Deleted"
    detail = {
        "domainName": address.domain,
        "domainOwner": address.owner,
        "repositoryName": address.repository,
        "repositoryAdministrator": address.owner,
        "packageFormat": "pypi",
        "packageNamespace": None,
        "packageName": version.package,
        "packageVersion": version.version,
        "packageVersionState": status,
        "packageVersionRevision": version.revision,
        "changes": {
            "assetsAdded": len(new.keys() - old.keys()),
            "assetsRemoved": len(old.keys() - new.keys()),
            "assetsUpdated": sum(old[name] != new[name] for name in old.keys() & new.keys()),
            "metadataUpdated": before is None,
            "statusChanged": before is None or before.status != status,
        },
        "operationType": operation,
        "sequenceNumber": number,
        "eventDeduplicationId": secrets.token_urlsafe(32),
    }
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "CodeArtifact Package Version State Change",
        "source": "aws.codeartifact",
        "account": address.owner,
        "time": f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": address.region,
        "resources": [address.arn({"package": version.package})],
        "detail": detail,
    }


def to_queue(sqs: Any, queue_url: str) -> Callable[[Event], None]:
    """A receiver for `StandIn.subscribe` that sends each event to a queue by a boto3 client."""

    def send(told: Event) -> None:
        sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(told))

    return send
