"""The layers of options: the operator's defaults, what a wheel asks for, the operator's policy.

The operator's options win over the author's, and an author's option beyond the operator's caps is
refused, never cut: nobody runs with less than they believe. Settings are merged key by key at the
top level only, for a pipeline may mean a nested table as one value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, ValidationError

from controller.config.serve import REPLICA_COUNTS, DeploymentOptions, PartOptions
from controller.config.settings import ActorOptions, Caps, Options
from controller.errors import Rejected, mistakes

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from controller.config.settings import PipelinePolicy, ServeOptions
    from controller.model import JSON, PipelineEntry

_Kind = TypeVar("_Kind", bound=DeploymentOptions)

FILENAME: Final = "wheelway.toml"
"""What a wheel's author says is in it."""

_SERVE_AUTO_MAX = 100  # ray.serve.config.AutoscalingConfig.default().max_replicas
_CAPPED: Final[dict[str, tuple[str, ...]]] = {  # where in the options each cap looks
    name: ("ray_actor_options", name) if name in ActorOptions.model_fields else (name,)
    for name in Caps.model_fields
    if name not in {"num_replicas", "resources", "graceful_shutdown_timeout"}
}
_RESOURCES = ("ray_actor_options", "resources")


def effective(
    serve: ServeOptions, author_options: Mapping[str, JSON], policy: PipelinePolicy | None
) -> Options:
    """The options a release runs with: defaults < the wheel's wishes < the operator's policy.

    `ray_actor_options`, `autoscaling_config` and `env_vars` are merged key by key. A layer that
    fixes `num_replicas` takes the autoscaling below it away, and the other way round.

    Raises:
        Rejected: `OptionAboveCap`, for a wish that would take effect; the operator's own word in
            the defaults and the policy is not capped. `OptionsRefused`, when what each layer may
            say is too much together.
    """
    override = set_options(policy.options) if policy else {}
    layers = _Layers(set_options(serve.defaults), author_options, override)
    options = _validated(layers, Options, layers.wished, serve)
    try:
        serve.admit(options, FILENAME)
    except ValueError as error:  # the operator's own word was admitted when it was read
        raise Rejected("OptionAboveCap", f"{error}; or lower it in the wheel") from error
    return options


def effective_parts(
    serve: ServeOptions, entry: PipelineEntry, policy: PipelinePolicy | None
) -> dict[str, PartOptions]:
    """The options that each part of a pipeline runs with: as the pipeline's, with `inline` of the
    pipeline below that of the part in each layer. Caps hold for each part by itself; of one that
    runs inline only `threads` and what is said of batches take effect, and the latter has no caps,
    so that all else may be beyond them.

    Raises:
        Rejected: as `effective`.
    """
    defaults = _for_parts(set_options(serve.defaults), PartOptions.model_fields)
    author = _for_parts(entry.options, ("inline",))
    override = set_options(policy.options) if policy else {}
    operator = _for_parts(override, ("inline",))
    timeout = _Layers(set_options(serve.defaults), entry.options, override).request_timeout
    found = {}
    for part in entry.parts:
        said = policy.parts.get(part.name) if policy else None
        above = {**operator, **(set_options(said) if said else {})}
        layers = _Layers(defaults, {**author, **part.options}, above)
        in_effect = _for_parts(layers.wished, ("threads",)) if layers.is_inline else layers.wished
        prefix = f"parts.{part.name}."
        options = found[part.name] = _validated(layers, PartOptions, in_effect, serve, prefix)
        wait = options.batch_wait_timeout
        if timeout is not None and wait is not None and timeout <= wait:
            what = f"must be below the pipeline's request_timeout, which is {timeout:g}"
            raise _refused(f"{prefix}batch_wait_timeout: {what}")
    return found


def _for_parts(options: Mapping[str, JSON], names: Container[str]) -> dict[str, JSON]:
    return {name: value for name, value in options.items() if name in names}


def effective_settings(
    settings: Mapping[str, JSON], policy: PipelinePolicy | None
) -> dict[str, JSON]:
    """The wheel's settings overlaid by the operator's, key by key at the top level."""
    return {**settings, **(policy.settings if policy else {})}


