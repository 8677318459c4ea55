"""What can be made to go wrong, and when.

standin.inject("ListPackageVersions", throttled(retry_after=2))
standin.inject("GetPackageVersionAsset", Fault(cut=0.5, announced=False), times=3)
standin.inject("ListPackages", Fault(pages="reversed"), times=None)
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Literal

from tests.support.codeartifact.wire import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call. Its fields can be combined; without any, nothing happens."""

    code: str = ""
    """An error instead of the answer, by the model's name; `{action}` and `{arn}` in the message
    become what was asked for."""
    message: str = "injected"
    status: int = 403
    """HTTP's, of an error that the model does not have."""
    retry_after: int | None = None
    """Seconds, in the header Retry-After."""
    retry_after_ms: int | None = None
    """Milliseconds, in the header x-amz-retry-after."""
    meanwhile: Callable[[], object] | None = None
    """Done when the call has come and is not answered yet: a change between two calls."""
    pages: Literal["", "reversed", "repeated"] = ""
    """A listing in the opposite order; or a page that will come once more as the next one."""
    wrong: bool = False
    """One bit of the body is another."""
    cut: float = 1.0
    """The share of the body that is sent before the connection ends."""
    announced: bool = True
    """Whether Content-Length is told; without it the end of the connection is the end of the
    body, and a cut cannot be seen."""
    drip: tuple[int, float] | None = None
    """Bytes at a time, and seconds before each of them."""

    def strike(self, action: str, arn: str) -> None:
        """Do what is done before the answer.

        Raises:
            Refused: this is an error.
        """
        if self.meanwhile is not None:
            self.meanwhile()
        if self.code:
            waits = {"Retry-After": self.retry_after, "x-amz-retry-after": self.retry_after_ms}
            raise Refused(
                self.code,
                self.message.format(action=action, arn=arn),
                status=self.status,
                headers={name: str(wait) for name, wait in waits.items() if wait is not None},
            )

    def spoiled(self, body: bytes) -> bytes:
        """What of a body is sent."""
        if self.wrong and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        return body[: int(len(body) * self.cut)]

    def portions(self, body: bytes) -> Iterator[tuple[float, bytes]]:
        """Seconds to wait, then bytes to send."""
        size, pause = self.drip or (max(len(body), 1), 0.0)
        for start in range(0, len(body), size):
            yield pause, body[start : start + size]


def throttled(*, retry_after: int | None = None, retry_after_ms: int | None = None) -> Fault:
    """429, with or without a word on when to come again."""
    waits = {"retry_after": retry_after, "retry_after_ms": retry_after_ms}
    return Fault("ThrottlingException", "Rate exceeded", **waits)


def internal_error() -> Fault:
    """500."""
    return Fault("InternalServerException", "Internal server error")


def access_denied() -> Fault:
    """403, as IAM words it."""
    return Fault(
        "AccessDeniedException",
        "User: arn:aws:sts::111122223333:assumed-role/poller/session is not authorized to perform: "
        "{action} on resource: {arn} because no identity-based policy allows the {action} action",
    )


def not_found() -> Fault:
    """404; once, for what is there a moment later."""
    return Fault("ResourceNotFoundException", "Asset not found")


def expired_token() -> Fault:
    """403, as if the credentials had ended for this call."""
    return Fault("ExpiredTokenException", "The security token included in the request is expired")


class Schedule:
    """Which fault comes with which call."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._coming: dict[tuple[str, str], Iterator[Fault]] = {}

    def inject(
        self,
        operation: str,
        fault: Fault,
        *,
        package: str = "",
        times: int | None = 1,
        after: int = 0,
    ) -> None:
        """Let a fault come, behind those that were injected before.

        Args:
            operation: by the model's name, or `Upload`, `Simple`, `Download`.
            fault: what happens.
            package: to calls about which one; those of any come when it has none of its own.
            times: with how many calls; None for all from then on.
            after: how many calls go well before.
        """
        faults = repeat(fault) if times is None else repeat(fault, times)
        key = (operation, package)
        with self._mutex:
            before = self._coming.get(key, iter(()))
            self._coming[key] = chain(before, repeat(Fault(), after), faults)

    def heal(self) -> None:
        """Forget everything that was to come."""
        with self._mutex:
            self._coming.clear()

    def due(self, operation: str, package: str) -> Fault:
        """What comes with this call."""
        with self._mutex:
            for key in ((operation, package), (operation, "")):
                if fault := next(self._coming.get(key, iter(())), None):
                    return fault
        return Fault()
