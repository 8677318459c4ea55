"""A server on loopback that sends what a test tells it to, byte by byte, and no HTTP library's."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

HEAD = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n"


class Hostile(socketserver.ThreadingTCPServer):
    """`script` is called with each request's first line and what sends bytes; afterwards the
    connection waits for the next request, unless it says so by returning True. With `behind`, a
    URL, it is the proxy to that one whatever is asked for.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, tls=None):
        super().__init__(("127.0.0.1", 0), _Hostile)
        self.tls = tls
        self.script = None
        self.behind = None
        self.asked = []
        self.connections = 0
        self.sent = 0
        self.over = threading.Event()

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.server_address[1]}"

    def drips(self, *begin, drop=b" ", every=0.05):
        """Answers with the beginning, and then drops of it for ever."""

        def script(_line, send):
            for part in begin:
                send(part)
            while not self.over.wait(every):
                send(drop)

        self.script = script

    def floods(self, *begin, chunk=b"x" * 2**16):
        """The same without a pause."""
        self.drips(*begin, drop=chunk, every=0)


class _Hostile(socketserver.StreamRequestHandler):
    def setup(self):
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.connections += 1

    def handle(self):
        with suppress(OSError):  # whoever asked has had enough
            while line := self.rfile.readline().decode().strip():
                length = 0
                while header := self.rfile.readline().strip().lower():
                    if header.startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                self.rfile.read(length)
                self.server.asked.append(line)
                if self.server.behind:
                    self._tunnel()
                    return
                if self.server.script(line, self._send):
                    return

    def _tunnel(self):
        self._send(b"HTTP/1.1 200 X\r\n\r\n")
        with socket.create_connection(urlsplit(self.server.behind).netloc.split(":")) as far:
            threading.Thread(target=_pump, args=(far, self.request), daemon=True).start()
            _pump(self.request, far)

    def _send(self, content):
        self.request.sendall(content)
        self.server.sent += len(content)

    def finish(self):
        with suppress(OSError):
            super().finish()


def _pump(source, sink):
    with suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def hostile(authority=None):
    """A server that runs until the end of the block; with an authority it speaks TLS."""
    tls = None
    if authority is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    with Hostile(tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
