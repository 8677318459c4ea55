"""What a wheel's author asks for: the static `wheelway.toml`, read without importing anything.

It lies beside the wheel's own files, in the outermost package of the entry point's module that has
an `__init__.py` (`acme_iris/wheelway.toml` for `acme_iris.pipeline:Iris`), so every build backend
ships it; a wheel of a single module has none.

    [options]                       # of every pipeline in this package
    num_replicas = 2
    [settings]
    threshold = 0.5
    [pipelines.iris.options]        # of one pipeline, over those above
    ray_actor_options = { num_cpus = 0.5 }
    [pipelines.iris.settings]
    threshold = 0.7

A mistake refuses the pipelines that it concerns and no other. The operator's options win over the
author's, and an author's option beyond the operator's caps is refused, never cut: nobody runs with
less than they believe. Settings are merged key by key at the top level only, for a pipeline may
mean a nested table as one value.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from controller.config.loading import line_of, nesting
from controller.config.serve import AUTOSCALING, REPLICA_COUNTS
from controller.config.settings import ActorOptions, Caps, Options, PipelinePolicy, ServeOptions
from controller.config.values import Table  # noqa: TC001 - pydantic reads the annotations
from controller.errors import Rejected, dotted, mistakes
from controller.model import JSON, PipelineEntry, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

    from packaging.version import Version

FILENAME = "wheelway.toml"

_MAX_SIZE = 64 << 10  # bytes
_MAX_DEPTH = 32
# tomllib's time grows with the square of a dotted key's length: seconds for what is refused anyhow.
_DEEP_KEY = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*)""" f"{{{_MAX_DEPTH}}}"
)
_SERVE_AUTO_MAX = 100  # ray.serve.config.AutoscalingConfig.default().max_replicas
_BEFORE_THE_TREE = re.compile(
    r"(LD|RAY|WHEELWAY)_.*|GLIBC_TUNABLES|GCONV_PATH|LOCPATH|NLSPATH|PATH|HOME|TMPDIR"
    r"|PYTHON(PATH|HOME|STARTUP|USERBASE|PLATLIBDIR|PYCACHEPREFIX|BREAKPOINT|INSPECT|EXECUTABLE)"
)
"""Variables of Ray, and those by which other code than the verified tree is loaded."""
_OPERATORS = frozenset(PipelinePolicy.model_fields) - {"options", "settings", "name"}
"""Keys that only the operator's policy may have."""
_CAPPED: Final[dict[str, tuple[str, ...]]] = {  # where in the options each cap looks
    name: ("ray_actor_options", name) if name in ActorOptions.model_fields else (name,)
    for name in Caps.model_fields
    if name not in {"num_replicas", "resources", "graceful_shutdown_timeout"}
}
_RESOURCES = ("ray_actor_options", "resources")


