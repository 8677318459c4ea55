"""What a request brought besides its body, for the code that answers it: `wheelway.request()`.

The host only notes what it has at hand anyway. A `Request` is made of that when somebody asks, so
that pipelines which never do pay nothing. It is found by a context variable: a stage's threads,
the tasks it starts and a loop of its own have a copy of the context.

Whose address `client` is: what the server says. Of a connection from the machine itself that is
the last address in X-Forwarded-For which is no trusted proxy's, else the connection's other end
(`ProxyHeadersMiddleware` of uvicorn 0.54, which trusts FORWARDED_ALLOW_IPS). It is as true as what
the proxy in front writes. HAProxy appends the address that it was asked from where wheelway starts
the head (controller/rayhead/haproxy-on-loopback). Ray alone does not have it do so
(ray/serve/_private/haproxy_templates.py of Ray 2.60): there a client that asks it directly says
itself who it is. Over a Unix socket only the gateway asks (direct.py): there it is the last address
in X-Forwarded-For, which the gateway wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from wheelway.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wheelway.asgi import Scope
    from wheelway.deadlines import Watched

    Arrival = tuple[bytes, Scope, Watched]
    """A request's id, its ASGI scope, and what knows by when it is due, which is put off for a
    stream with every item."""

IDS: Final = 32
"""Of requests that are answered together, those whose ids each line of the log has."""
PATIENCE: Final = Limits().request_timeout
"""Seconds that remain where nobody waits: in `load`, in examples, in tests."""


class Headers(Mapping[str, str]):
    """A request's headers, read-only; names are found in any case.

    What came several times is one text, joined by commas (RFC 9110, 5.3), cookies by semicolons.
    `repr` tells the names alone: values may be secrets, and end up in logs.
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """As in an ASGI scope: names in lower case."""
        self._lines = tuple(lines)

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Headers:
        """From text."""
        lines = ((name.lower(), value) for name, value in headers.items())
        return cls((name.encode("latin-1"), value.encode("latin-1")) for name, value in lines)

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1", "replace")
        found = [value for name, value in self._lines if name == wanted]
        if not found:
            raise KeyError(name)
        return (b"; " if wanted == b"cookie" else b", ").join(found).decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self._lines))

    def __len__(self) -> int:
        return len({name for name, _ in self._lines})

    def __repr__(self) -> str:
        return f"<headers: {', '.join(self)}>"


class _Several(Headers):
    """Those of requests that are answered together. To ask for one must not look like an answer:
    what is not there might be taken for what the caller did not send.
    """

    __slots__ = ()

    def __getitem__(self, name: str) -> str:
        raise LookupError(self._why)

    def __iter__(self) -> Iterator[str]:
        raise LookupError(self._why)

    def __len__(self) -> int:
        raise LookupError(self._why)

    def __repr__(self) -> str:
        return "<headers: of several requests>"

    @property
    def _why(self) -> str:
        return (
            "`infer_batch` answers several requests, each with headers of its own; have "
            "`pre_process` put what is needed of them into what it returns"
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What a request brought besides its body.

    It can be pickled, for another process or machine. What crosses are the seconds that remain:
    an instant of this machine's monotonic clock means nothing to another one.
    """

    headers: Headers = field(default_factory=Headers)
    id: str = ""
    """As the answer and every line of the log have it; empty where nobody asked by HTTP. In
    `infer_batch` those of all its requests, joined by commas."""
    client: str = ""
    """The address it came from, as far as the ingress knows; empty where that is unknown. Good for
    logs and quotas, no proof of anything: see the module."""
    due: float = field(default_factory=lambda: monotonic() + PATIENCE, repr=False, compare=False)
    """By when to answer, by `time.monotonic()` of this process."""

    @property
    def remaining(self) -> float:
        """Seconds until the host answers 504 in the pipeline's stead, of a stream those until its
        next item, as of the call of `request()`; never below 0.

        A duration, since that is what clients of databases and HTTP take as a timeout, and since
        steps of the wall clock do not change it.
        """
        return max(0.0, self.due - monotonic())

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.headers, self.id, self.client, self.remaining)


def _arrived(headers: Headers, request_id: str, client: str, remaining: float) -> Request:
    return Request(headers, request_id, client, monotonic() + remaining)


AT_HAND: ContextVar[Request | Arrival | None] = ContextVar("AT_HAND", default=None)
"""The request that is being answered."""


def request() -> Request:
    """What the request at hand brought, in any stage, thread or part. Where there is none, as in
    `load`, in examples and in tests that give no headers, it has no headers and `PATIENCE`.
    """
    found = AT_HAND.get()
    if found is None:
        return Request()
    if isinstance(found, Request):
        return found
    request_id, scope, watched = found
    name = request_id.decode("latin-1")
    return Request(Headers(scope["headers"]), name, _client(scope), watched.due)


def request_id() -> str:
    """The id of the request at hand, or empty."""
    return id_of(AT_HAND.get())


def several(found: Sequence[Request | Arrival | None]) -> Request:
    """What `request()` tells where all of these are answered together: the earliest deadline, and
    the ids of the first, joined by commas.
    """
    ids = [id_of(one) for one in found[:IDS]]
    more = f"+{len(found) - IDS}" if len(found) > IDS else ""
    due = min((_due(one) for one in found if one is not None), default=monotonic() + PATIENCE)
    return Request(_Several(), ",".join(name for name in (*ids, more) if name), "", due)


def id_of(found: Request | Arrival | None) -> str:
    """The id of what is, or was, at hand; empty where nothing is or it has none."""
    if isinstance(found, tuple):
        return found[0].decode("latin-1")
    return found.id if found else ""


def _due(found: Request | Arrival) -> float:
    return (found[2] if isinstance(found, tuple) else found).due


@contextmanager
def at_hand(given: Request) -> Iterator[None]:
    """Have `request()` tell of this one, in this context and those copied from it."""
    token = AT_HAND.set(given)
    try:
        yield
    finally:
        AT_HAND.reset(token)


def is_direct(scope: Scope) -> bool:
    """Whether a request came over a Unix socket: its server has a path and no port (ASGI)."""
    server = scope.get("server")
    return server is not None and server[1] is None and server[0][:1] == "/"


def _client(scope: Scope) -> str:
    if not is_direct(scope):
        client, *_ = scope.get("client") or ("",)
        return _address(client)
    said = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return _address(b",".join(said).decode("latin-1").rpartition(",")[2].strip())


def _address(host: str) -> str:
    """An address, or empty: X-Forwarded-For may hold anything."""
    try:
        return str(ip_address(host))
    except ValueError:
        return ""
