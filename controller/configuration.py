"""From the text of a configuration file to a `Config`, with file, line and key of each mistake."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from controller.config import Config
from controller.credentials import RAY_TOKEN, credential
from controller.errors import ConfigError
from controller.source_options import AnySource, Section, kinds
from controller.telemetry_options import AnyNotification

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    try:
        config = Config(**data)
    except ValidationError as error:
        raise ConfigError("\n".join(_mistakes(error, text, path))) from error
    return _with_credentials(_anchored(config, path.resolve().parent))


def _mistakes(error: ValidationError, text: str, path: Path) -> list[str]:
    lines = []
    for mistake in error.errors(include_url=False):
        keys = list(mistake["loc"])
        table = keys[0]
        if table in _OF_KINDS:
            del keys[2:3]  # the kind, which pydantic puts between the number and the key
        what = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            what = "unknown key; see `wheelway config check --schema` for the known ones"
        elif mistake["type"] in {"union_tag_not_found", "union_tag_invalid"}:
            keys.append("type")
            what = f"says which kind of {_OF_KINDS[table]}"
        line = line_of(text, keys)
        dotted = ".".join(str(key) for key in keys)
        lines.append(f"{path}:{line}: {dotted}: {what}")
    return lines


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
    """Secrets that were handed over instead of being named in the file."""
    if config.ray.token_file is not None or (token := credential(RAY_TOKEN, os.environ)) is None:
        return config
    return config.model_copy(update={"ray": config.ray.model_copy(update={"token_file": token})})


def _anchored(config: Config, folder: Path) -> Config:
    """Relative paths become absolute, from the configuration file's folder."""

    def anchor(value: object) -> object:
        if isinstance(value, Path):
            return folder / value.expanduser()
        if isinstance(value, tuple):
            return tuple(anchor(item) for item in value)
        if isinstance(value, Section):
            return value.model_copy(
                update={key: anchor(getattr(value, key)) for key in type(value).model_fields}
            )
        return value

    return config.model_copy(
        update={key: anchor(getattr(config, key)) for key in type(config).model_fields}
    )
