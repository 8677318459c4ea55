"""Parts in replicas of their own, as their pipeline calls them: all but what Serve does between."""

import asyncio
import pickle
import time

import pytest

from tests.support.asking import LOGGER, ROUTE, client_of, until
from tests.support.called import arguments_in, of, started
from wheelway.crossing import pack, unpack
from wheelway.failure import StartFailure
from wheelway.inbound import Headers, Request, at_hand
from wheelway.parts import PartFailed, PartOverloaded, PartUnavailable
from wheelway.remote import PIECE, RemotePart
from wheelway.replica import Arguments, Replica

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch):
    """The limit holds for the process: here that is the test run's."""
    monkeypatch.setattr("wheelway.memory.limit", lambda _, **_more: None)


@pytest.fixture
def arguments(tmp_path, request):
    return arguments_in(tmp_path, request.node.name)


async def test_a_value_an_array_and_bytes_larger_than_a_message_pass_both_ways(arguments):
    import numpy as np

    replica = await started(arguments)
    sizes = []

    async def send(data, carried):
        async for frame in replica.answer(data, carried):
            sizes.append(len(frame))
            yield frame

    call = RemotePart("part", send)
    assert await call(21) == 42
    array = np.arange(400_000.0)
    doubled = await call(array)
    assert (doubled == array * 2).all()
    doubled[0] = 1  # its own
    assert await call(b"x" * 3_000_000) == b"x" * 6_000_000
    assert max(sizes) <= PIECE + 1
    await replica.unload()


@pytest.mark.parametrize("kind", ["Part", "Coroutine"])
async def test_what_a_part_raises_arrives_as_it_was_with_the_parts_own_traceback(arguments, kind):
    of(arguments, kind)
    replica = await started(arguments)
    call = RemotePart("part", replica.answer)
    with pytest.raises(ValueError, match="unknown thing") as caught:
        await call("thing")
    assert "pipeline.py" in str(caught.value.__cause__)
    with pytest.raises(PartFailed, match=r"the part 'part' raised .*Strange: 1 and 2"):
        await call("strange")
    with pytest.raises(asyncio.CancelledError):
        await call("cancelled")
    with pytest.raises(TypeError, match="the result of the part 'part' cannot be sent"):
        await call("lambda")
    await replica.unload()


async def test_a_part_is_told_of_the_request_and_ends_with_it(arguments, caplog):
    replica = await started(arguments)
    call = RemotePart("part", replica.answer)
    with at_hand(Request(Headers.of({"x-tenant": "acme"}), "id-1", "10.0.0.1")):
        headers, request_id, remaining = await call("who")
    assert (headers, request_id) == ({"x-tenant": "acme"}, "id-1")
    assert 50 < remaining <= 60
    begun = asyncio.get_running_loop().create_task(call("wait"))
    await until(lambda: "waiting" in caplog.text)
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    await until(lambda: replica._runtime.calls.abandoned == 1)


async def test_a_stream_arrives_item_by_item_and_what_ends_it_too(arguments, caplog):
    replica = await started(arguments)
    call = RemotePart("part", replica.answer)
    items = await call("stream")
    assert [await anext(items) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="enough"):
        await anext(items)
    items = await call("cancelled stream")
    assert await anext(items) == 1
    with pytest.raises(asyncio.CancelledError, match="its own"):
        await anext(items)
    caplog.clear()
    items = await call("stream")
    assert await anext(items) == 0
    await items.aclose()
    assert "closed" in caplog.text
    await replica.unload()


async def test_a_caller_that_goes_in_the_middle_of_an_item_has_the_stream_closed(arguments, caplog):
    replica = await started(arguments)
    answers = replica.answer(pickle.dumps("stream"), None)  # kept, as by a traceback

    async def send():
        await anext(answers)
        await anext(answers)
        sent.set()
        await asyncio.sleep(60)

    sent = asyncio.Event()
    sending = asyncio.create_task(send())
    await asyncio.wait_for(sent.wait(), 20)
    sending.cancel()
    await asyncio.wait([sending])
    await until(lambda: "closed" in caplog.text)
    await replica.unload()


async def test_calls_beyond_the_limit_wait_in_their_order_and_may_leave(arguments):
    replica = await started(arguments)
    await replica.reconfigure({"settings": {"by": 2}, "limits": {"max_ongoing_requests": 1}})
    call = RemotePart("part", replica.answer)
    stream = await call("stream")
    waiting = [asyncio.create_task(call(number)) for number in (1, 2, 3)]
    done, _ = await asyncio.wait(waiting, timeout=0.2)
    assert not done
    waiting[0].cancel()
    await stream.aclose()
    assert await asyncio.gather(*waiting[1:]) == [4, 6]
    await replica.unload()


async def test_a_call_that_waits_for_too_long_is_told_that_the_part_is_too_busy(arguments):
    replica = await started(arguments)
    await replica.reconfigure({"settings": {"by": 2}, "limits": {"max_ongoing_requests": 1}})
    call = RemotePart("part", replica.answer)
    stream = await call("stream")
    with (
        at_hand(Request(due=time.monotonic() + 0.1)),
        pytest.raises(PartOverloaded, match="'part' was too busy to begin with a call in the time"),
    ):
        await call("double")
    await stream.aclose()
    assert await call("double") == 2
    await replica.unload()


