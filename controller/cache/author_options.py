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
    [parts.risk.options]            # of the part of that name; [pipelines.iris.parts.risk.options]
    threads = 2

A mistake refuses the pipelines that it concerns and no other. What becomes of the options is in
`option_layers`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from controller.cache.option_layers import FILENAME, merge, set_options
from controller.config.loading import line_of, nesting
from controller.config.serve import AUTOSCALING, REPLICA_COUNTS, DeploymentOptions, PartOptions
from controller.config.settings import ActorOptions, Options, PipelinePolicy
from controller.config.values import Table  # noqa: TC001 - pydantic reads the annotations
from controller.errors import dotted, mistakes
from controller.model import JSON, PartEntry, PipelineEntry, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

    from packaging.version import Version

    from controller.cache.wheels.parts import Parts

_MAX_SIZE = 64 << 10  # bytes
_MAX_DEPTH = 32
# tomllib's time grows with the square of a dotted key's length: seconds for what is refused anyhow.
_DEEP_KEY = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*)""" f"{{{_MAX_DEPTH}}}"
)
_BEFORE_THE_TREE = re.compile(
    r"(LD|RAY|WHEELWAY)_.*|GLIBC_TUNABLES|GCONV_PATH|LOCPATH|NLSPATH|PATH|HOME|TMPDIR"
    r"|PYTHON(PATH|HOME|STARTUP|USERBASE|PLATLIBDIR|PYCACHEPREFIX|BREAKPOINT|INSPECT|EXECUTABLE)"
)
"""Variables of Ray, and those by which other code than the verified tree is loaded."""
_OPERATORS = frozenset(PipelinePolicy.model_fields) - {"options", "settings", "parts", "name"}
"""Keys that only the operator's policy may have."""
_SHARED = {"settings", *Options.model_fields} - PartOptions.model_fields.keys()
"""Keys that a part does not have, for it has its pipeline's."""


class _WishedDeployment(DeploymentOptions):
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

    @model_validator(mode="after")
    def _one_kind_of_scaling(self) -> Self:
        if isinstance(self.num_replicas, int) and self.autoscaling_config is not None:
            raise ValueError("num_replicas is a number and autoscaling_config is set: keep one")
        return self


class _WishedOptions(_WishedDeployment, Options):
    """Of a pipeline."""

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


