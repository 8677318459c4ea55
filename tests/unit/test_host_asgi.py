"""What a release answers at its endpoints, and what it refuses."""

import asyncio
import gzip
import re
import zlib
from concurrent.futures import Future

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.asking import (
    LOGGER,
    RELEASE,
    ROUTE,
    application,
    asking,
    assert_problem,
    client_of,
)
from tests.support.pipelines import Echo, Greeter, Shout
from wheelway.asgi import Application
from wheelway.contract import Pipeline
from wheelway.inbound import request_id
from wheelway.limits import Limits

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


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
            return [request_id()]

        async def infer(self, ids: list[str]) -> list[str]:
            return [*ids, request_id()]

    async with asking(Telling) as client:
        for asked in ("one-1", "not sane"):
            answer = await client.post(ROUTE, json=1, headers={"x-request-id": asked})
            assert answer.json() == [answer.headers["x-request-id"]] * 2


async def test_where_the_server_sends_request_ids_the_application_does_not():
    async with asking(Echo, echo_request_id=False) as client:
        assert "x-request-id" not in (await client.post(ROUTE, json=1)).headers


async def test_bytes_go_through_as_they_are_whatever_they_are_called():
    async with asking(Shout) as client:
        response = await client.post(ROUTE, content=b"a\xffb", headers={"content-type": "x/y"})
    assert response.content == b"A\xffB"
    assert response.headers["content-type"] == "application/octet-stream"


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


class Cancelled(Pipeline):
    """Its model has been cancelled, not its request."""

    async def infer(self, request: str) -> str:
        if request == "bad":
            await asyncio.gather(self.cancelled())
        return request

    async def cancelled(self) -> None:
        raise asyncio.CancelledError


class CancelledInThread(Cancelled):
    def infer(self, request: str) -> str:  # type: ignore[override]
        if request == "bad":
            job: Future[str] = Future()
            job.cancel()
            return job.result()
        return request


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("pipeline", [Cancelled, CancelledInThread])
async def test_a_stage_that_finds_its_own_work_cancelled_fails_as_by_any_exception(
    pipeline, isolated, caplog
):
    async with asking(pipeline, isolated=isolated) as client:
        problem = assert_problem(await client.post(ROUTE, json="bad"), 500, "PipelineFailed")
        assert (await client.post(ROUTE, json="good")).json() == "good"
    (record,) = caplog.records
    assert problem["instance"] in record.getMessage()
    assert record.exc_info is not None


async def test_what_the_server_cancels_is_no_failure_of_the_pipeline(caplog):
    class Hanging(Pipeline):
        async def infer(self, request: int) -> int:
            entered.set()
            await asyncio.sleep(60)
            return request

    entered = asyncio.Event()
    async with asking(Hanging) as client:
        asked = asyncio.create_task(client.post(ROUTE, json=1))
        await asyncio.wait_for(entered.wait(), 20)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    assert not caplog.records


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
