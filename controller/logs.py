"""The daemon's log: to journald with fields, to a terminal with colour, or as lines of JSON.

All rooms log through `logging`. A line that is about a kind of event says so with
`extra=about(kind, FIELD=value)`: its fields can be filtered by, and each kind has a MESSAGE_ID
(`KINDS`). The identifier of a kind and the name of a field never change.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from logging_journald import JournaldTransport

from controller.model import Phase, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from controller.config.telemetry import LogOptions
    from controller.model import Event

KINDS: Final[Mapping[str, str]] = {
    "ReleaseDiscovered": "4f946512361c4392b7b4fbf811ae9788",
    "ReleaseFetched": "2f9bf45c8ba84ae5b17d588fe5ec3ad6",
    "ReleasePrepared": "52901b5788f244119be9e6287bf7a1bd",
    "ReleaseStaged": "8aebd6d6b6e64de1885b4834143d4289",
    "ReleaseReady": "f71b588ff5a74088abfc391f5f4f9113",
    "ReleaseLive": "1d19683b536f469690c6503c8608072d",
    "ReleaseRetiring": "f029c50aaec34aef8fdd6110f38445cc",
    "ReleaseRetired": "92f34883a501433b8557ed872c6ff9ba",
    "ReleaseSuperseded": "8c6154173552446095b81e4d0d6c397d",
    "ReleaseQuarantined": "a90c7f7621dc4bb5a0c2d2ddf421accd",
    "ConditionAppeared": "d7e975975e2f45549f14309846f3ff61",
    "ConditionGone": "723c534449474c2bb7d15768da26d3dd",
    "OrderGiven": "ceb9cdda39fd4e1d934549439078c86b",
    "DaemonStarted": "c39935e6a7c84e83bff5a0483c4126fd",
    "DaemonEnding": "e649de5551914b92b22d00abffa010be",
    "PassFailed": "a0902225f43447c18d91941e6f71912a",
    "NotificationDropped": "643d9dbe9b784010a151a29d26755c41",
}
"""MESSAGE_ID of each kind of event (systemd.journal-fields(7)), as `journalctl` can filter by."""

PASS: Final[ContextVar[int]] = ContextVar("PASS", default=0)
"""Number of the pass that this thread makes; 0 outside of one."""

SOCKET_TIMEOUT: Final = 1.0
"""Seconds that a line waits for a journald that takes none."""

LOGGERS: Final = ("wheelway", "controller")
"""The loggers above all others of the daemon: its own, and that of its modules."""
_ATTRIBUTE: Final = "wheelway"
_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
"""Least level and syslog(3)'s number for it."""
_COLOURS: Final = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
"""SGR parameters (ECMA-48, 8.3.117)."""


@contextmanager
def in_pass(number: int) -> Iterator[None]:
    """Inside, lines that this thread logs carry the number of the pass."""
    outside = PASS.set(number)
    try:
        yield
    finally:
        PASS.reset(outside)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a line is about. Field names as journald wants them: capitals, digits, underscores."""

    kind: str = ""
    """A key of `KINDS`; empty for a line of no particular kind."""
    fields: Mapping[str, str] = field(default_factory=dict)


def about(kind: str = "", **fields: str) -> dict[str, Entry]:
    """The `extra` of a log call; fields without a value are left out."""
    return {_ATTRIBUTE: Entry(kind, {name: value for name, value in fields.items() if value})}


def tell(log: logging.Logger, event: Event, *, digest: str = "") -> None:
    """An event of the journal as a line of the log; failures stand out.

    Args:
        log: where to.
        event: a release's step, a condition that came or went, or what a person ordered.
        digest: of the release that the event is about, where the event does not have it.
    """
    phase, change = event.fields.get("phase", ""), event.fields.get("condition", "")
    by = event.fields.get("by", "")
    bad = phase == Phase.QUARANTINED or (change == "appeared" and not event.fields.get("ok"))
    of_release = f"Release{phase}" if phase else "OrderGiven" if by else ""
    kind = f"Condition{change.capitalize()}" if change else of_release
    release = named(event.subject)
    pipeline, version = release or tuple(
        event.fields.get(name, "") for name in ("pipeline", "version")
    )
    extra = about(
        kind if kind in KINDS else "",
        SUBJECT=event.subject,
        RELEASE=event.subject if release else "",
        PIPELINE=pipeline,
        VERSION=version,
        DIGEST=event.fields.get("digest") or digest,
        PHASE=phase,
        REASON=event.reason,
        PLACEMENT=event.fields.get("placement", ""),
        ORDERED_BY=by,
    )
    said = f"{phase}, {event.reason}" if phase else event.reason
    level = logging.WARNING if bad else logging.INFO
    log.log(level, "%s %s: %s", event.subject, said, event.message, extra=extra)


def tells_event(record: logging.LogRecord) -> bool:
    """Whether a line is of an event in the journal (`tell`)."""
    return "SUBJECT" in _entry(record).fields


def begin(
    options: LogOptions,
    *,
    level: int | None = None,
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Have everything logged as the configuration says, from now on, in place of what was before.

    Args:
        options: `[log]`.
        level: instead of the configured one.
        stream: for text and JSON; default: stderr.
        environ: JOURNAL_STREAM (systemd.exec(5)) and NO_COLOR (https://no-color.org).
    """
    stream = stream or sys.stderr
    connected = is_journal(stream, environ.get("JOURNAL_STREAM", ""))
    fits = "journal" if connected else "text"
    form = fits if options.format == "auto" else options.format
    output: logging.Handler = logging.StreamHandler(stream)
    if form == "json":
        output.setFormatter(JsonLines())
    else:
        colour = stream.isatty() and not environ.get("NO_COLOR")
        output.setFormatter(Readable(colour=colour, dated=not connected))
    if form == "journal":
        output = ToJournal(otherwise=output)
    least = logging.getLevelName(options.level.upper()) if level is None else level
    logging.basicConfig(level=least, handlers=[output], force=True)
    # Libraries that log a line for every request and each of its steps.
    for talkative in ("asyncio", "botocore", "httpcore", "httpx", "urllib3"):
        logging.getLogger(talkative).setLevel(max(least, logging.WARNING))


