"""A stand-in of a Ray cluster: Serve's part of the dashboard and the ingress, on one loopback port.

For tests of the daemon's whole loop that are not about Ray: whatever is PUT runs at once, and
answers at its route. Bodies have the shape that Ray 2.60 sends
(ray.serve.schema.ServeInstanceDetails).
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from controller.serve.application import release_of
from controller.serve.dashboard import APPLICATIONS
from controller.serve.ports import Ports

if TYPE_CHECKING:
    from collections.abc import Mapping

Document = dict[str, Any]


class ClusterStandIn:
    """A context manager that serves until it is left. Takes the place of a `controller.serve.Head`.

    `puts` are the configs that came, oldest first.
    """

    def __init__(self) -> None:
        self.puts: list[Document] = []
        self._mutex = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="cluster", daemon=True
        )
        self.ports = Ports(ingress=self._server.server_port)
        self.dashboard_url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # -- what it answers -------------------------------------------------------------------------

    def apply(self, config: Document) -> None:
        """A PUT: these applications and no others."""
        with self._mutex:
            self.puts.append(config)

    def documents(self) -> list[Document]:
        """The applications that run."""
        with self._mutex:
            return self.puts[-1]["applications"] if self.puts else []

    def details(self) -> Document:
        return {
            "proxy_location": "HeadOnly",
            "applications": {one["name"]: _reported(one) for one in self.documents()},
        }

    def at(self, route: str) -> tuple[int, Document, Mapping[str, str]]:
        """What the ingress answers at a route: status, body, headers."""
        for document in self.documents():
            release = release_of(document)
            if release is not None and document["route_prefix"] == route:
                return (
                    200,
                    {"application": document["name"]},
                    {"x-wheelway-release": release.header},
                )
        return 404, {}, {}


def _reported(document: Document) -> Document:
    replica = {"state": "RUNNING", "pid": 1}
    return {
        "name": document["name"],
        "route_prefix": document["route_prefix"],
        "status": "RUNNING",
        "message": "",
        "deployed_app_config": document,
        "source": "declarative",
        "deployments": {
            one["name"]: {"status": "HEALTHY", "message": "", "replicas": [replica]}
            for one in document["deployments"]
        },
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, cluster: ClusterStandIn) -> None:
        self.cluster = cluster
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def do_GET(self) -> None:
        cluster, path = self.server.cluster, unquote(self.path.partition("?")[0])
        if path == APPLICATIONS:
            self._answer(200, cluster.details())
        elif path == "/api/version":
            self._answer(200, {"ray_version": version("ray"), "session_name": "stand-in"})
        else:
            self._answer(*cluster.at(path))

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.cluster.apply(json.loads(body))
        self._answer(200, {})

    def _answer(
        self, status: int, body: Document, headers: Mapping[str, str] | None = None
    ) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is overridden
        """Says nothing."""
