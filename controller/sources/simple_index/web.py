"""Reading from an index over HTTP, with a bound on everything that the other side decides.

Redirects are followed here, one by one: only to allowed hosts, never from https to http, and the
credentials go to the index's own origin alone. Pages have a size limit, every wait a timeout, every
body a least pace. Each answer that cannot be used becomes an error of `controller.errors` with its
cure; httpx stays in here and in `credentials`. Nothing here knows what a page means.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING

import httpx

from controller import retry
from controller.errors import Stalled, Transient, WheelwayError
from controller.exchange import (
    BodyTooLarge,
    Deadline,
    at_most,
    outward_authorities,
    outward_client,
)
from controller.sources.simple_index.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from controller.config.sources import IndexSource as Options

MAX_HOPS = 5
"""Redirects followed for one request."""
GRACE = 60.0
"""Seconds until the head of an answer must be complete, and after which a body must keep pace."""
PACE = 16 * 1024
"""Bytes a second, on average: a body that comes slower is given up."""
_OUTCOMES = {
    200: "ok",
    304: "unchanged",
    404: "missing",
    410: "missing",
    401: "refused",
    403: "refused",
    429: "throttled",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A page, read whole, or the status that there is none or nothing new."""

    status: int
    """200, 304 or 404; 410 counts as 404."""
    url: str
    """Where it came from in the end, after redirects."""
    headers: Mapping[str, str]
    """Keys in any case."""
    body: bytes = b""
    framed: bool = True
    """Whether HTTP told where the body ends; otherwise it may have been cut unnoticed."""


