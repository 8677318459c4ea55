"""A dashboard that has the logs of replicas."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from packaging.version import Version

from controller.config.settings import RayOptions
from controller.model import Release

IRIS = Release("iris", Version("1.0"), "a" * 64)
PLACEMENT = "iris-1.0-0123abcd"
BUILT = f"serve/replica_{PLACEMENT}_Host_r1.log"
SECOND = f"serve/replica_{PLACEMENT}_Host_r2.log"
HEAD = f"{PLACEMENT}_Host"
FAILED = f"""\
ERROR 2026-11-28 12:00:02,500 {HEAD} r1 4711-ff -- request 4711-ff of {IRIS} failed
Traceback (most recent call last):
  File "pipeline.py", line 9, in infer
    return request["sepal"]
KeyError: 'sepal'
"""
FIRST = f"""\
INFO 2026-11-28 12:00:01,000 {HEAD} r1 -- loaded 3 models
{FAILED}INFO 2026-11-28 12:00:04,000 {HEAD} r1 4712-aa -- POST /predict/iris/1.0 200 3.1ms
"""
OTHER = f"INFO 2026-11-28 12:00:03,000 {HEAD} r2 4711-ffe -- this is another request\n"


class Logs(ThreadingHTTPServer):
    """Two nodes with logs, as the dashboard of Ray 2.60 tells them."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files = {"n1": {BUILT: FIRST}, "n2": {SECOND: OTHER}}
        self.running = {BUILT: "n1"}
        self.silent: set[str] = set()
        self.ending = threading.Event()
        self.cut = threading.Event()
        self.followed: list[str] = []
        self.sent: dict[str, str] = {}

    def end_streams(self):
        """As Ray does after some minutes."""
        self.followed.clear()
        self.cut.set()
        self.cut = threading.Event()

    @property
    def options(self):
        return RayOptions(dashboard_url=f"http://127.0.0.1:{self.server_address[1]}", timeout=5)

    def add(self, name, text):
        self.files["n1"][name] = self.files["n1"].get(name, "") + text


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(asked.query).items()}
        files = self.server.files.get(query.get("node_id"), {})
        if asked.path == "/api/v0/nodes":
            rows = [{"node_id": node, "node_ip": f"ip-{node}"} for node in self.server.files]
            self._say({"result": True, "data": {"result": {"result": rows}}})
        elif asked.path == "/api/v0/logs":
            if query["node_id"] in self.server.silent:
                self._say({"msg": "no agent"}, 500)
                return
            start = query["glob"].removesuffix("*")
            found = [name for name in files if name.startswith(start)]
            self._say({"result": True, "data": {"result": {"internal": found}}})
        elif asked.path == "/api/serve/applications/":
            replicas = [
                {"log_file_path": f"/{name}", "node_id": node, "node_ip": "x"}
                for name, node in self.server.running.items()
            ]
            replicas.append({"log_file_path": None, "node_id": "n1"})  # it was never ready
            application = {"deployments": {"Host": {"replicas": replicas}}}
            self._say({"applications": {PLACEMENT: application}})
        elif asked.path.endswith("file") and "interval" in query:
            self._say("Server got itself in trouble", 500)  # GetLogOptions of Ray's state_head.py
        elif query["filename"] not in files:
            self._say("A file is not found", 500)
        else:
            self._log(asked.path, query["filename"], files, int(query["lines"]))

    def _log(self, path, name, files, lines):
        text = files[name].splitlines(keepends=True)
        text = text if lines < 0 else text[-(lines or 1000) :]  # Ray takes 0 for its default
        if not path.endswith("stream"):
            self._say("".join(text))
            return
        sent, told = len(files[name]), bool(text)  # like Ray: nothing before something is logged
        self.server.followed.append(name)
        if told:
            self._begin("".join(text))
        whole, cut = files[name], self.server.cut
        while not (self.server.ending.wait(0.02) or cut.is_set()):
            if files[name].startswith(whole):  # else another has its name: Ray has this one open
                whole = files[name]
            more = whole[sent:]
            if more and not told:
                told = True
                self._begin("")
            self.wfile.write(more.encode())
            sent += len(more)
            self.server.sent[name] = whole[:sent]

    def _begin(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def _say(self, value, status=200):
        content = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving_logs():
    with Logs() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()
