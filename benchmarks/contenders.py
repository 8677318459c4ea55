"""The same tiny function, served three ways; see request_path.py.

`app` is what the users come from: FastAPI with model objects in a dict. `stock` puts the same model
into Ray Serve as its tutorial does. `PIPELINE` is the source of the same as a pipeline.

Annotations are evaluated here: as text they would lose their names when Serve pickles `stock`.
"""

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import BaseModel

if TYPE_CHECKING:
    from ray import serve

BODY = b'{"values": [1.0, 2.5, 3.0]}'


class Request(BaseModel):
    values: list[float]


class Result(BaseModel):
    score: float


class Model:
    async def infer(self, request: Request) -> Result:
        return Result(score=sum(request.values))


models = {"tiny": Model()}
app = FastAPI()


@app.post("/predict/{name}")
async def predict(name: str, request: Request) -> Result:
    return await models[name].infer(request)


def stock(_: dict[str, Any]) -> "serve.Application":
    """Ray Serve as it comes: one class, a FastAPI ingress, every option at its default."""
    from ray import serve  # noqa: PLC0415 - uvicorn imports this module for `app` alone

    ingress = FastAPI()

    @serve.ingress(ingress)
    class Stock:
        def __init__(self) -> None:
            self.model = Model()

        @ingress.post("/")
        async def predict(self, request: Request) -> Result:
            return await self.model.infer(request)

    bound: serve.Application = serve.deployment(Stock).bind()
    return bound


PIPELINE = """\
from pydantic import BaseModel

from wheelway import Pipeline


class Request(BaseModel):
    values: list[float]


class Result(BaseModel):
    score: float


class Tiny(Pipeline):
    examples = ({"values": [1.0, 2.5, 3.0]},)

    async def infer(self, request: Request) -> Result:
        return Result(score=sum(request.values))
"""
