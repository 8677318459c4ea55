"""Whether a reader takes all that a writer may send, by their JSON Schemas (draft 2020-12).

Of a request the writers are clients of the former version and the new one reads; of a result the
new version writes and clients of the former one read. Whoever is silent on fields that it does not
declare sends none of them, and ignores those that come: JSON Schema alone would take every new
optional field for a break, since the former allowed that name with any value.

What cannot be decided is a gap too, and says so. Nothing of a schema is run, not even a pattern: a
schema may come from a replica, so its size, its depth and the work it makes are bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from controller.planning.schema_keywords import (
    ANNOTATIONS,
    COMPARED,
    DEEPEST,
    NEVER,
    Gap,
    OddSchemaError,
    Path,
    Schema,
    by_type,
    canonical,
    constant,
    count_gap,
    kinds,
    listed,
    measure,
    number,
    number_gap,
    others,
    required,
    schema_of,
    strange,
    string_gap,
    table,
    told,
    type_gap,
    types,
    value_gap,
    without_words,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_STEPS: Final = 100_000
"""Of one comparison, which take about a second: unions of unions cost the product of both."""
_TOGETHER: Final = (
    frozenset(("properties", "patternProperties", "additionalProperties")),
    frozenset(("items", "prefixItems")),
    frozenset(("anyOf",)),
    frozenset(("oneOf",)),
)
"""Keywords that mean something else beside one another, or would hide the fields that one of two
schemas declares."""


def find_gap(writer: object, reader: object, *, is_result: bool) -> Gap | None:
    """The first thing found that the writer may send and the reader refuses.

    Args:
        writer: the schema of what is sent.
        reader: the schema of what is taken.
        is_result: the reader misses fields that it knows and the writer does not, required or not;
            and what the writer does not declare never comes, be the reader as strict as it likes.
    """
    try:
        measure(writer)
        measure(reader)
        if canonical(without_words(writer)) == canonical(without_words(reader)):
            return None
        return _Comparison(schema_of(writer), schema_of(reader), is_result).whole()
    except OddSchemaError as error:
        return Gap((), "", str(error), is_certain=False)


@dataclass(slots=True)
class _Comparison:
    """One comparison: the documents that references lead into, and what it has cost so far."""

    writer: Schema
    reader: Schema
    is_result: bool
    steps: int = 0
    begun: dict[tuple[int, int], int] = field(default_factory=dict)
    """Pairs of schemas that are being compared, by where in a value that began. Such a pair met
    again further down the value holds if all else does: values are finite."""
    values: dict[int, frozenset[str]] = field(default_factory=dict)
    """Of each `enum` that was read."""

    def whole(self) -> Gap | None:
        return self.compare(self.writer, self.reader, ())

    def compare(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        self._spend()
        if len(path) > DEEPEST:
            raise OddSchemaError(f"fields are nested more than {DEEPEST} levels deep")
        if read.keys() <= ANNOTATIONS:
            return None  # it takes anything, however deep
        if not read.keys() <= COMPARED and _is_the_same(sent, read):
            return None
        for piece in self._pieces(sent):
            if (gap := self._read_by(piece, read, path)) is not None:
                if gap.is_of_type and gap.path == path:
                    return Gap(path, self._kind(sent, self.writer), self._kind(read, self.reader))
                return gap
        return None

    def _spend(self, depth: int = 0) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS or depth > DEEPEST:
            raise OddSchemaError("the schemas' references and unions are too many to be followed")

    # -- what a schema is made of ------------------------------------------------------------------

    def _all_of(self, schema: Schema, root: Schema, depth: int = 0) -> Iterator[Schema]:
        """The schemas that hold of a value together, without references."""
        self._spend(depth)
        if "$ref" not in schema and "allOf" not in schema:
            yield schema
            return
        if "$ref" in schema:
            yield from self._all_of(_target(schema["$ref"], root), root, depth + 1)
        for part in listed(schema, "allOf"):
            yield from self._all_of(schema_of(part), root, depth + 1)
        kept = schema.keys() - ANNOTATIONS - {"$ref", "allOf"}
        if kept:
            yield {key: schema[key] for key in schema if key in kept}

    def _pieces(self, schema: Schema, depth: int = 0) -> Iterator[Schema]:
        """What a writer sends by a schema, as schemas of one type or one value each. To leave out a
        bound of a writer is safe: it is then taken to send more than it does.
        """
        self._spend(depth)
        parts = list(self._all_of(schema, self.writer, depth))
        whole = _joined(parts)
        for key in ("anyOf", "oneOf"):
            if key in whole:
                kept = whole.keys() - ANNOTATIONS - {key}
                beside = {word: whole[word] for word in whole if word in kept}
                for branch in listed(whole, key):
                    yield from self._pieces(_joined([schema_of(branch), beside]), depth + 1)
                return
        if "const" in whole or "enum" in whole:
            values = [whole["const"]] if "const" in whole else listed(whole, "enum")
            extra = {key: whole[key] for key in whole.keys() - ANNOTATIONS - {"enum", "type"}}
            allowed = types(whole)
            for value in values:
                piece = {**extra, **constant(value)}
                if not allowed or not type_gap(piece, {"type": list(allowed)}, ()):
                    yield piece
            return
        yield from by_type(whole)

    # -- one piece against a reader ----------------------------------------------------------------

    def _read_by(self, sent: Schema, read: Schema, path: Path, depth: int = 0) -> Gap | None:
        for part in self._all_of(read, self.reader):
            self._spend(depth)
            pair = id(sent), id(part)
            if (at := self.begun.get(pair)) is not None:
                if at == len(path):
                    raise OddSchemaError("a schema refers to itself without an end")
                continue
            self.begun[pair] = len(path)
            gap = self._one_read_by(sent, part, path, depth)
            del self.begun[pair]
            if gap is not None:
                return gap
        return None

    def _one_read_by(self, sent: Schema, read: Schema, path: Path, depth: int) -> Gap | None:
        return (
            strange(sent, read, path)
            or type_gap(sent, read, path)
            or value_gap(sent, read, path, self.values)
            or self._one_of(sent, read, "anyOf", path, depth)
            or self._one_of(sent, read, "oneOf", path, depth)
            or self._by_type(sent, read, path)
        )

    def _by_type(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        """Of the keywords that a type has."""
        match sent["type"]:
            case "integer" | "number":
                return number_gap(sent, read, path)
            case "string":
                return string_gap(sent, read, path) or self._content_gap(sent, read, path)
            case "array":
                return count_gap(sent, read, path, "Items") or self._array_gap(sent, read, path)
            case "object":
                return self._object_gap(sent, read, path)
        return None

    def _one_of(self, sent: Schema, read: Schema, key: str, path: Path, depth: int) -> Gap | None:
        """The gap to the likeliest of a reader's alternatives, if none of them takes it."""
        if key not in read:
            return None
        branches = [schema_of(branch) for branch in listed(read, key)]
        if key == "oneOf" and "discriminator" not in read and len(branches) > 1:
            return Gap(
                path, "", "`oneOf` without a discriminator is not compared", is_certain=False
            )
        gaps = []
        for branch in self._of_same_tag(sent, read, branches):
            if (gap := self._read_by(sent, branch, path, depth + 1)) is None:
                return None
            gaps.append(gap)
        # What is not decided may be no gap at all; the deepest is of the alternative most alike.
        near = [gap for gap in gaps if not gap.is_certain] or [
            gap for gap in gaps if not gap.is_of_type
        ]
        if near:
            return max(near, key=lambda gap: len(gap.path))
        kinds_of_both = self._kind(sent, self.writer), self._kind(read, self.reader)
        return Gap(path, *kinds_of_both, is_of_type=True)

    def _of_same_tag(self, sent: Schema, read: Schema, branches: list[Schema]) -> list[Schema]:
        """The alternatives that have what is sent in the discriminating field, where there is one;
        so that a gap is told of the right one.
        """
        name = table(read, "discriminator").get("propertyName")
        if not isinstance(name, str) or name not in (fields := table(sent, "properties")):
            return branches
        tag = canonical(schema_of(fields[name]).get("const"))
        same = [
            branch
            for branch in branches
            for part in self._all_of(branch, self.reader)
            if canonical(schema_of(table(part, "properties").get(name, {})).get("const")) == tag
        ]
        return same or branches

    def _content_gap(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        """Of JSON within a string."""
        if "contentSchema" not in read:
            return None
        inner = schema_of(sent.get("contentSchema", True)), schema_of(read["contentSchema"])
        return self.compare(*inner, (*path, "(content)"))

    def _array_gap(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        most = number(sent, "maxItems", math.inf)
        if read.get("uniqueItems") is True and sent.get("uniqueItems") is not True and most > 1:
            return Gap(path, "with items that repeat", "without items that repeat")
        firsts = listed(sent, "prefixItems"), listed(read, "prefixItems")
        length = max(map(len, firsts))
        for place in range(length + 1):
            if place >= most:
                return None
            step = f"[{place}]" if place < length else "[]"
            sends, takes = (
                schema_of(first[place] if place < len(first) else schema.get("items", True))
                for first, schema in zip(firsts, (sent, read), strict=True)
            )
            if (gap := self.compare(sends, takes, (*path, step))) is not None:
                return gap
        return None

    # -- objects -----------------------------------------------------------------------------------

    def _object_gap(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        return (
            self._fields_gap(sent, read, path)
            or self._missing_gap(sent, read, path)
            or self._others_gap(sent, read, path)
            or self._names_gap(sent, read, path)
            or self._counts_gap(sent, read, path)
        )

    def _missing_gap(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        """Of fields that the reader knows and the writer may leave out."""
        known, given = table(sent, "properties"), required(sent)
        if self.is_result and (gone := sorted(table(read, "properties").keys() - known.keys())):
            return Gap((*path, gone[0]), "dropped", "there")
        for name in sorted(required(read) - given):
            return Gap((*path, name), "optional" if name in known else "not there", "required")
        return None

    def _fields_gap(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        """Of the fields that the writer declares."""
        wanted = table(read, "properties")
        if table(read, "patternProperties"):
            return self._patterns_gap(sent, read, path)
        for name, field_sent in table(sent, "properties").items():
            taken = schema_of(wanted[name] if name in wanted else others(read, default=True))
            at = (*path, name)
            if name not in wanted and taken is NEVER:
                return Gap(at, "there", "refused")
            if (gap := self.compare(schema_of(field_sent), taken, at)) is not None:
                return gap
        return None

    def _patterns_gap(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        """Fields by patterns of their names are compared where the patterns are the same."""
        here, there = table(sent, "patternProperties"), table(read, "patternProperties")
        declared = table(sent, "properties") or table(read, "properties")
        comes = others(sent, default=False) is not False
        if declared or comes or here.keys() != there.keys():
            why = "fields by patterns of their names are not compared"
            return Gap(path, "", why, is_certain=False)
        for pattern, schema in here.items():
            gap = self.compare(schema_of(schema), schema_of(there[pattern]), (*path, "*"))
            if gap is not None:
                return gap
        return None

    def _others_gap(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        """Of the fields that the writer does not declare."""
        if table(read, "patternProperties"):
            return None  # nothing else comes, says _patterns_gap
        at = (*path, "*")
        sends, takes = others(sent, default=None), others(read, default=True)
        patterns = [schema_of(each) for each in table(sent, "patternProperties").values()]
        if sends is None and not patterns:
            if not self.is_result and takes not in (True, {}):
                return Gap(at, "ignored when it is not declared", "refused then")
            return None
        anything = [] if sends is None else [schema_of(sends)]
        for schema in (*anything, *patterns):
            for name, wanted in table(read, "properties").items():
                if name not in table(sent, "properties"):
                    gap = self.compare(schema, schema_of(wanted), (*path, name))
                    if gap is not None:
                        return gap
            if (gap := self.compare(schema, schema_of(takes), at)) is not None:
                return gap
        return None

    def _names_gap(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        if "propertyNames" not in read:
            return None
        at, wanted = (*path, "(name)"), schema_of(read["propertyNames"])
        for name in table(sent, "properties"):
            if (gap := self.compare({"const": name}, wanted, at)) is not None:
                return gap
        if others(sent, default=not self.is_result) is False and "patternProperties" not in sent:
            return None
        names = _joined([{"type": "string"}, schema_of(sent.get("propertyNames", {}))])
        return self.compare(names, wanted, at)

    def _counts_gap(self, sent: Schema, read: Schema, path: Path) -> Gap | None:
        most = number(sent, "maxProperties", math.inf)
        silent = False if self.is_result else None
        if others(sent, default=silent) is False and "patternProperties" not in sent:
            most = min(most, len(table(sent, "properties")))
        fewest = max(number(sent, "minProperties", 0), len(required(sent)))
        bounds = {"minProperties": fewest} | ({} if most == math.inf else {"maxProperties": most})
        return count_gap(bounds, read, path, "Properties")

    def _kind(self, schema: Schema, root: Schema) -> str:
        """What a schema allows, in a word or two for a person."""
        found: list[str] = []
        for part in self._all_of(schema, root):
            for key in ("anyOf", "oneOf"):
                for branch in listed(part, key):
                    for each in self._all_of(schema_of(branch), root):
                        found += kinds(each)
            found += kinds(part)
        return " or ".join(dict.fromkeys(found)) or "anything"


def _target(ref: object, root: Schema) -> Schema:
    """What a reference within a document leads to."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        raise OddSchemaError(f"the reference {told(ref)} leads out of its document")
    found: Any = root
    for step in ref[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            raise OddSchemaError(f"the reference {told(ref)} leads nowhere")
        found = found[name]
    return schema_of(found)


def _joined(parts: list[Schema]) -> Schema:
    """A writer's schemas that hold together as one, which may lack a bound of the later ones."""
    whole = parts[0]
    for part in filter(None, parts[1:]):
        for group in _TOGETHER:
            if group & whole.keys() and group & part.keys():
                raise OddSchemaError(
                    "fields, or items, of several schemas at once are not compared"
                )
        whole = {**part, **whole}
    return whole


def _is_the_same(sent: Schema, read: Schema) -> bool:
    """Whether both are one schema, wherever they stand."""
    text = canonical(sent)
    return text == canonical(read) and '"$ref"' not in text
