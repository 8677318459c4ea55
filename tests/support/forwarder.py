"""A TCP forwarder in front of a real server, that a test can close, mute, reopen and listen to."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 1 << 16


class Forwarder:
    """Forwards 127.0.0.1:`port` to another port there, byte for byte.

    `puts` counts the HTTP requests with method PUT that came. `after_put` is called with that count
    when the answer has arrived but nothing of it was given back, in the connection's thread, which
    waits for it; an OSError of its own cuts the connection.
    """

    def __init__(self, target: int) -> None:
        self.puts = 0
        self.after_put: Callable[[int], None] = lambda _: None
        self._target = target
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._heard = threading.Event()
        self._heard.set()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Refuse connections from now on, and cut those there are."""
        self._heard.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        self._threads.clear()

    def reopen(self) -> None:
        """Forward again, on the same port."""
        self._listener = self._listen(self.port)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Closed inside the block."""
        self.close()
        try:
            yield
        finally:
            self.reopen()

    @contextmanager
    def mute(self) -> Iterator[None]:
        """Inside the block connections are taken, and nothing that is asked goes on."""
        self._heard.clear()
        try:
            yield
        finally:
            self._heard.set()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        self._start(self._accept, listener)
        return listener

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="forwarder", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # closed
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._open |= {near, far}
            exchange = _Exchange()
            self._start(self._pump, near, far, lambda data, e=exchange: self._asked(data, e))
            self._start(self._pump, far, near, lambda data, e=exchange: self._answered(data, e))

    def _pump(
        self, source: socket.socket, sink: socket.socket, look: Callable[[bytes], None]
    ) -> None:
        with suppress(OSError):  # either side may go at any moment: that is what this is for
            while data := source.recv(CHUNK):
                look(data)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()

    def _asked(self, data: bytes, exchange: _Exchange) -> None:
        self._heard.wait(60)
        if data.startswith(b"PUT "):  # clients write a request's head at once
            with self._lock:
                self.puts += 1
                exchange.put = self.puts

    def _answered(self, data: bytes, exchange: _Exchange) -> None:
        del data
        if exchange.put is not None:
            number, exchange.put = exchange.put, None
            self.after_put(number)


class _Exchange:
    """One connection: the number of the PUT that is under way, if one is."""

    put: int | None = None
