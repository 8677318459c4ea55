"""Reads a configuration file into a `Config`, with file, line and key of each mistake."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError
from pydantic_settings import SettingsError

from controller.config.credentials import RAY_TOKEN, credential, ray_token
from controller.config.settings import Config
from controller.config.sources import AnySource, Section, kinds
from controller.config.telemetry import AnyNotification
from controller.errors import ConfigError, dotted, mistakes

if TYPE_CHECKING:
    from collections.abc import Sequence

DEPTH: Final = 50
"""Most levels of tables: more than any setting needs, fewer than JSON's encoder takes."""
UNKNOWN: Final = "unknown key; see `wheelway config check --schema` for the known ones"

_Fields = TypeVar("_Fields", Config, Section)

_OF_KINDS: dict[int | str, str] = {
    "sources": f"source this is: {', '.join(kinds(AnySource))}",
    "notifications": f"notification this is: {', '.join(kinds(AnyNotification))}",
}
"""Tables whose `type` says which keys they have, and what may stand there."""


def load(path: Path) -> Config:
    """Read and validate a configuration file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or says something unknown or impossible; the
            message holds a line `file:line: key: what is wrong` for each mistake.
    """
    return parse(read(path), path)


def read(path: Path) -> str:
    """The first half of `load`: the text of the file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def parse(text: str, path: Path) -> Config:
    """The second half of `load`; `path` is for messages and relative paths."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise ConfigError(f"{path}:{line}: not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # such as a number of 5,000 digits
        raise ConfigError(f"{path}: this TOML cannot be read: {error}") from error
    if nesting(data) > DEPTH:
        raise ConfigError(f"{path}: tables and arrays are nested more than {DEPTH} deep")
    # Not fields, but what pydantic-settings itself can be told, down to reading a command line.
    if private := [key for key in data if key.startswith("_")]:
        raise ConfigError(
            "\n".join(f"{path}:{line_of(text, [k])}: {k}: {UNKNOWN}" for k in private)
        )
    try:
        config = Config(**data)
    except ValidationError as error:
        raise ConfigError("\n".join(_mistakes(error, text, path))) from error
    except SettingsError as error:  # a variable that is to hold a list or a table, and no JSON
        raise ConfigError(_unreadable_variable(error)) from error
    config, unusable = _anchored(config, path.resolve().parent)
    if unusable:
        raise ConfigError(
            "\n".join(f"{_where(k, text, path)}: {dotted(k)}: {what}" for k, what in unusable)
        )
    return _with_credentials(config)


def nesting(data: object) -> int:
    """How deep tables and arrays are nested; counted without recursion, it may be deep."""
    levels, level = 0, [data]
    while level := [
        item
        for value in level
        if isinstance(value, (dict, list))
        for item in (value.values() if isinstance(value, dict) else value)
    ]:
        levels += 1
    return levels


def _mistakes(error: ValidationError, text: str, path: Path) -> list[str]:
    lines = []
    for mistake in mistakes(error):
        keys, what = list(mistake.keys), mistake.what
        table = keys[0]
        if table in _OF_KINDS:
            del keys[2:3]  # the kind, which pydantic puts between the number and the key
        if mistake.kind == "extra_forbidden":
            what = UNKNOWN
        elif mistake.kind in {"union_tag_not_found", "union_tag_invalid"}:
            keys.append("type")
            what = f"says which kind of {_OF_KINDS[table]}"
        lines.append(f"{_where(keys, text, path)}: {dotted(keys)}: {what}")
    return lines


def _where(keys: Sequence[str | int], text: str, path: Path) -> str:
    """Where a key is set: in an environment variable, which wins, or on a line of the file."""
    given = {name.upper(): value for name, value in os.environ.items()}
    for depth in range(len(keys), 0, -1):
        name = _variable(keys[:depth])
        if name in given and (depth == len(keys) or _says(given[name], keys[depth:])):
            return f"environment variable {name}"
    return f"{path}:{line_of(text, keys)}"


def _variable(keys: Sequence[str | int]) -> str:
    """The environment variable that sets a key."""
    return f"WHEELWAY_{'__'.join(str(key) for key in keys).upper()}"


def _says(value: str, keys: Sequence[str | int]) -> bool:
    """Whether a variable's JSON sets a key below its own, or is no table at all."""
    try:
        found: object = json.loads(value)
    except ValueError:
        return True
    for key in keys:
        if isinstance(found, dict) and key not in found:
            return False
        found = found.get(key) if isinstance(found, dict) else None
    return True


def _unreadable_variable(error: SettingsError) -> str:
    found = re.search(r'field "(\w+)"', str(error))
    name = _variable([found[1]]) if found else "WHEELWAY_..."
    why = error.__cause__ or error
    return (
        f"environment variable {name}: what it sets is a table or an array, so it must be JSON, "
        f"and is not ({why})"
    )


def line_of(text: str, keys: Sequence[str | int]) -> int:
    """The 1-based line on which the deepest part of a key path that the text has is written.

    Follows table headers (`[a.b]`, `[[a]]`) and `key =` lines; good enough to point a person there.
    """
    best, best_depth = 1, 0
    here: list[str | int] = []
    counts: dict[str, int] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            name = line.strip("[]").split("]")[0].strip()
            here = list(name.split("."))
            if line.startswith("[["):
                counts[name] = counts.get(name, -1) + 1
                here.append(counts[name])
            elif (parent := name.split(".")[0]) in counts:
                here.insert(1, counts[parent])
            candidate: list[str | int] = list(here)
        elif "=" in line and not line.startswith("#"):
            candidate = [*here, *(part.strip(" \"'") for part in line.split("=")[0].split("."))]
        else:
            continue
        depth = len(candidate)
        if depth > best_depth and list(keys[:depth]) == candidate:
            best, best_depth = number, depth
    return best


def _with_credentials(config: Config) -> Config:
    """Secrets that were handed over, or lie where they always do, instead of being named."""
    if config.ray.token_file is not None:
        return config
    token = credential(RAY_TOKEN, os.environ) or ray_token(os.environ)
    if token is None:
        return config
    return config.model_copy(update={"ray": config.ray.model_copy(update={"token_file": token})})


def _anchored(config: Config, folder: Path) -> tuple[Config, list[tuple[list[str | int], str]]]:
    """Relative paths become absolute, from the configuration file's folder; also returns those that
    cannot be paths, by their keys.
    """
    unusable: list[tuple[list[str | int], str]] = []

    def anchor(value: object, keys: list[str | int]) -> object:
        if isinstance(value, Path):
            try:
                return folder / usable_path(value)
            except ValueError as error:
                unusable.append((keys, str(error)))
        elif isinstance(value, tuple):
            return tuple(anchor(item, [*keys, number]) for number, item in enumerate(value))
        elif isinstance(value, Section):
            return _each(value, keys)
        return value

    def _each(section: _Fields, keys: list[str | int]) -> _Fields:
        fields = type(section).model_fields
        return section.model_copy(
            update={key: anchor(getattr(section, key), [*keys, key]) for key in fields}
        )

    return _each(config, []), unusable


def usable_path(path: Path) -> Path:
    """A path with its `~` replaced.

    Raises:
        ValueError: it has the home of nobody that this machine knows, or a NUL.
    """
    if "\0" in str(path):
        raise ValueError("a path cannot have a NUL character")
    try:
        return path.expanduser()
    except RuntimeError as error:
        whose = path.parts[0]
        raise ValueError(f"{whose} is the home of nobody here; write the path in full") from error
