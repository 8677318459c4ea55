"""Results that are kept from pass to pass, each as long as its inputs stay the same.

Each is the result of a pure function of explicit inputs: forgetting it costs time and nothing else.
"""

from __future__ import annotations

from operator import eq
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Inputs = TypeVar("Inputs")
Result = TypeVar("Result")


class Remembered(Generic[Inputs, Result]):
    """The results of a pure function, the last one under each key.

    Inputs are compared with `==`, which costs next to nothing for the same objects, or with `same`
    where values that are equal to Python may make a difference.
    """

    def __init__(
        self, make: Callable[[Inputs], Result], *, same: Callable[[Inputs, Inputs], bool] = eq
    ) -> None:
        self._make = make
        self._same = same
        self._kept: dict[Hashable, tuple[Inputs, Result]] = {}
        self._before: dict[Hashable, tuple[Inputs, Result]] = {}
        self.made = 0
        """How often the function was called so far."""

    def of(self, key: Hashable, inputs: Inputs) -> Result:
        """The function's result for these inputs."""
        found = self._kept.get(key) or self._before.get(key)
        if found is None or not self._same(found[0], inputs):
            self.made += 1
            found = inputs, self._make(inputs)
        self._kept[key] = found
        return found[1]

    def forget_unused(self) -> None:
        """Drop what was not asked for since the last call. Call it once a pass."""
        self._before, self._kept = self._kept, {}
