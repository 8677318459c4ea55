"""Answers with one part, anywhere in them, that is not as it should be."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
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


def each_altered(answer: Any) -> Iterator[Any]:
    """Copies with another in the place of each part, one after the other."""
    for path in _paths(answer):
        for part in (None, 1, 10**400, "", "x", ["a"], {}, {"a": 1}):
            whole = spot = copy.deepcopy(answer)
            for key in path[:-1]:
                spot = spot[key]
            spot[path[-1]] = part
            yield whole


def _paths(answer: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    parts = answer.items() if isinstance(answer, dict) else enumerate(answer)
    for key, part in parts:
        yield (*above, key)
        if isinstance(part, (dict, list)):
            yield from _paths(part, (*above, key))
