"""A head on loopback that runs nothing: Serve's REST API and the ingress, as the daemon sees them.

A PUT is kept and told again by GET exactly as it came. Time passes by observation: each GET of the
applications brings every build, start and deletion one step further. Like Serve it restarts a build
that a PUT interrupts, and forgets the document of what is being deleted. Everything it was asked is
kept, and it can fail in the ways that a real head does.
"""

from __future__ import annotations

import json
import platform
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from controller.serve.application import release_of
from controller.serve.dashboard import APPLICATIONS
from tests.support.paper_replicas import PaperReplica, fault, mark, said, started

if TYPE_CHECKING:
    from collections.abc import Callable

Reply = tuple[int, dict[str, str], str]
"""Status, headers, body."""


@dataclass
class _Served:
    document: dict[str, Any] | None
    route: str | None
    source: str = "declarative"
    building: int = 0
    starting: int = 0
    leaving: int | None = None
    """Observations until each is over."""
    replicas: list[PaperReplica] = field(default_factory=list)
    """Those that serve."""
    asked: int = 0


class PaperHead:
    """A running server; use it as a context. `puts` holds the configs that arrived, refused ones
    and those that nobody heard the answer of included; `asked` every request as "GET /path".
    """

    def __init__(self) -> None:
        self.building, self.starting, self.leaving = 1, 1, 1
        """Observations that a build, a start and a deletion take."""
        self.replicas, self.loading = 1, 1
        """How many each application has, and observations until one has loaded other weights."""
        self.refused_weights: dict[str, dict[str, str]] = {}
        """By version: reason and message of what replicas refuse."""
        self.failing: dict[str, str] = {}
        """By pipeline: what its replicas say while they fail to start."""
        self.failing_parts: dict[tuple[str, str], str] = {}
        """The same of parts, by a release's header and the part's name."""
        self.mute: set[str] = set()
        """Routes to which the ingress does not lead."""
        self.instead: Reply | Literal["nothing"] | None = None
        """What stands at the ingress's address in its place, and says this to everything."""
        self.said: dict[str, dict[str, str]] = {}
        """By route: what the metadata holds beside the application's name."""
        self.odd: dict[str, Any] = {}
        """What is said of every application in place of the truth."""
        self.rewrites: Callable[[dict[str, Any]], dict[str, Any]] = dict
        """How documents are reported, which were sent otherwise."""
        self.empty = False
        """Serve's controller cannot be asked: the answer is that of no Serve at all."""
        self.broken: set[str] = set()
        """Paths of the dashboard that fail while the others go on."""
        self.refusal = ""
        """Why each PUT is refused."""
        self.loses_answers = False
        """Each PUT is applied and the connection ends without a word."""
        self.on_put: Callable[[dict[str, Any]], None] | None = None
        """Called with what a PUT brings, before anything is done with it; when it raises, the head
        dies with the request: nothing is applied, nothing is answered."""
        self.session, self.ray = "session_1", version("ray")
        self.puts: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self._failure: Reply | None = None
        self._hanging: threading.Event | None = None
        self._served: dict[str, _Served] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        port = self._server.server_port
        self.dashboard_url = self.ingress_url = f"http://127.0.0.1:{port}"
        self.ports = SimpleNamespace(ingress=port)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.recovers()
        self._server.shutdown()
        self._server.server_close()

    # -- what happens to it ----------------------------------------------------------------------

    def fails(self, status: int, **headers: str) -> None:
        """The dashboard answers everything so; the ingress goes on."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._failure = (status, headers, "Traceback: the dashboard fails")

    def hangs(self) -> None:
        """The dashboard answers nothing any more."""
        self._hanging = threading.Event()

    def recovers(self) -> None:
        """It is well again."""
        self._failure, hanging, self._hanging = None, self._hanging, None
        if hanging is not None:
            hanging.set()

    def forgets(self) -> None:
        """As after a restart without its storage: nothing runs."""
        with self._lock:
            self._served.clear()

    def runs(self, name: str, route: str, *, declarative: bool = True) -> dict[str, Any]:
        """Somebody else's application, running; returns its document."""
        document = {"name": name, "route_prefix": route, "import_path": "their:app"}
        with self._lock:
            source = "declarative" if declarative else "imperative"
            self._served[name] = _Served(document if declarative else None, route, source)
        return document

    def replica_dies(self, pipeline: str) -> None:
        """One of each of its applications that serve; Serve starts another at once."""
        for app in self._served.values():
            release = release_of(app.document or {})
            if release is not None and release.pipeline == pipeline and app.replicas:
                app.replicas[-1].id += "'"

    def receives(self, *documents: dict[str, Any]) -> None:
        """Somebody else sends a config of these."""
        self._put({"applications": list(documents)})
        del self.puts[-1]

    def serves(self, route: str) -> bool:
        """Whether an application that is not about to go holds a route, and runs."""
        return any(
            app.route == route and self._status(app) == "RUNNING" for app in self._served.values()
        )

    def routes(self) -> dict[str, str | None]:
        """By name: the routes of all that is not about to go."""
        return {name: app.route for name, app in self._served.items() if app.leaving is None}

    def sent(self) -> list[dict[str, str | None]]:
        """Every PUT so far as names and routes."""
        return [
            {app["name"]: app["route_prefix"] for app in config["applications"]}
            for config in self.puts
        ]

    def looks(self) -> int:
        """How often the applications were asked for."""
        return self.asked.count(f"GET {APPLICATIONS}")

    # -- what it answers -------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: str, body: bytes) -> Reply | None:
        """The reply to a request; None: the connection ends without one."""
        self.asked.append(f"{method} {path}")
        if not path.startswith("/api/"):
            return self._at_the_ingress(unquote(path))
        if (hanging := self._hanging) is not None:
            hanging.wait(60)
            return None
        if self._failure is not None or path in self.broken:
            return self._failure or (500, {}, "Traceback: this part fails")
        if method == "PUT":
            return self._put(json.loads(body))
        if path == APPLICATIONS:
            with self._lock:
                return _json({"applications": {} if self.empty else self._observed()})
        facts = {
            "/api/version": {"ray_version": self.ray, "session_name": self.session},
            "/api/v0/cluster_metadata": {"data": {"pythonVersion": platform.python_version()}},
            "/api/v0/actors": _actors(alive="HAProxyManager" in query),
            "/api/cluster_status": _usage(used=1.0, total=16.0),
        }
        return _json(facts[path]) if path in facts else (404, {}, "not here")

    def _put(self, config: dict[str, Any]) -> Reply | None:
        self.puts.append(config)
        if self.on_put is not None:
            try:
                self.on_put(config)
            except Exception:  # noqa: BLE001 - whatever the test raises ends the head
                return None
        if self.refusal:
            return 400, {}, self.refusal
        with self._lock:
            for document in config["applications"]:
                self._apply(document)
            for name, app in self._served.items():
                ours = app.source == "declarative" and app.leaving is None
                if ours and name not in {document["name"] for document in config["applications"]}:
                    app.document, app.leaving = None, self.leaving
            self._served = {n: app for n, app in self._served.items() if app.leaving != 0}
        return None if self.loses_answers else (200, {}, "")

    def _apply(self, document: dict[str, Any]) -> None:
        before = self._served.get(document["name"])
        if before is None or before.leaving is not None:
            before = _Served(None, None, "declarative", self.building, self.starting)
            self._served[document["name"]] = before
        elif before.building:
            before.building = self.building
        before.document, before.route = document, document.get("route_prefix", "/")
        for replica in before.replicas:
            replica.told(said(document), self.loading)

    def _observed(self) -> dict[str, Any]:
        """What every application looks like now; then all of them take a step."""
        seen = {name: self._told(name, app) for name, app in self._served.items()}
        for app in self._served.values():
            if app.leaving is not None:
                app.leaving -= 1
            elif app.building:
                app.building -= 1
            elif app.starting:
                app.starting -= 1
            for replica in app.replicas:
                replica.steps(self.refused_weights)
        self._served = {name: app for name, app in self._served.items() if app.leaving != 0}
        return seen

    def _told(self, name: str, app: _Served) -> dict[str, Any]:
        status = self._status(app)
        deployments = {}
        if not app.building and app.leaving is None:
            state = "RUNNING" if status == "RUNNING" else "STARTING"
            failure = self._fault(app) if status == "DEPLOY_FAILED" else ""
            replicas = [
                {"state": state, "pid": 1, "replica_id": replica.id}
                for replica in self._replicas(name, app)
            ]
            starting = [{"state": state, "pid": 1, "replica_id": f"{name}#new"}]
            deployments["Host"] = {"message": failure, "replicas": replicas or starting}
            for part, count in self._parts(app):
                deployments[part] = {
                    "status": "HEALTHY" if state == "RUNNING" else "UPDATING",
                    "target_num_replicas": count,
                    "message": self._fault_of(app, part) if status == "DEPLOY_FAILED" else "",
                    "replicas": [{"state": state, "pid": 2 + n} for n in range(count)],
                }
        failed = "Failed to update the deployments ['Host']."
        return {
            "name": name,
            "route_prefix": app.route,
            "status": status,
            "message": failed if status == "DEPLOY_FAILED" else "",
            "deployed_app_config": self.rewrites(app.document) if app.document else None,
            "source": app.source,
            "deployments": deployments,
            **self.odd,
        }

    def _status(self, app: _Served) -> str:
        if app.leaving is not None:
            return "DELETING"
        if app.building or app.starting:
            return "DEPLOYING"
        of_parts = [self._fault_of(app, part) for part, _ in self._parts(app)]
        return "DEPLOY_FAILED" if self._fault(app) or any(of_parts) else "RUNNING"

    def _parts(self, app: _Served) -> list[tuple[str, int]]:
        """Deployments beside the pipeline's, and how many replicas each has."""
        told = ((app.document or {}).get("args") or {}).get("parts", {})
        deployments = (app.document or {}).get("deployments", ())
        return [
            (one["name"], one.get("num_replicas", 1)) for one in deployments if one["name"] in told
        ]

    def _fault_of(self, app: _Served, part: str) -> str:
        release = release_of(app.document or {})
        return self.failing_parts.get((release.header, part), "") if release else ""

    def _fault(self, app: _Served) -> str:
        release = release_of(app.document or {})
        if release is None:
            return ""
        failing = self.failing.get(release.pipeline, "")
        return failing or ("" if app.replicas else fault(said(app.document), self.refused_weights))

    def _replicas(self, name: str, app: _Served) -> list[PaperReplica]:
        """Those of an application that has started."""
        if not app.replicas and self._status(app) == "RUNNING":
            config = said(app.document)
            app.replicas = started(name, self.replicas, config, self.refused_weights)
        return app.replicas

    def _at_the_ingress(self, path: str) -> Reply | None:
        if self.instead is not None:
            return None if self.instead == "nothing" else self.instead
        with self._lock:
            return self._ingress(path)

    def _ingress(self, path: str) -> Reply:
        if path == "/-/routes":
            return self._table()
        for name, app in self._served.items():
            if app.route == path and path not in self.mute and self._status(app) == "RUNNING":
                release = release_of(app.document or {})
                headers = {"x-wheelway-release": release.header} if release else {}
                told = {"application": name} | self.said.get(path, {})
                if replicas := self._replicas(name, app) if release else []:
                    app.asked += 1
                    replica = replicas[app.asked % len(replicas)]
                    told |= replica.metadata()
                    if replica.serves:
                        headers["x-wheelway-weights"] = mark(replica.serves)
                return _json(told, headers)
        return 404, {}, "nobody is here"

    def _table(self) -> Reply:
        """As both of Serve's proxies: 503 as long as they lead nowhere."""
        running = {
            n: app.route for n, app in self._served.items() if self._status(app) == "RUNNING"
        }
        table = {route: name for name, route in running.items() if route}
        return _json(table) if table else (503, {}, "Route table is not populated yet.")


def _actors(*, alive: bool) -> dict[str, Any]:
    rows = [{"state": "ALIVE"}] if alive else []
    return {"data": {"result": {"result": rows}}}


def _usage(*, used: float, total: float) -> dict[str, Any]:
    usage = {"usage": {"CPU": [used, total]}}
    return {"data": {"clusterStatus": {"loadMetricsReport": usage}}}


def _json(value: object, headers: dict[str, str] | None = None) -> Reply:
    return 200, {"content-type": "application/json", **(headers or {})}, json.dumps(value)


def _handler(head: PaperHead) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # in one packet: what is acknowledged late would cost each pass 40 ms

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = urlsplit(self.path)
            reply = head.answer(self.command, url.path, url.query, body)
            if reply is None:
                self.close_connection = True
                return
            status, headers, text = reply
            with suppress(ConnectionError):  # who asked may have given up
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

        do_PUT = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    return Handler
