"""Answers with one part, anywhere in them, that is not as it should be."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

PARTS = [
    *(None, True, 0, -1, 2**70, 1.5, "", "x", "/predict/demo/1.0", [], ["a"], [None], [[]], {}),
    *({"a": 1}, {"release": {}}, {"release": {"pipeline": "demo", "version": "1.0"}}),
]


def altered(answer: Any, random: Random) -> Any:
    """A copy with one part left out, or another in its place."""
    whole = spot = copy.deepcopy(answer)
    while spot:
        key = random.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
        if isinstance(spot[key], (dict, list)) and spot[key] and random.random() < 0.8:
            spot = spot[key]
            continue
        if random.random() < 0.2:
            del spot[key]
        else:
            spot[key] = random.choice(PARTS)
        break
    return whole
