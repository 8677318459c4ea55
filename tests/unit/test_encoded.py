"""Routes that a client percent-encoded, forwarded to an ingress."""

import json
import socket

import httpx
import pytest

from tests.support.asking import (
    serving,
)
from wheelway.encoded import EncodedRoutes, plain

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"/predict/x/1.0%2Bcu1", b"/predict/x/1.0+cu1"),
        (b"/predict/x/1.0%2bcu1/docs", b"/predict/x/1.0+cu1/docs"),
        (b"/predict/%61%2fb", b"/predict/a%2Fb"),
        (b"/predict/%252B", b"/predict/%252B"),
        (b"/predict/x/1.0+cu1", b"/predict/x/1.0+cu1"),
    ],
)
def test_only_what_need_not_be_encoded_is_decoded(raw, expected):
    assert plain(raw) == expected
    assert plain(expected) == expected


async def test_an_encoded_route_is_forwarded_as_it_would_be_typed():
    seen = []

    async def ingress(scope, receive, send):
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        seen.append((scope["method"], scope["raw_path"], scope["query_string"], body))
        headers = [(b"x-wheelway-release", b"me"), (b"connection", b"x-hop"), (b"x-hop", b"1")]
        await send({"type": "http.response.start", "status": 207, "headers": headers})
        await send({"type": "http.response.body", "body": b"an", "more_body": True})
        await send({"type": "http.response.body", "body": b"swer"})

    async with (
        serving(ingress) as port,
        serving(EncodedRoutes(f"http://127.0.0.1:{port}", "0.1.0")) as front,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{front}") as client,
    ):
        answer = await client.post("/predict/x/1.0%2Bcu1/?a=%2B", content=b"body")
        missing = await client.get("/predict/x/1.0+cu1")
    assert seen == [("POST", b"/predict/x/1.0+cu1/", b"a=%2B", b"body")]
    assert (answer.status_code, answer.content) == (207, b"answer")
    assert answer.headers["x-wheelway-release"] == "me"
    assert "x-hop" not in answer.headers
    assert (missing.status_code, missing.json()["reason"]) == (404, "NotFound")


async def test_an_ingress_that_does_not_answer_is_502():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        app = EncodedRoutes(f"http://127.0.0.1:{taken.getsockname()[1]}", "0.1.0")
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test"
        ) as client:
            response = await client.get("/predict/%41")
    assert response.status_code == 502
    assert json.loads(response.content)["reason"] == "IngressUnreachable"
