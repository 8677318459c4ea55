"""Types from annotations, stages and threads, settings, start failures: all without a server."""

import asyncio
import errno
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable  # noqa: TC003 - evaluated by the code under test
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, ValidationError

import wheelway
from tests.support.pipelines import Echo, Greeter, Question, Shout
from wheelway import Context, Pipeline
from wheelway.contract import Release
from wheelway.execution import Runtime, context_of
from wheelway.failure import StartFailure
from wheelway.results import ResultInvalid
from wheelway.schema import interface_of

if TYPE_CHECKING:
    from decimal import Context as OnlyForTypeCheckers

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

RELEASE = Release("demo", "1.0", "ab" * 32)


@pytest.fixture
def anyio_backend():
    return "asyncio"


class _Log:
    """Stands in for a logger where the test only wants to know that something was logged."""

    def __init__(self):
        self.lines = []

    def exception(self, text, *_, **__):
        self.lines.append(text)


def runtime(pipeline, settings=None, **options) -> Runtime:
    return Runtime(pipeline, context_of(pipeline, RELEASE, settings or {}, _Log()), **options)


async def start_failure(pipeline, settings=None) -> StartFailure:
    with pytest.raises(StartFailure) as caught:
        await runtime(pipeline, settings).start()
    return caught.value


async def test_importing_wheelway_needs_pydantic_and_the_standard_library_alone():
    script = (
        "import sys; before = set(sys.modules); import wheelway\n"
        "print(*{m.partition('.')[0] for m in set(sys.modules) - before})"
    )
    output = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    allowed = {"wheelway", "pydantic", "pydantic_core", "typing_extensions"}
    allowed |= {"annotated_types", "typing_inspection"}
    assert set(output.split()) - allowed - set(sys.stdlib_module_names) == set()
    assert wheelway.__version__.count(".") == 2


async def test_the_first_stage_gives_the_request_type_and_the_last_the_result_type():
    request, result = interface_of(Greeter).schemas
    assert request["properties"]["name"] == {"minLength": 1, "title": "Name", "type": "string"}
    assert set(result["properties"]) == {"text", "settings"}


async def test_without_annotations_any_json_goes():
    interface = interface_of(Echo)
    assert interface.schemas == ({}, {})
    assert interface.encode(interface.decode(b'{"a": [1, null]}')) == b'{"a":[1,null]}'


async def test_bytes_mean_the_body_as_it_is():
    interface = interface_of(Shout)
    assert (interface.request, interface.result) == (None, None)
    assert interface.decode(b"\xff") == b"\xff"
    with pytest.raises(ResultInvalid, match="declared bytes, returned str"):
        interface.encode("text")


async def test_annotations_in_quotes_and_of_awaitables_are_understood():
    class Quoted(Pipeline):
        def infer(self, request: "Question") -> "Awaitable[list[int]]":
            async def later():
                return [len(request.name)]

            return later()

    assert interface_of(Quoted).schemas[1] == {"type": "array", "items": {"type": "integer"}}
    loaded = runtime(Quoted)
    await loaded.start()
    assert await loaded.answer(b'{"name": "Ada"}') == b"[3]"
    await loaded.unload()


async def test_a_type_without_a_schema_is_refused_with_what_to_do():
    class Strange(Pipeline):
        def infer(self, request: threading.Event):
            return request

    failure = await start_failure(Strange)
    assert failure.reason == "SchemaInvalid"
    assert "Strange.infer" in failure.message
    assert "annotate the first and last stage" in failure.message


async def test_a_name_imported_only_for_type_checkers_is_refused_with_what_to_do():
    class Unresolved(Pipeline):
        def infer(self, request: "OnlyForTypeCheckers"):
            return request

    failure = await start_failure(Unresolved)
    assert failure.reason == "SchemaInvalid"
    assert "TYPE_CHECKING" in failure.message


