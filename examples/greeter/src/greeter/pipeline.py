"""The pipeline: types in, types out, one setting, no model."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from wheelway import Context, Pipeline


class Request(BaseModel):
    name: str = Field(min_length=1, max_length=100, description="Who is to be greeted.")
    excited: bool = False


class Greeting(BaseModel):
    text: str


class Greeter(Pipeline):
    """Greets by name, in the words that the setting `greeting` holds."""

    examples = (Request(name="Ada"), {"name": "Grace", "excited": True})

    def load(self, context: Context) -> None:
        self.reconfigure(context.settings)

    def reconfigure(self, settings: Mapping[str, Any]) -> None:
        greeting = settings.get("greeting", "Hello")
        if not isinstance(greeting, str) or not greeting.strip():
            raise ValueError(f"the setting `greeting` must be a non-empty text, not {greeting!r}")
        self.greeting = greeting

    async def infer(self, request: Request) -> Greeting:
        mark = "!" if request.excited else "."
        return Greeting(text=f"{self.greeting}, {request.name}{mark}")
