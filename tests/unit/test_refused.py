"""What a stage refuses: the caller's mistake, told to the caller and to nobody as a failure."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import ClassVar

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, field_validator

from tests.support.asking import LOGGER, ROUTE, application, asking, assert_problem, serving
from tests.support.pipelines import Echo, Greeter
from wheelway import Pipeline, Refused, request
from wheelway.contract import Release
from wheelway.execution import Runtime, context_of
from wheelway.failure import StartFailure
from wheelway.local import loaded, run
from wheelway.page import render
from wheelway.refusals import LONGEST
from wheelway.schema import interface_of

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

UNDECODABLE = Refused(422, "ImageUndecodable", "The body is no <PNG>.")


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Pictures(Pipeline):
    refusals: ClassVar[Sequence[Refused]] = (
        UNDECODABLE,
        Refused(422, "ImageEmpty", "There is nothing in it."),
        Refused(404, "AlbumUnknown", "There is no such album."),
        Refused(499, "Strange", "A status without a name."),
    )
    examples = (b"good",)

    def infer(self, image: bytes) -> int:
        if image != b"good":
            raise self.refusals[0]
        return 1


class Anywhere(Pipeline):
    """Refuses where the request says."""

    def pre_process(self, place: str) -> str:
        if place == "thread":
            raise Refused(400, "InThread", "no")
        return place

    async def infer(self, place: str) -> str:
        if place == "loop":
            raise Refused(403, "OnLoop", "no")
        if place == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(self.refuse())
        if place == "both":
            await asyncio.gather(self.refuse(), asyncio.sleep(0))
        if place == "mixed":
            raise ExceptionGroup("", [Refused(409, "InGroup", "no"), OSError("disk")])
        return place

    def post_process(self, place: str) -> str:
        if place == "caused":
            try:
                {}[place]
            except KeyError as error:
                raise Refused(410, "Last", "no") from error
        return place

    async def refuse(self):
        raise Refused(409, "InGroup", "no")


class Checked(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def is_known(cls, name: str) -> str:
        if name != "ada":
            raise Refused(404, "NameUnknown", f"{name} is nobody.")
        return name


class Validating(Pipeline):
    def infer(self, request: Checked) -> str:
        return request.name


# -- over HTTP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize(
    ("place", "status", "reason"),
    [
        ("thread", 400, "InThread"),
        ("loop", 403, "OnLoop"),
        ("group", 409, "InGroup"),
        ("both", 409, "InGroup"),
        ("caused", 410, "Last"),
        ("mixed", 500, "PipelineFailed"),
    ],
)
async def test_a_refusal_reaches_the_caller_from_wherever_it_is_raised(
    place, status, reason, isolated
):
    async with asking(Anywhere, isolated=isolated) as client:
        assert_problem(await client.post(ROUTE, json=place), status, reason)
        assert (await client.post(ROUTE, json="none")).json() == "none"


async def test_a_validator_may_refuse_too():
    async with asking(Validating) as client:
        found = assert_problem(await client.post(ROUTE, json={"name": "bob"}), 404, "NameUnknown")
        assert found["detail"] == "bob is nobody."


async def test_it_is_one_line_of_the_log_without_a_traceback_and_no_failure(caplog):
    app, _ = await application(Pictures)
    caplog.set_level(logging.INFO)
    async with serving(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as ask:
        for _ in range(12):
            answer = await ask.post("/", content=b"\xff", headers={"x-request-id": "one"})
            assert answer.json() == {
                "type": "about:blank",
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "The body is no <PNG>.",
                "instance": "one",
                "reason": "ImageUndecodable",
            }
        assert "failing" not in (await ask.get("/")).json()
    lines = [record for record in caplog.records if record.name == LOGGER.name]
    assert len(lines) == 12
    assert {(line.levelname, line.exc_info, line.wheelway_request_id) for line in lines} == {
        ("INFO", None, "one")
    }
    assert lines[0].getMessage() == (
        "request one of greeter@1.0+cu1+abababab was refused: 422 ImageUndecodable: "
        "'The body is no <PNG>.'"
    )
    # The very one that the class lists was raised: nothing of the requests may stay with it.
    assert UNDECODABLE.__traceback__ is None
    assert UNDECODABLE.__context__ is None


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ("kein Bild: 画像 🙈", "kein Bild: 画像 🙈"),
        ("a\r\nset-cookie: b=c\r\n\r\n\x1b[31m\x00", "a\r\nset-cookie: b=c\r\n\r\n\x1b[31m\x00"),
        ("\ud800 alone", "? alone"),
        ("x" * 10_000_000, "x" * (LONGEST - 1) + "…"),
        (ValueError("an exception"), "an exception"),
        ("", ""),
    ],
    ids=["scripts", "injection", "surrogate", "huge", "exception", "empty"],
)
async def test_whatever_a_message_quotes_stays_a_message(message, detail, caplog):
    class Quoting(Pipeline):
        async def infer(self, request: int) -> int:
            raise Refused(418, "Quoted", message)

    caplog.set_level(logging.INFO)
    app, _ = await application(Quoting)
    async with serving(app) as port, httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{port}/", json=1)
    assert assert_problem(answer, 418, "Quoted")["detail"] == detail
    assert "set-cookie" not in answer.headers
    (line,) = (record for record in caplog.records if record.name == LOGGER.name)
    assert "\n" not in line.getMessage()
    assert "\x1b" not in line.getMessage()
    assert len(line.getMessage()) < LONGEST + 200


@pytest.mark.parametrize("status", [400, 401, 404, 420, 422, 429, 451, 499])
async def test_every_status_from_400_to_499_can_be_had_also_one_without_a_name(status):
    class Refusing(Pipeline):
        async def infer(self, request: int) -> int:
            raise Refused(status, "No", "no")

    app, _ = await application(Refusing)
    async with serving(app) as port, httpx.AsyncClient() as client:
        assert_problem(await client.post(f"http://127.0.0.1:{port}/", json=1), status, "No")


class Generating(Pipeline):
    def infer(self, place: str) -> Iterator[str]:
        if place == "first":
            raise Refused(404, "First", "no")
        for _ in range(3):
            yield f"{request().id} {request().headers['x-tenant']}"
            if place == "second":
                raise Refused(409, "Second", "no")


class Awaiting(Pipeline):
    async def infer(self, place: str) -> AsyncIterator[str]:
        for item in Generating().infer(place):
            await asyncio.sleep(0)
            yield item


@pytest.mark.parametrize("pipeline", [Generating, Awaiting])
@pytest.mark.parametrize("isolated", [False, True])
async def test_a_stream_is_refused_as_an_answer_or_broken_off_and_knows_its_request(
    pipeline, isolated
):
    app, _ = await application(pipeline, isolated=isolated)
    headers = {"x-request-id": "one", "x-tenant": "acme"}
    async with (
        serving(app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client,
    ):
        assert_problem(await client.post("/", json="first"), 404, "First")
        for _ in range(12):
            begun = await client.post("/", json="second")
            assert begun.status_code == 200
            item, broken = begun.text.splitlines()
            assert item == '"one acme"'
            assert json.loads(broken)["problem"]["reason"] == "Second"
        assert (await client.post("/", json="none")).text == '"one acme"\n' * 3
        assert "failing" not in (await client.get("/")).json()


class Batching(Pipeline):
    def infer_batch(self, numbers: list[int]) -> list[int]:
        if -1 in numbers:
            raise Refused(409, "Whole", "no")
        return [number or Refused(404, "Item", "no") for number in numbers]


async def test_a_refused_item_of_a_batch_is_its_own_requests_and_a_refused_batch_is_everybodys():
    app, _ = await application(Batching)
    async with serving(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as ask:
        answers = await asyncio.gather(*(ask.post("/", json=n % 3) for n in range(12)))
        for n, answer in enumerate(answers):
            if n % 3:
                assert answer.json() == n % 3
            else:
                assert_problem(answer, 404, "Item")
        assert_problem(await ask.post("/", json=-1), 409, "Whole")
        assert "failing" not in (await ask.get("/")).json()


class Whole(Pipeline):
    def load(self, context):
        self.part = context.parts["inner"]

    async def infer(self, place: str) -> str:
        return f"{request().headers['x-tenant']} {await self.part(place)}"


class Inner(Pipeline):
    def infer(self, place: str) -> str:
        if place == "part":
            raise Refused(409, "InPart", "no")
        return request().headers["x-tenant"]


def test_a_part_refuses_for_its_pipeline_and_knows_the_request():
    with loaded(Whole, parts={"inner": Inner}) as whole:
        assert whole("none", headers={"x-tenant": "acme"}) == "acme acme"
        with pytest.raises(Refused, match="409 InPart: no"):
            whole("part", headers={"x-tenant": "acme"})


# -- what it says of itself ----------------------------------------------------------------------


async def test_the_refusals_that_a_class_lists_are_documented_with_the_hosts_own():
    async with asking(Pictures) as client:
        document = (await client.get(f"{ROUTE}/openapi.json")).json()
        page = (await client.get(f"{ROUTE}/docs")).text
    OpenAPIV31SpecValidator(document).validate()
    answers = document["paths"][ROUTE]["post"]["responses"]
    assert set(answers) == {"200", "404", "413", "415", "422", "499", "500", "503", "504"}
    assert answers["422"]["description"] == (
        "The body does not match the request type.\n\n`ImageUndecodable`: The body is no <PNG>."
        "\n\n`ImageEmpty`: There is nothing in it."
    )
    assert answers["404"]["description"] == "`AlbumUnknown`: There is no such album."
    shown = answers["422"]["content"]["application/problem+json"]["examples"]
    assert list(shown) == ["ImageUndecodable", "ImageEmpty"]
    assert shown["ImageEmpty"]["value"]["detail"] == "There is nothing in it."
    assert (
        "<td><b>422</b></td><td>The body does not match the request type.\n"
        "<code>ImageUndecodable</code>: The body is no &lt;PNG&gt;.\n"
    ) in page
    assert "<td><b>499</b></td><td><code>Strange</code>: A status without a name.</td>" in page


def test_a_class_that_lists_none_is_documented_as_ever():
    for pipeline in (Greeter, Echo):
        interface = interface_of(pipeline)
        assert interface.refusals == ()
        page = render(Release("a", "1", "ab" * 32), interface, (), "/a")
        rows = page.partition("word to branch on")[2].partition("</table>")[0]
        assert rows.count("<tr>") == 8


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        (UNDECODABLE, "not a Refused; for one, with the comma"),
        ("Refused", "not a str; for one"),
        ({UNDECODABLE}, "not a set"),
        ((Refused,), "holds <class 'wheelway.refusals.Refused'>; each is an example"),
        ((ValueError("x" * 900),), "holds ValueError("),
        ((UNDECODABLE,) * 101, "lists 101, at most 100"),
        (None, "not a NoneType"),
    ],
)
def test_what_is_no_list_of_refusals_does_not_start(listed, why):
    class Strange(Echo):
        refusals = listed

    with pytest.raises(StartFailure) as caught, loaded(Strange):
        pass
    assert caught.value.reason == "SchemaInvalid"
    assert caught.value.message.startswith("`test_what_is_no_list_of_refusals_does_not_start.")
    assert why in caught.value.message


# -- without a server ----------------------------------------------------------------------------


def test_in_a_test_it_is_raised_as_it_is():
    with pytest.raises(Refused, match="422 ImageUndecodable: The body") as caught:
        run(Pictures, b"bad")
    assert caught.value is UNDECODABLE


class BadExample(Pictures):
    examples = (b"good", b"bad")


def test_an_example_that_is_refused_refuses_the_release():
    with pytest.raises(StartFailure) as caught, loaded(BadExample):
        pass
    assert caught.value.reason == "ExampleRefused"
    assert caught.value.message == (
        f"example 2 of 2 of {__name__}:BadExample was refused by it (422 ImageUndecodable: The "
        "body is no <PNG>.); examples are what is answered"
    )
    assert "raise self.refusals[0]" in caught.value.tail


async def test_in_load_it_is_a_failure_like_any_other():
    class Loading(Echo):
        def load(self, context):
            raise Refused(400, "No", "no")

    context = context_of(Loading, Release("a", "1", "ab" * 32), {}, LOGGER)
    with pytest.raises(StartFailure) as caught:
        await Runtime.started(Loading, context)
    assert caught.value.reason == "LoadFailed"
