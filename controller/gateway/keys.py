"""The file of API keys: who may ask, by the SHA-256 of their key; pure.

A key is long and random (`openssl rand -hex 32`), so its plain digest cannot be guessed from; what
leaks with the file opens nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from controller.errors import ConfigError
from controller.gateway.routing import EVERYWHERE, ApiKey

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file.

    Raises:
        ConfigError: it cannot be read, or as `parse`.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the API keys cannot be read: {error}") from error


def parse(text: str, path: Path) -> tuple[ApiKey, ...]:
    """The keys of a text of lines `NAME SHA256 [PIPELINE ...]`; `#` begins a comment.

    Raises:
        ConfigError: a line says something else, or a key or a name is there twice; the message
            holds a line `file:line: what is wrong` for each, and never the digest.
    """
    found: dict[str, ApiKey] = {}
    names: set[str] = set()
    mistakes: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if why := _mistake(words, names, found):
            mistakes.append(f"{path}:{number}: {why}")
            continue
        name, digest, *pipelines = words
        names.add(name)
        found[digest.lower()] = ApiKey(name, digest.lower(), _distinct(pipelines))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return tuple(found.values())


def _mistake(words: list[str], names: set[str], found: dict[str, ApiKey]) -> str:
    name, *rest = words
    if not rest:
        return "a line is NAME SHA256 [PIPELINE ...], and this has no digest"
    if not re.fullmatch(r"[A-Za-z0-9._@-]{1,64}", name):
        return f"{name[:64]!r} is no name: letters, digits and . _ @ - alone, 64 at most"
    digest, *pipelines = rest
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", digest):
        return (
            f"what follows {name} is no SHA-256 in hex, of 64 digits; "
            "`printf %s KEY | sha256sum` makes it"
        )
    if name in names:
        return f"{name} is there twice; give each key its own name"
    if digest.lower() in found:
        return f"{name} has the key of {found[digest.lower()].name}; give each its own"
    odd = [p for p in pipelines if p != EVERYWHERE and not re.fullmatch(r"[A-Za-z0-9._-]+", p)]
    return f"{odd[0][:64]!r} is no pipeline's name, nor *" if odd else ""


def _distinct(pipelines: list[str]) -> tuple[str, ...]:
    """Names as PEP 503 normalises them, as paths have them."""
    if not pipelines or EVERYWHERE in pipelines:
        return (EVERYWHERE,)
    return tuple(dict.fromkeys(re.sub(r"[-_.]+", "-", name).lower() for name in pipelines))
