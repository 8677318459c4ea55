"""The pipeline: a question in, an answer in the text's own words out, streamed, with sources."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from rag.corpus import Passage, passages
from rag.search import Index
from wheelway import Context, Pipeline


class Question(BaseModel):
    text: str = Field(min_length=3, max_length=500)
    sources: int = Field(default=3, ge=1, le=5, description="At most so many are quoted.")


class Words(BaseModel):
    kind: Literal["words"] = "words"
    text: str


class Source(BaseModel):
    kind: Literal["source"] = "source"
    number: int = Field(description="As it stands in the answer: [1].")
    title: str
    score: float = Field(description="How alike to the question, at most 1.")
    text: str


Item = Annotated[Words | Source, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Quote:
    """A passage that answers, and the part of it that does."""

    number: int
    passage: Passage
    score: float
    sentence: str


NOTHING = "The text says nothing of that."


class Rag(Pipeline):
    """Answers questions about the Constitution of the United States, with its own words.

    `infer` retrieves and quotes; a language model that is given the passages would yield its words
    at the same place.
    """

    examples = ({"text": "Is there freedom of speech?"}, {"text": "Who commands the army?"})

    def load(self, context: Context) -> None:
        self.reconfigure(context.settings)
        self.passages = passages(context.files / "constitution.txt")
        self.index = Index([f"{passage.title}: {passage.text}" for passage in self.passages])
        context.logger.info("%d passages can be cited", len(self.passages))

    def reconfigure(self, settings: Mapping[str, Any]) -> None:
        least = float(settings.get("least", 0.2))
        if not 0 <= least < 1:
            raise ValueError(f"the setting `least` must be from 0 to below 1, not {least}")
        self.least = least

    def infer(self, question: Question) -> Iterator[str | Quote]:
        quotes = [quote for quote in self.quotes(question) if quote.score >= self.least]
        if not quotes:
            yield NOTHING
        for quote in quotes:
            yield from quote.sentence.split()
            yield f"[{quote.number}]"
        yield from quotes

    def quotes(self, question: Question) -> Iterator[Quote]:
        best = self.index.best(question.text, question.sources)
        for number, (i, score) in enumerate(best, 1):
            passage = self.passages[i]
            alike = self.index.alike(question.text, passage.sentences)
            yield Quote(number, passage, score, passage.sentences[alike.argmax()])

    def post_process(self, item: str | Quote) -> Item:
        if isinstance(item, str):
            return Words(text=f"{item} ")
        passage = item.passage
        return Source(
            number=item.number,
            title=f"{passage.title}, paragraph {passage.paragraph}",
            score=round(item.score, 3),
            text=passage.text,
        )
