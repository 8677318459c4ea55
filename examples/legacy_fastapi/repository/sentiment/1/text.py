"""What the models of texts share."""

import re


class TextModel:
    def pre_process(self, payload: dict) -> list:
        return re.findall(r"[a-z']+", payload["text"].lower())
