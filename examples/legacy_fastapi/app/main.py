"""`POST /predict/<name>` for every active model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from app import poller, registry


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await asyncio.to_thread(poller.poll)
    polling = asyncio.create_task(poller.poll_for_ever())
    yield
    polling.cancel()


app = FastAPI(title="models", lifespan=lifespan)


@app.get("/models")
def models() -> dict[str, Any]:
    return poller.active


@app.post("/predict/{name}")
async def predict(name: str, request: Request) -> Any:
    if name not in registry.models:
        raise HTTPException(404, f"no model {name!r} is active")
    return await run_in_threadpool(registry.answer, name, await request.json())
