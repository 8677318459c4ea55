"""The endpoints of a release, driven as an ASGI application and through a real server."""

import asyncio
import gzip
import hashlib
import json
import logging
import re
import socket
import threading
import time
import zlib
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import uvicorn
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.pipelines import AsyncGated, Echo, Gated, Greeter, Shout
from tests.support.wheels import make_wheel, tree_of
from wheelway.asgi import Application
from wheelway.contract import Pipeline, Release
from wheelway.encoded import EncodedRoutes, plain
from wheelway.execution import Runtime, context_of
from wheelway.failure import StartFailure
from wheelway.limits import Limits
from wheelway.loading import verify
from wheelway.logs import REQUEST
from wheelway.replica import Arguments, Replica
from wheelway.watchdog import Watchdog

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

RELEASE = Release("greeter", "1.0+cu1", "ab" * 32, "cd" * 32, "0.1.0", "greeter-1.0-ab")
ROUTE = "/predict/greeter/1.0+cu1"
LOGGER = logging.getLogger("test.wheelway")


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def application(pipeline, settings=None, limits=None, **options):
    runtime = Runtime(pipeline, context_of(pipeline, RELEASE, settings or {}, LOGGER), **options)
    await runtime.start()
    app = Application(RELEASE, LOGGER, on_shutdown=runtime.unload)
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


async def until(condition, seconds=20.0):
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


# -- what is answered ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ROUTE, f"{ROUTE}/", "/", ""])
async def test_a_post_to_the_route_is_answered_by_the_pipeline(path):
    async with asking(Greeter) as client:
        response = await client.post(path, json={"name": "Ada", "loud": True})
    assert response.json() == {"text": "Hello ADA", "settings": {}}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-wheelway-release"] == "greeter@1.0+cu1+abababab"
    assert response.headers.get_list("x-request-id") != []


async def test_a_sane_request_id_is_taken_over_and_any_other_replaced():
    async with asking(Echo) as client:
        kept = await client.post(ROUTE, json=1, headers={"x-request-id": "trace-1:a/b"})
        made = await client.post(ROUTE, json=1, headers={"x-request-id": 'no "such" id'})
    assert kept.headers.get_list("x-request-id") == ["trace-1:a/b"]
    assert re.fullmatch(r"[0-9a-f]{16}-1", made.headers["x-request-id"])


async def test_what_is_logged_while_a_request_is_answered_has_the_id_that_its_answer_has():
    class Telling(Pipeline):
        def pre_process(self, request: int) -> list[str]:
            return [REQUEST.get()]

        async def infer(self, ids: list[str]) -> list[str]:
            return [*ids, REQUEST.get()]

    async with asking(Telling) as client:
        for asked in ("one-1", "not sane"):
            answer = await client.post(ROUTE, json=1, headers={"x-request-id": asked})
            assert answer.json() == [answer.headers["x-request-id"]] * 2


async def test_where_the_server_sends_request_ids_the_application_does_not():
    app, runtime = await application(Echo)
    app._echo = False
    async with client_of(app) as client:
        assert "x-request-id" not in (await client.post(ROUTE, json=1)).headers
    await runtime.unload()


async def test_bytes_go_through_as_they_are_whatever_they_are_called():
    async with asking(Shout) as client:
        response = await client.post(ROUTE, content=b"a\xffb", headers={"content-type": "x/y"})
    assert response.content == b"A\xffB"
    assert response.headers["content-type"] == "application/octet-stream"


async def test_the_route_tells_what_runs_there():
    async with asking(Greeter) as client:
        data = (await client.get(ROUTE)).json()
    assert (data["name"], data["version"], data["digest"]) == ("greeter", "1.0+cu1", "ab" * 32)
    assert (data["environment"], data["wheelway"]) == ("cd" * 32, "0.1.0")
    assert data["input"]["schema"]["title"] == "Question"
    assert data["output"]["schema"]["title"] == "Answer"
    assert data["application"] == "greeter-1.0-ab"
    assert "settings_error" not in data


