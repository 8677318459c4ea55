"""Code of models in classes of any shape, as `wheelway new --wrap` meets it, and what is asked."""

SHAPES = {
    "predict alone": ("def predict(self, n: int) -> int:\n  return n + 1", 1, 2),
    "infer before predict": (
        "def predict(self, n):\n  return 0\n def infer(self, n: int) -> int:\n  return n",
        1,
        1,
    ),
    "called": ("def __call__(self, text: str) -> str:\n  return text.upper()", "a", "A"),
    "asynchronous": (
        (
            "async def load(self):\n  self.a = 2\n async def predict(self, n: int) -> int:\n"
            "  return self.a * n"
        ),
        2,
        4,
    ),
    "several values": (
        "def predict(self, n: int, factor: float = 2.0) -> float:\n  return n * factor",
        {"n": 3},
        6.0,
    ),
    "one value and options": (
        "def predict(self, row: dict, threshold=0.5):\n  return row['p'] > threshold",
        {"p": 0.7},
        True,
    ),
    "by position only": (
        "def predict(self, n: int, m: int, /) -> int:\n  return n - m",
        {"n": 3, "m": 1},
        2,
    ),
    "any names": (
        "def predict(self, **features):\n  return sorted(features)",
        {"b": 1, "a": 2},
        ["a", "b"],
    ),
    "no value": ("def predict(self) -> int:\n  return 3", None, 3),
    "a static method": ("@staticmethod\n def predict(n: int) -> int:\n  return -n", 1, -1),
    "arrays without a word": (
        "def predict(self, rows):\n  import numpy\n  return numpy.array(rows).sum(axis=1)",
        [[1, 2], [3, 4]],
        [3, 7],
    ),
    "annotated arrays": (
        "def predict(self, rows: np.ndarray) -> 'np.ndarray':\n  return rows.mean(axis=0)",
        [[1.0, 2.0], [3.0, 4.0]],
        [2.0, 3.0],
    ),
    "stages": (
        (
            "def preprocess(self, text: str):\n  return text.split()\n"
            " def predict(self, words):\n  return len(words)\n"
            " def postprocess(self, count) -> dict[str, int]:\n  return {'words': count}"
        ),
        "a b",
        {"words": 2},
    ),
    "stages that predict calls": (
        (
            "def preprocess(self, text: str):\n  return text.split()\n"
            " def predict(self, text: str) -> int:\n  return len(self._words(text))\n"
            " def _words(self, text):\n  return self.preprocess(text)"
        ),
        "a b",
        2,
    ),
    "load that the constructor calls": (
        (
            "def __init__(self):\n  self.times = 0\n  self.load()\n"
            " def load(self):\n  self.times += 1\n"
            " def predict(self, n: int) -> int:\n  return self.times"
        ),
        1,
        1,
    ),
    "an alternative constructor": (
        (
            "def __init__(self, a: int):\n  self.a = a\n"
            " @classmethod\n def load(cls):\n  return cls(7)\n"
            " def predict(self, n: int) -> int:\n  return self.a"
        ),
        1,
        7,
    ),
}
