"""The request to copy that `wheelway up` shows of a release."""

from __future__ import annotations

import pytest

from controller.cli.sample import arguments_of
from wheelway import Pipeline, contract, openapi
from wheelway.schema import interface_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"paths": {}},
        {"paths": {"/": {"post": {}}}},
        {"paths": {"/": {"post": {"requestBody": {"content": {}}}}}},
        {"paths": {"/": {"post": {"requestBody": {"content": {"application/json": 1}}}}}},
    ],
)
def test_an_odd_document_gives_no_request(document):
    assert arguments_of(document) == []


class _Scale(Pipeline):
    def infer(self, request: list[float]) -> list[float]:
        return request


class _Upside(Pipeline):
    def infer(self, image: bytes) -> bytes:
        return image


class _Count(Pipeline):
    def infer(self, text: bytes) -> int:
        return len(text)


@pytest.mark.parametrize(
    ("pipeline", "examples", "arguments"),
    [
        (_Scale, ([1, 2],), ["-H", "content-type: application/json", "-d", "[1, 2]"]),
        (_Scale, ([1] * 500,), []),
        (_Scale, (), []),
        (_Count, (b"it's\n",), ["--data-binary", "it's\n"]),
        (_Count, (b"@FILE",), ["--data-raw", "@FILE"]),
        (_Count, (b"@" * 500,), ["--data-binary", "@FILE"]),
        (_Count, (b"\x89PNG",), ["--data-binary", "@FILE"]),
        (_Count, (b"\x00",), ["--data-binary", "@FILE"]),
        (_Count, (b"x" * 500,), ["--data-binary", "@FILE"]),
        (_Count, (), ["--data-binary", "@FILE"]),
        (_Upside, (), ["--data-binary", "@FILE", "-o", "RESULT"]),
    ],
)
def test_the_request_to_copy_is_one_that_the_pipeline_takes(pipeline, examples, arguments):
    release = contract.Release("demo", "1.0", "ab" * 32)
    document = openapi.document(release, interface_of(pipeline), examples, "/predict/demo/1.0")
    found = arguments_of(document)
    if pipeline is not _Scale:
        assert found[:2] == ["-H", "content-type: application/octet-stream"]
        found = found[2:]
    assert found == arguments
