"""The simplest application that Ray Serve can run: what no release can be faster than."""

from typing import TYPE_CHECKING, Any

from ray import serve

if TYPE_CHECKING:
    from starlette.requests import Request


class Floor:
    async def __call__(self, _: "Request") -> dict[str, str]:
        return {"answer": "floor"}


def build(_: dict[str, Any]) -> serve.Application:
    return serve.deployment(name="Floor")(Floor).bind()
