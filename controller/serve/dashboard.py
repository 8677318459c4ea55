"""The Ray dashboard's REST API, as far as the daemon needs it.

`GET` and `PUT /api/serve/applications/` are Serve's own (ray.io docs, "Serve REST API", v2); the
PUT replaces the whole set of declarative applications. Each answer that is not a success becomes
an error of `controller.errors` with its cure; httpx stays in here.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from typing import TYPE_CHECKING, Any, Self

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from controller import retry
from controller.errors import Rejected, Stalled, Transient, Waiting
from controller.exchange import NO_REUSE, BodyTooLarge, document, exchange, is_untrusted
from controller.planning.documents import same_document
from controller.planning.remembered import Remembered
from controller.serve.application import parse
from controller.serve.details import Details, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from controller.config.settings import RayOptions
    from controller.errors import WheelwayError
    from controller.model import JSON
    from controller.observed import Application

APPLICATIONS = "/api/serve/applications/"
METRICS_TARGETS = "/api/prometheus/sd"

_PUT_FACTOR = 6
"""A PUT that starts Serve takes seconds where others take milliseconds."""
LONGEST_BLINDNESS = 60.0
"""Longest pause in seconds that a dashboard may ask for: nothing is observed meanwhile."""
_LIMIT = 16 * 2**20
"""Bytes of an answer."""
LARGEST_REPORT = 128 * 2**20
"""Bytes of what Serve reports: some thousand of each application."""


class _Group(BaseModel):
    targets: list[str]


_Groups: TypeAdapter[list[_Group]] = TypeAdapter(list[_Group])


class Dashboard:
    """One cluster's dashboard. Every call may raise Waiting, Transient or Stalled."""

    def __init__(self, client: httpx.Client, timeout: float = 10.0) -> None:
        """`client` has the base URL and authentication; `timeout` is in seconds, for each call."""
        self._client = client
        self._timeout = timeout
        self._reported: tuple[Details, tuple[Application, ...]] | None = None
        """The last answer of Serve, and what it said."""
        self._sent: Mapping[str, Mapping[str, JSON]] = {}
        """The applications of the last config, by name: Serve reports them back."""
        self._texts = Remembered(_json, same=same_document)

    @classmethod
    def connect(cls, options: RayOptions) -> Self:
        """The configured one; raises Stalled where its CA file cannot be used."""
        return cls(httpx.Client(**client_options(options)), options.timeout)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def applications(self) -> tuple[Application, ...]:
        """Every application on the cluster, ours or not, by name; unchanged ones are the same
        objects as in the call before.
        """
        response = self._send("GET", APPLICATIONS, limit=LARGEST_REPORT)
        before, known = self._reported or (Details(), ())
        try:
            text = response.content.decode("utf-8")
            # The text is seldom another, and a thousand applications are megabytes.
            if self._reported is None or text != before.text:
                details, spans, same = read(text, before)
                known = parse(details, known, self._sent, same)
                self._reported = Details(text, spans), known
        except ValueError as error:
            raise self._stranger(f"{APPLICATIONS}: {error}") from error
        return known

    def put(self, serve_config: Mapping[str, JSON]) -> None:
        """Replace the cluster's declarative applications by those of the config; raises Rejected
        where Ray refuses it (`ConfigRefused`), with what it said.
        """
        self._sent = {one["name"]: one for one in serve_config["applications"]}
        response = self._send(
            "PUT",
            APPLICATIONS,
            seconds=self._timeout * _PUT_FACTOR,
            refusal=400,
            content=self._body(serve_config),
            headers={"Content-Type": "application/json"},
        )
        if not response.is_success:
            why = _refusal(response.text, serve_config)
            raise Rejected("ConfigRefused", f"Ray refused the Serve config: {why}")

    def _body(self, serve_config: Mapping[str, JSON]) -> bytes:
        """A config as JSON; applications that are as in the config before are not encoded again."""
        applications = [self._texts.of(one["name"], one) for one in serve_config["applications"]]
        self._texts.forget_unused()
        others = {key: value for key, value in serve_config.items() if key != "applications"}
        begin, end = _json({"applications": []} | others).split("]", 1)
        return f"{begin}{','.join(applications)}]{end}".encode("ascii")

    def get(
        self, path: str, params: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> dict[str, JSON]:
        """The JSON object at any path of the dashboard's API; `timeout` in seconds."""
        value = self._document(path, seconds=timeout, params=params)
        if not isinstance(value, dict):
            raise self._stranger(f"{path} is no JSON object")
        return value

    def metrics_targets(self) -> tuple[str, ...]:
        """`host:port` of everything in the cluster that has metrics for Prometheus (its HTTP
        service discovery).
        """
        try:
            groups = _Groups.validate_python(self._document(METRICS_TARGETS), strict=True)
        except ValidationError as error:
            raise self._stranger(f"{METRICS_TARGETS} lists no targets") from error
        return tuple(target for group in groups for target in group.targets)

    def _document(self, path: str, **how: Any) -> JSON:
        try:
            return document(self._send("GET", path, **how))
        except ValueError as error:
            raise self._stranger(f"{path} is no JSON: {error}") from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        seconds: float | None = None,
        limit: int = _LIMIT,
        refusal: int | None = None,
        **content: Any,
    ) -> httpx.Response:
        """The answer, which is a success or has the status `refusal`."""
        url, seconds = self._client.base_url, seconds or self._timeout
        try:
            response = exchange(self._client, method, path, seconds=seconds, limit=limit, **content)
        except (BodyTooLarge, httpx.DecodingError) as error:
            raise self._stranger(f"{path}: {error}") from error
        except httpx.TimeoutException as error:
            raise Waiting(
                "DashboardUnreachable",
                f"the Ray dashboard at {url} did not answer {method} {path} within {seconds:g} s; "
                "the head is overloaded or hangs: look at `ray status` and the head's log",
            ) from error
        except httpx.TransportError as error:
            if is_untrusted(error):
                raise Stalled(
                    "DashboardUntrusted",
                    f"{url} shows a certificate that is not trusted ({error}); set ray.ca_file to "
                    "the CA that signed it",
                ) from error
            raise Waiting(
                "DashboardUnreachable",
                f"no Ray dashboard answers at {url} ({error}); is the head running? Start it "
                "(`systemctl start wheelway-ray-head`, or `wheelway up`), or set ray.dashboard_url",
            ) from error
        if response.is_success or response.status_code == refusal:
            return response
        raise self._failure(response)

    def _failure(self, response: httpx.Response) -> WheelwayError:
        url, status, text = self._client.base_url, response.status_code, response.text
        if status in {401, 403}:
            return Stalled(
                "DashboardUnauthorized",
                f"the Ray dashboard at {url} wants a valid token ({status}); put it into a file "
                "(`ray get-auth-token` prints it) and set ray.token_file",
            )
        if status in {404, 501}:
            return Stalled(
                "ServeUnavailable",
                f"the Ray head at {url} has no Serve API ({status}: {_last_line(text)}); install "
                "ray[default,serve] for the interpreter that runs Ray and restart Ray; or set "
                "ray.dashboard_url, if that is no Ray dashboard",
            )
        if "cannot bind socket" in text:
            return Transient(
                "IngressPortTaken",
                "Ray could not start the Serve ingress: another process holds its port, most "
                "likely an HAProxy that a former `ray stop` left behind. `ss -ltnp` names it: end "
                f"it, or give Serve another port in [serve] http_options. Ray: {_last_line(text)}",
            )
        if status >= 500 or status == 429:
            return Transient(
                "DashboardFailed",
                f"the Ray dashboard at {url} failed ({status}): {_last_line(text)}",
                retry_after=retry.asked_for(
                    response.headers.get("retry-after", ""), now=time.time(), most=LONGEST_BLINDNESS
                ),
            )
        return self._stranger(f"it answered {status}")

    def _stranger(self, why: str) -> Stalled:
        return Stalled(
            "DashboardUnexpected",
            f"what answers at {self._client.base_url} is not a Ray dashboard (or one before Ray "
            f"2.60, or a proxy in front of it): {why[:300]}; set ray.dashboard_url",
        )


