"""Whose a pipeline's name is: the first project that carries it has it, until an operator moves it.

A version number is anybody's to choose, so a higher one must not take over a name that another
project serves. What counts first is the operator's word, then what the journal recorded, then what
serves, then who came first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from controller.planning.policy import Candidate


def owners_of(
    offers: Mapping[str, Sequence[Candidate]],
    *,
    ordered: Callable[[str], str | None],
    recorded: Mapping[str, str],
    there: Callable[[str, str], bool],
    serving: Mapping[str, str],
    first_seen: Callable[[str], float],
) -> dict[str, str]:
    """By pipeline: the project that owns its name.

    Args:
        offers: by pipeline, what the sources offer, in order of preference.
        ordered: the project that the operator's rule for a pipeline names.
        recorded: the owners so far.
        there: whether anything of a project is listed, or serves that pipeline; a name whose owner
            has nothing left is free again.
        serving: by pipeline, the project whose release has served longest.
        first_seen: when the wheel of a digest was first seen, in seconds.
    """
    owners = {name: owner for name, owner in recorded.items() if there(name, owner)}
    for name in {*offers, *serving}:
        if (word := ordered(name)) is not None:
            owners[name] = word
        elif name not in owners and serving.get(name):
            owners[name] = serving[name]
        elif name not in owners and offers.get(name):
            first = min(offers[name], key=lambda one: first_seen(one.release.digest))
            owners[name] = first.project
    return owners


def of_others(candidates: Sequence[Candidate], owner: str) -> Collection[Candidate]:
    """Those of projects that do not own the name; an empty owner owns it together with all."""
    return [c for c in candidates if c.project != owner] if owner else ()
