"""The way past Serve behind a real HAProxy, which goes to the ingress where it is refused."""

import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from controller.gateway.process import find
from tests.support.asking import LOGGER, RELEASE, ROUTE, application, until
from tests.support.indexes import free_port
from tests.support.pipelines import Echo
from wheelway.direct import Direct

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

CONFIG = """
global
    maxconn 200
    nbthread 1
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch 1
    retry-on conn-failure
    http-reuse safe
frontend gateway
    bind 127.0.0.1:{port}
    default_backend release
backend release
    http-response set-header x-by %s
    use-server direct if TRUE
    # None by weight: what is refused goes to the other.
    server direct unix@{path} weight 0
    server ingress 127.0.0.1:{ingress}
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@asynccontextmanager
async def ingress(app):
    """What takes Serve's place; its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await asyncio.wait_for(task, 60)


@asynccontextmanager
async def haproxy(**values):
    """Its port."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(find(None, Path(sys.executable)), "-db", "-f", "/dev/stdin"),
        stdin=subprocess.PIPE,
    )
    process.stdin.write(CONFIG.format(port=port, **values).encode())
    process.stdin.close()
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                assert process.returncode is None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break
        yield port
    finally:
        process.kill()
        await process.wait()


async def test_nobody_fails_while_a_replica_opens_its_socket_and_closes_it_under_load():
    app, runtime = await application(Echo)
    direct = Direct(app, "r1", LOGGER)
    ways, failures, ending = Counter(), [], asyncio.Event()

    async def ask(port):
        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            while not ending.is_set():
                answer = await client.post(f"http://127.0.0.1:{port}{ROUTE}", json=1)
                if answer.status_code == 200:
                    ways[answer.headers["x-by"]] += 1
                    assert answer.headers["x-wheelway-release"] == str(RELEASE)
                else:
                    failures.append((answer.status_code, answer.text))

    async def more(way):
        goal = ways[way] + 100
        await until(lambda: ways[way] >= goal or failures)

    with tempfile.TemporaryDirectory(prefix="ww-") as folder:
        path = Path(folder, "r1.sock")
        async with ingress(app) as other, haproxy(path=path, ingress=other) as port:
            async with asyncio.TaskGroup() as clients:
                for _ in range(8):
                    clients.create_task(ask(port))
                await more("ingress")
                for _ in range(3):
                    direct.want(folder)
                    await until(path.exists)
                    await more("direct")
                    direct.want(None)
                    await until(lambda: not path.exists())
                    await more("ingress")
                direct.want(folder)
                await more("direct")
                direct.refuse()
                await more("ingress")
                ending.set()
            await asyncio.wait_for(direct.close(60), 60)
    await runtime.unload()
    assert failures == []
    assert direct.told()["direct"] == {"answered": ways["direct"], "ongoing": 0}
