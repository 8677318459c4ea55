"""How a customer sounds: a list of words with their weights."""

import json
import os

from text import TextModel

NEGATIONS = {"not", "never", "no", "hardly"}


class SentimentModel(TextModel):
    """Whether a text sounds pleased."""

    def load(self, path):
        with open(os.path.join(path, "words.json")) as file:
            self.words = json.load(file)

    def predict(self, words: list) -> list:
        weights = [self.words.get(word, 0) for word in words]
        return [
            -weight if position and words[position - 1] in NEGATIONS else weight
            for position, weight in enumerate(weights)
        ]

    def post_process(self, weights: list) -> dict:
        score = sum(weights)
        mood = "pleased" if score > 0 else "displeased" if score < 0 else "neutral"
        return {"mood": mood, "score": score}
