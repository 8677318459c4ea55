"""Which connections a server of the API keeps, and which it closes for others."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from contextlib import ExitStack
from typing import Self

import pytest

from controller.api.listening import BACKLOG, BUSY, MOST, Server, loopback_socket
from tests.support.indexes import free_port

pytestmark = pytest.mark.unit


class Site:
    """A server whose `/slow` is answered once the test says so, and whose `/stuck` stops its loop
    until then.
    """

    def __init__(self) -> None:
        self._port = free_port()
        self.go_on = threading.Event()
        self.asked = threading.Semaphore(0)
        """Counts the requests that wait."""
        self._stack = ExitStack()

    async def __call__(self, scope, receive, send):
        del receive
        if scope["path"] in {"/slow", "/stuck"}:
            self.asked.release()
        if scope["path"] == "/stuck":
            self.go_on.wait(60)
        if scope["path"] == "/slow":
            await asyncio.to_thread(self.go_on.wait, 60)
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    def __enter__(self) -> Self:
        server = Server(self, loopback_socket("127.0.0.1", self._port))
        self._stack.callback(server.close)
        self._stack.callback(self.go_on.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def connect(self, path: str | None = None) -> socket.socket:
        """A connection, that asks for a path or nothing."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        self._stack.enter_context(connection)
        if path is not None:
            ask(connection, path)
        return connection


@pytest.fixture
def site():
    with Site() as site:
        yield site


def ask(connection: socket.socket, path: str = "/") -> None:
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())


def answered(connection: socket.socket) -> int:
    """The status of the answer."""
    return int(connection.recv(4096).split()[1])


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closed it; what it answered has been read."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable)


def working(site: Site, number: int) -> list[socket.socket]:
    """Connections whose requests wait for an answer."""
    connections = []
    for _ in range(number):
        connections.append(site.connect("/slow"))
        assert site.asked.acquire(timeout=60)
    return connections


def test_the_one_that_has_been_silent_for_longest_is_closed(site):
    connections = [site.connect() for _ in range(MOST)]
    ask(connections[0])
    assert answered(connections[0]) == 200
    assert answered(site.connect("/")) == 200
    assert [n for n, one in enumerate(connections) if is_closed(one)] == [1]


def test_a_new_connection_closes_one_other_however_many_have_become_silent(site):
    connections = working(site, MOST + 20)
    assert not any(map(is_closed, connections)), "they wait for their answers"
    site.go_on.set()
    assert [answered(one) for one in connections] == [200] * len(connections)
    assert answered(site.connect("/")) == 200
    assert sum(map(is_closed, connections)) == 1


def test_many_that_come_at_once_and_say_nothing_keep_nobody_out(site):
    for _ in range(MOST - 1):
        site.connect()
    stuck = site.connect("/stuck")
    assert site.asked.acquire(timeout=60)
    for _ in range(BACKLOG - 1):
        site.connect()
    monitor = site.connect("/")
    site.go_on.set()
    assert answered(stuck) == 200
    assert answered(monitor) == 200


def test_requests_are_refused_once_there_are_too_many_at_a_time(site):
    connections = working(site, BUSY - 1)
    assert answered(site.connect("/")) == 503
    site.go_on.set()
    assert [answered(one) for one in connections] == [200] * len(connections)
    assert BUSY == 100