def is_journal(stream: TextIO, journal_stream: str) -> bool:
    """Whether a stream is what systemd connected with journald: JOURNAL_STREAM, device:inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no real file
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


# -- forms ---------------------------------------------------------------------------------------


class Readable(logging.Formatter):
    """`2026-01-31 14:03:07 WARNING what happened`, the rest of several lines indented."""

    def __init__(self, *, colour: bool, dated: bool) -> None:
        super().__init__("%(message)s")
        self._colour = colour
        self._dated = dated

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said = _printable(super().format(record)).replace("\n", "\n    ")
        at = datetime.fromtimestamp(record.created).astimezone()
        when = f"{at:%Y-%m-%d %H:%M:%S} " if self._dated else ""
        level = f"{record.levelname:7}"
        if self._colour:
            when = _coloured(when, "2")
            said = _coloured(said, _COLOURS.get(record.levelname, ""))
            level = _coloured(level, _COLOURS.get(record.levelname, "36"))
        return f"{when}{level} {said}"


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, message, logger; and, where they are known, kind,
    message_id, pass, traceback, and the fields in lower case. Keys are only ever added.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = _entry(record)
        document: dict[str, Any] = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if entry.kind:
            document |= {"kind": entry.kind, "message_id": KINDS[entry.kind]}
        if number := PASS.get():
            document["pass"] = number
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        document |= {name.lower(): value for name, value in entry.fields.items()}
        return _encodable(json.dumps(document, ensure_ascii=False))


class ToJournal(logging.Handler):
    """journald's native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/). A line that it does
    not take goes to `otherwise`.
    """

    def __init__(
        self,
        *,
        otherwise: logging.Handler,
        path: Path | None = None,
        timeout: float = SOCKET_TIMEOUT,
    ) -> None:
        """`path` is journald's socket; it may be gone for a while: each line finds it anew."""
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # what else is known goes into fields
        self._transport = JournaldTransport(socket_path=path, connected=False)
        # The kernel waits, not Python: Python asks poll(2) first, which calls a buffer full as soon
        # as a quarter of it is (`unix_writable` in Linux's net/unix/af_unix.c).
        timeval = struct.pack("@ll", int(timeout), int(timeout % 1 * 1e6))  # socket(7)
        self._transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        self._otherwise = otherwise

    def emit(self, record: logging.LogRecord) -> None:
        """Send it."""
        try:
            self._transport.send((name, _encodable(said)) for name, said in self._fields(record))
            self._transport.socket.setblocking(True)
        except OSError:
            self._transport.socket.setblocking(False)  # until it takes something, none waits again
            self._otherwise.handle(record)
        except Exception:  # noqa: BLE001 - logging's rule: a line that cannot be formed ends nothing
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._transport.socket.close()
        self._otherwise.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> list[tuple[str, str]]:
        entry = _entry(record)
        found = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(_priority(record.levelno)),
            "SYSLOG_IDENTIFIER": "wheelway",
            "MESSAGE_ID": KINDS.get(entry.kind, ""),
            "PASS": str(PASS.get() or ""),
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName or "",
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            **entry.fields,
        }
        return [(name, value) for name, value in found.items() if value]


def _entry(record: logging.LogRecord) -> Entry:
    found = getattr(record, _ATTRIBUTE, None)
    return found if isinstance(found, Entry) else Entry()


def _priority(level: int) -> int:
    return next((number for least, number in _PRIORITIES if level >= least), 7)


def _coloured(text: str, parameters: str) -> str:
    return f"\x1b[{parameters}m{text}\x1b[0m" if parameters and text else text


def _printable(text: str) -> str:
    """Without control characters: what a wheel says must not steer a person's terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def _encodable(text: str) -> str:
    """Undecodable bytes of a file name become escapes: both forms are UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
