"""The local harness: a pipeline without Ray, on an author's machine.

For unit tests:

    from wheelway.local import loaded, run

    assert run(Greeter, {"name": "Ada"}) == {"text": "Hello Ada"}

    with loaded(Greeter, settings={"greeting": "Bonjour"}) as greeter:
        assert greeter({"name": "Ada"}) == {"text": "Bonjour Ada"}

On a command line `python -m wheelway.local TARGET --port 8001` serves its endpoints (which needs
uvicorn), and `--json` runs the gates that decide whether a replica would start, printing one JSON
object a line for each: {"gate", "ok", "seconds", "reason", "message", "tail", "detail"}. The gates
are verify, import, schemas, load, examples, in this order up to the first that fails, then always
memory. The exit code is 0 when all passed, 1 when not, 2 for a wrong command line. `wheelway check`
runs it in a throwaway environment and process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import asdict
from pathlib import Path
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from wheelway import __version__, entries
from wheelway.asgi import Application
from wheelway.calling import THREADS
from wheelway.contract import Release
from wheelway.execution import Runtime
from wheelway.failure import StartFailure
from wheelway.gates import Subject, check, classes_of
from wheelway.inbound import Headers, Request, at_hand
from wheelway.inline import InlinePart
from wheelway.limits import Limits
from wheelway.reading import Reader, Readings
from wheelway.schema import body_of, value_of
from wheelway.standalone import LOGGER, in_replica, local_context, local_group, local_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wheelway.contract import Pipeline
    from wheelway.gates import Gate


# -- for authors' tests --------------------------------------------------------------------------


class Loaded:
    """A loaded pipeline: call it with a request as a client would send it (JSON-able, or bytes) and
    get the result as a client would receive it.
    """

    def __init__(self, runner: asyncio.Runner, runtime: Runtime) -> None:
        self._runner = runner
        self._runtime = runtime
        self._readings = Readings(runner)

    def __call__(self, request: Any, *, headers: Mapping[str, str] | None = None) -> Any:
        """Take one request through all stages, which find `headers` in `wheelway.request()`.

        A stream comes as a generator of its items, each asked of the pipeline when it is asked for
        here; what it raises is raised then. It is closed by its `close`, or with the pipeline.

        Raises:
            pydantic.ValidationError: the request does not match the declared type.
            ResultInvalid: the result does not match the declared type.
            Exception: whatever a stage raises, such as `Refused`.
        """
        with at_hand(Request(Headers.of(headers or {}))):
            answer = self._runner.run(self._answer(body_of(request)), context=copy_context())
        if isinstance(answer, bytes):
            return value_of(answer, self._runtime.interface.result_type)
        return self._readings.items_of(answer, self._runtime.interface.stream_types[0])

    async def _answer(self, body: bytes) -> bytes | Reader:
        answer = await self._runtime.answer(body)
        return answer if isinstance(answer, bytes) else Reader(answer)

    def close(self) -> None:
        """Close the streams that were not read to their end."""
        self._readings.close()

    def reconfigure(self, settings: Mapping[str, Any]) -> str:
        """Hand over new settings; returns why the pipeline refused them, "" when it did not."""
        self._runner.run(self._runtime.reconfigure(settings))
        return self._runtime.settings_error


@contextmanager
def loaded(
    pipeline: type[Pipeline],
    *,
    settings: Mapping[str, Any] | None = None,
    threads: int = THREADS,
    parts: Mapping[str, type[Pipeline]] | None = None,
    weights: Path | None = None,
) -> Iterator[Loaded]:
    """A pipeline loaded as a replica would, its examples run, until the end of the `with` block.

    Its parts run in this process, called as if they did not; by default they are those of the
    installed project whose entry point names the class. `parts` are others, by name. `weights` is
    the folder that it finds in `context.weights`.

    Raises:
        StartFailure: a replica would not start either; `reason` and `message` say why.
    """
    release = Release(_named_as(pipeline.__name__), "0+local", "0" * 64, "", __version__)
    with asyncio.Runner() as runner, in_replica(release):
        context = local_context(pipeline, release, settings or {}, weights)
        if parts is None:
            found = local_parts(entries.parts_of(pipeline), pipeline)
        else:
            found = {name: InlinePart(part) for name, part in parts.items()}
        group = local_group(found, context, release)
        runtime = runner.run(Runtime.started(pipeline, context, threads=threads, parts=group))
        asking = Loaded(runner, runtime)
        try:
            yield asking
        finally:
            asking.close()
            runner.run(runtime.unload())


def run(
    pipeline: type[Pipeline],
    request: Any,
    *,
    settings: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    parts: Mapping[str, type[Pipeline]] | None = None,
    weights: Path | None = None,
) -> Any:
    """Load a pipeline, ask it once, unload it; see `loaded`. Of a stream all items, as a list."""
    with loaded(pipeline, settings=settings, parts=parts, weights=weights) as ask:
        result = ask(request, headers=headers)
        return list(result) if isinstance(result, GeneratorType) else result


def _named_as(name: str) -> str:
    """What a pipeline is called by its class where nobody says it: `ChurnScore`, churn-score."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return re.sub(r"[-_.]+", "-", words).lower()


