"""rest-json as botocore's own model of the service has it: requests in, answers out.

Nothing here knows an operation by name, so nothing here can drift from what boto3 speaks. What the
model does not allow is a ValidationException when a client asks for it, and a `ModelError`, which
is a bug of ours, when it would be answered.

The protocol: https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message

    from botocore.model import OperationModel, Shape

SERVICE = ServiceModel(
    Loader().load_service_model("codeartifact", "service-2"), service_name="codeartifact"
)
_OPERATIONS = {
    (operation.http["method"], operation.http["requestUri"]): operation
    for operation in map(SERVICE.operation_model, SERVICE.operation_names)
}
_PRINTABLE = r"[^\x00-\x1f\x7f-\x9f]"
"""What the model writes as a Unicode category, which Python's `re` does not know."""
_READ = {"string": str, "integer": int, "long": int}


@dataclass(frozen=True, slots=True)
class Request:
    """What came over the connection."""

    method: str
    target: str
    """Path and query string as they were sent."""
    headers: Message
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is about."""

    operation: str = ""
    """By the model's name; `Upload`, `Simple` or `Download` at the package endpoint."""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class ModelError(Exception):
    """The stand-in would have answered something that the real service cannot."""


class Refused(Exception):  # noqa: N818 - an answer, and no error of ours
    """An error to answer with.

    Args:
        code: the error's name; those that the model has are checked against their shape.
        message: for people.
        status: HTTP's, for codes that the model does not have.
        headers: more than those the shape has.
        members: the shape's members besides the message.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 403,
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.headers = headers or {}
        self.members = members


def invalid(message: str) -> Refused:
    """The error for a request that no client may make."""
    return Refused("ValidationException", message, reason="FIELD_VALIDATION_FAILED")


def operation_of(request: Request) -> OperationModel:
    """The operation a request is for.

    Raises:
        Refused: the service has none there.
    """
    found = _OPERATIONS.get((request.method, request.path))
    if found is None:
        raise Refused("UnknownOperationException", "", status=404)
    return found


def read(operation: OperationModel, request: Request) -> dict[str, Any]:
    """A request's parameters, by the model's names and of its types.

    Raises:
        Refused: the model does not allow them.
    """
    members = {
        member.serialization["name"]: (name, member)
        for name, member in operation.input_shape.members.items()
        if member.serialization.get("location") == "querystring"
    }
    params: dict[str, Any] = {}
    for key, text in parse_qsl(urlsplit(request.target).query, keep_blank_values=True):
        if key not in members:
            raise invalid(f"{operation.name} has no parameter {key!r}")
        name, member = members[key]
        try:
            params[name] = _READ[member.type_name](text)
        except ValueError as error:
            raise invalid(f"{key}: {error}") from error
    if wrong := _mistakes(params, operation.input_shape, closed=True):
        raise invalid(wrong)
    return params


def write(operation: OperationModel, result: dict[str, Any]) -> Answer:
    """An operation's result as an answer.

    Raises:
        ModelError: it does not have the shape that the model gives it.
    """
    return _written(operation.output_shape, result, operation.name)


def refusal(refused: Refused) -> Answer:
    """An error as an answer."""
    result = {"message": str(refused), **refused.members}
    if refused.code in {shape.name for shape in SERVICE.error_shapes}:
        shape = SERVICE.shape_for(refused.code)
        written = _written(shape, result, refused.code)
        status = shape.metadata["error"]["httpStatusCode"]
    else:
        written, status = Answer(json.dumps(result).encode()), refused.status
    about = {
        "Content-Type": "application/json",
        "x-amzn-ErrorType": f"{refused.code}:http://internal.amazon.com/coral/",
        "x-amzn-RequestId": str(uuid.uuid4()),
    }
    return Answer(written.body, status, {**written.headers, **about, **refused.headers})


def _written(shape: Shape, result: dict[str, Any], name: str) -> Answer:
    if wrong := _mistakes(result, shape, closed=False):
        raise ModelError(f"{name}: {wrong}")
    headers = {
        member.serialization["name"]: str(result[key])
        for key, member in shape.members.items()
        if member.serialization.get("location") == "header" and key in result
    }
    payload = shape.serialization.get("payload")
    if payload is not None:
        return Answer(
            result[payload], headers={"Content-Type": "application/octet-stream"} | headers
        )
    members = {
        key: value
        for key, value in result.items()
        if shape.members[key].serialization.get("location") is None
    }
    body = json.dumps(members, default=datetime.timestamp).encode()
    return Answer(body, headers={"Content-Type": "application/json"} | headers)


def _mistakes(value: dict[str, Any], shape: Shape, *, closed: bool) -> str:
    """What is wrong with a value; `closed` when enumerations have no other members.

    A service may answer with a member that its published model does not have yet.
    """
    report = ParamValidator().validate(value, shape)
    if report.has_errors():
        return str(report.generate_report())
    return "; ".join(_breaches(value, shape, "", closed=closed))


def _breaches(value: Any, shape: Shape, name: str, *, closed: bool) -> Iterator[str]:
    """What botocore leaves to the service: upper limits, patterns, enumerations."""
    if shape.type_name == "structure":
        for key, member in value.items():
            yield from _breaches(member, shape.members[key], f"{name}.{key}", closed=closed)
    elif shape.type_name == "list":
        for item in value:
            yield from _breaches(item, shape.member, f"{name}[]", closed=closed)
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _breaches(key, shape.key, f"{name} key", closed=closed)
            yield from _breaches(item, shape.value, f"{name}.{key}", closed=closed)
    elif shape.type_name in _READ:
        for what in _beyond(value, shape.metadata, closed=closed):
            yield f"{name[1:]}: {value!r} {what}"


def _beyond(value: Any, limits: Mapping[str, Any], *, closed: bool) -> Iterator[str]:
    """How a single value goes beyond its limits."""
    size = len(value) if isinstance(value, str) else value
    if size > limits.get("max", size):
        yield f"is above the limit of {limits['max']}"
    pattern = limits.get("pattern", "").replace(r"\P{C}", _PRINTABLE)
    if pattern and not re.fullmatch(pattern, value):
        yield f"does not match {pattern}"
    if closed and value not in limits.get("enum", [value]):
        yield f"is none of {', '.join(limits['enum'])}"