async def test_refused_settings_show_in_the_metadata():
    app, runtime = await application(Greeter)
    await runtime.reconfigure({"greeting": ""})
    async with client_of(app) as client:
        data = (await client.get(ROUTE)).json()
        answer = (await client.post(ROUTE, json={"name": "Ada"})).json()
    assert data["settings_error"] == "ValueError: greeting must not be empty"
    assert answer["text"] == "Hello Ada"
    await runtime.unload()


@pytest.mark.parametrize("pipeline", [Greeter, Echo, Shout])
async def test_the_openapi_document_is_valid_and_complete(pipeline):
    async with asking(pipeline) as client:
        document = (await client.get(f"{ROUTE}/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    post = document["paths"][ROUTE]["post"]
    assert {"200", "413", "415", "422", "500", "503", "504"} == set(post["responses"])
    if pipeline is Greeter:
        media = post["requestBody"]["content"]["application/json"]
        assert media["schema"] == {"$ref": "#/components/schemas/Question"}
        assert media["examples"]["example1"] == {"value": {"name": "Ada"}}


async def test_the_page_for_people_needs_no_network_and_escapes_what_the_wheel_says():
    async with asking(Greeter) as client:
        response = await client.get(f"{ROUTE}/docs")
    page = response.text
    assert "Greets &lt;people&gt;." in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert response.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["", "/docs", "/openapi.json", "/healthz"])
async def test_head_answers_like_get_without_a_body(path):
    async with asking(Greeter) as client:
        got, headed = await client.get(ROUTE + path), await client.head(ROUTE + path)
    assert headed.status_code == got.status_code == 200
    assert headed.content == b""
    assert headed.headers["content-length"] == str(len(got.content))


# -- what goes wrong -----------------------------------------------------------------------------


async def test_what_does_not_exist_is_404():
    async with asking(Echo) as client:
        assert_problem(await client.get(f"{ROUTE}/nothing"), 404, "NotFound")
        assert_problem(await client.get(f"{ROUTE}.1"), 404, "NotFound")
        assert_problem(await client.post(f"{ROUTE}/nothing", json=1), 404, "NotFound")


async def test_another_method_is_405_and_says_which_are_possible():
    async with asking(Echo) as client:
        put, post = await client.put(ROUTE), await client.post(f"{ROUTE}/docs")
    assert_problem(put, 405, "MethodNotAllowed")
    assert (put.headers["allow"], post.headers["allow"]) == ("GET, HEAD, POST", "GET, HEAD")


async def test_a_body_that_is_too_large_is_413_announced_or_not():
    async def drip():
        for _ in range(3):
            yield b"1" * 5

    async with asking(Echo, limits=Limits(max_request_bytes=10)) as client:
        assert_problem(await client.post(ROUTE, content=b"1" * 11), 413, "TooLarge")
        assert_problem(await client.post(ROUTE, content=drip()), 413, "TooLarge")
        assert (await client.post(ROUTE, content=b"1" * 10)).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ("application/vnd.acme.v1+json", 200),
        (None, 200),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
async def test_only_json_is_taken_for_json(content_type, status):
    headers = {} if content_type is None else {"content-type": content_type}
    async with asking(Echo) as client:
        response = await client.post(ROUTE, content=b"1", headers=headers)
    assert response.status_code == status
    if status == 415:
        assert_problem(response, 415, "UnsupportedMediaType")


def gzipped(text):
    """Compressed without the time: workers must collect the same parameters."""
    return gzip.compress(text, mtime=0)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzipped(b'"hey"')),
        ("GZip", gzipped(b'"h') + gzipped(b'ey"')),
        ("x-gzip", gzipped(b'"hey"')),
        ("deflate", zlib.compress(b'"hey"')),
        ("identity", b'"hey"'),
        ("", b'"hey"'),
    ],
)
@pytest.mark.parametrize(("pipeline", "answer"), [(Shout, b'"HEY"'), (Echo, b'"hey"')])
async def test_a_compressed_body_is_decoded_whatever_it_is(pipeline, answer, coding, body):
    headers = {"content-encoding": coding}
    async with asking(pipeline) as client:
        response = await client.post(ROUTE, content=body, headers=headers)
    assert (response.status_code, response.content) == (200, answer)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "identity, br"])
