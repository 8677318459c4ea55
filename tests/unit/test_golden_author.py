"""Golden files of what an author of a pipeline and a caller of a release see."""

from __future__ import annotations

import json
import logging
import re
import zipfile
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from typer.testing import CliRunner

from controller.cli import app
from tests.support.pipelines import Echo, Greeter, Shout
from tests.support.wheels import make_weights, make_wheel
from wheelway import problem
from wheelway.asgi import Application
from wheelway.contract import Release
from wheelway.execution import Runtime, context_of
from wheelway.limits import Limits

pytestmark = pytest.mark.unit

RELEASE = Release("greeter", "1.0+cu1", "ab" * 32, "cd" * 32, "0.1.0", "greeter-1.0-ab")
ROUTE = "/predict/greeter/1.0+cu1"
HEADERS = ("content-type", "x-wheelway-release", "x-request-id", "allow", "retry-after", "accept")
LOGGER = logging.getLogger("golden.wheelway")

GOOD = """
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)
    def infer(self, request: int) -> int:
        return request + 1
"""


class Point(BaseModel):
    x: int
    names: list[str]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@asynccontextmanager
async def asking(pipeline):
    runtime = Runtime(pipeline, context_of(pipeline, RELEASE, {}, LOGGER))
    await runtime.start()
    served = Application(RELEASE, LOGGER, on_shutdown=runtime.unload)
    served.serve(runtime, Limits(max_request_bytes=1000))
    transport = httpx.ASGITransport(served, root_path=ROUTE)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
    await runtime.unload()


def kept(answer):
    kind = answer.headers.get("content-type", "")
    body = answer.json() if kind.endswith("json") else answer.text
    headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    return {"status": answer.status_code, "headers": headers, "body": body}


# -- a release -----------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("pipeline", [Greeter, Echo, Shout])
async def test_a_release_says_what_it_is(pipeline, golden):
    found = {}
    async with asking(pipeline) as client:
        for path in ("", "/openapi.json", "/healthz"):
            answer = await client.get(f"{ROUTE}{path}", headers={"x-request-id": "r-1"})
            found[f"GET {path or '/'}"] = kept(answer)
    golden.check(f"author/{pipeline.__name__.lower()}.json", found)


@pytest.mark.anyio
async def test_a_release_answers_and_refuses(golden):
    found = {}
    json_type = {"content-type": "application/json", "x-request-id": "r-1"}
    asked = {
        "good": ("POST", "", b'{"name": "Ada"}', {}),
        "not JSON": ("POST", "", b"{", {}),
        "not as declared": ("POST", "", b'{"name": "", "loud": "maybe"}', {}),
        "too large": ("POST", "", b'"%s"' % (b"x" * 1000), {}),
        "of another type": ("POST", "", b"name=Ada", {"content-type": "text/plain"}),
        "encoded otherwise": ("POST", "", b"x", {"content-encoding": "zstd"}),
        "encoded wrongly": ("POST", "", b"x", {"content-encoding": "gzip"}),
        "a stage fails": ("POST", "", b'{"name": "crash"}', {}),
        "a result is wrong": ("POST", "", b'{"name": "wrong"}', {}),
        "no such path": ("GET", "/nothing", b"", {}),
        "no such method": ("PUT", "", b"", {}),
    }
    async with asking(Greeter) as client:
        for what, (method, path, body, headers) in asked.items():
            answer = await client.request(
                method, f"{ROUTE}{path}", content=body, headers=json_type | headers
            )
            found[what] = kept(answer)
    golden.check("author/answers.json", found)


def test_every_problem_of_a_release_keeps_its_document(golden):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Point).validate_json(b'{"x": "one"}')
    made = {
        "not_found": problem.not_found("/nothing"),
        "method_not_allowed": problem.method_not_allowed("PUT", "GET, POST"),
        "too_large": problem.too_large(1000),
        "unsupported_media_type": problem.unsupported_media_type("text/plain"),
        "unsupported_coding": problem.unsupported_coding("zstd"),
        "coding_broken": problem.coding_broken("gzip", "it ends early"),
        "invalid_input": problem.invalid_input(caught.value, b'{"x": "one"}'),
        "byte_order_mark": problem.invalid_input(caught.value, b"\xef\xbb\xbf{}"),
        "pipeline_failed": problem.pipeline_failed(RELEASE),
        "result_invalid": problem.result_invalid(RELEASE),
        "not_loaded": problem.not_loaded(),
        "overloaded": problem.overloaded(300),
        "timed_out": problem.timed_out(60.0),
    }
    found = {
        name: {
            "headers": {key.decode(): value.decode() for key, value in one.headers},
            "body": json.loads(one.body("r-1")),
        }
        for name, one in made.items()
    }
    golden.check("author/problems.json", found)


# -- before it is published ----------------------------------------------------------------------


@pytest.fixture
def check(tmp_path, monkeypatch):
    """What `wheelway check` says of one wheel; what is measured has a name in its place."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)

    def checked(wheel, *more):
        args = ["check", str(wheel.relative_to(tmp_path)), "--offline", *more]
        return CliRunner().invoke(app, args, prog_name="wheelway")

    return checked


def wheel(folder, **how):
    return make_wheel(folder / "dist", compression=zipfile.ZIP_STORED, **how)


def unmeasured(value, key=""):
    """The document without seconds, bytes of memory and the folder that it was done in."""
    if isinstance(value, dict):
        return {name: unmeasured(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [unmeasured(item) for item in value]
    if isinstance(value, str):
        value = re.sub(r"[^ ]*/wheelway-check-\w+", "<folder>", value)
        return re.sub(r"\d+ MiB|\d+\.\d s", "<measured>", value)
    return "<measured>" if key in {"seconds", "peak_bytes", "ready_after"} else value


def transcript(done):
    text = re.sub(r"\b\d+\.\d(?=  |$)", "<s>", done.stdout.rstrip(), flags=re.MULTILINE)
    return f"{text}\nexit code {done.exit_code}\n"


def test_a_good_wheel_passes_every_gate(golden, check, tmp_path):
    wishes = "[options]\nnum_replicas = 2\n[settings]\nlimit = 3\n"
    made = wheel(tmp_path, code=GOOD, wheelway_toml=wishes)
    document = unmeasured(json.loads(check(made, "--json").stdout))
    golden.check("author/check-good.json", document)


BROKEN = {
    "no-pipeline": {"code": "Demo = 3\n"},
    "record": {"wrong_hash": ["demo/pipeline.py"]},
    "entry-point": {"pipelines": {"demo": "demo.pipeline"}},
    "wishes": {"wheelway_toml": "num_replica = 2\n"},
    "metadata": {"metadata": {"Name": "other"}},
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_bad_wheel_stops_at_its_gate(fault, golden, check, tmp_path):
    done = check(wheel(tmp_path, **BROKEN[fault]))
    golden.check(f"author/check-{fault}.txt", transcript(done))


def test_a_new_project_has_the_same_files(golden, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    args = ["new", "Churn.Score", "--into", str(tmp_path)]
    done = CliRunner().invoke(app, args, prog_name="wheelway")
    made = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    said = [done.stdout.rstrip()]
    for file in made:
        said += ["", f"# {file.relative_to(tmp_path)}", file.read_text().rstrip()]
    golden.check("author/new.txt", "\n".join([*said, ""]), {str(tmp_path): "<folder>"})


def test_weights_that_pass_say_how_to_try_them(golden, check, tmp_path):
    done = check(make_weights(tmp_path / "dist", compression=zipfile.ZIP_STORED))
    golden.check("author/check-weights.txt", transcript(done))
