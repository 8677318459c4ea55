"""Parts by name, each made of values and of other parts.

When the configuration is edited, a part is made anew if something that it is made of changed, be it
a value or a part that was made anew; all others go on. Parts are closed in reverse order.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Made = TypeVar("Made")
Of = TypeVarTuple("Of")


class Parts:
    """The parts of one configuration; those of the one `before` go on where they can.

    Use it as a context while making them: when one cannot be made, those made anew are closed, and
    those before are as they were.
    """

    def __init__(self, before: Parts | None = None) -> None:
        self._before = before
        self.by_name: dict[str, tuple[Any, tuple[object, ...]]] = {}
        """Each part, and what it was made of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        before, self._before = self._before, None  # not kept alive by those that came after
        if error is not None:
            self.close(keep=before)

    def made(self, name: str, make: Callable[[*Of], Made], *of: *Of, anew: bool = False) -> Made:
        """`make(*of)`, unless a part of that name was made of the same before. `of` is all that it
        depends on, compared by `==`; `anew` makes it anew for another reason.
        """
        part = None if self._before is None or anew else self._before.by_name.get(name)
        if part is None or part[1] != of:
            part = make(*of), of
        self.by_name[name] = part
        made: Made = part[0]
        return made

    def besides(self, others: Parts | None) -> list[str]:
        """Names of the parts that the others have not, in the order of making."""
        theirs = {} if others is None else others.by_name
        return [name for name, part in self.by_name.items() if theirs.get(name) is not part]

    def close(self, *, keep: Parts | None = None) -> None:
        """Close those that can be closed, but for those to keep, in the reverse order of making."""
        with ExitStack() as closing:
            for name in self.besides(keep):
                if (close := getattr(self.by_name[name][0], "close", None)) is not None:
                    closing.callback(close)