async def test_a_coding_that_is_not_decoded_is_415_and_says_which_are(coding):
    async with asking(Shout) as client:
        headers = {"content-encoding": coding}
        response = await client.post(ROUTE, content=b"x", headers=headers)
        twice = await client.post(
            ROUTE, content=b"x", headers=[("content-encoding", "gzip"), ("content-encoding", "br")]
        )
    assert coding in assert_problem(response, 415, "UnsupportedMediaType")["detail"]
    assert response.headers["accept-encoding"] == "gzip, deflate"
    assert_problem(twice, 415, "UnsupportedMediaType")


@pytest.mark.parametrize(
    ("coding", "body", "why"),
    [
        ("gzip", b"hey", "incorrect header"),
        ("gzip", gzipped(b"hey" * 99)[:-9], "ends too early"),
        ("gzip", gzipped(b"hey") + b"more", "incorrect header"),
        ("gzip", gzipped(b"") * 2000 + gzipped(b"hey"), "more than 1024 parts"),
        ("deflate", gzipped(b"hey"), "incorrect header"),
        ("gzip", b"", "ends too early"),
    ],
)
async def test_a_body_that_does_not_have_its_coding_is_422(coding, body, why):
    async with asking(Shout) as client:
        headers = {"content-encoding": coding}
        response = await client.post(ROUTE, content=body, headers=headers)
    assert why in assert_problem(response, 422, "InputInvalid")["detail"]


async def test_what_a_body_is_decoded_to_has_the_same_limit():
    bomb = gzip.compress(bytes(64 * 1024**2))
    fits = gzip.compress(b"x" * 1000) + gzip.compress(b"y" * 1000)
    headers = {"content-encoding": "gzip"}
    async with asking(Shout, limits=Limits(max_request_bytes=100_000)) as client:
        assert_problem(await client.post(ROUTE, content=bomb, headers=headers), 413, "TooLarge")
    async with asking(Shout, limits=Limits(max_request_bytes=2000)) as client:
        response = await client.post(ROUTE, content=fits, headers=headers)
        assert response.content == b"X" * 1000 + b"Y" * 1000
    async with asking(Shout, limits=Limits(max_request_bytes=1999)) as client:
        assert_problem(await client.post(ROUTE, content=fits, headers=headers), 413, "TooLarge")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
async def test_a_byte_order_mark_is_named(encoding):
    async with asking(Greeter) as client:
        body = '{"name": "Ada"}'.encode(encoding)
        problem = assert_problem(await client.post(ROUTE, content=body), 422, "InputInvalid")
    name = encoding.upper().removesuffix("-SIG")
    assert f"begins with a byte order mark ({name})" in problem["detail"]


@pytest.mark.parametrize(("body", "where"), [(b'{"name": ""}', ["name"]), (b"{", []), (b"", [])])
async def test_a_body_that_does_not_match_is_422_and_says_where(body, where):
    async with asking(Greeter) as client:
        problem = assert_problem(await client.post(ROUTE, content=body), 422, "InputInvalid")
    (mistake,) = problem["errors"]
    assert mistake["loc"] == where
    assert "input" not in mistake


@pytest.mark.parametrize("name", ["crash", "exit", "validation"])
async def test_a_pipeline_that_fails_is_500_with_the_cause_in_the_log_alone(name, caplog):
    async with asking(Greeter) as client:
        response = await client.post(ROUTE, json={"name": name})
    problem = assert_problem(response, 500, "PipelineFailed")
    assert "secret" not in response.text
    (record,) = caplog.records
    assert problem["instance"] in record.getMessage()
    assert record.exc_info is not None


async def test_a_result_that_violates_its_type_is_500(caplog):
    async with asking(Greeter) as client:
        response = await client.post(ROUTE, json={"name": "wrong"})
    assert_problem(response, 500, "ResultInvalid")
    assert "text: Field required" in caplog.text


