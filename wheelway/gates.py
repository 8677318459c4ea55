"""The gates that decide whether a replica would start: verify, import, schemas, load, examples, in
this order up to the first that is not passed, then always memory.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wheelway import entries, memory, openapi
from wheelway.calling import THREADS
from wheelway.execution import Runtime
from wheelway.failure import StartFailure
from wheelway.limits import Limits
from wheelway.loading import load_class, verify
from wheelway.standalone import in_replica, local_context, local_group, local_parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from wheelway.contract import Pipeline, Release
    from wheelway.inline import InlinePart


@dataclass(frozen=True, slots=True)
class Gate:
    """What came of one gate."""

    gate: str
    ok: bool
    seconds: float = 0.0
    reason: str = ""
    """PascalCase; "" when it passed."""
    message: str = ""
    tail: str = ""
    """The end of the traceback, from the pipeline's own frames on."""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked or served."""

    target: str
    release: Release
    settings: Mapping[str, Any]
    tree: Path | None = None
    record_digest: str = ""
    """"": the tree is not verified."""
    threads: int = THREADS
    max_memory: int | None = None
    accelerated: bool = False
    """A replica would have a GPU."""
    weights: Path | None = None
    """The folder in `context.weights`."""
    limits: Limits = field(default_factory=Limits)


async def check(subject: Subject, report: Callable[[Gate], None]) -> bool:
    """Run the gates, reporting each as it ends; whether all of them passed."""
    passed, gates = True, _gates(subject)
    for name in ("verify", "import", "schemas", "load", "examples"):
        begin = time.perf_counter()
        try:
            with in_replica(subject.release):
                detail = await anext(gates)
        except StartFailure as failure:
            seconds = time.perf_counter() - begin
            report(Gate(name, False, seconds, failure.reason, failure.message, failure.tail))
            passed = False
            break
        report(Gate(name, True, time.perf_counter() - begin, detail=detail))
    report(Gate("memory", True, detail={"peak_bytes": memory.peak()}))
    return passed


async def _gates(subject: Subject) -> AsyncIterator[dict[str, Any]]:
    """The detail of each gate in turn; raises StartFailure where one is not passed."""
    if subject.tree is None or not subject.record_digest:
        yield {"skipped": "no tree with a published RECORD was given"}
    else:
        verify(subject.tree, subject.record_digest)
        yield {"tree": str(subject.tree)}
    memory.limit(subject.max_memory, accelerated=subject.accelerated)
    found, parts = await asyncio.to_thread(classes_of, subject)
    names = {"parts": sorted(parts)} if parts else {}
    yield {"class": f"{found.__module__}:{found.__qualname__}", **names}
    context = local_context(found, subject.release, subject.settings, subject.weights)
    group = local_group(parts, context, subject.release, subject.tree)
    runtime = Runtime(
        found,
        context,
        tree=subject.tree,
        threads=subject.threads,
        limits=subject.limits,
        parts=group,
    )
    openapi.document(subject.release, runtime.interface, (), "/predict")
    request, result = runtime.interface.schemas
    yield {"input": request, "output": result}
    await runtime.load()
    yield {}
    await runtime.warm_up()
    count = len(runtime.examples)
    detail: dict[str, Any] = {"count": count}
    if not count:
        detail["hint"] = "examples warm up and document"
    if group is not None:
        detail["parts"] = group.example_counts
    if runtime.first_items:
        detail["first_items"] = [
            [item.decode(errors="replace") for item in items] for items in runtime.first_items
        ]
    yield detail


def classes_of(subject: Subject) -> tuple[type[Pipeline], dict[str, InlinePart]]:
    """The pipeline and its parts; raises StartFailure."""
    found = load_class(subject.target, subject.tree)
    name = subject.release.pipeline
    if subject.tree is None:
        parts = entries.parts_of(found, name) or entries.parts_of(found)
    else:
        parts = entries.parts_in(subject.tree, name)
    return found, local_parts(parts, found, subject.tree)
