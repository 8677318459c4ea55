"""The Jinja templates in force: the shipped ones, and the operator's over them by file name.

All are read again when anything in either folder changed, so that a render never mixes two states.
Values enter through the filters that a kind of templates brings, which are its escaping. Whatever
goes wrong in a template becomes a TemplateError that names its file and line; the caller keeps what
it rendered last.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from controller.errors import TemplateError
from controller.shipped import folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

GATEWAY: Final = ".cfg.j2"
"""How the names of the gateway's templates end; all others are of the Serve config."""


def shipped() -> Path:
    """The folder of the shipped templates."""
    return folder("templates")


class Source(NamedTuple):
    """One template."""

    path: Path
    text: str


@dataclass(slots=True, eq=False)
class Templates:
    """The templates of one operator's folder over the shipped ones."""

    FILTERS: ClassVar[Mapping[str, Callable[[Any], str]]] = MappingProxyType({})
    """What values enter through."""

    override: Path | None = None
    """The operator's folder; it need not exist."""
    _stamp: tuple[object, ...] = ()
    _sources: dict[str, Source] = field(default_factory=dict)
    _environment: jinja2.Environment | None = None

    def fingerprint(self) -> str:
        """SHA-256 over names and texts; raises TemplateError where a file cannot be read."""
        self._refresh()
        digest = hashlib.sha256()
        for name, source in sorted(self._sources.items()):
            digest.update(f"{name}\0{len(source.text)}\0{source.text}".encode())
        return digest.hexdigest()

    def is_one(self, name: str) -> bool:
        """Whether a file of that name is a template of this kind."""
        return name.endswith(".j2")

    def rendered(self, name: str, variables: Mapping[str, object]) -> str:
        """The text that a template renders to.

        Raises:
            TemplateError: syntax, an undefined variable, a value that a filter refuses...
        """
        environment = self._refresh()
        try:
            return environment.get_template(name).render(**variables)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"{error.filename or name}:{error.lineno}: {error.message}"
            ) from error
        except jinja2.TemplateNotFound as error:
            folders = " or ".join(str(folder) for folder in self._folders())
            raise TemplateError(f"{error.name}: there is no such template in {folders}") from error
        except Exception as error:
            # An expression in a template may raise anything; it is the template's, and translated.
            where, line = self._spot(error, name)
            what = str(error) or type(error).__name__
            if not isinstance(error, jinja2.TemplateError | ValueError):
                what = f"{type(error).__name__}: {what}"
            raise TemplateError(f"{where}:{line}: {what}") from error

    def blame(self, name: str, where: int | Sequence[str | int], what: str) -> NoReturn:
        """Raise a TemplateError for a line, or for the line that writes a path of keys."""
        source = self._sources[name]
        line = where if isinstance(where, int) else _line_of(source.text, where)
        raise TemplateError(f"{source.path}:{line}: {what}")

    def _folders(self) -> tuple[Path, ...]:
        return (shipped(), self.override) if self.override else (shipped(),)

    def _refresh(self) -> jinja2.Environment:
        try:
            files = [
                path
                for folder in self._folders()
                for path in sorted(folder.glob("*.j2"))
                if self.is_one(path.name)
            ]
            stamp = tuple(
                (path, (s := path.stat()).st_mtime_ns, s.st_size, s.st_ino) for path in files
            )
            if self._environment is None or stamp != self._stamp:
                # The operator's come last and win.
                self._sources = {
                    path.name: Source(path, path.read_text(encoding="utf-8")) for path in files
                }
                self._environment = _environment(self._sources, self.FILTERS)
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateError(f"{self.override or shipped()}: cannot be read: {error}") from error
        return self._environment

    def _spot(self, error: BaseException, name: str) -> tuple[Path, int]:
        """The file and line of a template that an exception came from, by Jinja's traceback."""
        paths = {str(source.path): source.path for source in self._sources.values()}
        source = self._sources.get(name)
        spot = (source.path if source else shipped() / name, 1)
        trace = error.__traceback__
        while trace is not None:
            if path := paths.get(trace.tb_frame.f_code.co_filename):
                spot = (path, trace.tb_lineno)
            trace = trace.tb_next
        return spot


def _environment(
    sources: Mapping[str, Source], filters: Mapping[str, Callable[[Any], str]]
) -> jinja2.Environment:
    def load(name: str) -> tuple[str, str, None] | None:
        source = sources.get(name)
        return (source.text, str(source.path), None) if source else None

    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FunctionLoader(load),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # none of this is HTML; the filters are the escaping
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({name: _defined(how) for name, how in filters.items()})
    return environment


def _defined(how: Callable[[Any], str]) -> Callable[[Any], str]:
    def apply(value: object) -> str:
        if isinstance(value, jinja2.Undefined):
            str(value)  # a StrictUndefined raises, and names the variable
        return how(value)

    return apply


def _line_of(source: str, path: Sequence[str | int]) -> int:
    """The line on which the deepest key of a path that the template writes out stands."""
    lines = source.splitlines()
    best = 0
    for key in path:
        if isinstance(key, str):
            pattern = re.compile(rf"^\s*(- )?[\"']?{re.escape(key)}[\"']?\s*:")
            best = next((n for n in range(best, len(lines)) if pattern.match(lines[n])), best)
    return best + 1