class _WishedOptions(Options):
    """Options as an author may set them: numbers alone where Serve would also take code."""

    @field_validator("autoscaling_config")
    @classmethod
    def _numbers(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for key, number in (value or {}).items():
            if key not in AUTOSCALING:  # `policy` would have Serve's controller import a function
                known = ", ".join(sorted(AUTOSCALING))
                raise ValueError(f"{key!r} cannot be wished for; known are {known}")
            kinds = (int,) if key in REPLICA_COUNTS else (int, float)
            if isinstance(number, bool) or not isinstance(number, kinds) or number < 0:
                raise ValueError(f"{key} must be a number from 0 up, not {number!r}")
        return value

    @field_validator("env_vars")
    @classmethod
    def _after_the_tree(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name in value or {}:
            if _BEFORE_THE_TREE.fullmatch(name):
                raise ValueError(
                    f"{name} cannot be wished for: it decides what runs before this wheel, or is "
                    "Ray's; the operator may set it under [[pipelines]] options.env_vars"
                )
        return value

    @model_validator(mode="after")
    def _one_kind_of_scaling(self) -> _WishedOptions:
        if isinstance(self.num_replicas, int) and self.autoscaling_config is not None:
            raise ValueError("num_replicas is a number and autoscaling_config is set: keep one")
        return self


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    options: _WishedOptions = _WishedOptions()
    settings: Table = {}


def entries(
    targets: Mapping[str, str],
    version: Version,
    paths: Container[str],
    read: Callable[[str], bytes | None],
) -> tuple[PipelineEntry, ...]:
    """The pipelines of a wheel with their wishes, sorted by name.

    Args:
        targets: normalised pipeline name to `module:attribute`.
        version: the wheel's, for naming the refusals.
        paths: of the wheel's files.
        read: the bytes of one of them.
    """
    found = []
    for name, target in sorted(targets.items()):
        options: dict[str, JSON] = {}
        settings: dict[str, JSON] = {}
        refusal = None
        try:
            path = _path(target, paths)
            if path is not None and (body := read(path)) is not None:
                options, settings = _parse(body, path, name, targets)
        except _MistakeError as mistake:
            subject = f"{name} {version}"
            refusal = Refusal(subject, "WishesInvalid", f"{mistake}; mend it and rebuild the wheel")
        found.append(PipelineEntry(name, target, options, settings, refusal=refusal))
    return tuple(found)


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
    override = _set_options(policy.options) if policy else {}
    merged = _merge(_merge(_set_options(serve.defaults), author_options), override)
    for option, wished, cap in _over(merged, author_options, override, serve):
        raise Rejected(
            "OptionAboveCap",
            f"{FILENAME} asks for {option} = {wished}, the cap is {cap}; lower the wish in the "
            "wheel, or let the operator raise the cap in [serve.caps] or set the option under "
            "[[pipelines]]",
        )
    try:
        options = Options.model_validate(merged)
    except ValidationError as error:  # each layer passed, what they say together does not
        said = (f"{mistake.keys[0]}: {mistake.what}" for mistake in mistakes(error))
        raise Rejected(
            "OptionsRefused",
            f"{FILENAME} and the operator's options together: {'; '.join(said)}; ask for less in "
            "the wheel, or let the operator set less in [serve.defaults] or under [[pipelines]]",
        ) from error
    try:
        serve.admit(options, FILENAME)
    except ValueError as error:  # the operator's own word was admitted when it was read
        raise Rejected("OptionAboveCap", f"{error}; or lower it in the wheel") from error
    return options


def effective_settings(
    settings: Mapping[str, JSON], policy: PipelinePolicy | None
) -> dict[str, JSON]:
    """The wheel's settings overlaid by the operator's, key by key at the top level."""
    return {**settings, **(policy.settings if policy else {})}


# -- reading -------------------------------------------------------------------------------------


def _path(target: str, paths: Container[str]) -> str | None:
    """Where the wishes of an entry point are; None when it has none."""
    module = target.partition(":")[0].split(".")
    packages = ["/".join(module[:depth]) for depth in range(1, len(module) + 1)]
    own = next(
        (p for p in packages if f"{p}/__init__.py" in paths or f"{p}/__init__.pyc" in paths),
        "/".join(module[:-1]),  # as `Context.files`
    )
    # That of a namespace has always been read as well: it is the top-level package.
    found = [p for p in dict.fromkeys((own, packages[0])) if p and f"{p}/{FILENAME}" in paths]
    if len(found) > 1:
        raise _MistakeError(
            f"{found[0]}/{FILENAME} and {found[1]}/{FILENAME} are both for {target}: keep the first"
        )
    if found:
        return f"{found[0]}/{FILENAME}"
    for stray in (FILENAME, *(f"{package}/{FILENAME}" for package in packages)):
        if stray in paths:
            raise _MistakeError(f"{stray}: is not read there; {_move(module, own)}")
    return None


def _move(module: list[str], package: str) -> str:
    if package:
        return f"it belongs inside the package of the pipeline: move it to {package}/{FILENAME}"
    name = module[-1]
    return (
        f"it belongs inside a package: make `{name}` one, with the code in {name}/__init__.py and "
        f"the wishes in {name}/{FILENAME}"
    )


class _MistakeError(ValueError):
    """`file:line: key: what is wrong`."""


def _parse(
    body: bytes, path: str, pipeline: str, names: Collection[str]
) -> tuple[dict[str, JSON], dict[str, JSON]]:
    if len(body) > _MAX_SIZE:
        raise _MistakeError(f"{path}: has {len(body)} bytes, at most {_MAX_SIZE} are read")
    try:
        text = body.decode()
        data = {} if (too_deep := _DEEP_KEY.search(text)) else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOML and UTF-8 errors are ValueErrors
        raise _MistakeError(f"{path}: not valid TOML: {error}") from error
    if too_deep or nesting(data) > _MAX_DEPTH:
        raise _MistakeError(f"{path}: nested deeper than {_MAX_DEPTH} levels")
    parts = data.pop("pipelines", {})
    if not isinstance(parts, dict):
        raise _MistakeError(f"{path}:{line_of(text, ['pipelines'])}: pipelines: must be a table")
    options, settings = _part(data, (), text, path)
    for key, part in parts.items():
        if canonicalize_name(key) not in names:
            raise _MistakeError(
                f"{path}:{line_of(text, ['pipelines', key, 'options'])}: pipelines.{key}: this "
                f"wheel has no such pipeline, only {', '.join(sorted(names))}"
            )
        if canonicalize_name(key) == pipeline:
            own_options, own_settings = _part(part, ("pipelines", key), text, path)
            options, settings = _merge(options, own_options), settings | own_settings
    return options, settings


def _part(
    data: object, prefix: tuple[str, ...], text: str, path: str
) -> tuple[dict[str, JSON], dict[str, JSON]]:
    try:
        part = _Part.model_validate(data)
    except ValidationError as error:
        raise _MistakeError("; ".join(_mistakes(error, prefix, text, path))) from error
    return _set_options(part.options), part.settings


def _mistakes(
    error: ValidationError, prefix: tuple[str, ...], text: str, path: str
) -> Iterable[str]:
    for mistake in mistakes(error)[:3]:
        keys, what = [*prefix, *mistake.keys], mistake.what
        if mistake.kind == "extra_forbidden":
            what = f"unknown key; {_belongs(keys)}"
        yield f"{path}:{line_of(text, keys)}: {dotted(keys)}: {what}"


def _belongs(keys: Sequence[str | int]) -> str:
    """Where a misplaced key belongs; or else which keys there are."""
    key = str(keys[-1])
    if key in _OPERATORS:
        return f"`{key}` is the operator's to say, under [[pipelines]] of the controller's file"
    if "options" not in keys and key in Options.model_fields:
        return f"`{key}` belongs under [options], or [pipelines.NAME.options]"
    for table, known in (
        ("ray_actor_options", set(ActorOptions.model_fields)),
        ("autoscaling_config", set(AUTOSCALING)),
    ):
        if key in known and table not in keys:
            return f"`{key}` belongs into `{table}` under [options]"
    if "ray_actor_options" in keys:
        return f"known are {', '.join(sorted(ActorOptions.model_fields))}"
    if "options" in keys:
        return f"known are {', '.join(sorted(Options.model_fields))}"
    return "known are `options` and `settings`, and `pipelines.NAME` with these two"


# -- layering ------------------------------------------------------------------------------------


def _set_options(options: Options) -> dict[str, JSON]:
    """Only the options that were given."""
    return options.model_dump(exclude_unset=True, exclude_none=True)


def _merge(below: Mapping[str, JSON], above: Mapping[str, JSON]) -> dict[str, JSON]:
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
