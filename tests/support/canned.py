"""A real HTTP server on loopback that answers with what a test put into it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Canned(ThreadingHTTPServer):
    """Answers with what was put into `answers`, and keeps what it was asked, and when.

    An answer "hang" says nothing before `release` is set; "drip" sends a header and then a byte of
    another every 10 ms until then, "trickle" the same with a body, "flood" a body without end. Of a
    list each is given once, the last one for ever.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Canned)
        self.answers = {}
        self.asked = []
        self.asked_at = []
        self.release = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def says(self, path, body, status=200, **headers):
        text = body if isinstance(body, str) else json.dumps(body)
        self.answers[path] = (status, text.encode(), headers)

    def bodies(self):
        """What was sent to it, as JSON documents."""
        return [json.loads(body) for *_, body in list(self.asked)]


class _Canned(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked_at.append(time.monotonic())
        self.server.asked.append((self.command, self.path, headers, body))
        answer = self.server.answers.get(self.path)
        if answer is None:
            answer = self.server.answers.get(self.path.partition("?")[0], (404, b"not here", {}))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if answer == "hang":
            self.server.release.wait(120)
            self.close_connection = True
            return
        if answer in ("drip", "trickle", "flood"):  # not a set: others have no hash
            self._goes_on(answer)
            return
        status, content, headers = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _goes_on(self, how):
        self.send_response(200)
        self.send_header("x-wheelway-release", "iris@1.0+aaaaaaaa")
        if how == "drip":
            self.wfile.write(b"".join(self._headers_buffer) + b"x-more: ")
        else:
            self.send_header("connection", "close")
            self.end_headers()
        self.close_connection = True
        chunk = b"x" * (1 if how != "flood" else 1 << 16)
        with suppress(OSError):  # until whoever asked has had enough
            while not self.server.release.wait(0.01 if how != "flood" else 0):
                self.wfile.write(chunk)

    do_PUT = do_POST = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, *_):
        pass


@contextmanager
def canned():
    """A server that runs until the end of the block."""
    with Canned() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()
            thread.join()