async def test_a_release_whose_requests_fail_says_so_until_they_succeed_again():
    async with asking(Greeter) as client:

        async def failing():
            return (await client.get(ROUTE)).json().get("failing", "")

        for _ in range(4):
            await client.post(ROUTE, json={"name": "crash"})
            await client.post(ROUTE, json={"name": ""})  # the client's own mistake: no failure
        assert not await failing()
        await client.post(ROUTE, json={"name": "crash"})
        said = await failing()
        assert said == "half of its last 10 requests failed, or more; last as PipelineFailed"
        for _ in range(5):
            await client.post(ROUTE, json={"name": "Ada"})
            await client.post(ROUTE, json={"name": "crash"})
            assert await failing() == said
        for _ in range(5):
            await client.post(ROUTE, json={"name": "Ada"})
        assert await failing()
        await client.post(ROUTE, json={"name": "Ada"})
        assert not await failing()


async def test_before_anything_is_loaded_everything_is_503():
    async with client_of(Application(RELEASE, LOGGER)) as client:
        assert_problem(await client.post(ROUTE, json=1), 503, "NotLoaded")
        assert_problem(await client.get(f"{ROUTE}/healthz"), 503, "NotLoaded")


# -- load ----------------------------------------------------------------------------------------


def gate(kind=threading.Event):
    return {"gate": kind(), "entered": threading.Semaphore(0)}


async def test_a_synchronous_stage_does_not_hold_up_the_event_loop():
    settings = gate()
    async with asking(Gated, settings) as client:
        waiting = asyncio.create_task(client.post(ROUTE, json=1))
        await acquire(settings["entered"])
        assert (await client.get(f"{ROUTE}/healthz")).json() == {"status": "ok"}
        assert not waiting.done()
        settings["gate"].set()
        assert (await waiting).json() == 1


async def test_beyond_the_queue_requests_are_503_at_once_and_may_come_again():
    settings = gate(asyncio.Event)
    limits = Limits(max_ongoing_requests=1, max_queued_requests=1)
    async with asking(AsyncGated, settings, limits) as client:
        first = asyncio.create_task(client.post(ROUTE, json=1))
        await acquire(settings["entered"])
        second = asyncio.create_task(client.post(ROUTE, json=2))
        for _ in range(5):  # the second gets as far as the queue
            await asyncio.sleep(0)
        refused = await client.post(ROUTE, json=3)
        assert_problem(refused, 503, "Overloaded")
        assert refused.headers["retry-after"] == "1"
        assert not settings["entered"].acquire(blocking=False)
        settings["gate"].set()
        assert [(await task).json() for task in (first, second)] == [1, 2]
        assert (await client.post(ROUTE, json=4)).json() == 4


async def test_raised_limits_let_those_that_wait_run():
    settings = gate(asyncio.Event)
    app, runtime = await application(AsyncGated, settings, Limits(max_ongoing_requests=1))
    async with client_of(app) as client:
        tasks = [asyncio.create_task(client.post(ROUTE, json=n)) for n in range(3)]
        await acquire(settings["entered"])
        app.serve(runtime, Limits(max_ongoing_requests=3))
        await acquire(settings["entered"], 2)
        settings["gate"].set()
        assert [(await task).json() for task in tasks] == [0, 1, 2]
    await runtime.unload()


async def test_a_request_that_takes_too_long_is_504_and_its_thread_stays_accounted_for():
    settings = gate()
    limits = Limits(request_timeout=0.05, max_ongoing_requests=1, max_queued_requests=0)
    app, runtime = await application(Gated, settings, limits)
    async with client_of(app) as client:
        assert_problem(await client.post(ROUTE, json=1), 504, "TimedOut")
        await until(lambda: runtime.abandoned == 1)
        assert_problem(await client.post(ROUTE, json=2), 503, "Overloaded")
        settings["gate"].set()
        await until(lambda: runtime.abandoned == 0)
        assert (await client.post(ROUTE, json=3)).json() == 3
    await runtime.unload()


class Slow(Gated):
    def pre_process(self, request: int) -> int:
        return request