class Web:
    """One index and the hosts that it may lead to. May be used from several threads."""

    def __init__(
        self,
        options: Options,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        self._own = httpx.URL(options.url)
        self._credentials = Credentials(options, self._own)
        self._clock = clock
        self._wall_clock = wall_clock
        self._mutex = threading.Lock()
        self._trust: ssl.SSLContext | None = None
        self._clients: set[httpx.Client] = set()
        self._idle: list[httpx.Client] = []
        self._closed = False
        self._calls: Counter[str] = Counter()

    @property
    def calls(self) -> Mapping[str, int]:
        """Requests so far by outcome: those of `_OUTCOMES`, redirected, failed (any other status),
        unreachable (no answer).
        """
        with self._mutex:
            return dict(self._calls)

    def close(self) -> None:
        """Close the connections; what is being read fails, what comes later is refused."""
        with self._mutex:
            self._closed = True
            clients = tuple(self._clients)
        for client in clients:
            self._end(client)

    def page(self, url: str, headers: Mapping[str, str]) -> Reply:
        """Read a page.

        Raises:
            Stalled: `PageTooLarge`; and as `opened`.
            Transient: as `opened`.
        """
        limit = self._options.max_response_bytes
        with self.opened(url, {"Accept-Encoding": "gzip", **headers}) as response:
            status = 404 if response.status_code == 410 else response.status_code
            final = str(response.url)
            if status != 200:
                return Reply(status, final, response.headers)
            try:
                body = b"".join(at_most(self.body(response), limit))
            except BodyTooLarge as error:
                raise Stalled(
                    "PageTooLarge",
                    f"{shown(response.url)} is larger than {limit} bytes; if that is right, "
                    f"raise `max_response_bytes` of source {self._options.name}",
                ) from error
            framed = not {"content-length", "transfer-encoding"}.isdisjoint(response.headers)
            return Reply(200, final, response.headers, body, framed)

    @contextmanager
    def opened(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """An answer of status 200, 304, 404 or 410; its body is still to be read, by `body`.

        Raises:
            Stalled: `AddressRefused` (a host that is not allowed, https to http, too many
                redirects), `IndexUnauthorized`, `IndexForbidden`, `IndexUntrusted`,
                `IndexUnexpected`, `CredentialsUnreadable`, `CertificateUnreadable`,
                `ConfigInvalid` (a proxy or an authority of the environment).
            Transient: `IndexUnreachable`, `IndexThrottled`, `IndexFailed`.
        """
        target = self._permitted(url, None)
        for _ in range(MAX_HOPS + 1):
            with self._answer(target, headers) as response:
                if not response.has_redirect_location:
                    self._check(response)
                    yield response
                    return
                self._count("redirected")
                target = self._permitted(response.headers["location"], target)
        raise Stalled(
            "AddressRefused",
            f"{shown(httpx.URL(url))} leads through more than {MAX_HOPS} redirects; set `url` of "
            f"source {self._options.name} to where it ends",
        )

    def body(self, response: httpx.Response) -> Iterator[bytes]:
        """The body in chunks as they come; an answer must be used up or left within its `opened`.

        Raises:
            Transient: `BodyIncomplete`, it broke off; `IndexSlow`.
        """
        began, size = self._clock(), 0
        for chunk in response.iter_bytes():
            yield chunk
            size += len(chunk)
            if (elapsed := self._clock() - began) > GRACE and size < elapsed * PACE:
                raise Transient(
                    "IndexSlow",
                    f"{shown(response.url)} came slower than {PACE // 1024} KiB a second: "
                    f"{size} bytes in {elapsed:.0f} s",
                )

    def _permitted(self, url: str, came_from: httpx.URL | None) -> httpx.URL:
        """Where a link leads, if it may: absolute, without user and fragment."""
        try:
            target = httpx.URL(url) if came_from is None else came_from.join(url)
            target = target.copy_with(userinfo=b"", fragment=None)
        except (httpx.InvalidURL, ValueError) as error:
            raise self._refused(came_from, "to what is no address") from error
        name = self._options.name
        if target.scheme not in {"http", "https"} or not target.host:
            raise self._refused(came_from, "to what is no http address")
        secured = "https" in {self._own.scheme, came_from.scheme if came_from else ""}
        if secured and target.scheme == "http":
            raise self._refused(
                came_from, f"from https to http, at {target.host}; have it answer by https"
            )
        if target.host != self._own.host and not self._is_allowed(target.host):
            raise self._refused(
                came_from,
                f"to {target.host}; if that host is yours and serves your files, add it to "
                f"`allowed_hosts` of source {name}; never a public index: have yours answer 404 "
                "for packages that it lacks",
            )
        return target

    def _is_allowed(self, host: str) -> bool:
        return any(
            host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))
            for pattern in self._options.allowed_hosts
        )

    def _refused(self, came_from: httpx.URL | None, why: str) -> Stalled:
        what = f"{shown(came_from)} redirects" if came_from else f"{self._options.url} links"
        return Stalled("AddressRefused", f"{what} {why}")

    @contextmanager
    def _answer(self, url: httpx.URL, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """One exchange, with whatever goes wrong in it or while its body is read translated.

        It has a client for itself: to end an answer that hangs, all connections of its client are
        closed, for httpx does not tell which of those that were kept it uses.
        """
        client, response = self._client(), None
        deadline = Deadline(GRACE, otherwise=partial(self._end, client))
        try:
            proof = self._credentials.header(url)
            request = client.build_request(
                "GET",
                url,
                headers={**headers, "Authorization": proof} if proof else headers,
                extensions={"trace": deadline.watch},
            )
            with deadline:
                response = client.send(request, stream=True)
            yield response
        except (httpx.RequestError, RuntimeError) as error:
            if self._closed:
                raise Transient("SourceClosed", f"source {self._options.name} ends") from error
            if isinstance(error, RuntimeError):
                raise
            if response is None:
                self._count("unreachable")
                if deadline.over:
                    what = f"{shown(url)} did not come to the point within {GRACE:g} s"
                    raise Transient("IndexSlow", what) from error
                raise self._unreachable(url, error) from error
            raise Transient(
                "BodyIncomplete", f"{shown(url)} broke off while it was read ({_said(error)})"
            ) from error
        finally:
            if response is not None:
                response.close()
            self._done_with(client, ended=deadline.over)

    def _client(self) -> httpx.Client:
        """One that nobody uses now; to be given back to `_done_with`."""
        with self._mutex:
            if self._closed:
                raise Transient("SourceClosed", f"source {self._options.name} was closed")
            if self._idle:
                return self._idle.pop()
            self._trust = self._trust or self._authorities()
            client = outward_client(
                verify=self._trust,
                timeout=self._options.timeout,
                headers={"User-Agent": "wheelway"},
            )
            # An index needs no session; what one host sets must never reach another.
            client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            self._clients.add(client)
            return client

    def _done_with(self, client: httpx.Client, *, ended: bool) -> None:
        with self._mutex:
            kept = not ended and not self._closed
            if kept:
                self._idle.append(client)
        if not kept:
            self._end(client)

    def _end(self, client: httpx.Client) -> None:
        with self._mutex:
            self._clients.discard(client)
        client.close()

    def _authorities(self) -> ssl.SSLContext:
        if self._options.ca_file is None:
            return outward_authorities()
        try:
            return ssl.create_default_context(cafile=str(self._options.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise Stalled(
                "CertificateUnreadable",
                f"`ca_file` of source {self._options.name}, {self._options.ca_file}: {error}",
            ) from error

    def _check(self, response: httpx.Response) -> None:
        outcome = _OUTCOMES.get(response.status_code, "failed")
        self._count(outcome)
        if outcome not in {"ok", "unchanged", "missing"}:
            raise self._failure(response)

    def _failure(self, response: httpx.Response) -> WheelwayError:
        status, where = response.status_code, shown(response.url)
        if status in {401, 403}:
            return self._denied(response)
        if status == 429 or status >= 500 or status in {408, 425}:
            wait = retry.asked_for(response.headers.get("retry-after", ""), now=self._wall_clock())
            if status == 429:
                return Transient(
                    "IndexThrottled",
                    f"{where} asks for fewer requests (429); it is left alone for a while. If this "
                    f"stays, raise `poll_interval` of source {self._options.name}",
                    retry_after=wait,
                )
            return Transient("IndexFailed", f"{where} failed ({status})", retry_after=wait)
        return Stalled(
            "IndexUnexpected",
            f"{where} answered {status}, which no simple index does; is `url` of source "
            f"{self._options.name} right?",
        )

    def _denied(self, response: httpx.Response) -> Stalled:
        status, where, name = response.status_code, shown(response.url), self._options.name
        mine = self._credentials.described
        if "authorization" in response.request.headers:
            if status == 401:
                why = f"does not accept {mine} (401); renew it"
            else:
                why = f"may not be read with {mine} (403): it is wrong, or lacks the permission"
        elif mine:
            why = (
                f"wants credentials ({status}), but is not at {self._options.url}, where they "
                f"belong; if it is the same index, set `url` of source {name} to its address"
            )
        else:
            why = (
                f"wants credentials ({status}): set `username` with `password_file`, `token_file` "
                f"or `netrc` for source {name}"
            )
        return Stalled("IndexUnauthorized" if status == 401 else "IndexForbidden", f"{where} {why}")

    def _unreachable(self, url: httpx.URL, error: Exception) -> WheelwayError:
        where = f"{url.host}:{url.port}" if url.port else url.host
        if isinstance(error, httpx.TimeoutException):
            return Transient(
                "IndexUnreachable",
                f"{where} did not answer within {self._options.timeout:g} s for {shown(url)}",
            )
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
            return Stalled(
                "IndexUntrusted",
                f"{where} shows a certificate that is not trusted ({_said(error)}); set `ca_file` "
                f"of source {self._options.name} to the authority that signed it",
            )
        return Transient("IndexUnreachable", f"nothing answers at {where} ({_said(error)})")

    def _count(self, outcome: str) -> None:
        with self._mutex:
            self._calls[outcome] += 1


def validators(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that make the same request conditional (RFC 9110, 13.1); empty if it cannot be.

    A date alone is trusted only a minute after the change: before, the page may change again within
    the same second and would look the same (RFC 9110, 8.8.2.2).
    """
    if (etag := headers.get("etag")) and etag.isascii():  # as what is sent must be
        return {"If-None-Match": etag}
    modified, date = headers.get("last-modified", ""), headers.get("date", "")
    try:
        age = parsedate_to_datetime(date) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return {}
    settled = age.total_seconds() >= 60 and modified.isascii()
    return {"If-Modified-Since": modified} if settled else {}


def shown(url: httpx.URL) -> str:
    """An address for a person: without user and query, which may hold secrets."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