def client_options(options: RayOptions) -> dict[str, Any]:
    """How any client of httpx talks to the configured dashboard; raises Stalled where its CA file
    cannot be used.
    """
    return {
        "base_url": options.dashboard_url,
        "auth": _bearer(options.token_file) if options.token_file else None,
        "verify": True if options.ca_file is None else authorities(options.ca_file),
        # Neither proxies nor credentials of the environment are meant for the cluster. And the
        # dashboard hides env_vars from what looks like a browser.
        "trust_env": False,
        "headers": {"User-Agent": "wheelway"},
        "limits": NO_REUSE,
    }


def authorities(ca_file: Path, *, and_public: bool = False) -> ssl.SSLContext:
    """Those of a file, alone or besides the public ones; raises Stalled."""
    try:
        context = ssl.create_default_context(cafile=None if and_public else str(ca_file))
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Stalled("CertificateUnreadable", f"ray.ca_file {ca_file}: {error}") from error
    return context


def _bearer(path: Path) -> Callable[[httpx.Request], httpx.Request]:
    """`Authorization: Bearer` (RFC 6750) with the content of a file, read for each request."""

    def authorized(request: httpx.Request) -> httpx.Request:
        try:
            token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Stalled(
                "TokenUnreadable", f"ray.token_file {path} cannot be read: {error}"
            ) from error
        if not token or not token.isprintable():
            raise Stalled("TokenUnreadable", f"ray.token_file {path} holds no token")
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorized


def _json(value: Mapping[str, JSON]) -> str:
    """JSON as Python reads it at the other end: others' applications may hold an infinity."""
    return json.dumps(value, separators=(",", ":"))


# -- what answers say ----------------------------------------------------------------------------


def table(value: JSON) -> dict[str, Any]:
    """A table of an answer; empty where something else stands."""
    return value if isinstance(value, dict) else {}


def rows(value: JSON) -> list[dict[str, Any]]:
    """The tables in a list of an answer; none where something else stands."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _refusal(text: str, config: Mapping[str, JSON]) -> str:
    """Pydantic's report without its links and input dumps, positions as names; otherwise the last
    line of a traceback.
    """
    if "validation error" not in text:
        return _last_line(text)
    lines = [
        re.sub(r" \[type=.*\]$", "", line.strip()).removeprefix("Value error, ")
        for line in text.splitlines()[1:]
        if "For further information" not in line
    ]
    names = dict(enumerate(one["name"] for one in config["applications"]))

    def name(found: re.Match[str]) -> str:
        number = int(found[1])
        return f"application {names.get(number, number)!r}, "

    return re.sub(r"applications\.(\d+)\.", name, "; ".join(filter(None, lines)))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"
