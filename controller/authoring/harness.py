"""Runs `wheelway.local` in a process of its own, and takes its reports.

It reports each gate as a line of JSON on its stdout; what the pipeline prints goes into a log. In
the end the process and all that it started are killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
from typing import TYPE_CHECKING

from controller.errors import Rejected, Stalled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from controller.authoring.wishes import Wished
    from controller.cache.environments.base import Base
    from controller.model import JSON, Artifact, Environment

_CHUNK = 1 << 20
_POLL = 0.2  # seconds between two looks whether the process lives, while its pipe says nothing
_TAIL = 8192  # bytes of what a process said that are worth showing


def command_of(
    artifact: Artifact,
    environment: Environment,
    found: Base,
    pipeline: Wished,
    weights: Path | None,
) -> list[str]:
    """What tries a pipeline as its replicas start it, with the folder of these weights."""
    options = {
        "tree": artifact.tree,
        "record-digest": artifact.record_digest,
        "pipeline": pipeline.entry.name,
        "version": artifact.version,
        "digest": artifact.digest,
        "environment": environment.lock_digest,
        "weights": weights,
        "settings": json.dumps(pipeline.settings),
        "threads": pipeline.options.threads,
        "max-memory": pipeline.options.max_memory,
        "request-timeout": pipeline.options.request_timeout,
    }
    python = environment.python or str(found.python)
    # A GPU of a part as well: all of them run in this one process.
    actors = [one.ray_actor_options for one in (pipeline.options, *pipeline.parts.values())]
    return [
        *(python, "-P", "-m", "wheelway.local", "--json", pipeline.entry.target),
        *(f"--{key}={value}" for key, value in options.items() if value is not None),
        *(("--accelerated",) if any(actor and actor.num_gpus for actor in actors) else ()),
    ]


@contextlib.contextmanager
def started(
    command: Sequence[str],
    environ: Mapping[str, str],
    folder: Path,
    *,
    clock: Callable[[], float],
) -> Iterator[Harness]:
    """The process, while the block lasts; `folder` is its current one and gets its log.

    Raises:
        Stalled: `PythonUnusable`, the interpreter does not start.
    """
    log = folder / "log"
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**environ, "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,  # a process group of its own
            )
    except OSError as error:
        raise Stalled(
            "PythonUnusable", f"{command[0]} does not start: {error}; see to that first"
        ) from error
    with process:
        try:
            yield Harness(process, log, clock)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


class Harness:
    """A running one. Deadlines are on the clock that `started` was given."""

    def __init__(
        self, process: subprocess.Popen[bytes], log: Path, clock: Callable[[], float]
    ) -> None:
        self._process = process
        self._log = log
        self._clock = clock

    def reports(self, deadline: float) -> Iterator[dict[str, JSON]]:
        """The lines that it writes, until it has ended or the deadline passed.

        The pipe's end alone would not do: what the pipeline started may hold it open.
        """
        pipe, pending = self._process.stdout, b""
        if pipe is None:  # cannot be: it was asked for
            return
        os.set_blocking(pipe.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while (left := deadline - self._clock()) > 0:
                over = self._process.poll() is not None  # before the look: nothing comes after it
                readable = selector.select(0 if over else min(left, _POLL))
                chunk = os.read(pipe.fileno(), _CHUNK) if readable else b""
                *lines, pending = (pending + chunk).split(b"\n")
                yield from map(json.loads, lines)
                if not chunk and (over or readable):
                    return

    def ended(self, deadline: float, allowed: float) -> Rejected:
        """The error of an end before all gates were reported; `allowed` is in seconds."""
        tail = self._last_words()
        try:
            code = self._process.wait(max(0.0, deadline - self._clock()))
        except subprocess.TimeoutExpired:
            return Rejected(
                "StartTimeout",
                f"not ready {allowed:g} s after its start: it hangs here, or takes longer than "
                "`rollout.ready_deadline`",
                log_tail=tail,
            )
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Rejected(
            "ReplicaDied",
            f"the process ended here with {how}: the pipeline left by os._exit, crashed in native "
            "code, or was killed for memory",
            log_tail=tail,
        )

    def _last_words(self) -> str:
        with self._log.open("rb") as stream:
            stream.seek(-min(_TAIL, stream.seek(0, os.SEEK_END)), os.SEEK_END)
            return stream.read().decode(errors="replace").strip()
