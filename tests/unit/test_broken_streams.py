"""Streams that break off, as clients see them: none of them ever looks whole."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.support.asking import assert_problem
from tests.support.streaming import EVENTS, PLAIN, served
from wheelway import Pipeline, Refused
from wheelway.limits import Limits

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Breaks(Pipeline):
    """Yields so many items, then fails as it is told to."""

    async def infer(self, request: tuple[int, str]) -> AsyncIterator[str]:
        count, how = request
        for number in range(count):
            yield str(number)
        match how:
            case "raise":
                raise RuntimeError("secret cause")
            case "cancel":
                raise asyncio.CancelledError
            case "refuse":
                raise Refused(409, "Taken", "somebody was quicker")
            case "type":
                yield 7  # type: ignore[misc]
            case "hang":
                await asyncio.sleep(60)
            case "cling":
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    yield "still here"


class SyncBreaks(Breaks):
    def infer(self, request: tuple[int, str]) -> Iterator[str]:  # type: ignore[override]
        count, how = request
        yield from map(str, range(count))
        match how:
            case "raise":
                raise RuntimeError("secret cause")
            case "cancel":
                raise asyncio.CancelledError
            case "refuse":
                raise Refused(409, "Taken", "somebody was quicker")
            case "type":
                yield 7  # type: ignore[misc]
            case "hang":
                time.sleep(2)


class RawBreaks(Breaks):
    async def infer(self, request: tuple[int, str]) -> AsyncIterator[bytes]:  # type: ignore[override]
        async for item in super().infer(request):
            yield item.encode() if isinstance(item, str) else item


BROKEN = [
    ("raise", 500, "PipelineFailed"),
    ("cancel", 500, "PipelineFailed"),
    ("refuse", 409, "Taken"),
    ("type", 500, "ResultInvalid"),
    ("hang", 504, "TimedOut"),
]


def limits_for(how):
    """Short ones only for what they are to end: a machine may be busy."""
    return Limits(request_timeout=0.3, stream_timeout=0.3) if how == "hang" else Limits()


def patient(how):
    """The same, where there are items before that."""
    return Limits(stream_timeout=1.0) if how in {"hang", "cling"} else Limits()


@pytest.mark.parametrize(("how", "status", "reason"), BROKEN)
@pytest.mark.parametrize("pipeline", [Breaks, SyncBreaks, RawBreaks])
async def test_before_the_first_item_an_error_is_an_ordinary_problem(pipeline, how, status, reason):
    async with served(pipeline, limits=limits_for(how)) as (client, _):
        for headers in ({}, EVENTS, PLAIN):
            response = await client.post("", json=(0, how), headers=headers)
            problem = assert_problem(response, status, reason)
            assert "secret" not in problem["detail"]


@pytest.mark.parametrize(("how", "status", "reason"), BROKEN)
@pytest.mark.parametrize("pipeline", [Breaks, SyncBreaks])
async def test_after_it_the_last_line_or_event_says_what_went_wrong(pipeline, how, status, reason):
    async with served(pipeline, limits=patient(how)) as (client, _):
        lines = await client.post("", json=(2, how), headers={"x-request-id": "mine"})
        events = await client.post("", json=(2, how), headers=EVENTS)
    assert lines.status_code == events.status_code == 200
    *items, last = map(json.loads, lines.text.splitlines())
    assert items == ["0", "1"]
    assert list(last) == ["problem"]
    told = last["problem"]
    assert (told["status"], told["reason"], told["instance"]) == (status, reason, "mine")
    assert "secret" not in lines.text
    *items, last = events.text.removesuffix("\n\n").split("\n\n")
    assert items == ['data: "0"', 'data: "1"']
    event, data = last.split("\n")
    assert event == "event: error"
    assert json.loads(data.removeprefix("data: "))["reason"] == reason


@pytest.mark.parametrize("how", [how for how, _, _ in BROKEN])
@pytest.mark.parametrize(("pipeline", "headers"), [(Breaks, PLAIN), (RawBreaks, {})])
async def test_where_there_is_no_room_for_that_the_connection_ends_without_the_last_chunk(
    pipeline, headers, how
):
    async with served(pipeline, limits=patient(how)) as (client, _):
        async with client.stream("POST", "", json=(2, how), headers=headers) as response:
            received, parts = b"", response.aiter_raw()
            while len(received) < 2:
                received += await anext(parts)
            assert received == b"01"
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                await anext(parts)
        assert (await client.post("", json=(2, "end"), headers=headers)).content == b"01"


async def test_a_generator_that_catches_its_end_is_not_taken_to_go_on():
    async with served(Breaks, limits=patient("cling")) as (client, _):
        response = await client.post("", json=(2, "cling"))
    *items, last = map(json.loads, response.text.splitlines())
    assert items == ["0", "1"]
    assert last["problem"]["reason"] == "TimedOut"


async def test_one_that_catches_its_end_before_the_first_item_is_answered_as_late():
    async with served(Breaks, limits=limits_for("hang")) as (client, _):
        assert_problem(await client.post("", json=(0, "cling")), 504, "TimedOut")


async def test_the_log_says_what_broke_off_and_where(caplog):
    async with served(Breaks, limits=patient("hang")) as (client, _):
        await client.post("", json=(2, "hang"), headers={"x-request-id": "hung"})
        await client.post("", json=(2, "raise"), headers={"x-request-id": "raised"})
    assert "request hung of greeter@1.0+cu1+abababab at" in caplog.text
    assert "did not go on within 1 s: it was in `infer`" in caplog.text
    assert "request raised of greeter@1.0+cu1+abababab failed" in caplog.text
    assert "RuntimeError: secret cause" in caplog.text


async def test_streams_that_break_off_are_failures_and_whole_ones_are_none():
    async with served(Breaks) as (client, _):
        for _ in range(10):
            await client.post("", json=(1, "refuse"))
        assert "failing" not in (await client.get("/")).json()
        for _ in range(5):
            await client.post("", json=(1, "raise"))
        assert "PipelineFailed" in (await client.get("/")).json()["failing"]
        for _ in range(10):
            await client.post("", json=(1, "end"))
        assert "failing" not in (await client.get("/")).json()


async def test_time_is_given_anew_with_each_item():
    class Slow(Pipeline):
        async def infer(self, request: int) -> AsyncIterator[int]:
            for number in range(request):
                await asyncio.sleep(0.25)
                yield number

    limits = Limits(request_timeout=1.5, stream_timeout=1.5)
    async with served(Slow, limits=limits) as (client, _):
        response = await client.post("", json=8)
        assert response.text.splitlines() == [str(number) for number in range(8)]
