"""Ray's schema in a process of its own, which lives while it is asked: a daemon that serves for
months need not keep Ray's modules, 80 MB, for what it asks now and then.

Both ends of the pipe are here. A question goes in as a pickle, since YAML has more than JSON; an
answer comes out as a line of JSON, within a time and a size. The process ends by itself when
nothing was asked for a while, and when its standard input ends, as it does however the daemon does.
Signals meant for the daemon's whole group leave it be, so that a pass comes to its end. Whatever
becomes of it is Waiting, for nobody's document is at fault; what broke it is left alone for a
while, and others are asked of another process meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import select
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
from controller.serve.schema import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from controller.model import JSON

START = 60.0
"""Seconds for importing Ray; two where nothing else wants the processor."""
START_WAIT = 5.0
"""Seconds of that in which who asks waits for it; after them it begins beside the passes."""
ANSWER = 10.0
"""Seconds for an answer; milliseconds as a rule."""
IDLE = 60.0
"""Seconds without a question after which it ends."""
_MARGIN = 10.0
"""Seconds before that in which it is asked nothing any more, as it may be about to end."""
_LIMIT = 16 * 2**20
"""Bytes of an answer."""
_REMEMBERED = 64
"""Questions that broke it, of which is known how often."""
_FORGOTTEN = 3600.0
"""Seconds after which one that would be asked again, and was not, is none any more."""
COMMAND = (sys.executable, "-P", "-m", __name__, str(IDLE))


class SchemaProcess:
    """An `Asker` whose answers are another process's. Threads may share it.

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
        """What failed, by question ("" is the start): how often, left alone until when, and how."""

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return None if self._child is None else self._child.pid

    def expect(self) -> None:
        """Start it, unless it is there or was broken lately."""
        with self._lock, contextlib.suppress(_Broken, Waiting):  # whoever asks is told
            self._leave_alone("")
            self._present()

    def ask(self, question: str, document: Mapping[str, JSON]) -> JSON:
        """The answer of `schema.QUESTIONS`.

        Raises:
            SchemaError: Ray would refuse the document.
            Waiting: `SchemaUnavailable`.
        """
        asked = pickle.dumps((question, document))
        key = hashlib.sha256(asked).hexdigest()
        with self._lock:
            for what in ("", key):
                self._leave_alone(what)
            what = ""
            try:
                child = self._present()
                if not child.begins_within(self._start_wait):
                    raise _starting(self._start)
                self._broken.pop(what, None)
                what = key
                said = child.answer(asked, self._answer)
            except _Broken as error:
                raise self._failed(what, str(error)) from error
            self._broken.pop(what, None)
        if "refusal" in said:
            raise SchemaError(said["path"], said["refusal"])
        return said["answer"]

    def close(self) -> None:
        """End it; who asks after that has another one started."""
        with self._lock:
            self._end()

    def _present(self) -> _Child:
        """The process, another one if it is gone."""
        if self._child is None or self._child.is_ending():
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
        now = self._clock()
        failures = self._broken.pop(what, (0,))[0] + 1
        wait = retry.delay(failures, jitter=self._jitter())
        late = sorted(self._broken.items(), key=lambda item: item[1][1])[1 - _REMEMBERED :]
        self._broken = {key: known for key, known in late if now < known[1] + _FORGOTTEN}
        self._broken[what] = failures, now + wait, how
        return _unavailable(how)


def _unavailable(how: str) -> Waiting:
    return Waiting(
        "SchemaUnavailable",
        "what is new waits until it can be checked against Ray's schema, and what serves goes on: "
        f"the process for that {how}; it is tried again, ever more seldom",
    )


def _starting(seconds: float) -> Waiting:
    return Waiting(
        "SchemaUnavailable",
        "what is new waits until it can be checked against Ray's schema, and what serves goes on: "
        f"the process for that still starts; it has {seconds:g} s for that",
    )


class _Broken(Exception):  # noqa: N818 - what the process is
    """There is no answer; the text goes on from "the process"."""


class _Child:
    """One such process, seen from the daemon."""

    def __init__(self, command: Sequence[str], start: float) -> None:
        """Starts it; it imports Ray by itself, in `start` seconds at most."""
        # It is not who tells the service manager anything.
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
        self._begun = threading.Event()
        self._failure: _Broken | None = None
        self._began_at = self._used_at = time.monotonic()
        self._last_words = b""
        self._reaper = threading.Thread(target=self._reap, name="wheelway-schema", daemon=True)
        self._reaper.start()
        self._starter = threading.Thread(
            target=self._begin, args=(start,), name="wheelway-schema-start", daemon=True
        )
        self._starter.start()

    def _reap(self) -> None:
        """Read what it complains of, and take note of its end, whenever that is."""
        with cast("IO[bytes]", self._process.stderr) as complaints:
            for line in iter(partial(complaints.readline, 1000), b""):
                self._last_words = line.strip() or self._last_words
        self._process.wait()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def is_ending(self) -> bool:
        """Whether it ended, or may at any moment; before it began, `begins_within` tells."""
        if not self._begun.is_set() or self._failure is not None:
            return False
        idle = time.monotonic() - self._used_at
        return self._process.poll() is not None or idle > IDLE - _MARGIN

    def _begin(self, seconds: float) -> None:
        """Wait until it has Ray's modules, beside all others."""
        try:
            self._line(b"", seconds)
        except _Broken as error:
            self._failure = error
        self._used_at = time.monotonic()
        self._begun.set()

    def begins_within(self, seconds: float) -> bool:
        """Whether it has Ray's modules; waits for them until so many seconds after its start.

        Raises:
            _Broken: it ended, or has not in time.
        """
        begun = self._begun.wait(max(0.0, self._began_at + seconds - time.monotonic()))
        if self._failure is not None:
            raise self._failure
        return begun

    def answer(self, asked: bytes, seconds: float) -> dict[str, Any]:
        """What it says to a question.

        Raises:
            _Broken: nothing in time, or nothing that makes sense.
        """
        line = self._line(asked, seconds)
        self._used_at = time.monotonic()
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise _Broken(f"answered {line[:100]!r}") from error
        return said

    def _line(self, asked: bytes, seconds: float) -> bytes:
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
        self._reaper.join(_MARGIN)
        said = self._last_words.decode(errors="replace") or "it did not say why"
        raise _Broken(f"ended with status {self._process.poll()}: {said}")

    def close(self) -> None:
        """End it: it has nothing to lose."""
        self._process.kill()
        self._starter.join(_MARGIN)
        self._reaper.join(_MARGIN)
        for pipe in (self._input, self._output):
            with contextlib.suppress(BrokenPipeError):  # what it did not take any more
                pipe.close()


# -- the process itself --------------------------------------------------------------------------


def main(idle: float) -> None:
    """Answer questions until there is none for so many seconds, or standard input ends."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what Ray's modules print is no answer
    signal.alarm(int(2 * START))  # whatever hangs ends, though nobody may be there to end it
    schema.preload()
    answers.write(b"ready\n")
    answers.flush()
    signal.alarm(0)
    while select.select([sys.stdin.buffer], [], [], idle)[0]:
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
