"""Whether clients of a version may be sent to another: what it takes and gives, by its metadata.

A request that the former version accepts must be accepted (Confluent's schema registry calls that
BACKWARD), and a client of the former version must be able to read each result (FORWARD). So the
rules are those of oasdiff for breaking changes, and not Confluent's own for JSON Schema, by which
each new optional field of an open object is a break:

    of a request may be added     optional fields; values, types and wider bounds of a field
    of a request may go           fields (they are ignored), bounds
    of a result may be added      fields, bounds
    of a result may go            values and types of a field, as long as one of the former is left

Defaults, examples and texts are not compared. What a client sends without its being declared is
ignored by both, as pydantic does; where the former version declares that it takes any field, those
are compared too. A field of a result is missed even if it was optional.

What cannot be decided counts as incompatible: it is asked once, and a person can say so with
`allow_breaking`; clients that break cannot be asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

from controller.planning.schema_keywords import Gap, told
from controller.planning.subschemas import find_gap

SCHEMA_INCOMPATIBLE: Final = "SchemaIncompatible"

_LONGEST_PATH: Final = 200


@dataclass(frozen=True, slots=True)
class SchemaIncompatible:
    """The first thing found by which clients of the former version would fail."""

    side: Literal["input", "output"]
    path: str
    """Of the field, such as `rows[].score`; empty: all of it."""
    was: str
    now: str
    undecided: str = ""
    """Why it cannot be said; then `was` and `now` are empty."""

    @property
    def reason(self) -> str:
        """The same word in log, condition, metric, `status` and `explain`."""
        return SCHEMA_INCOMPATIBLE

    def __str__(self) -> str:
        what = f"`{self.path}` of the {self.side}" if self.path else f"the {self.side}"
        if self.undecided:
            return f"whether {what} is compatible cannot be decided: {self.undecided}"
        return f"{what} was {self.was}, and is now {self.now}"


@dataclass(frozen=True, slots=True)
class Side:
    """What a version takes, or what it gives, as its metadata says (`GET {route}`)."""

    schema: object
    """JSON Schema (draft 2020-12); of a stream, that of each item."""
    content_type: str = "application/json"
    stream: tuple[str, ...] = ()
    """The content types that a client of a stream may choose from; none: it is no stream."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """All content types that a client may choose from."""
        return self.stream or (self.content_type,)

    @classmethod
    def read(cls, document: object) -> Self:
        """Of the metadata's `input` or `output`.

        Raises:
            ValueError: it is neither.
        """
        if not isinstance(document, dict) or "schema" not in document:
            raise ValueError("a version's metadata has no `input` or `output` with a `schema`")
        stream, content_type = document.get("stream", []), document.get("content_type")
        kinds = [*stream, content_type] if isinstance(stream, list) else [None]
        if not all(isinstance(kind, str) for kind in kinds):
            raise ValueError("a version's metadata says its content types otherwise than expected")
        return cls(document["schema"], str(content_type), tuple(stream))


def incompatibility(former: tuple[Side, Side], new: tuple[Side, Side]) -> SchemaIncompatible | None:
    """Why clients of the former version may fail with the new one; None: they do not.

    Args:
        former: input and output of the version that clients know.
        new: those of the version that they would be sent to.
    """
    (asked, answered), (takes, gives) = former, new
    if asked.content_type != takes.content_type:
        return SchemaIncompatible("input", "", asked.content_type, takes.content_type)
    if (gap := find_gap(asked.schema, takes.schema, is_result=False)) is not None:
        return _told("input", gap, was=gap.sent, now=gap.read)
    if (changed := _other_form(answered, gives)) is not None:
        return changed
    if (gap := find_gap(gives.schema, answered.schema, is_result=True)) is not None:
        return _told("output", gap, was=gap.read, now=gap.sent)
    return None


def _other_form(former: Side, new: Side) -> SchemaIncompatible | None:
    """How a result comes: whole or as a stream, and in which content types."""
    offered = [set(side.kinds) for side in (former, new)]
    if former.content_type == new.content_type and offered[0] <= offered[1]:
        return None
    forms = [
        f"a stream of {' or '.join(side.stream)}" if side.stream else side.content_type
        for side in (former, new)
    ]
    return SchemaIncompatible("output", "", *forms)


def _told(side: Literal["input", "output"], gap: Gap, *, was: str, now: str) -> SchemaIncompatible:
    path = _path(gap)
    if not gap.is_certain:
        return SchemaIncompatible(side, path, "", "", gap.read or "its schemas are too different")
    return SchemaIncompatible(side, path, was, now)


def _path(gap: Gap) -> str:
    """A field's path as documents write it: `rows[].score`, `by_name.*`."""
    found = ""
    for step in gap.path:
        name = step if step.isascii() and step.isprintable() and "." not in step else told(step)
        found += name if name.startswith(("[", "(")) or not found else f".{name}"
    return found if len(found) <= _LONGEST_PATH else f"{found[:_LONGEST_PATH]}..."
