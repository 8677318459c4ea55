"""The stand-in itself: a threaded HTTP server on loopback, and a record of what it was asked."""

from __future__ import annotations

import shlex
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, Self

import boto3

from tests.support.codeartifact.access import Access
from tests.support.codeartifact.api import Api
from tests.support.codeartifact.events import event
from tests.support.codeartifact.faults import Fault, Schedule
from tests.support.codeartifact.packages import PackageEndpoint
from tests.support.codeartifact.shelf import Address, Shelf
from tests.support.codeartifact.wire import Answer, Asked, Refused, Request, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.codeartifact.events import Event
    from tests.support.codeartifact.shelf import Change


@cache
def _session() -> boto3.Session:
    """Shared for the models it has read: the first client takes a hundred times as long."""
    return boto3.Session()


class Endpoint(Protocol):
    """One of the two interfaces of a repository."""

    def read(self, request: Request) -> Asked: ...
    def authorize(self, request: Request) -> None: ...
    def answer(self, asked: Asked, request: Request, fault: Fault) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was answered."""

    asked: Asked
    status: int
    size: int
    """Bytes of the body that was sent."""

    @property
    def operation(self) -> str:
        return self.asked.operation


class StandIn:
    """One repository of a domain. A context manager that serves until it is left.

    Args:
        address: what it is called.
        page_size: the most items on a page of a listing; may be set at any time.
        port: to listen on; 0 for any.
        clock: seconds since the epoch, for publication and the life of tokens.

    `shelf` is what it holds, `access` who may ask, `inject` and `heal` what goes wrong. `bugs` are
    the stand-in's own; its end raises them.
    """

    def __init__(
        self,
        address: Address | None = None,
        *,
        page_size: int = 1000,
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address = address or Address()
        self._clock = clock
        self._mutex = threading.Lock()
        self._page_size = page_size
        self._server = _Server(self, port)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.packages_url = f"{self.url}/pypi/{self.address.repository}/"
        self._begin()
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="codeartifact", daemon=True
        ).start()

    def _begin(self) -> None:
        self.ending = threading.Event()
        self.shelf = Shelf(self.address, self._clock)
        self.access = Access(self.address.region, self._clock)
        self.calls: list[Call] = []
        self._numbers = count(1)
        self.bugs: list[Exception] = []
        self._schedule = Schedule()
        self.inject = self._schedule.inject
        self.heal = self._schedule.heal
        self._api = Api(self.shelf, self.access, self.packages_url, self._page_size)
        self._packages = PackageEndpoint(self.shelf, self.access)

    def reset(self) -> None:
        """Be as at the beginning; what is under way is cut.

        Raises:
            ExceptionGroup: as `close`.
        """
        self.ending.set()
        self._server.cut()
        self._tell_bugs()
        self._begin()

    # -- clients ---------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 and the AWS command line need."""
        credentials = self.access.credentials
        return {
            "AWS_ENDPOINT_URL_CODEARTIFACT": self.url,
            "AWS_REGION": self.address.region,
            "AWS_DEFAULT_REGION": self.address.region,
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_SESSION_TOKEN": credentials.token,
        }

    def publishing(self) -> dict[str, str]:
        """What `twine upload` and `uv publish` need, with a new token."""
        token, _ = self.access.issue()
        return {
            "TWINE_REPOSITORY_URL": self.packages_url,
            "TWINE_USERNAME": "aws",
            "TWINE_PASSWORD": token,
            "UV_PUBLISH_URL": self.packages_url,
            "UV_PUBLISH_USERNAME": "aws",
            "UV_PUBLISH_PASSWORD": token,
        }

    def exports(self) -> str:
        """All of this for a shell to read; uv finds the packages, too."""
        told = self.environment | self.publishing() | {"UV_INDEX": self.index_url()}
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in told.items())

    def index_url(self) -> str:
        """The simple index for uv and pip, with a new token in it."""
        token, _ = self.access.issue()
        return f"{self.packages_url}simple/".replace("://", f"://aws:{token}@", 1)

    def client(self, **options: Any) -> Any:
        """A boto3 client with the credentials of now; `options` go before its own."""
        credentials = self.access.credentials
        mine = {
            "endpoint_url": self.url,
            "region_name": self.address.region,
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.token,
        }
        return _session().client("codeartifact", **(mine | options))

    # -- what a test wants to know or to have ----------------------------------------------------

    @property
    def page_size(self) -> int:
        return self._api.page_size

    @page_size.setter
    def page_size(self, items: int) -> None:
        self._api.page_size = items

    def asked(self, operation: str | None = None) -> list[Call]:
        """The calls so far, or those of one operation."""
        with self._mutex:
            return [call for call in self.calls if operation in {None, call.operation}]

    def subscribe(self, receive: Callable[[Event], None]) -> None:
        """Hand the event of every change from now on to a receiver; see `events.to_queue`."""

        def tell(change: Change) -> None:
            number = next(self._numbers)
            receive(event(change, self.address, number=number, moment=self._clock()))

        self.shelf.listeners.append(tell)

    def close(self) -> None:
        """End, cutting what is under way.

        Raises:
            ExceptionGroup: the stand-in itself was wrong in answering something.
        """
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()
        self._tell_bugs()

    def _tell_bugs(self) -> None:
        if self.bugs:
            raise ExceptionGroup("the stand-in of CodeArtifact failed", self.bugs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- answering -------------------------------------------------------------------------------

    def respond(self, request: Request) -> tuple[Answer, Fault]:
        """The answer to a request, and what happens to it on its way."""
        asked, fault = Asked(), Fault()
        endpoint: Endpoint = self._packages if request.path.startswith("/pypi/") else self._api
        try:
            asked = endpoint.read(request)
            endpoint.authorize(request)
            fault = self._schedule.due(asked.operation, asked.params.get("package", ""))
            fault.strike(f"codeartifact:{asked.operation}", self.address.arn(asked.params))
            answer = endpoint.answer(asked, request, fault)
        except Refused as refused:
            answer = refusal(refused)
        except Exception as error:  # noqa: BLE001 - a bug here must be seen in the test's own thread
            self.bugs.append(error)
            answer = refusal(Refused("InternalServerException", f"{type(error).__name__}: {error}"))
        with self._mutex:
            self.calls.append(Call(asked, answer.status, len(fault.spoiled(answer.body))))
        return answer, fault


class _Server(ThreadingHTTPServer):
    """Knows its connections, so that an end is an end for those that are kept alive, too."""

    def __init__(self, standin: StandIn, port: int) -> None:
        self.standin = standin
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):  # a client went away
            self.standin.bugs.append(error)

    def cut(self) -> None:
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def do_GET(self) -> None:
        if "Transfer-Encoding" in self.headers:  # no client of this service needs it
            self.send_error(411)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, self.headers, body)
        self._send(*self.server.standin.respond(request))

    do_POST = do_HEAD = do_GET  # noqa: N815 - the names that http.server asks for

    def _send(self, answer: Answer, fault: Fault) -> None:
        body = fault.spoiled(answer.body)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if fault.announced:
            self.send_header("Content-Length", str(len(answer.body)))
        if not fault.announced or len(body) < len(answer.body):
            self.send_header("Connection", "close")  # which http.server then does as well
        self.end_headers()
        if self.command == "HEAD":
            return
        for pause, portion in fault.portions(body):
            if pause:
                self.wfile.flush()
                if self.server.standin.ending.wait(pause):
                    return
            self.wfile.write(portion)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is overridden
        """Calls are recorded, not printed."""