@pytest.mark.parametrize(
    ("pipeline", "kind", "threads", "where"),
    [
        (Slow, threading.Event, 1, ["it was in `infer`", "it waited for a thread"]),
        (AsyncGated, asyncio.Event, 1, ["it was in `infer`"] * 2),
    ],
)
async def test_the_log_says_of_every_504_where_the_request_was(
    pipeline, kind, threads, where, caplog
):
    settings = gate(kind)
    app, runtime = await application(
        pipeline, settings, Limits(request_timeout=0.5, max_ongoing_requests=3), threads=threads
    )
    async with client_of(app) as client:
        ids = [str(n) for n in range(len(where))]
        asked = [client.post(ROUTE, json=1, headers={"x-request-id": name}) for name in ids]
        for answer in await asyncio.gather(*asked):
            assert_problem(answer, 504, "TimedOut")
    settings["gate"].set()
    told = sorted(record.getMessage() for record in caplog.records)
    about = f"{RELEASE} at {ROUTE} was not answered within 0.5 s"
    assert told == [f"request {n} of {about}: {place}" for n, place in enumerate(where)]
    await runtime.unload()


async def test_of_a_504_whose_turn_or_body_did_not_come_that_is_said(caplog):
    settings = gate(asyncio.Event)
    limits = Limits(request_timeout=0.3, max_ongoing_requests=1, max_queued_requests=3)
    app, runtime = await application(AsyncGated, settings, limits)

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            asked = [client.post("/", json=number) for number in range(2)]
            for answer in await asyncio.gather(*asked):
                assert answer.status_code == 504
        assert b" 504 " in await reader.readline()
        writer.close()
    assert {record.getMessage().rpartition(" s: ")[2] for record in caplog.records} == {
        "it was in `infer`",
        "it waited for others to end, `max_ongoing_requests` ran",
        "its body was still coming",
    }
    await runtime.unload()