class _WishedPartOptions(_WishedDeployment, PartOptions):
    """Of a part."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _PartWishes(_Table):
    """`[parts.NAME]`."""

    options: _WishedPartOptions = _WishedPartOptions()


class _Wishes(_Table):
    """The whole file, or `[pipelines.NAME]` of it."""

    options: _WishedOptions = _WishedOptions()
    settings: Table = {}
    parts: dict[str, _PartWishes] = {}


@dataclass(frozen=True, slots=True)
class _Wished:
    """What one pipeline is to get."""

    options: Mapping[str, JSON] = field(default_factory=dict)
    settings: Mapping[str, JSON] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)
    """The options of each part that has any."""

    def overlaid(self, above: _Wished) -> _Wished:
        """Merged with what goes before it."""
        parts = {
            name: merge(self.parts.get(name, {}), above.parts.get(name, {}))
            for name in self.parts.keys() | above.parts.keys()
        }
        options = merge(self.options, above.options)
        return _Wished(options, {**self.settings, **above.settings}, parts)


def entries(
    targets: Mapping[str, str],
    version: Version,
    paths: Container[str],
    read: Callable[[str], bytes | None],
    parts: Mapping[str, Parts] = MappingProxyType({}),
) -> tuple[PipelineEntry, ...]:
    """The pipelines of a wheel with their wishes, sorted by name.

    Args:
        targets: normalised pipeline name to `module:attribute`.
        version: the wheel's, for naming the refusals.
        paths: of the wheel's files.
        read: the bytes of one of them.
        parts: by pipeline, of those that have any.
    """
    named = {name: parts[name].targets if name in parts else {} for name in targets}
    found = []
    for name, target in sorted(targets.items()):
        wished, refusal = _Wished(), parts[name].refusal if name in parts else None
        try:
            path = _path(target, paths)
            if path is not None and (body := read(path)) is not None:
                wished = _parse(body, path, name, named)
        except MistakeError as mistake:
            subject = f"{name} {version}"
            refusal = Refusal(subject, "WishesInvalid", f"{mistake}; mend it and rebuild the wheel")
        of_parts = tuple(
            PartEntry(part, target, wished.parts.get(part, {}))
            for part, target in sorted(named[name].items())
        )
        entry = PipelineEntry(name, target, wished.options, wished.settings, refusal, of_parts)
        found.append(entry)
    return tuple(found)


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
        raise MistakeError(
            f"{found[0]}/{FILENAME} and {found[1]}/{FILENAME} are both for {target}: keep the first"
        )
    if found:
        return f"{found[0]}/{FILENAME}"
    for stray in (FILENAME, *(f"{package}/{FILENAME}" for package in packages)):
        if stray in paths:
            raise MistakeError(f"{stray}: is not read there; {_move(module, own)}")
    return None


def _move(module: list[str], package: str) -> str:
    if package:
        return f"it belongs inside the package of the pipeline: move it to {package}/{FILENAME}"
    name = module[-1]
    return (
        f"it belongs inside a package: make `{name}` one, with the code in {name}/__init__.py and "
        f"the wishes in {name}/{FILENAME}"
    )


class MistakeError(ValueError):
    """`file:line: key: what is wrong`, of a `wheelway.toml`."""


def parse_toml(body: bytes, path: str) -> tuple[str, dict[str, Any]]:
    """The text of a `wheelway.toml` and what it says; `path` is where it lies.

    Raises:
        MistakeError: it is no TOML, or beyond what is read.
    """
    if len(body) > _MAX_SIZE:
        raise MistakeError(f"{path}: has {len(body)} bytes, at most {_MAX_SIZE} are read")
    try:
        text = body.decode()
        data = {} if (too_deep := _DEEP_KEY.search(text)) else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOML and UTF-8 errors are ValueErrors
        raise MistakeError(f"{path}: not valid TOML: {error}") from error
    if too_deep or nesting(data) > _MAX_DEPTH:
        raise MistakeError(f"{path}: nested deeper than {_MAX_DEPTH} levels")
    return text, data


def _parse(body: bytes, path: str, pipeline: str, named: Mapping[str, Collection[str]]) -> _Wished:
    """What the file says for one pipeline; `named` has the parts of each pipeline of the wheel."""
    text, data = parse_toml(body, path)
    pipelines = data.pop("pipelines", {})
    if not isinstance(pipelines, dict):
        raise MistakeError(f"{path}:{line_of(text, ['pipelines'])}: pipelines: must be a table")
    everybodys = {part for parts in named.values() for part in parts}
    wished = _wished(data, (), text, path, everybodys)
    for key, table in pipelines.items():
        if canonicalize_name(key) not in named:
            raise MistakeError(
                f"{path}:{line_of(text, ['pipelines', key, 'options'])}: pipelines.{key}: this "
                f"wheel has no such pipeline, only {', '.join(sorted(named))}"
            )
        if canonicalize_name(key) == pipeline:
            own = _wished(table, ("pipelines", key), text, path, named[pipeline])
            wished = wished.overlaid(own)
    return wished


def _wished(
    data: object, prefix: tuple[str, ...], text: str, path: str, parts: Collection[str]
) -> _Wished:
    try:
        wishes = _Wishes.model_validate(data)
    except ValidationError as error:
        raise MistakeError("; ".join(_mistakes(error, prefix, text, path))) from error
    for name in wishes.parts:
        if name not in parts:
            keys = [*prefix, "parts", name]
            only = f"no such part, only {', '.join(sorted(parts))}" if parts else "no parts"
            whose = "this pipeline" if prefix else "this wheel"
            raise MistakeError(
                f"{path}:{line_of(text, [*keys, 'options'])}: {dotted(keys)}: {whose} has {only}; "
                "parts are entry points in the group `wheelway.parts`, `<pipeline>.<part>`"
            )
    of_parts = {name: set_options(part.options) for name, part in wishes.parts.items()}
    return _Wished(set_options(wishes.options), wishes.settings, of_parts)


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
    return _misplaced(keys) or f"known are {_known(keys)}"


def _misplaced(keys: Sequence[str | int]) -> str | None:
    """Where a key belongs that is known elsewhere."""
    key, is_of_part = str(keys[-1]), _is_of_part(keys)
    found = None
    if key in _OPERATORS:
        found = f"`{key}` is the operator's to say, under [[pipelines]] of the controller's file"
    elif key == "fits":
        found = "`fits` belongs into the `wheelway.toml` of weights, a wheel without pipelines"
    elif is_of_part and key in _SHARED:
        found = f"a part shares `{key}` with its pipeline: say it there"
    elif "options" not in keys and key in Options.model_fields:
        table = "parts.NAME.options" if is_of_part else "options"
        found = f"`{key}` belongs under [{table}], or [pipelines.NAME.{table}]"
    for table, known in (
        ("ray_actor_options", set(ActorOptions.model_fields)),
        ("autoscaling_config", set(AUTOSCALING)),
    ):
        if found is None and key in known and table not in keys:
            found = f"`{key}` belongs into `{table}` under [options]"
    return found


def _known(keys: Sequence[str | int]) -> str:
    """The keys that there are beside a misspelt one."""
    if "ray_actor_options" in keys:
        return ", ".join(sorted(ActorOptions.model_fields))
    if "options" in keys:
        return ", ".join(sorted((PartOptions if _is_of_part(keys) else Options).model_fields))
    if _is_of_part(keys):
        return "`options` alone"
    return "`options` and `settings`, `parts.NAME.options`, and `pipelines.NAME` with all of these"


def _is_of_part(keys: Sequence[str | int]) -> bool:
    """Whether they are below `parts.NAME`."""
    return keys[:1] == ["parts"] or (keys[:1] == ["pipelines"] and keys[2:3] == ["parts"])
