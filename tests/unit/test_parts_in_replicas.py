"""Replicas that answer by their parts, wherever these are."""

import logging
import pickle

import pytest

from tests.support.asking import LOGGER, ROUTE, client_of
from tests.support.called import arguments_in, of, started
from wheelway.parts import PartOverloaded, PartUnavailable
from wheelway.remote import RemotePart
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


async def test_a_replica_answers_by_its_parts_wherever_they_are(arguments, caplog):
    part = await started(arguments, {"by": 3})
    replica = Replica(
        Arguments.of(arguments), LOGGER, parts={"part": RemotePart("part", part.answer)}
    )
    await answers(replica, caplog)
    await part.unload()


async def test_a_replica_runs_parts_inline_by_option(arguments, caplog):
    arguments["parts"]["part"]["inline"] = True
    await answers(Replica(Arguments.of(arguments), LOGGER), caplog)


async def test_batches_of_an_inline_part_are_bounded_by_its_own_options_as_they_change(arguments):
    part = arguments["parts"]["part"]
    part["inline"] = True
    of(arguments, "Together")
    arguments["target"] = arguments["target"].replace(":Demo", ":Many")
    replica = Replica(Arguments.of(arguments), LOGGER)

    async def largest(**limits):
        told = {"max_batch_size": 32, "parts": {"part": limits}} if limits else {}
        await replica.reconfigure({"settings": {}, "limits": told})
        async with client_of(replica.application) as client:
            return max((await client.post(ROUTE, json=12)).json())

    assert await largest(max_batch_size=3, batch_wait_timeout=60) == 3
    assert await largest(max_batch_size=4, batch_wait_timeout=60) == 4
    assert await largest() > 4
    await replica.unload()


async def answers(replica, caplog):
    await replica.reconfigure({"settings": {"by": 3}})
    async with client_of(replica.application) as client:
        assert (await client.post(ROUTE, json="double")).json() == 3
        assert (await client.post(ROUTE, json="thing")).json() == "caught unknown thing"
        refused = await client.post(ROUTE, json="refuse")
        assert (refused.status_code, refused.json()["reason"]) == (409, "NotNow")
        await replica.reconfigure({"settings": {"by": 3}, "limits": {"request_timeout": 0.5}})
        assert (await client.post(ROUTE, json="wait")).status_code == 504
        await replica.reconfigure({"settings": {"by": 3}})
        with caplog.at_level(logging.INFO):
            failed = await client.post(ROUTE, json="strange")
        assert (failed.status_code, failed.json()["reason"]) == (500, "PipelineFailed")
        assert caplog.text.count("in infer\n    raise Strange") == 1
        assert (await client.post(ROUTE, json="exit")).status_code == 500
        failed = await client.post(ROUTE, json="cancelled")
        assert (failed.status_code, failed.json()["reason"]) == (500, "PipelineFailed")
        assert "PartFailed: the part 'part' raised CancelledError" in caplog.text
        assert 'raise asyncio.CancelledError("its own")' in caplog.text, "where it was raised"
        assert (await client.post(ROUTE, json="double")).json() == 3
    await replica.unload()


@pytest.mark.parametrize("pipeline", ["Lasting", "LastingInThread"])
async def test_a_stream_calls_its_parts_for_as_long_as_it_lasts(arguments, pipeline):
    part = await started(arguments, {"by": 100})
    arguments["target"] = arguments["target"].replace("Demo", pipeline)
    replica = Replica(
        Arguments.of(arguments), LOGGER, parts={"part": RemotePart("part", part.answer)}
    )
    limits = {"request_timeout": 1, "stream_timeout": 40}
    await replica.reconfigure({"settings": {"by": 100}, "limits": limits})
    async with client_of(replica.application) as client:
        lines = [int(line) for line in (await client.post(ROUTE, json=6)).text.splitlines()]
    assert lines[0] == 100
    assert all(130 < line < 140 for line in lines[1:])  # what is there of the time for one item
    assert len(lines) == 6
    await replica.unload()
    await part.unload()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PartOverloaded("the part 'part' ..."), "Overloaded"),
        (PartUnavailable("the part 'part' ..."), "PartUnavailable"),
    ],
)
async def test_a_shortage_of_a_part_is_503_and_no_failure_of_the_pipeline(
    arguments, caplog, error, reason
):
    part = await started(arguments)

    async def send(data, carried):
        if pickle.loads(data) == "short":
            raise error
        async for frame in part.answer(data, carried):
            yield frame

    replica = Replica(Arguments.of(arguments), LOGGER, parts={"part": RemotePart("part", send)})
    await replica.reconfigure({"settings": {"by": 3}})
    async with client_of(replica.application) as client:
        answer = await client.post(ROUTE, json="short")
        assert (answer.status_code, answer.json()["reason"]) == (503, reason)
        assert answer.headers["retry-after"] == "1"
    assert "Traceback" not in caplog.text
    await replica.unload()
    await part.unload()
