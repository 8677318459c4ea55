"""What a release that streams says of it: metadata, OpenAPI, the page, `wheelway check`."""

import html
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from controller.authoring.gates import _reported
from controller.cli.sample import arguments_of
from tests.support.asking import RELEASE, ROUTE, asking
from wheelway import Pipeline, openapi, page
from wheelway.schema import interface_of

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Token(BaseModel):
    text: str


class Tokens(Pipeline):
    examples = ("a b",)

    async def infer(self, request: str) -> AsyncIterator[Token]:
        for word in request.split():
            yield Token(text=word)


class Words(Pipeline):
    examples = ("a b",)

    def infer(self, request: str) -> Iterator[str]:
        yield from request.split()


class Tagged(Pipeline):
    examples = ("a b",)

    def infer(self, request: str) -> Iterator[Annotated[str, Field(max_length=9)]]:
        yield from request.split()


class Raw(Pipeline):
    examples = ("a b",)

    def infer(self, request: str) -> Iterator[bytes]:
        yield request.encode()


KINDS = {
    Tokens: ["application/x-ndjson", "text/event-stream"],
    Words: ["application/x-ndjson", "text/event-stream", "text/plain"],
    Tagged: ["application/x-ndjson", "text/event-stream", "text/plain"],
    Raw: ["application/octet-stream"],
}


@pytest.mark.parametrize(("pipeline", "kinds"), KINDS.items())
async def test_the_metadata_has_the_items_schema_and_how_they_may_come(pipeline, kinds):
    async with asking(pipeline) as client:
        output = (await client.get(f"{ROUTE}/")).json()["output"]
        head = await client.head(f"{ROUTE}/")
    assert (output["content_type"], output["stream"]) == (kinds[0], kinds)
    assert output["schema"] == interface_of(pipeline).schemas[1]
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(("pipeline", "kinds"), KINDS.items())
def test_openapi_has_an_answer_in_each_way_and_says_how_one_breaks_off(pipeline, kinds):
    interface = interface_of(pipeline)
    document = openapi.document(RELEASE, interface, pipeline.examples, ROUTE)
    answer = document["paths"][ROUTE]["post"]["responses"]["200"]
    assert list(answer["content"]) == kinds
    assert answer["description"].startswith("A stream: items come one by one.")
    assert all(f"`{kind}`" in answer["description"] for kind in kinds)
    assert "broke off" in answer["description"]
    schemas = {str(content["schema"]) for content in answer["content"].values()}
    assert schemas == {str(interface.components[1])}
    assert arguments_of(document)[4:] == (["-o", "RESULT"] if pipeline is Raw else ["-N"])


def test_the_page_says_so_and_its_command_does_not_wait_for_the_end():
    told = page.render(RELEASE, interface_of(Words), Words.examples, ROUTE)
    assert "<h2>Result <small>application/x-ndjson, text/event-stream, text/plain</small>" in told
    assert "A stream of items:" in told
    assert "<li>text/event-stream: server-sent events" in told
    assert "curl -sSN http://HOST" in html.unescape(told)
    assert "getReader" in told
    plain = page.render(RELEASE, interface_of(_Plain), (), ROUTE)
    assert "A stream of items" not in plain
    assert "curl -sS http" in html.unescape(plain)


class _Plain(Pipeline):
    def infer(self, request: int) -> int:
        return request


def test_the_gate_of_the_examples_shows_what_streams_began_with():
    report = {"gate": "examples", "ok": True, "reason": "", "message": "", "tail": ""}
    items = [['{"text":"a"}', '{"text":"b"}'], [], ["x" * 100]]
    told = {"seconds": 0.0, "detail": {"count": 3, "first_items": items}}
    message = _reported(report | told).message
    assert message.startswith('3 passed, streamed {"text":"a"} {"text":"b"}, streamed nothing, ')
    assert message.endswith(f"streamed {'x' * 57}...")