async def test_synchronous_neighbours_share_one_hop_and_asynchronous_stages_none():
    class Threads(Pipeline):
        def pre_process(self, request):
            return [threading.get_ident()]

        async def infer(self, seen):
            return [*seen, threading.get_ident()]

        def post_process(self, seen):
            return [*seen, threading.get_ident()]

    class Sync(Threads):
        def infer(self, seen):
            return [*seen, threading.get_ident()]

    class Async(Pipeline):
        async def infer(self, request):
            return threading.get_ident()

    here = threading.get_ident()
    mixed, sync, alone = runtime(Threads), runtime(Sync), runtime(Async)
    for each in (mixed, sync, alone):
        await each.start()
    before, during, after = await mixed.run(None)
    assert before != here
    assert during == here
    assert after != here
    assert len(set(await sync.run(None))) == 1
    assert here not in await sync.run(None)
    assert await alone.run(None) == here
    assert [r.runs_on_loop for r in (mixed, sync, alone)] == [True, False, True]


async def test_a_stage_that_raises_stop_iteration_fails_instead_of_hanging():
    class Exhausted(Pipeline):
        def infer(self, request):
            return next(iter(()))

    loaded = runtime(Exhausted)
    await loaded.start()
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(loaded.run(None), 60)


async def test_context_tells_the_release_its_settings_and_its_files(tmp_path):
    seen: list[Context] = []

    class Curious(Pipeline):
        async def load(self, context):
            seen.append(context)

        def infer(self, request):
            return request

    await runtime(Curious, {"k": 1}).start()
    (context,) = seen
    assert (context.pipeline, context.version, context.digest) == ("demo", "1.0", "ab" * 32)
    assert context.settings == {"k": 1}
    assert (context.files / "test_contract.py").is_file()
    with pytest.raises(TypeError):
        context.settings["k"] = 2  # type: ignore[index]


async def test_refused_settings_leave_the_former_ones_in_force_and_say_why():
    loaded = runtime(Greeter, {"greeting": "Hi"})
    await loaded.start()
    await loaded.reconfigure({"greeting": ""})
    assert loaded.settings_error == "ValueError: greeting must not be empty"
    assert loaded.settings == {"greeting": "Hi"}
    assert json.loads(await loaded.answer(b'{"name": "Ada"}'))["text"] == "Hi Ada"
    await loaded.reconfigure({"greeting": "Hey"})
    assert loaded.settings_error == ""
    assert json.loads(await loaded.answer(b'{"name": "Ada"}'))["text"] == "Hey Ada"


@pytest.mark.parametrize("kind", ["thread", "loop"])
async def test_settings_that_come_into_force_too_late_are_taken_back(kind, monkeypatch):
    monkeypatch.setattr("wheelway.execution.RECONFIGURE_DEADLINE", 0.05)
    slow, calls = threading.Event(), []

    class Slow(Echo):
        def reconfigure(self, settings):
            if settings == {"a": 2}:
                slow.wait(60)
            calls.append(settings["a"])

    class SlowOnLoop(Echo):
        async def reconfigure(self, settings):
            calls.append(settings["a"])
            if settings == {"a": 2}:
                await asyncio.sleep(60)

    loaded = runtime(Slow if kind == "thread" else SlowOnLoop, {"a": 1})
    await loaded.start()
    await loaded.reconfigure({"a": 2})
    assert "did not end within" in loaded.settings_error
    assert loaded.settings == {"a": 1}
    monkeypatch.setattr("wheelway.execution.RECONFIGURE_DEADLINE", 60.0)
    slow.set()
    await asyncio.wait_for(loaded._undoing, 60)
    assert calls == [2, 1]
    await loaded.reconfigure({"a": 3})
    assert calls == [2, 1, 3]
    assert loaded.settings == {"a": 3}
    await loaded.unload()


