"""When the replicas of a part are kept although Serve has none left for its calls."""

import asyncio
from types import SimpleNamespace

import pytest

from tests.support.asking import until
from wheelway import draining

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

NOBODY = SimpleNamespace(running_replicas=[], is_available=True)
SOMEBODY = SimpleNamespace(running_replicas=["a replica"], is_available=True)


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Handle:
    """Of a part; tells whether its replicas are held."""

    deployment_id = "a part"
    app_name = "an application"
    held = False

    def broadcast(self, _method):
        return self

    async def results_async(self, **_):
        self.held = True
        try:
            await asyncio.Event().wait()
        finally:
            self.held = False


class Router:
    """What a handle knows of replicas."""

    deployment_id = Handle.deployment_id

    def __init__(self):
        self.known = None

    def running_replicas_populated(self):
        return self.known is not None


@pytest.fixture
def part(monkeypatch):
    """A handle and its router, which has been told of a replica; how Serve tells it more."""
    monkeypatch.setattr(draining, "_PAUSE", 0.01)
    handle, router = Handle(), Router()
    monkeypatch.setitem(draining._handles, handle.deployment_id, handle)

    def update(router, info):
        router.known = info.running_replicas

    tell = draining._keeping(update)
    yield handle, router, lambda info: tell(router, info)
    draining._tasks.clear()


async def test_they_are_held_while_their_application_is_deleted(part, monkeypatch):
    handle, router, tell = part
    monkeypatch.setattr(draining, "_is_deleted", lambda _: True)
    tell(NOBODY)  # as a part that starts
    assert router.known == []
    tell(SOMEBODY)
    tell(NOBODY)
    await until(lambda: handle.held)
    tell(NOBODY)
    await asyncio.sleep(0.1)
    assert router.known == SOMEBODY.running_replicas
    assert handle.held


async def test_they_are_forgotten_where_they_died_or_were_scaled_away(part, monkeypatch):
    handle, router, tell = part
    monkeypatch.setattr(draining, "_is_deleted", lambda _: False)
    tell(SOMEBODY)
    tell(NOBODY)
    await until(lambda: router.known == [])
    await until(lambda: not handle.held)


async def test_new_ones_take_their_place_at_once(part, monkeypatch):
    handle, router, tell = part
    monkeypatch.setattr(draining, "_is_deleted", lambda _: True)
    tell(SOMEBODY)
    tell(NOBODY)
    await until(lambda: handle.held)
    other = SimpleNamespace(running_replicas=["another"], is_available=True)
    tell(other)
    assert router.known == ["another"]
    await until(lambda: not handle.held)
