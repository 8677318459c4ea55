"""Replicas' logs: as records, read and followed through a dashboard."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from controller.config.settings import RayOptions
from controller.errors import Transient, Waiting
from controller.serve.followed import WHOLE
from controller.serve.log_records import FailedRequest, merged, records
from controller.serve.replica_logs import LogFile, ReplicaLogs, following
from tests.support.canned import canned
from tests.support.head import eventually
from tests.support.replica_logs import (
    BUILT,
    FAILED,
    FIRST,
    IRIS,
    OTHER,
    PLACEMENT,
    SECOND,
    serving_logs,
)

pytestmark = pytest.mark.unit


# -- records -------------------------------------------------------------------------------------


def test_a_record_goes_on_to_the_next_and_says_which_request_failed_of_what():
    first, failed, last = records(FIRST.splitlines())
    assert (first.failed(), last.failed()) == (None, None)
    assert failed.text == FAILED.rstrip()
    assert failed.failed() == FailedRequest(str(IRIS), "4711-ff", "KeyError: 'sepal'")
    assert [r.mentions("4711-ff") for r in (first, failed, last)] == [False, True, False]
    (other,) = records(OTHER.splitlines())
    assert not other.mentions("4711-ff")


def test_a_batch_that_failed_is_one_record_that_each_of_its_requests_is_found_by():
    head, rest = FAILED.split("request 4711-ff of", 1)
    text = f"{head}requests 4711-ff, 4711-f, 8 of{rest}".replace(
        " failed\n", " failed in one batch\n"
    )
    (record,) = records(text.splitlines())
    assert record.failed() == FailedRequest(str(IRIS), "4711-ff", "KeyError: 'sepal'")
    asked = ("4711-ff", "4711-f", "8", "4711")
    assert [record.mentions(one) for one in asked] == [True, True, True, False]


def test_serves_json_says_the_same():
    line = json.dumps(
        {
            "levelname": "ERROR",
            "asctime": "2026-11-28 12:00:02,500",
            "message": f"request 4711-ff of {IRIS} failed",
            "exc_text": "Traceback (most recent call last):\n  File x\nKeyError: 'sepal'",
        }
    )
    (record,) = records([line])
    assert record.text == line
    assert record.failed() == FailedRequest(str(IRIS), "4711-ff", "KeyError: 'sepal'")


def test_several_logs_are_told_in_the_order_of_time():
    found = merged([FIRST.splitlines(), OTHER.splitlines()])
    assert [record.at[17:19] for record in found] == ["01", "02", "03", "04"]


# -- a dashboard that has logs -------------------------------------------------------------------


@pytest.fixture
def ray():
    with serving_logs() as server:
        yield server


def failures(told):
    """Takes the failed requests out of what is handed over."""

    def take(_, found):
        told.extend(failed for record in found if (failed := record.failed()) is not None)

    return take


def _asked(ray, question):
    async def ask():
        async with ReplicaLogs.connect(ray.options) as logs:
            return await question(logs)

    return asyncio.run(ask())


def test_the_logs_of_ended_replicas_and_of_every_node_are_found(ray):
    ray.files["n1"][f"{BUILT}.1"] = "older\n"
    ray.files["n1"]["serve/replica_iris-1.0-ffffffff_Host_r9.log"] = "another's\n"
    found, silent = _asked(ray, lambda logs: logs.files([PLACEMENT]))
    assert [file.name for file in found] == [f"{BUILT}.1", BUILT, SECOND]
    assert silent == []
    ray.silent.add("n2")
    found, [sentence] = _asked(ray, lambda logs: logs.files([PLACEMENT]))
    assert [file.node for file in found] == ["n1", "n1"]
    assert "ip-n2" in sentence
    assert _asked(ray, lambda logs: logs.running()) == [LogFile(BUILT, "n1", "x")]


def test_what_is_logged_is_followed_also_of_a_replica_that_comes_later(ray, monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.POLL_EVERY", 0.05)
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 0.1)
    taken: list[tuple[str, str]] = []

    def take(file, found):
        taken.extend((file.name, line) for record in found for line in record.text.splitlines())

    with following(ray.options, take):
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, "one more\nand half a")
        eventually(lambda: (BUILT, "one more") in taken)
        ray.add(BUILT, " line\n")
        eventually(lambda: (BUILT, "and half a line") in taken)
        late = f"serve/replica_{PLACEMENT}_Host_r3.log"
        ray.add(late, "its first words\n")
        ray.running[late] = "n1"
        eventually(lambda: (late, "its first words") in taken)
    told = ["one more", "and half a line"]  # not what was logged before
    assert [line for name, line in taken if name == BUILT] == told
    assert not [t for t in threading.enumerate() if t.name == "wheelway-replica-logs"]


@pytest.mark.parametrize("lines", [0, 2])
def test_a_stream_that_ends_goes_on_where_it_was_with_nothing_lost_or_twice(
    ray, monkeypatch, lines
):
    monkeypatch.setattr("controller.serve.replica_logs.POLL_EVERY", 0.05)
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 0.1)
    ray.files["n1"][BUILT] = "".join(f"old {n}\n" for n in range(3000))
    told = []

    def take(_, found):
        told.extend(line for record in found for line in record.text.splitlines())

    async def work():
        async with ReplicaLogs.connect(ray.options) as logs:
            await logs.follow(logs.running, take, lines=lines)

    def log():
        for n in range(3):
            eventually(lambda: BUILT in ray.followed)
            ray.add(BUILT, f"while it is followed {n}\nhalf ")
            eventually(lambda: ray.sent.get(BUILT, "").endswith("half "))
            ray.end_streams()
            ray.add(BUILT, f"a line {n}\nin between {n}\nsame\nsame\n")
        eventually(lambda: told.count("same") == 6)

    asyncio.run(_beside(work(), log))
    new = [
        line
        for n in range(3)
        for line in (f"while it is followed {n}", f"half a line {n}", f"in between {n}")
    ]
    assert [line for line in told if line != "same"] == ["old 2998", "old 2999"][2 - lines :] + new


async def _beside(work, log):
    """What is followed in one task, while `log` runs in a thread."""
    task = asyncio.create_task(work)
    try:
        await asyncio.to_thread(log)
    finally:
        task.cancel()


def test_a_log_that_is_put_away_for_a_new_one_is_told_to_its_end_and_the_new_one_wholly(
    ray, monkeypatch
):
    monkeypatch.setattr("controller.serve.replica_logs.POLL_EVERY", 0.05)
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 0.1)
    told = []

    def take(_, found):
        told.extend(record.text for record in found)

    with following(ray.options, take):
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, FAILED)
        eventually(lambda: told)
        files = ray.files["n1"]
        files[f"{BUILT}.1"] = files[BUILT] + OTHER
        files[BUILT] = OTHER.replace("12:00:03", "12:00:05")
        ray.running[f"{BUILT}.1"] = "n1"
        ray.end_streams()
        eventually(lambda: len(told) == 3)
    assert told == [FAILED.rstrip(), OTHER.rstrip(), files[BUILT].rstrip()]


def test_a_followed_record_that_comes_in_pieces_is_told_whole(ray, monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 600.0)
    told: list[FailedRequest] = []
    begin, rest = FAILED.split("\n", 1)
    with following(ray.options, failures(told)):
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, f"{begin}\n")
        eventually(lambda: ray.sent.get(BUILT, "").endswith(f"{begin}\n"))
        ray.add(BUILT, rest)
        ray.add(BUILT, OTHER)
        eventually(lambda: told)
    assert told == [FailedRequest(str(IRIS), "4711-ff", "KeyError: 'sepal'")]


def test_the_last_record_is_told_once_nothing_comes_any_more(ray, monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.QUIET", 0.1)
    told: list[FailedRequest] = []
    with following(ray.options, failures(told)):
        eventually(lambda: BUILT in ray.followed)
        ray.add(BUILT, FAILED)
        eventually(lambda: told)
    assert told[0].request == "4711-ff"


def test_a_log_that_is_read_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.READING", 0.3)
    for how in ("drip", "trickle"):
        with canned() as server:
            server.answers["/api/v0/logs/file"] = how

            async def ask(url=server.url):
                async with ReplicaLogs.connect(RayOptions(dashboard_url=url)) as logs:
                    return [line async for line in logs.read(LogFile(BUILT, "n1", "x"), WHOLE)]

            with pytest.raises(Waiting) as caught:
                asyncio.run(asyncio.wait_for(ask(), 60))
        assert "not complete within 0.3 s" in caught.value.message


def test_a_record_without_end_is_told_in_parts(monkeypatch):
    monkeypatch.setattr("controller.serve.log_records.LONGEST_RECORD", 100)
    found = list(records([*FAILED.splitlines(), *["x" * 30] * 20]))
    assert len(found) > 3
    assert [record.failed() is not None for record in found] == [True] + [False] * (len(found) - 1)


ODD = [None, 7, "text", [1], {"result": 7}, {"result": {"result": [7, None, {"node_id": 3}]}}]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_answer_lists_no_log_and_raises_nothing_of_pythons(odd):
    applications = {"x": {"deployments": {"Host": {"replicas": odd}}}, "y": odd}
    with canned() as server:
        server.says("/api/v0/nodes", {"data": odd})
        server.says("/api/v0/logs", {"data": {"result": odd}})
        server.says("/api/serve/applications/", {"applications": applications})

        async def ask():
            options = RayOptions(dashboard_url=server.url)
            async with ReplicaLogs.connect(options) as logs:
                return await logs.files(["x"]), await logs.running()

        assert asyncio.run(ask()) == (([], []), [])


@pytest.mark.parametrize("how", ["hang", "drip", "trickle"])
def test_a_list_of_logs_that_never_ends_is_given_up(how):
    with canned() as server:
        server.answers["/api/v0/nodes"] = how

        async def ask():
            options = RayOptions(dashboard_url=server.url, timeout=0.3)
            async with ReplicaLogs.connect(options) as logs:
                await logs.files(["x"])

        with pytest.raises(Waiting) as caught:
            asyncio.run(ask())
        assert caught.value.reason == "DashboardUnreachable"


def test_a_line_without_an_end_is_told_in_parts_and_not_kept(monkeypatch):
    monkeypatch.setattr("controller.serve.replica_logs.LONGEST_LINE", 1 << 20)
    with canned() as server:
        server.answers["/api/v0/logs/file"] = server.answers["/api/v0/logs/stream"] = "flood"

        async def ask():
            async with ReplicaLogs.connect(RayOptions(dashboard_url=server.url)) as logs:
                return len(await anext(logs.read(LogFile(BUILT, "n1", "x"), WHOLE)))

        assert 1 << 20 < asyncio.run(ask()) < 4 << 20
        taken: list[int] = []

        async def follow():
            async with asyncio.timeout(60), ReplicaLogs.connect(options) as logs:
                await logs.follow(present, take, lines=WHOLE)

        def take(_, found):
            taken.extend(len(record.text) for record in found)

        async def present():
            if taken:
                raise asyncio.CancelledError
            return [LogFile(BUILT, "n1", "x")]

        options = RayOptions(dashboard_url=server.url)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(follow())
        assert 1 << 20 < taken[0] < 4 << 20


@pytest.mark.parametrize("body", [b"A file is not found", b"x" * (1 << 20)])
def test_why_a_log_cannot_be_read_is_told_in_a_line(body):
    with canned() as server:
        server.answers["/api/v0/logs/file"] = (500, body, {})

        async def ask():
            async with ReplicaLogs.connect(RayOptions(dashboard_url=server.url)) as logs:
                await anext(logs.read(LogFile(BUILT, "n1", "x"), WHOLE))

        with pytest.raises(Transient) as caught:
            asyncio.run(ask())
    assert caught.value.message == f"{BUILT}: 500 {body.decode()[-300:]}"
