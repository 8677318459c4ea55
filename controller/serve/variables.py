"""What the template of a release is rendered from: its options filled in, its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from controller.config.settings import Options, PartOptions
from controller.model import PartEntry, Release
from controller.planning.weights import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.config.serve import DeploymentOptions
    from controller.model import JSON
    from controller.planning.weights import Choice

IN_PLACE, RESTART = "in-place", "restart"
DEFAULTS: Mapping[str, JSON] = {
    "max_ongoing_requests": 100,
    "max_queued_requests": 200,
    "max_request_bytes": 16 * 2**20,
    "request_timeout": 60.0,
    "health_check_period": 10.0,
    "health_check_timeout": 30.0,
    "threads": 4,
    "access_log": False,
    "weights_swap": IN_PLACE,
}
"""What an option is when nothing sets it; see `controller.config.settings.Options`."""
_CPUS_OF_PARTS = 0.0
"""What a replica of a part reserves: that of its pipeline reserves for all of them, so that what
fits a small machine without parts fits it with them."""
MARGIN = 5.0
"""Seconds that a retired replica has beyond the longest request."""


def named(release: Release, project: str) -> dict[str, JSON]:
    """Which release it is, and of which distribution."""
    return {
        "pipeline": release.pipeline,
        "version": str(release.version),
        "digest": release.digest,
        "project": project,
    }


def filled_options(options: Options) -> dict[str, JSON]:
    """Every option, with its default where nothing sets it."""
    filled = _defaulted(options)
    if filled["graceful_shutdown_timeout"] is None:  # what was admitted may finish
        filled["graceful_shutdown_timeout"] = filled["request_timeout"] + MARGIN
    return filled


def part_of(entry: PartEntry, options: PartOptions, pipeline: Options) -> dict[str, JSON]:
    """A part with every option of its own; what it is called with, its pipeline waits for."""
    filled = _defaulted(options, _CPUS_OF_PARTS)
    if filled["graceful_shutdown_timeout"] is None:
        filled["graceful_shutdown_timeout"] = filled_options(pipeline)["graceful_shutdown_timeout"]
    inline = bool(filled.pop("inline"))
    return {"name": entry.name, "target": entry.target, "inline": inline, "options": filled}


def weights_of(
    choice: Choice, options: Options, parts: Iterable[PartOptions], deadline: float = 300.0
) -> dict[str, JSON]:
    """The weights of a release, and how they come in force: a pipeline and parts of it that have
    deployments of their own change together, which only new replicas do. In place they have
    `deadline` seconds to load.
    """
    restart = options.weights_swap == RESTART or not all(part.inline for part in parts)
    return {
        "weights": choice.wanted.document if choice.wanted else None,
        "former_weights": choice.former.document if choice.former else None,
        "has_former": choice.former is not None or choice.without,
        "weights_deadline": deadline,
        "weights_swap": RESTART if restart else IN_PLACE,
    }


def _defaulted(options: DeploymentOptions, cpus: float = 1.0) -> dict[str, JSON]:
    filled = options.model_dump()
    for name, value in DEFAULTS.items():
        if name in filled and filled[name] is None:
            filled[name] = value
    if filled["num_replicas"] is None and filled["autoscaling_config"] is None:
        filled["num_replicas"] = 1
    scaling = filled["autoscaling_config"]
    if scaling is not None and scaling.get("min_replicas") == 0:
        # A release is proven by a replica that ran its examples: one is started in any case, and
        # scaled away later.
        scaling = {**scaling, "initial_replicas": scaling.get("initial_replicas") or 1}
        filled["autoscaling_config"] = scaling
    actor = filled["ray_actor_options"] or {}
    if actor.get("num_cpus") is None:
        actor = {**actor, "num_cpus": cpus}
    filled["ray_actor_options"] = actor
    return filled


def text_of(options: Options, parts: Mapping[str, PartOptions]) -> str:
    """Other options are another text."""
    several = (options, *(parts[name] for name in sorted(parts)))
    return "\n".join(one.model_dump_json() for one in several)


ORDINARY_RELEASE = Release("ordinary", Version("1.0"), "0" * 64)
ORDINARY: Mapping[str, JSON] = {
    "release": named(ORDINARY_RELEASE, "ordinary"),
    "target": "ordinary:Ordinary",
    "tree": "/ordinary",
    "record_digest": "0" * 64,
    "environment": {"digest": "", "python": None},
    "options": filled_options(Options()),
    "settings": {},
    "parts": [],
    **weights_of(NONE, Options(), ()),
}
"""A release that any sound template can render: it tells a bad template from a bad release."""
ORDINARY_PARTS = [part_of(PartEntry("part", "ordinary:Part"), PartOptions(), Options())]
