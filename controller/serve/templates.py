"""The Jinja templates of the Serve config: YAML, into which values enter by the filter `json`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import yaml

from controller import templates
from controller.serve import canonical
from controller.templates import shipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.model import JSON

__all__ = ["Templates", "shipped"]


@dataclass(slots=True, eq=False)
class Templates(templates.Templates):
    """Those of one operator's folder over the shipped ones."""

    FILTERS: ClassVar = MappingProxyType({"json": canonical.quoted})

    def is_one(self, name: str) -> bool:
        """All but the gateway's, which have a language of their own."""
        return not name.endswith(templates.GATEWAY)

    def document(self, name: str, variables: Mapping[str, object]) -> dict[str, JSON]:
        """The mapping that a template renders to.

        Raises:
            TemplateError: syntax, an undefined variable, a value that `json` refuses, a result that
                is not YAML or not a mapping...
        """
        text = self.rendered(name, variables)
        try:
            value = canonical.from_yaml(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            number = mark.line if mark else 0
            rendered = (text.splitlines() or [""])[min(number, text.count("\n"))]
            self.blame(
                name,
                _origin(self._sources[name].text, rendered),
                f"what it renders is not YAML: {getattr(error, 'problem', None) or error}, "
                f"in line {number + 1} of the result: {rendered.strip()[:120]}",
            )
        if not isinstance(value, dict):
            self.blame(name, 1, f"must render a mapping, not {type(value).__name__}")
        return value


def _origin(source: str, rendered: str) -> int:
    """The template's line that most likely made a rendered line: the longest literal beginning."""
    best, length = 1, 0
    for number, line in enumerate(source.splitlines(), start=1):
        literal = re.split(r"\{[{%#]", line)[0].strip()
        if len(literal) > length and rendered.strip().startswith(literal):
            best, length = number, len(literal)
    return best
