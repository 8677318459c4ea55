"""The text that questions are answered from, in passages that can be cited."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Passage:
    """One paragraph."""

    title: str
    """Where it stands: `Article I, Section 8`."""
    paragraph: int
    """Counted from 1 within the title."""
    text: str

    @property
    def sentences(self) -> list[str]:
        return re.split(r"(?<=[.:;])[\s—]+", self.text)


def passages(file: Path) -> list[Passage]:
    """Those of a file in which titles are lines that begin with `#`, and empty lines part the
    paragraphs.
    """
    found: list[Passage] = []
    for chapter in re.split(r"^# ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, *paragraphs = [block.strip() for block in chapter.split("\n\n") if block.strip()]
        found += [Passage(title, i, text) for i, text in enumerate(paragraphs, 1)]
    return found