async def test_reconfigure_is_not_called_for_settings_that_are_in_force():
    calls = []

    class Counting(Echo):
        def reconfigure(self, settings):
            calls.append(dict(settings))

    loaded = runtime(Counting, {"a": 1})
    await loaded.start()
    for settings in ({"a": 1}, {"a": 2}, {"a": 2}):
        await loaded.reconfigure(settings)
    assert calls == [{"a": 2}]


async def test_a_pipeline_that_exits_while_taking_settings_goes_on_serving():
    class Leaving(Echo):
        def reconfigure(self, settings):
            raise SystemExit(1)

    loaded = runtime(Leaving)
    await loaded.start()
    await loaded.reconfigure({"a": 1})
    assert loaded.settings_error == "SystemExit: 1"
    assert await loaded.answer(b"1") == b"1"


class _Fails(Pipeline):
    error: BaseException

    def load(self, context):
        raise self.error

    def infer(self, request):
        return request


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no model"), "LoadFailed"),
        (SystemExit(2), "LoadExited"),
        (MemoryError(), "OutOfMemory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "OutOfMemory"),
        (RuntimeError("unable to mmap 9 bytes: Cannot allocate memory (12)"), "OutOfMemory"),
        (RuntimeError("std::bad_alloc"), "OutOfMemory"),
    ],
)
async def test_what_load_raises_decides_the_reason(error, reason):
    failure = await start_failure(type("Fails", (_Fails,), {"error": error}))
    assert failure.reason == reason
    text = str(failure)
    assert text.startswith(f"wheelway-failure[{reason}] ")
    assert "\n" not in failure.message
    assert "raise self.error" in text


async def test_a_wrapped_memory_error_is_out_of_memory_still():
    class Wrapping(Echo):
        def load(self, context):
            try:
                raise MemoryError  # noqa: TRY301 - as a library would
            except MemoryError as error:
                raise RuntimeError("cannot load") from error

    assert (await start_failure(Wrapping)).reason == "OutOfMemory"


class _Number(BaseModel):
    value: int


@pytest.mark.parametrize(
    ("example", "returned", "reason", "text"),
    [
        ({"value": "x"}, None, "ExampleFailed", "request type: value: Input should be a valid int"),
        ({"value": 0}, None, "ExampleFailed", "ZeroDivisionError"),
        ({"value": 1}, {"value": "y"}, "ExampleResultInvalid", "value: Input should be"),
        ({"value": 1}, object(), "ExampleResultInvalid", "declared result type"),
    ],
)
async def test_every_example_must_pass_and_its_result_too(example, returned, reason, text):
    class Tried(Pipeline):
        examples = ({"value": 2}, example)

        def infer(self, request: _Number) -> _Number:
            return _Number(value=7) if 1 / request.value < 1 else returned

    failure = await start_failure(Tried)
    assert failure.reason == reason
    assert "example 2 of 2" in failure.message
    assert text in failure.message


async def test_a_blocking_asynchronous_stage_can_be_isolated_from_the_callers_loop():
    held = threading.Event()

    class Blocking(Pipeline):
        async def infer(self, request: int) -> int:
            assert held.wait(60)
            return request

    loaded = runtime(Blocking, isolated=True)
    await loaded.start()
    running = asyncio.ensure_future(loaded.answer(b"5"))
    await asyncio.sleep(0)  # this loop turns though the stage blocks: it can let it go
    held.set()
    assert await asyncio.wait_for(running, 60) == b"5"
    await loaded.unload()


async def test_a_request_that_does_not_match_is_no_fault_of_the_pipeline():
    loaded = runtime(Greeter)
    await loaded.start()
    with pytest.raises(ValidationError):
        await loaded.answer(b'{"name": ""}')


async def test_unload_is_called_once_and_its_errors_stay_in_the_log():
    calls = []

    class Closing(Echo):
        def unload(self) -> Any:
            calls.append(1)
            raise OSError("gone already")

    loaded = runtime(Closing)
    await loaded.start()
    await loaded.unload()
    await loaded.unload()
    assert calls == [1]