async def test_a_client_that_leaves_amid_its_body_leaves_nothing_behind():
    app, _ = await application(Echo)
    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        await until(lambda: app._in_flight == 1)
        writer.close()
        await until(lambda: app._in_flight == 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/", json=[1])).json() == [1]


async def test_a_client_that_leaves_while_it_waits_ends_its_request():
    settings = gate(asyncio.Event)
    app, runtime = await application(AsyncGated, settings)
    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1")
        await writer.drain()
        await acquire(settings["entered"])
        assert app._in_flight == 1
        writer.close()
        await until(lambda: app._in_flight == 0)
        settings["gate"].set()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/", json=2)).json() == 2
    assert runtime.abandoned == 0


async def test_the_end_of_the_server_unloads_the_pipeline():
    ended = []

    class Closing(Echo):
        def unload(self):
            ended.append(True)

    app, _ = await application(Closing)
    async with serving(app, root_path="/predict/x/1.0") as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/", json=1)).json() == 1
        assert ended == []
    assert ended == [True]


# -- a replica, from its tree on -----------------------------------------------------------------


def replica_of(tmp_path, name, code, **options):
    tree, digest = tree_of(make_wheel(tmp_path, name, code=code))
    arguments = {
        "release": {"pipeline": name, "version": "1.0", "digest": "ab" * 32},
        "target": f"{name}.pipeline:Demo",
        "tree": str(tree),
        "record_digest": digest,
        "environment": "",
        "wheelway": "0.1.0",
        "threads": 2,
        "max_memory": None,
    }
    return Replica(Arguments.of(arguments | options), LOGGER), tree


ADDING = """
from pathlib import Path
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def load(self, context):
        self.reconfigure(context.settings)
        assert (context.files / "pipeline.py").is_file()

    def reconfigure(self, settings):
        self.add = settings["add"]

    def infer(self, request: int) -> int:
        return request + self.add
"""


@pytest.fixture
def unlimited(monkeypatch):
    """The limit holds for the process: here that is the test run's."""
    monkeypatch.setattr("wheelway.memory.limit", lambda _, **_more: None)


async def test_a_replica_starts_with_its_first_settings_and_takes_later_ones(tmp_path, unlimited):
    replica, tree = replica_of(tmp_path, "adding", ADDING)
    assert not replica.ready
    await replica.reconfigure({"settings": {"add": 1}, "limits": {"max_request_bytes": 3}})
    assert replica.ready
    async with client_of(replica.application) as client:
        assert (await client.post(ROUTE, json=1)).json() == 2
        assert (await client.post(ROUTE, json=1111)).status_code == 413
        await replica.reconfigure({"settings": {"add": 5}, "limits": {"max_request_bytes": 9}})
        assert (await client.post(ROUTE, json=1111)).json() == 1116
        await replica.reconfigure({"settings": {}, "limits": {}})
        assert (await client.post(ROUTE, json=1)).json() == 6
        assert (await client.get(ROUTE)).json()["settings_error"] == "KeyError: 'add'"
    assert not list(tree.rglob("*.pyc")), "the tree is shared: nothing is written into it"
    await replica.unload()


@pytest.mark.parametrize(("max_memory", "accelerated"), [(None, True), (9, False)])
async def test_the_memory_that_a_replica_may_have_is_as_its_arguments_say(
    tmp_path, monkeypatch, max_memory, accelerated
):
    asked = []
    monkeypatch.setattr("wheelway.memory.limit", lambda *given, **more: asked.append((given, more)))
    replica, _ = replica_of(tmp_path, f"limited_{max_memory}", ADDING, max_memory=max_memory)
    arguments = replace(replica._arguments, accelerated=accelerated)
    await Replica(arguments, LOGGER).reconfigure({"settings": {"add": 1}})
    assert asked == [((max_memory,), {"accelerated": accelerated})]


async def test_a_replica_that_does_not_start_has_the_traceback_in_its_log(
    tmp_path, unlimited, caplog
):
    code = (
        "from wheelway import Pipeline\n"
        "class Demo(Pipeline):\n"
        "    def load(self, context): raise RuntimeError('no model')\n"
        "    def infer(self, request: int) -> int: return request\n"
    )
    replica, _ = replica_of(tmp_path, "loadless", code)
    with pytest.raises(StartFailure):
        await replica.reconfigure({})
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().endswith(" does not start")
    assert "line 3, in load" in caplog.text
    assert "RuntimeError: no model" in caplog.text


async def test_a_replica_refuses_a_tree_with_a_changed_byte(tmp_path, unlimited):
    replica, tree = replica_of(tmp_path, "changed", ADDING)
    code = tree / "changed" / "pipeline.py"
    code.write_bytes(code.read_bytes().replace(b"+", b"-"))
    with pytest.raises(StartFailure, match=r"wheelway-failure\[DigestMismatch\] changed/pipeline"):
        await replica.reconfigure({"settings": {"add": 1}})


WRITING = """
from wheelway import Pipeline

class Demo(Pipeline):
    def load(self, context):
        self.files = context.files
        if context.settings.get("early"):
            (self.files / "cache.py").write_text("X = 1")

    def infer(self, request: int) -> int:
        (self.files / "pipeline.py").write_text("X = 1")
        return request
"""


async def test_a_pipeline_that_writes_into_its_package_hurts_itself_alone(
    tmp_path, unlimited, caplog
):
    replica, tree = replica_of(tmp_path, "writing", WRITING)
    await replica.reconfigure({})
    async with client_of(replica.application) as client:
        answer = await client.post(ROUTE, json=1)
    assert answer.status_code == 500
    assert "shared by all its replicas and read-only" in caplog.text
    sibling = Replica(replica._arguments, LOGGER)
    with pytest.raises(StartFailure, match=r"LoadFailed.*read-only; write to tempfile"):
        await sibling.reconfigure({"settings": {"early": True}})
    await sibling.reconfigure({})
    assert sibling.ready
    verify(tree, replica._arguments.record_digest)
    await replica.unload()
    await sibling.unload()


@pytest.mark.parametrize("trick", ["record", "missing", "stranger", "outside"])
def test_a_tree_that_is_not_what_was_published_is_refused(tmp_path, trick):
    tree, digest = tree_of(make_wheel(tmp_path, "tricked"))
    (record,) = tree.glob("*.dist-info/RECORD")
    verify(tree, digest)
    if trick == "record":
        record.write_text(record.read_text() + "\n")
    elif trick == "missing":
        (tree / "tricked" / "pipeline.py").unlink()
    elif trick == "stranger":
        (tree / "json.py").write_text("")
    else:
        record.write_text(record.read_text() + "../evil.py,,\n")
        digest = hashlib.sha256(record.read_bytes()).hexdigest()
    with pytest.raises(StartFailure) as caught:
        verify(tree, digest)
    assert caught.value.reason == "DigestMismatch"


@pytest.mark.parametrize(
    "case",
    [
        ("noimport", "import nothing_like_it", None, "ImportFailed", "nothing_like_it"),
        ("exits", "raise SystemExit(3)", None, "ImportFailed", "SystemExit: 3"),
        ("broken", "def", None, "ImportFailed", "SyntaxError"),
        ("absent", "", None, "ImportFailed", "no attribute 'Demo'"),
        ("other", "class Demo: pass", None, "NotAPipeline", "subclass of wheelway.Pipeline"),
        ("half", "import wheelway\nclass Demo(wheelway.Pipeline): pass", None,
         "AbstractPipeline", "infer"),
        ("shadowed", "", "json:JSONDecoder", "ImportFailed", "instead of the wheel"),
    ],
)  # fmt: skip
async def test_what_is_no_pipeline_is_refused_with_its_reason(tmp_path, unlimited, case):
    name, code, target, reason, text = case
    options = {"target": target} if target else {}
    replica, _ = replica_of(tmp_path, name, code, **options)
    with pytest.raises(StartFailure) as caught:
        await replica.reconfigure({"settings": {}})
    assert caught.value.reason == reason
    assert text in caught.value.message


BLOCKING = """
import time
from pathlib import Path
from wheelway import Pipeline

made = []

class Demo(Pipeline):
    def load(self, context):
        made.append(self)

    async def infer(self, until: float | str) -> int:
        if isinstance(until, float):
            time.sleep(until)
        else:
            end = time.monotonic() + 60
            while not Path(until).exists():
                assert time.monotonic() < end
                time.sleep(0.01)
        return len(made)
"""


async def test_an_asynchronous_stage_that_blocks_gets_a_loop_of_its_own(
    tmp_path, unlimited, monkeypatch
):
    first, second = tmp_path / "first", tmp_path / "second"

    def watchdog(files, on_held, while_held):
        def release():
            while_held()
            first.touch()

        return Watchdog(files, on_held, release, held_after=0.05)

    monkeypatch.setattr("wheelway.replica.Watchdog", watchdog)
    replica, _ = replica_of(tmp_path, "blocking", BLOCKING)
    await replica.reconfigure({"settings": {}})
    async with client_of(replica.application) as client:
        assert (await client.post(ROUTE, json=str(first))).json() == 1
        await until(lambda: replica._runtime.isolated)
        asked = asyncio.create_task(client.post(ROUTE, json=str(second)))
        for _ in range(4):
            await asyncio.sleep(0.01)
        second.touch()  # this loop turns while the stage blocks its own
        assert (await asked).json() == 2
    await replica.unload()


@pytest.mark.parametrize(("seconds", "isolated"), [(0.5, True), (0.0, False)])
async def test_examples_that_hold_the_loop_decide_it_before_the_first_request(
    tmp_path, unlimited, monkeypatch, seconds, isolated
):
    monkeypatch.setattr("wheelway.replica.HELD_AFTER", 0.1)
    monkeypatch.setattr("wheelway.replica.Watchdog", lambda *a: Watchdog(*a, held_after=0.1))
    name = f"example_{isolated}".lower()
    code = BLOCKING.replace("    def load", f"    examples = ({seconds},)\n\n    def load")
    replica, _ = replica_of(tmp_path, name, code)
    await replica.reconfigure({"settings": {}})
    assert replica._runtime.isolated == isolated
    await replica.unload()


# -- percent-encoded routes ----------------------------------------------------------------------


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
