"""Times in documents, and spans of time in a person's units."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, to the millisecond: for JSON."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def seconds(text: str) -> float:
    """The inverse of `iso`."""
    return datetime.fromisoformat(text).timestamp()


def ago(span: float) -> str:
    """A span of seconds in one unit, for a person: `12 s`, `3 min`, `5 h`, `9 d`."""
    span = max(0.0, span)
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if span < limit:
            return f"{int(span / size)} {unit}"
    return f"{int(span / 86_400)} d"
