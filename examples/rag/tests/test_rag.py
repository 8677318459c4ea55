"""What the answers promise, without a server; needs wordllama, see the README."""

import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest
from pydantic import ValidationError
from rag.corpus import passages
from rag.pipeline import NOTHING, Rag

from wheelway.local import Loaded, loaded

TEXT = Path(__file__).parents[1] / "src/rag/constitution.txt"


@pytest.fixture(scope="module")
def rag() -> Iterator[Loaded]:
    with loaded(Rag) as pipeline:
        yield pipeline


def told(stream: Iterator[dict[str, object]]) -> tuple[str, list[dict[str, object]]]:
    """The answer's text, and its sources."""
    items = list(stream)
    text = "".join(str(item["text"]) for item in items if item["kind"] == "words")
    return text.strip(), [item for item in items if item["kind"] == "source"]


ANSWERED = {
    "Is there freedom of speech?": ("Amendment I", "freedom of speech"),
    "Who commands the army?": ("Article II, Section 2", "Commander in Chief"),
    "At what age may citizens vote?": ("Amendment XXVI", "eighteen years of age"),
    "Is slavery allowed?": ("Amendment XIII", "Neither slavery nor involuntary servitude"),
    "How are amendments proposed?": ("Article V", "shall propose Amendments"),
    "Is alcohol prohibited?": ("Amendment XXI, Section 2", "intoxicating liquors"),
    "What is treason?": ("Article III, Section 3", "levying War"),
    "Who can declare war?": ("Article I, Section 8", "declare War"),
}


@pytest.mark.parametrize("question", ANSWERED)
def test_an_answer_quotes_what_the_question_is_about(question: str, rag: Loaded) -> None:
    title, words = ANSWERED[question]
    text, sources = told(rag({"text": question}))
    assert words in text
    assert any(str(source["title"]).startswith(f"{title}, ") for source in sources)


def test_every_quote_is_in_the_source_that_its_number_names(rag: Loaded) -> None:
    text, sources = told(rag({"text": "How can a president be removed from office?"}))
    rest = text
    for source in sources:
        quote, mark, rest = rest.partition(f"[{source['number']}]")
        assert mark
        assert quote.strip()
        assert quote.strip() in " ".join(str(source["text"]).split())
    assert rest == ""


def test_words_come_one_by_one_and_sources_last(rag: Loaded) -> None:
    kinds = [item["kind"] for item in rag({"text": "Who commands the army?", "sources": 1})]
    assert kinds[-1] == "source"
    assert set(kinds[:-1]) == {"words"}
    assert len(kinds) > 10


def test_words_come_before_the_answer_is_made(rag: Loaded) -> None:
    first = islice(rag({"text": "Who commands the army?"}), 2)
    assert [item["text"] for item in first] == ["The ", "President "]


def test_what_the_text_does_not_speak_of_is_said_so(rag: Loaded) -> None:
    assert told(rag({"text": "How do I bake bread?"})) == (NOTHING, [])


def test_how_alike_a_source_has_to_be_is_a_setting() -> None:
    with loaded(Rag, settings={"least": 0.99}) as rag:
        assert told(rag({"text": "Is there freedom of speech?"})) == (NOTHING, [])
        assert rag.reconfigure({"least": 0.1}) == ""
        assert told(rag({"text": "Is there freedom of speech?"}))[1] != []
        assert "least" in rag.reconfigure({"least": 1})


@pytest.mark.parametrize("request_", [{"text": ""}, {"text": "Why?", "sources": 0}, {}])
def test_a_question_that_is_none_is_refused(request_: object, rag: Loaded) -> None:
    with pytest.raises(ValidationError):
        rag(request_)


def test_the_readme_shows_what_is_answered(rag: Loaded) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    items = list(rag({"text": "Is there freedom of speech?"}))
    first = items[:2]
    assert all(json.dumps(item, separators=(",", ":")) in text for item in first)
    source = next(item for item in items if item["kind"] == "source")
    assert f'"title":"{source["title"]}","score":{source["score"]},' in text


def test_the_text_is_parted_into_passages_with_their_titles() -> None:
    found = passages(TEXT)
    assert len(found) == 139
    assert found[0].title == "Preamble"
    assert found[-1].title == "Amendment XXVII"
    [commerce] = [one for one in found if "regulate Commerce with" in one.text]
    assert (commerce.title, commerce.paragraph) == ("Article I, Section 8", 3)


def test_the_text_is_the_one_that_was_compared_with_its_sources() -> None:
    digest = "359f66bb3ceb248e69a5df641ef2487aac4049c179d068d9fd82485fbebc5bd6"
    assert sha256(TEXT.read_bytes()).hexdigest() == digest  # which, and how: the README
