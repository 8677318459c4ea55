"""Asks the Serve ingress which release answers at a route.

This is the one proof that a release is live: Serve reports RUNNING some hundred milliseconds before
the ingress routes to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import httpx

from controller.exchange import answer, document, exchange, is_untrusted, own_client
from controller.observed import Answer, WeightsError
from controller.serve.dashboard import authorities

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Iterable, Mapping

    from controller.config.settings import RayOptions
    from controller.model import JSON
    from controller.observed import Application

HEADER = "x-wheelway-release"
WEIGHTS = "x-wheelway-weights"
_UNREACHED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL)
_SERVES_OWN = "/-/routes"
"""What Serve's own 404 points to."""
_STRANGE = (
    "another program answers there than the ingress of this head, or that has no routes yet "
    "({answer.status}: {answer.detail})"
)
_ROUTELESS = (
    "the ingress there is Serve's, and has no route at all ({answer.status}: {answer.detail}): it "
    "has just started, or is that of another head"
)
_SILENT = "no answer came ({answer.detail}), nor does it show the routes of this head"
_PATH = "/+!:@$&'()*,;=~"
"""What a path may hold unencoded (RFC 3986, 3.3): HAProxy compares paths as they are sent."""
_LONGEST_TEXT = 16_000
"""Characters of what a replica tells of a failure: hosts say less, and it is written down."""
LARGEST_ANSWER = 16 * 2**20
"""Bytes of an answer: a release's metadata with its schemas and examples."""


class Ingress:
    """The ingress of one cluster.

    Every probe is a connection of its own: while HAProxy hands over to its successor, a connection
    that is kept alive is still answered by the old process with the old routes.
    """

    def __init__(
        self, url: str, timeout: float = 2.0, *, verify: ssl.SSLContext | bool = True
    ) -> None:
        """`url` is the base URL; `timeout` is in seconds, for each probe and its whole answer;
        `verify` is what is trusted when it is https.
        """
        self._url = url.rstrip("/")
        self._timeout = timeout
        # One client, as its TLS context costs more than a probe; no connection is kept.
        headers = {"Accept": "application/json", "Connection": "close"}
        self._client = own_client(verify=verify, headers=headers)

    @classmethod
    def connect(cls, options: RayOptions) -> Self:
        """The configured ingress, with a certificate of the authority in `ca_file`, as the
        dashboard has, or of a public one; raises Stalled where the file cannot be used.
        """
        ca_file = options.ingress_ca_file
        verify = True if ca_file is None else authorities(ca_file, and_public=True)
        return cls(options.ingress_url, verify=verify)

    def close(self) -> None:
        """End what is still open."""
        self._client.close()

    def vouched(
        self, answers: Mapping[str, Answer], applications: Iterable[Application]
    ) -> dict[str, Answer]:
        """The answers; those that are not this head's are marked as not reached (see `vouched`)."""
        names = {app.name for app in applications}
        if all(not said.reached or said.application in names for said in answers.values()):
            return dict(answers)
        return vouched(answers, names, self._table())

    def _table(self) -> dict[str, str] | None:
        """The ingress's application by route; None where it does not show them.

        Both of Serve's proxies answer so (`/-/routes`); 503 as long as they know of none.
        """
        url = f"{self._url}{_SERVES_OWN}"
        response = answer(self._client, url, seconds=self._timeout, limit=LARGEST_ANSWER)
        if response is None or response.is_server_error:
            return {}
        if not response.is_success:
            return None
        return _texts(_object(response))

    def probe(self, route: str) -> Answer:
        """`GET` the metadata at a route. Never raises: no answer is an answer without a status."""
        url = f"{self._url}{quote(route, safe=_PATH)}"
        try:
            response = exchange(
                self._client, "GET", url, seconds=self._timeout, limit=LARGEST_ANSWER
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            detail = f"{type(error).__name__}: {error}".rstrip(": ")
            if is_untrusted(error):
                detail += "; set ray.ca_file to the CA that signed it"
            reached = not isinstance(error, _UNREACHED)
            return Answer(header=None, status=None, reached=reached, detail=detail)
        said = _object(response)
        metadata = _texts(said)
        return Answer(
            header=response.headers.get(HEADER),
            status=response.status_code,
            detail="" if response.is_success else _shortened(response.text),
            application=metadata.get("application", ""),
            settings_error=metadata.get("settings_error", ""),
            failing=metadata.get("failing", ""),
            weights=response.headers.get(WEIGHTS, ""),
            weights_error=_weights_error(said.get("weights_error")),
            replica=metadata.get("replica", ""),
        )


def vouched(
    answers: Mapping[str, Answer], names: Collection[str], table: Mapping[str, str] | None
) -> dict[str, Answer]:
    """The answers; those that are not this head's are marked as not reached. Then another server
    has its address, or the ingress is just starting and does not know its routes yet.

    Args:
        answers: by route.
        names: of the head's applications, as its dashboard reports them.
        table: the ingress's own, application by route; None where it is not shown.
    """
    shows_ours = table is not None and not set(names).isdisjoint(table.values())

    def judged(answer: Answer) -> Answer:
        serves = answer.status == httpx.codes.NOT_FOUND and _SERVES_OWN in answer.detail
        is_known = shows_ours if table is not None else answer.header is not None or serves
        if not answer.reached or answer.application in names or is_known:
            return answer
        routeless = table == {} and serves
        why = _SILENT if answer.status is None else _ROUTELESS if routeless else _STRANGE
        detail = why.format(answer=answer)
        return replace(answer, reached=False, routeless=routeless, detail=detail)

    return {route: judged(answer) for route, answer in answers.items()}


def _object(response: httpx.Response) -> dict[str, JSON]:
    """An object of JSON; empty of anything else."""
    try:
        said = document(response)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _texts(said: Mapping[str, JSON]) -> dict[str, str]:
    """What an object says in text."""
    return {key: value for key, value in said.items() if isinstance(value, str)}


def _weights_error(said: JSON) -> WeightsError | None:
    if not isinstance(said, dict):
        return None
    texts = _texts(said)
    if not {"digest", "reason", "message"} <= texts.keys():
        return None
    named = texts["digest"], texts["reason"], texts["message"][:_LONGEST_TEXT]
    return WeightsError(*named, texts.get("tail", "")[:_LONGEST_TEXT])


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:197]}..."
