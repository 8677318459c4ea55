"""The endpoints of a release, asked as an ASGI application or through a real server."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import asynccontextmanager

import httpx
import uvicorn

from wheelway.asgi import Application
from wheelway.contract import Release
from wheelway.execution import Runtime, context_of
from wheelway.limits import Limits

RELEASE = Release("greeter", "1.0+cu1", "ab" * 32, "cd" * 32, "0.1.0", "greeter-1.0-ab")
ROUTE = "/predict/greeter/1.0+cu1"
LOGGER = logging.getLogger("test.wheelway")


async def application(pipeline, settings=None, limits=None, *, echo_request_id=True, **options):
    runtime = Runtime(pipeline, context_of(pipeline, RELEASE, settings or {}, LOGGER), **options)
    await runtime.start()
    app = Application(RELEASE, LOGGER, echo_request_id=echo_request_id, on_shutdown=runtime.unload)
    app.serve(runtime, limits or Limits())
    return app, runtime


def client_of(app):
    transport = httpx.ASGITransport(app, root_path=ROUTE)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@asynccontextmanager
async def asking(pipeline, settings=None, limits=None, **options):
    app, runtime = await application(pipeline, settings, limits, **options)
    async with client_of(app) as client:
        yield client
    await runtime.unload()


@asynccontextmanager
async def serving(app, **options):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", **options))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        yield listener.getsockname()[1]
        server.should_exit = True
        await asyncio.wait_for(task, 60)


async def until(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.005)


async def acquire(semaphore, times=1):
    for _ in range(times):
        await until(lambda: semaphore.acquire(blocking=False))


def assert_problem(response, status, reason):
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    problem = response.json()
    assert problem["reason"] == reason
    assert problem["status"] == status
    assert problem["instance"] == response.headers["x-request-id"]
    assert {"type", "title", "detail"} <= set(problem)
    assert response.headers["x-wheelway-release"] == "greeter@1.0+cu1+abababab"
    return problem