@dataclass(frozen=True, slots=True)
class _Layers:
    """What was said, from below."""

    defaults: Mapping[str, JSON]
    wished: Mapping[str, JSON]
    override: Mapping[str, JSON]

    @property
    def merged(self) -> dict[str, JSON]:
        return merge(merge(self.defaults, self.wished), self.override)

    @property
    def request_timeout(self) -> float | None:
        options = {name: v for name, v in self.merged.items() if name == "request_timeout"}
        return Options.model_validate(options).request_timeout

    @property
    def is_inline(self) -> bool:
        return bool(self.merged.get("inline"))


def _validated(
    layers: _Layers,
    kind: type[_Kind],
    wished: Mapping[str, JSON],
    serve: ServeOptions,
    prefix: str = "",
) -> _Kind:
    """The layers together, of which `wished` may not be beyond the caps."""
    merged = layers.merged
    for option, wish, cap in _over(merged, wished, layers.override, serve):
        raise Rejected(
            "OptionAboveCap",
            f"{FILENAME} asks for {prefix}{option} = {wish}, the cap is {cap}; lower the wish in "
            "the wheel, or let the operator raise the cap in [serve.caps] or set the option under "
            "[[pipelines]]",
        )
    try:
        return kind.model_validate(merged)
    except ValidationError as error:  # each layer passed, what they say together does not
        said = (f"{prefix}{mistake.keys[0]}: {mistake.what}" for mistake in mistakes(error))
        raise _refused("; ".join(said)) from error


def _refused(what: str) -> Rejected:
    return Rejected(
        "OptionsRefused",
        f"{FILENAME} and the operator's options together: {what}; ask for less in "
        "the wheel, or let the operator set less in [serve.defaults] or under [[pipelines]]",
    )


def set_options(options: BaseModel) -> dict[str, JSON]:
    """Only the options that were given."""
    return options.model_dump(exclude_unset=True, exclude_none=True)


def merge(below: Mapping[str, JSON], above: Mapping[str, JSON]) -> dict[str, JSON]:
    """One layer over another."""
    merged = dict(below)
    if isinstance(above.get("num_replicas"), int):
        merged.pop("autoscaling_config", None)
    elif "autoscaling_config" in above and isinstance(merged.get("num_replicas"), int):
        del merged["num_replicas"]
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if nested else value
    return merged


def _over(
    merged: Mapping[str, JSON],
    author_options: Mapping[str, JSON],
    override: Mapping[str, JSON],
    serve: ServeOptions,
) -> Iterable[tuple[str, JSON, float]]:
    """Every author option that would take effect beyond its cap: option, value, cap."""
    caps = serve.caps
    capped = [(path, getattr(caps, name)) for name, path in _CAPPED.items()]
    capped += [
        ((*_RESOURCES, name), caps.resources) for name in _at(author_options, _RESOURCES) or ()
    ]
    capped.append((("graceful_shutdown_timeout",), serve.longest_shutdown))

    def in_effect(path: tuple[str, ...]) -> JSON:
        wished = _at(author_options, path)
        kept = wished is not None and _at(override, path) is None and _at(merged, path) is not None
        return wished if kept else None

    for path, cap in capped:
        wished = in_effect(path)
        if cap is not None and wished is not None and wished > cap:
            yield ".".join(path), wished, cap
    if caps.num_replicas is None:
        return
    counts = [("autoscaling_config", key) for key in sorted(REPLICA_COUNTS)]
    for path in (("num_replicas",), *counts):
        wished = in_effect(path)
        if isinstance(wished, int) and wished > caps.num_replicas:
            yield ".".join(path), wished, caps.num_replicas
    unbounded = _at(merged, ("autoscaling_config", "max_replicas")) is None
    if in_effect(("num_replicas",)) == "auto" and unbounded and caps.num_replicas < _SERVE_AUTO_MAX:
        most = f'"auto" without autoscaling_config.max_replicas (Serve takes {_SERVE_AUTO_MAX})'
        yield "num_replicas", most, caps.num_replicas


def _at(options: Mapping[str, JSON], path: tuple[str, ...]) -> JSON:
    value: JSON = options
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
