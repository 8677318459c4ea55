"""Sample pipelines for the suites of the contract, the endpoints and the harness."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from wheelway import Context, Pipeline

if TYPE_CHECKING:
    import asyncio
    import threading


class Question(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    loud: bool = False


class Answer(BaseModel):
    text: str
    settings: dict[str, Any] = {}


class Greeter(Pipeline):
    """Greets <people>."""

    examples = ({"name": "Ada"}, {"name": "Bob", "loud": True})

    def load(self, context: Context) -> None:
        self.reconfigure(context.settings)

    def reconfigure(self, settings: Mapping[str, Any]) -> None:
        if settings.get("greeting") == "":
            raise ValueError("greeting must not be empty")
        self.greeting = settings.get("greeting", "Hello")

    def pre_process(self, request: Question) -> str:
        return request.name.upper() if request.loud else request.name

    async def infer(self, name: str) -> str:
        if name == "crash":
            raise RuntimeError("secret cause")
        if name == "exit":
            raise SystemExit(3)
        if name == "validation":
            Question.model_validate({})
        return f"{self.greeting} {name}"

    def post_process(self, result: str) -> Answer:
        if result.endswith("wrong"):
            return {"nonsense": result}  # type: ignore[return-value]
        return Answer(text=result)


class Echo(Pipeline):
    """Any JSON, and nothing declared."""

    async def infer(self, request):
        return request


class Shout(Pipeline):
    """Raw bytes in and out."""

    examples = (b"hey",)

    def infer(self, request: bytes) -> bytes:
        return request.upper()


class Gated(Pipeline):
    """Synchronous; holds every request until the test lets it go."""

    def load(self, context: Context) -> None:
        self.entered = context.settings["entered"]
        self.gate: threading.Event = context.settings["gate"]

    def infer(self, request: int) -> int:
        self.entered.release()
        self.gate.wait(120)
        return request


class AsyncGated(Pipeline):
    async def load(self, context: Context) -> None:  # type: ignore[override]
        self.entered = context.settings["entered"]
        self.gate: asyncio.Event = context.settings["gate"]

    async def infer(self, request: int) -> int:
        self.entered.release()
        await self.gate.wait()
        return request
