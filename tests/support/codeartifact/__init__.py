"""A stand-in of AWS CodeArtifact on loopback: the calls that wheelway makes, real bytes, faults.

    with StandIn() as standin:
        standin.shelf.publish(wheel)
        standin.client().list_packages(domain="acme", repository="pipelines")
        standin.inject("GetPackageVersionAsset", Fault(cut=0.5), times=2)

The API speaks through botocore's own model of the service and checks signatures; the package
endpoint takes uploads by twine and uv and serves a simple index. What it does not know of the real
service it refuses rather than guesses. `python -m tests.support.codeartifact` runs one.

One room each: `wire` the protocol, `access` who may ask, `shelf` what is there, `api` and
`packages` the two interfaces, `faults` what goes wrong, `events` what is told, `server` the HTTP.
"""

from tests.support.codeartifact.events import event, to_queue
from tests.support.codeartifact.faults import (
    Fault,
    access_denied,
    expired_token,
    internal_error,
    not_found,
    throttled,
)
from tests.support.codeartifact.server import Call, StandIn
from tests.support.codeartifact.shelf import Address, Change, Shelf, Version

__all__ = [
    "Address",
    "Call",
    "Change",
    "Fault",
    "Shelf",
    "StandIn",
    "Version",
    "access_denied",
    "event",
    "expired_token",
    "internal_error",
    "not_found",
    "throttled",
    "to_queue",
]