async def test_what_is_large_is_sent_without_holding_the_loop():
    async def turns_during(work):
        task = asyncio.ensure_future(work)
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        return turns, await task

    rows = [{"id": number, "name": f"name {number}"} for number in range(100_000)]
    turns, data = await turns_during(pack(rows, "the rows"))
    assert turns > 10
    turns, same = await turns_during(unpack(data))
    assert turns > 10
    assert same == rows
    with pytest.raises(
        TypeError, match=r"the rows cannot be sent .* have it hold only what can be"
    ):
        await pack([*rows, lambda: None], "the rows")


async def test_new_settings_reach_the_part_and_one_that_cannot_start_is_named(arguments):
    replica = await started(arguments)
    call = RemotePart("part", replica.answer)
    await replica.reconfigure({"settings": {"by": 7}})
    assert await call("double") == 7
    await replica.unload()
    with pytest.raises(StartFailure, match=r"wheelway-failure\[LoadFailed\] the part 'part': "):
        await started(arguments, {"other": 1})


async def test_settings_that_a_part_elsewhere_refuses_are_told_where_the_pipelines_are(
    arguments, monkeypatch
):
    monkeypatch.setattr("wheelway.replica.ASK_AGAIN", 0)
    part, other = await started(arguments), await started(arguments)
    alive = [part, other]

    async def ask():
        return [one.settings_error for one in alive]

    remote = RemotePart("part", part.answer, ask)
    replica = Replica(Arguments.of(arguments), LOGGER, parts={"part": remote})
    await replica.reconfigure({"settings": {"by": 2}})
    async with client_of(replica.application) as client:
        assert "settings_error" not in (await client.get(ROUTE)).json()
        for one in (replica, other):
            await one.reconfigure({"settings": {"to": 3}})
        await replica.settled()
        told = (await client.get(ROUTE)).json()["settings_error"]
        assert told == "the part 'part': KeyError: 'by'"
        await other.reconfigure({"settings": {"by": 3}})
        assert "settings_error" not in (await client.get(ROUTE)).json()

        async def never():
            await asyncio.Event().wait()

        remote._ask = never
        monkeypatch.setattr("wheelway.replica.ASK_WITHIN", 0.01)
        assert (await client.get(ROUTE)).status_code == 200
    for one in (replica, part, other):
        await one.unload()


async def test_a_part_that_cannot_be_asked_counts_as_it_said_last(arguments, monkeypatch, caplog):
    monkeypatch.setattr("wheelway.replica.ASK_AGAIN", 0)
    part, said = await started(arguments), ["KeyError: 'by'", ""]

    async def ask():
        if isinstance(said, Exception):
            raise said
        return said

    remote = RemotePart("part", part.answer, ask)
    replica = Replica(Arguments.of(arguments), LOGGER, parts={"part": remote})
    await replica.reconfigure({"settings": {"by": 2}})
    refused = "the part 'part': KeyError: 'by'"
    async with client_of(replica.application) as client:

        async def told():
            answer = await client.get(ROUTE)
            assert answer.status_code == 200
            return answer.json().get("settings_error")

        assert await told() == refused
        for said in ([], ["", None], RuntimeError("router is gone"), RuntimeError("still")):  # noqa: B007 - `ask` reads it
            assert await told() == refused
        assert caplog.text.count("could not be asked whether it takes the settings") == 1
        assert "router is gone" in caplog.text
        said = [""]
        assert await told() is None
        said = ["KeyError: 'by'"]
        assert await told() == refused
        said = []
        await replica.reconfigure({"settings": {"by": 2}, "limits": {"request_timeout": 50}})
        assert await told() == refused
        await replica.reconfigure({"settings": {"by": 3}})
        assert await told() is None, "said of others"
    await replica.unload()
    await part.unload()


async def test_a_broken_off_answer_is_never_a_whole_one():
    async def nothing(_data, _carried):
        return
        yield b""

    async def half(_data, _carried):
        yield b"M" + pickle.dumps(1)[:3]

    for send in (nothing, half):
        with pytest.raises(PartUnavailable, match="broke off in the middle"):
            await RemotePart("part", send)(1)


async def test_a_coroutine_of_a_part_that_blocks_does_not_hold_the_replicas_loop(
    arguments, caplog, tmp_path
):
    arguments["parts"]["part"]["target"] = arguments["target"].replace("Demo", "Coroutine")
    replica = await started(arguments)
    call = RemotePart("part", replica.answer)
    begun = asyncio.ensure_future(call(f"hold {tmp_path / 'gate'}"))
    await until(lambda: "holding" in caplog.text)  # the loop turns
    assert not begun.done()
    (tmp_path / "gate").touch()
    with pytest.raises(ValueError, match="unknown hold"):
        await begun
    await replica.unload()
