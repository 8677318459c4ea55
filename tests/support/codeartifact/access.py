"""Who may ask: AWS Signature Version 4 for the API, authorization tokens for the package endpoint.

A signature is made again by botocore's own signer from what came over the connection, with the
secret key that only the stand-in and its clients know, and compared. The time of a signature is
not looked at.

Signing: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.codeartifact.wire import SERVICE, Refused, invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.codeartifact.wire import Request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/"
    r"aws4_request, SignedHeaders=(?P<headers>[^,]+), Signature=(?P<signature>[0-9a-f]{64})"
)
LONGEST = 43200
"""Seconds that a token may live, and does when nothing else is asked for; the shortest is 900."""


@dataclass(slots=True)
class _Key:
    credentials: Credentials
    expired: bool = False


class Access:
    """Keys and tokens.

    Args:
        region: that signatures must be made for.
        clock: seconds since the epoch, for the life of tokens.
    """

    def __init__(self, region: str, clock: Callable[[], float]) -> None:
        self._region = region
        self._clock = clock
        self._keys: dict[str, _Key] = {}
        self._tokens: dict[str, float] = {}
        self.credentials = self.renew()

    # -- the API ---------------------------------------------------------------------------------

    def renew(self) -> Credentials:
        """New temporary credentials, from now on those to use; former ones stay valid."""
        self.credentials = Credentials(
            f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(20), secrets.token_hex(40)
        )
        self.accept(self.credentials)
        return self.credentials

    def accept(self, credentials: Credentials) -> None:
        """Take signatures by credentials that came from elsewhere, such as an assumed role's."""
        self._keys[credentials.access_key] = _Key(credentials)

    def expire(self) -> None:
        """All credentials there are have come to their end."""
        for key in self._keys.values():
            key.expired = True

    def verify(self, request: Request) -> None:
        """Compare a request's signature with the one it must have.

        Raises:
            Refused: with what AWS answers to unsigned, expired and wrongly signed requests.
        """
        given = _AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
        if given is None:
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        key = self._keys.get(given["key"])
        names = given["headers"].split(";")
        signed = {name: request.headers.get(name, "") for name in names}
        token = key.credentials.token if key else None
        if key is None or token != signed.get("x-amz-security-token"):
            raise Refused(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        if key.expired:
            raise Refused(
                "ExpiredTokenException", "The security token included in the request is expired"
            )
        for what, wanted in (("region", self._region), ("service", SERVICE.signing_name)):
            if given[what] != wanted:
                raise _unsigned(f"Credential should be scoped to a valid {what}, not {given[what]}")
        if not {"host", "x-amz-date"} <= signed.keys():
            raise _unsigned("'Host' and 'X-Amz-Date' must be signed headers")
        if not hmac.compare_digest(self._signature(request, signed, key), given["signature"]):
            raise _unsigned("The request signature we calculated does not match the one provided.")

    def _signature(self, request: Request, signed: Mapping[str, str], key: _Key) -> str:
        signer = SigV4Auth(key.credentials, SERVICE.signing_name, self._region)
        again = AWSRequest(
            method=request.method,
            url=f"http://{signed['host']}{request.target}",
            headers=dict(signed),
            data=request.body,
        )
        again.context["timestamp"] = signed["x-amz-date"]
        text = signer.string_to_sign(again, signer.canonical_request(again))
        return str(signer.signature(text, again))

    # -- the package endpoint --------------------------------------------------------------------

    def issue(self, duration: int = LONGEST) -> tuple[str, float]:
        """A token for the package endpoint, and when it ends, in seconds since the epoch.

        Raises:
            Refused: no token may live for that long or that short.
        """
        if duration and not 900 <= duration <= LONGEST:  # 0: as long as the credentials
            raise invalid(f"durationSeconds: {duration} is neither 0 nor from 900 to {LONGEST}")
        token = secrets.token_urlsafe(48)
        self._tokens[token] = self._clock() + (duration or 3600)
        return token, self._tokens[token]

    def admit(self, request: Request) -> None:
        """Let a request in whose password is a token that has not ended.

        Raises:
            Refused: 401.
        """
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            user, _, token = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = token = ""
        alive = self._tokens.get(token, float("-inf")) > self._clock()
        if scheme.lower() != "basic" or user != "aws" or not alive:
            raise Refused(
                "UnauthorizedException",
                "Unauthenticated: Unable to authenticate the token",
                status=401,
                headers={"WWW-Authenticate": 'Basic realm="CodeArtifact"'},
            )


def _unsigned(message: str) -> Refused:
    return Refused("InvalidSignatureException", message)