# -- serving on a laptop -------------------------------------------------------------------------


async def serve(subject: Subject, *, host: str = "127.0.0.1", port: int = 8001) -> None:
    """Serve a pipeline's endpoints at http://host:port/ until interrupted.

    Raises:
        StartFailure: a replica would not start either.
        ModuleNotFoundError: uvicorn is not installed.
    """
    import uvicorn  # noqa: PLC0415 - optional, and only here

    pipeline, parts = await asyncio.to_thread(classes_of, subject)
    with in_replica(subject.release):
        context = local_context(pipeline, subject.release, subject.settings, subject.weights)
        group = local_group(parts, context, subject.release, subject.tree)
        runtime = await Runtime.started(pipeline, context, threads=subject.threads, parts=group)
        application = Application(subject.release, LOGGER, on_shutdown=runtime.unload)
        application.serve(runtime, Limits())
        server = uvicorn.Server(uvicorn.Config(application, host=host, port=port, lifespan="on"))
        await server.serve()


# -- command line --------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m wheelway.local`; returns the exit code."""
    options = _parser().parse_args(argv)
    subject = Subject(
        target=options.target,
        release=Release(
            options.pipeline or _named_as(options.target.partition(":")[2]),
            options.version,
            options.digest,
            options.environment,
            __version__,
        ),
        settings=options.settings,
        tree=options.tree,
        record_digest=options.record_digest,
        threads=options.threads,
        max_memory=options.max_memory,
        accelerated=options.accelerated,
        weights=options.weights,
        limits=Limits(request_timeout=options.request_timeout),
    )
    if options.json:
        return _print_gates(subject)
    try:
        asyncio.run(serve(subject, host=options.host, port=options.port))
    except StartFailure as failure:
        sys.stderr.write(f"{failure.reason}: {failure.message}\n{failure.tail}\n")
        return 1
    except ModuleNotFoundError as error:
        if error.name != "uvicorn":
            raise
        sys.stderr.write("serving needs uvicorn: `pip install uvicorn`, then try again\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _print_gates(subject: Subject) -> int:
    # What a pipeline prints must not end up between the lines: stdout is kept for the gates.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as lines:
        os.dup2(2, 1)

        def report(gate: Gate) -> None:
            lines.write(f"{json.dumps(asdict(gate))}\n")
            lines.flush()

        return 0 if asyncio.run(check(subject, report)) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wheelway.local", description="Check or serve a pipeline without Ray."
    )
    add = parser.add_argument
    add("target", help="module:Class, as in the entry point")
    add("--json", action="store_true", help="run the gates, one JSON object a line")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8001)
    add("--tree", type=lambda text: Path(text).absolute(), help="an unpacked wheel to import from")
    add("--record-digest", default="", help="SHA-256 of the tree's RECORD, to verify the tree by")
    add("--pipeline", default="", help="its name; default: by the class's")
    add("--version", default="0+local")
    add("--digest", default="0" * 64, help="SHA-256 of the wheel")
    add("--environment", default="", help="SHA-256 of the locked requirements")
    add("--weights", type=Path, help="the folder that it finds in context.weights")
    add("--settings", type=json.loads, default={}, help="a JSON object")
    add("--threads", type=int, default=THREADS)
    add("--max-memory", type=int, default=None, help="bytes")
    add("--request-timeout", type=float, default=Limits().request_timeout, help="seconds")
    add("--accelerated", action="store_true", help="as with a GPU: no limit but --max-memory")
    return parser


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # A stage that hangs in its thread would keep the interpreter from ending.
    os._exit(code)
