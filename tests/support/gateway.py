"""A gateway, its HAProxy real, in front of an ingress that a test has in hand."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import httpx

from controller.config.gateway import GatewayOptions
from controller.gateway import process
from controller.gateway.commit import commit
from controller.gateway.configuration import Cluster, Files, files
from controller.gateway.routing import Route, Routes, Table, table
from tests.support.indexes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BINARY = process.find(None, Path(sys.executable))
RELEASE = "x-wheelway-release"


def routes(*keys: str, clusters: tuple[str, ...] = ("ray",), **more: Any) -> Routes:
    """Those of releases by their keys, on all clusters."""
    of = (key.split("/") for key in keys)
    made = tuple(
        Route(name, version, f"/predict/{name}/{version}", clusters) for name, version in of
    )
    return Routes(clusters, made, **more)


class Ingress(ThreadingHTTPServer):
    """Answers for every release below /predict, and tells what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str = "ray", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.name = name
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[int, dict[str, str], str] | str] = {}
        """By path: a status, headers and a body; or `break`, `hang`, `stream`, `upgrade`."""
        self.go_on, self.left = threading.Event(), threading.Event()
        """What a stream waits for after its first piece; that a client of `hang` has left."""
        self.routes = '{"/predict/iris/1.0":"iris"}'
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that HAProxy ends is none."""

    def end(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Ingress

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/-/"):
            self._send(200, {}, self.server.routes)
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = {"method": self.command, "path": self.path, "headers": headers, "body": body}
        self.server.asked.append(asked)
        answer = self.server.answers.get(self.path)
        if isinstance(answer, str):
            self.close_connection = True
            getattr(self, f"_{answer}")()
            return
        if isinstance(answer, tuple):
            self._send(*answer)
            return
        release = "@".join(self.path.partition("?")[0].split("/")[2:4])
        self._send(200, {RELEASE: release}, json.dumps({**asked, "by": self.server.name}))

    do_POST = do_PUT = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _break(self) -> None:
        pass

    def _hang(self) -> None:
        try:
            while self.connection.recv(65536):
                pass
        except ConnectionError:
            pass
        self.server.left.set()

    def _stream(self) -> None:
        self._begin(200, {RELEASE: "iris@1.0", "transfer-encoding": "chunked"})
        self.wfile.write(b"3\r\none\r\n")
        self.wfile.flush()
        self.server.go_on.wait(60)
        self.wfile.write(b"3\r\ntwo\r\n0\r\n\r\n")

    def _upgrade(self) -> None:
        accepted = {"connection": "Upgrade", "upgrade": "websocket"}
        # To the key of RFC 6455, 1.3.
        accepted["sec-websocket-accept"] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        self._begin(101, {RELEASE: "iris@1.0", **accepted})
        self.wfile.flush()
        while piece := self.connection.recv(65536):
            self.connection.sendall(piece)

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, headers: dict[str, str], body: str) -> None:
        self._begin(status, {"content-length": str(len(body)), **headers})
        self.wfile.write(b"" if self.command == "HEAD" else body.encode())


@dataclass
class Front:
    """A gateway that runs, and a client of it."""

    folder: Path
    options: GatewayOptions
    clusters: list[Cluster]
    running: process.Gateway
    client: httpx.Client
    template: Path | None = None
    LONGEST: ClassVar = 60.0
    tables: list[Table] = field(default_factory=list)

    @property
    def url(self) -> str:
        scheme = "https" if self.options.tls_certificate else "http"
        return f"{scheme}://{self.options.listen}"

    def put(self, of: Routes) -> Table:
        """Commit a table."""
        made = table(of)
        commit(made, self.folder, self.running.admin)
        self.tables.append(made)
        return made

    def get(self, path: str, method: str = "GET", **more: Any) -> httpx.Response:
        return self.client.request(method, self.url + path, **more)

    def renew(self) -> bool:
        """Have it serve by its options, and the files that they name, as they are now."""
        return self.running.renew(made_of(self.options, self.clusters, self.template))


def made_of(
    options: GatewayOptions, clusters: list[Cluster], template: Path | None = None
) -> Files:
    return files(
        options, clusters, longest_request=Front.LONGEST, descriptors=4000, override=template
    )


def place(
    options: GatewayOptions, clusters: list[Cluster], folder: Path, template: Path | None = None
) -> None:
    process.put_in_place(made_of(options, clusters, template), BINARY, folder)


@contextmanager
def running(
    folder: Path, *ingresses: Ingress, template: Path | None = None, verify: Any = True, **said: Any
) -> Iterator[Front]:
    """A gateway with these options in front of these ingresses."""
    folder.mkdir(exist_ok=True)
    options = GatewayOptions(**{"listen": f"127.0.0.1:{free_port()}", **said})
    clusters = [Cluster(one.name, one.url) for one in ingresses]
    place(options, clusters, folder, template)
    gateway = process.start(BINARY, folder)
    try:
        # A kept connection would stay with the worker that was there before a reload.
        fresh = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(trust_env=False, timeout=60, verify=verify, limits=fresh) as client:
            yield Front(folder, options, clusters, gateway, client, template)
    finally:
        gateway.end(5)


def until(what: Callable[[], Any], seconds: float = 90) -> Any:
    """What comes true; fails after a time in which it would on any machine."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
    return found


def digest(key: str) -> str:
    """Of an API key, as its file has it."""
    return hashlib.sha256(key.encode()).hexdigest()


class Load:
    """Requests one after another by several clients; what became of each."""

    def __init__(self, front: Front, paths: list[str], clients: int = 4) -> None:
        self.failed: list[str] = []
        self.seen: list[str] = []
        self._front, self._paths, self._over = front, paths, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def more(self, count: int) -> None:
        """Wait for so many answers more."""
        goal = len(self.seen) + len(self.failed) + count
        until(lambda: len(self.seen) + len(self.failed) >= goal)

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not self._over.is_set():
                for path in self._paths:
                    try:
                        answer = client.post(self._front.url + path, content=b"{}")
                    except httpx.HTTPError as error:
                        self.failed.append(repr(error))
                        continue
                    if answer.status_code == 200:
                        self.seen.append(answer.headers[RELEASE])
                    else:
                        self.failed.append(answer.text)
