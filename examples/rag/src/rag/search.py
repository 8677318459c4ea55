"""Which passages a question is about: by meaning (embeddings) and by words (BM25)."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import wordllama
from wordllama import WordLlama

K1, B = 1.5, 0.75
"""Of BM25: how soon more of a word counts no more, and how much the length counts."""
COMMON = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be been by can do does for from had has have how i if in is it its
        many may must of old on or shall should such than that the their them there they this to
        under was were what when where which who whom whose why will with""",
    )
)


class Index:
    """Texts, and how alike to them others are."""

    def __init__(self, texts: Sequence[str]) -> None:
        # Where its wheel has the files, said outright: it looks for the tokenizer elsewhere.
        inside = Path(wordllama.__file__).parent
        self._model = WordLlama.load(cache_dir=inside, disable_download=True)
        self._vectors = self._embedded(texts)
        self._counts = [Counter(words(text)) for text in texts]
        self._lengths = np.array([counts.total() for counts in self._counts], float)
        containing = Counter(word for counts in self._counts for word in counts)
        self._rarity = {
            word: np.log1p((len(texts) - n + 0.5) / (n + 0.5)) for word, n in containing.items()
        }

    def alike(self, question: str, texts: Sequence[str] | None = None) -> np.ndarray:
        """Cosines of a question with the index's texts, or with others."""
        vectors = self._vectors if texts is None else self._embedded(texts)
        return vectors @ self._embedded([question])[0]

    def best(self, question: str, most: int) -> list[tuple[int, float]]:
        """The most fitting texts, the best first, with their cosines.

        The two rankings are joined by the places that a text has in them (reciprocal rank fusion).
        """
        cosines = self.alike(question)
        ranks = np.zeros(len(cosines))
        for scores in (cosines, self._bm25(question)):
            places = np.empty(len(scores))
            places[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
            ranks += np.where(scores > 0, 1 / (10 + places), 0)
        order = np.argsort(-ranks, kind="stable")[:most]
        return [(int(i), float(cosines[i])) for i in order]

    def _bm25(self, question: str) -> np.ndarray:
        scores = np.zeros(len(self._counts))
        relative = self._lengths / self._lengths.mean()
        for word in set(words(question)):
            n = np.array([counts[word] for counts in self._counts], float)
            weight = n * (K1 + 1) / (n + K1 * (1 - B + B * relative))
            scores += self._rarity.get(word, 0) * weight
        return scores

    def _embedded(self, texts: Sequence[str]) -> np.ndarray:
        vectors = self._model.embed(list(texts))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)


def words(text: str) -> list[str]:
    """Those that say something, without endings that make them others."""
    found = re.findall(r"[a-z]+", text.lower())
    return [re.sub(r"(ies|es|s|ing|ed)$", "", word) for word in found if word not in COMMON]
