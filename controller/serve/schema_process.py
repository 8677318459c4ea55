"""Ray's schema in a process of its own, which lives while it is asked: a daemon that runs for
months need not keep Ray's modules, 80 MB, for a question now and then.

Both ends of the pipe are here. A question goes in as a pickle, since YAML has more than JSON; an
answer comes out as a line of JSON, within a time and a size. The process ends by itself when
nothing was asked for a while, and when its standard input ends, as it does however the daemon does.
Signals meant for the daemon's whole group do not end it, so that a pass comes to its end. Its
failures are Waiting, for no document is at fault; a question that broke it is left alone for a
while, and others go to another process meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from random import random
from typing import IO, TYPE_CHECKING, Any, cast

from controller import retry
from controller.errors import Waiting
from controller.serve import schema
from controller.serve.schema import Asker, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from controller.model import JSON

START = 60.0
"""Seconds for importing Ray; it takes two on an idle machine."""
START_WAIT = 5.0
"""Seconds for which a question waits for the start; after that it goes on beside the passes."""
ANSWER = 10.0
"""Seconds for an answer; milliseconds as a rule."""
IDLE = 60.0
"""Seconds without a question after which it ends."""
_MOMENT = 10.0
"""Seconds for what comes at once: the end of a killed process, the rest of a line."""
_LIMIT = 16 * 2**20
"""Bytes of an answer."""
REMEMBERED = 64
"""Questions that broke it, of which the count is kept."""
COMMAND = (sys.executable, "-P", "-m", __name__, str(IDLE))


class SchemaProcess(Asker):
    """Has another process answer. Threads may share it.

    `command` is what is started; `start`, `start_wait` and `answer` are seconds; `jitter` is in
    [0, 1).
    """

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        start: float = START,
        start_wait: float = START_WAIT,
        answer: float = ANSWER,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._command = command
        self._start, self._start_wait, self._answer = start, start_wait, answer
        self._clock, self._jitter = clock, jitter
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._broken: dict[str, tuple[int, float, str]] = {}
        """Failures by question ("" is the start): how many, until when it rests, and why."""

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return None if self._child is None else self._child.pid

    def expect(self) -> None:
        """Start it, unless it is there or was broken lately."""
        with self._lock, contextlib.suppress(_Broken, Waiting):  # the next question tells
            self._leave_alone("")
            self._present()

    def ask(self, question: str, document: Mapping[str, JSON]) -> JSON:
        """As `Asker` has it.

        Raises:
            SchemaError: Ray would refuse the document.
            Waiting: `SchemaStarting`, with which nothing is wrong, or `SchemaUnavailable`.
        """
        asked = pickle.dumps((question, document))
        key = hashlib.sha256(asked).hexdigest()
        with self._lock:
            for what in ("", key):
                self._leave_alone(what)
            try:
                # One that ended by itself in this moment is no failure: another one is asked.
                said = self._said(asked) or self._said(asked)
                if said is None:
                    raise _Broken("ended instead of answering")  # noqa: TRY301 - as it is told
            except _Broken as error:
                is_ready = self._child is not None and self._child.is_ready
                raise self._failed(key if is_ready else "", str(error)) from error
            self._broken.pop(key, None)
        if "refusal" in said:
            raise SchemaError(said["path"], said["refusal"])
        return said["answer"]

    def close(self) -> None:
        """End it; a later question starts another one."""
        with self._lock:
            self._end()

    def _said(self, asked: bytes) -> dict[str, Any] | None:
        """The answer; None when the process ended by itself."""
        child = self._present()
        if not child.begins_within(self._start_wait):
            raise Waiting(
                "SchemaStarting",
                "what is new waits until it can be checked against Ray's schema, and what serves "
                f"goes on: the process for that still starts; it has {self._start:g} s for it",
            )
        self._broken.pop("", None)
        return child.answer(asked, self._answer)

    def _present(self) -> _Child:
        """The process, another one if it is gone."""
        if self._child is None or self._child.is_over():
            self._end()
            self._child = _Child(self._command, self._start)
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _leave_alone(self, what: str) -> None:
        _, until, how = self._broken.get(what, (0, 0.0, ""))
        if self._clock() < until:
            raise _unavailable(how)

    def _failed(self, what: str, how: str) -> Waiting:
        self._end()
        how = f"{how}; it is tried again, ever more seldom"
        failures = self._broken.pop(what, (0,))[0] + 1
        until = self._clock() + retry.delay(failures, jitter=self._jitter())
        self._broken[what] = failures, until, how
        if len(self._broken) > REMEMBERED:
            del self._broken[next(iter(self._broken))]
        return _unavailable(how)


def _unavailable(how: str) -> Waiting:
    return Waiting(
        "SchemaUnavailable",
        "what is new waits until it can be checked against Ray's schema, and what serves goes on: "
        f"the process for that {how}",
    )


class _Broken(Exception):  # noqa: N818 - what the process is
    """There is no answer; the text continues "the process"."""


class _Child:
    """One such process, seen from the daemon."""

    def __init__(self, command: Sequence[str], start: float) -> None:
        """Starts it; it imports Ray by itself, in `start` seconds at most."""
        # It has nothing to tell the service manager.
        environ = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, env=environ
            )
        except OSError as error:
            raise _Broken(f"could not be started: {error}") from error
        # They are there, as they were asked for.
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        self._began_at, self._start = time.monotonic(), start
        self.is_ready = False
        """Whether it is known to have Ray's modules."""
        self._last_words = b""
        self._reaper = threading.Thread(target=self._reap, name="wheelway-schema", daemon=True)
        self._reaper.start()

    def _reap(self) -> None:
        """Read its standard error, and note its end, whenever that is."""
        with cast("IO[bytes]", self._process.stderr) as complaints:
            for line in iter(partial(complaints.readline, 1000), b""):
                self._last_words = line.strip() or self._last_words
        self._process.wait()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def is_over(self) -> bool:
        """Whether it has ended, but for one that could not start, of which `begins_within` tells:
        by itself, or because it was killed.
        """
        status = self._process.poll()
        return status == 0 or (status is not None and self.is_ready)

    def begins_within(self, seconds: float) -> bool:
        """Whether it has Ray's modules; waits for them until so many seconds after its start.

        Raises:
            _Broken: it ended, or has not in time.
        """
        if not self.is_ready:
            until = self._began_at + min(seconds, self._start)
            if _comes(self._output, until - time.monotonic()):
                self._line(b"", _MOMENT)
                self.is_ready = True
            elif time.monotonic() >= self._began_at + self._start:
                raise _Broken(f"said nothing for {self._start:g} s")
        return self.is_ready

    def answer(self, asked: bytes, seconds: float) -> dict[str, Any] | None:
        """What it says to a question; None when it ended by itself.

        Raises:
            _Broken: nothing in time, or nothing that makes sense.
        """
        line = self._line(asked, seconds)
        try:
            said: dict[str, Any] | None = json.loads(line) if line else None
        except ValueError as error:
            raise _Broken(f"answered {line[:100]!r}") from error
        return said

    def _line(self, asked: bytes, seconds: float) -> bytes:
        """The next line; none when it ended by itself."""
        timer = threading.Timer(seconds, self._process.kill)  # which ends any write or read
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # it may have said something all the same
                self._input.write(asked)
                self._input.flush()
            line = self._output.readline(_LIMIT)
        finally:
            on_time = timer.is_alive()
            timer.cancel()
        if line.endswith(b"\n"):
            return line
        if len(line) == _LIMIT:
            raise _Broken(f"answered more than {_LIMIT} bytes")
        if not on_time:
            raise _Broken(f"said nothing for {seconds:g} s")
        self._reaper.join(_MOMENT)
        if self._process.poll() == 0 and not line and self.is_ready:
            return line
        said = self._last_words.decode(errors="replace") or "it did not say why"
        raise _Broken(f"ended with status {self._process.poll()}: {said}")

    def close(self) -> None:
        """End it: it has nothing to lose."""
        self._process.kill()
        self._reaper.join(_MOMENT)
        for pipe in (self._input, self._output):
            with contextlib.suppress(BrokenPipeError):  # what it did not take any more
                pipe.close()


def _comes(pipe: IO[bytes], seconds: float) -> bool:
    """Whether something, or the end, comes within so many seconds."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(max(0.0, seconds)))


# -- the process itself --------------------------------------------------------------------------


def main(idle: float) -> None:
    """Answer questions until none comes for `idle` seconds, or standard input ends."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what Ray's modules print is no answer
    signal.alarm(int(2 * START))  # it ends even if it hangs and the daemon is gone
    schema.preload()
    answers.write(b"ready\n")
    answers.flush()
    signal.alarm(0)
    while _comes(sys.stdin.buffer, idle):
        try:
            question, document = pickle.load(sys.stdin.buffer)  # noqa: S301 - the daemon's own
        except EOFError:
            break
        signal.alarm(int(2 * ANSWER))
        said: dict[str, Any]
        try:
            said = {"answer": schema.QUESTIONS[question](document)}
        except SchemaError as error:
            said = {"path": error.path, "refusal": error.message}
        answers.write(json.dumps(said).encode() + b"\n")
        answers.flush()
        signal.alarm(0)
    os._exit(0)  # Ray's modules have nothing to tidy up


if __name__ == "__main__":
    main(float(sys.argv[1]))
