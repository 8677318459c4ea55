r"""Serve's own schema, and YAML that says the same to every reader.

`serve deploy` and the dashboard read with PyYAML, which is YAML 1.1: `1e-07` is a string there,
`\ud83d\ude00` two characters, a key of more than 1024 characters an error. `quoted` writes JSON's
values so that PyYAML reads back exactly what was written.

Ray's schema (ray.serve.schema, Ray 2.60) takes about a second to import, hence lazily; a daemon
calls `preload` while it has nothing else to do.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from controller.errors import Rejected

if TYPE_CHECKING:
    from controller.model import JSON


_importing = threading.Lock()


def preload() -> None:
    """Import Ray's schema now rather than at the first use.

    Everything here that needs it calls this first: Ray's modules import each other in circles, and
    two threads that enter these at different places end in an import deadlock.
    """
    with _importing:
        import ray.serve.schema  # noqa: F401, PLC0415 - a second, wanted at a quiet moment


# -- YAML ----------------------------------------------------------------------------------------

_LONG_KEY = 500
"""PyYAML finds a key without `?` only when it and its escapes fit into 1024 characters."""
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
"""All but printable ASCII without `"` and `\\`."""


class Given(dict[str, Any]):
    """A document that a template hands on as it is. `quoted` writes a reference in its place, for
    parsing it again would be for nothing; a template that looks into it finds all there is.
    """

    def __init__(self, document: Mapping[str, JSON], number: int) -> None:
        super().__init__(document)
        self.reference = f"\0{number}"
        """No document that Serve takes is a string."""


def quoted(value: JSON) -> str:
    """A value of JSON as one line of YAML 1.1, whatever its strings hold.

    Raises:
        ValueError: it holds NaN, an infinity, a lone surrogate, a key that is no string, or a type
            that JSON does not have.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, str):
        return f'"{_UNSAFE.sub(_escape, value)}"'
    if isinstance(value, Given):
        return quoted(value.reference)
    if isinstance(value, Mapping):
        return f"{{{', '.join(_pair(key, item) for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(quoted(item) for item in value)}]"
    raise ValueError(f"{type(value).__name__} is not a type of JSON")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a number of JSON")
    mantissa, exponent, power = repr(value).partition("e")
    return f"{mantissa}.0e{power}" if exponent and "." not in mantissa else repr(value)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError(f"U+{code:04X} is half a character and cannot be sent as UTF-8")
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def _pair(key: object, value: JSON) -> str:
    if not isinstance(key, str):
        # A value of the caller's, not a type of ours: one exception for all that JSON lacks.
        raise ValueError(f"{key!r} is not a key of JSON; write it as a string")  # noqa: TRY004
    name = quoted(key)
    return f"{'? ' if len(name) > _LONG_KEY else ''}{name}: {quoted(value)}"


class _Canonical(yaml.SafeDumper):
    """Without anchors: equal values are written out each time."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def to_yaml(value: JSON) -> str:
    """Canonical YAML: keys sorted, no anchors, ASCII; equal values give equal bytes. That of a
    mapping or a list is that of its items, one after the other.
    """
    return yaml.dump(
        _plain(value), Dumper=_Canonical, sort_keys=True, default_flow_style=False, width=100
    )


def from_yaml(text: str) -> JSON:
    """The value that PyYAML reads; tags that would make objects are refused.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    # The C parser where libyaml is there: same result, ten times faster.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders


def _plain(value: Any) -> Any:
    """Mappings and sequences as dict and list, which is all that PyYAML's safe dumper knows."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


# -- Ray's schema --------------------------------------------------------------------------------


class SchemaError(ValueError):
    """Ray would refuse a document, or silently not do what it says; `path` leads to the spot."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(f"{dotted(path)}: {message}" if path else message)
        self.path = path


def dotted(path: Sequence[str | int]) -> str:
    """`deployments[0].num_replicas`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def application(document: Mapping[str, JSON]) -> dict[str, JSON]:
    """The application as Serve will report it back in `deployed_app_config`.

    Ray ignores unknown keys, so that a misspelt option does nothing; here they are refused.

    Raises:
        SchemaError: Ray would refuse it, or drop a part of it.
    """
    preload()
    from ray.serve.config import AutoscalingConfig  # noqa: PLC0415 - slow, see preload
    from ray.serve.schema import ServeApplicationSchema  # noqa: PLC0415 - slow, see preload

    checked = _without_policies(document)
    dumped = _dump(ServeApplicationSchema, checked, ())
    for number, (ours, kept) in enumerate(
        zip(document.get("deployments", ()), dumped.get("deployments", ()), strict=True)
    ):
        if autoscaling := ours.get("autoscaling_config"):
            # Ray keeps this as a plain dict here and checks it only while it deploys.
            where = ("deployments", number, "autoscaling_config")
            _dump(AutoscalingConfig, checked["deployments"][number]["autoscaling_config"], where)
            kept["autoscaling_config"] = _plain(autoscaling)
    _convert(checked)
    return dumped


def envelope(config: Mapping[str, JSON]) -> None:
    """Check all of a config but its applications.

    Raises:
        SchemaError: Ray would refuse it, or ignore a part of it.
    """
    preload()
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - slow, see preload

    _dump(ServeDeploySchema, {**config, "applications": []}, ())


def _without_policies(document: Mapping[str, JSON]) -> dict[str, JSON]:
    """A copy without autoscaling policies: Ray's schema imports the function that they name, and
    the daemon imports nobody's code.
    """
    copy: dict[str, JSON] = _plain(document)
    deployments = copy.get("deployments")
    for deployment in deployments if isinstance(deployments, list) else ():
        autoscaling = deployment.get("autoscaling_config") if isinstance(deployment, dict) else None
        if isinstance(autoscaling, dict):
            autoscaling.pop("policy", None)
    return copy


def _dump(schema: type[BaseModel], document: JSON, where: tuple[str | int, ...]) -> dict[str, JSON]:
    try:
        dumped = schema.model_validate(document).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # A union's branches are part of pydantic's path, and mean nothing to a reader.
        path = tuple(part for part in first["loc"] if not str(part).startswith("dict["))
        what = first["msg"].removeprefix("Value error, ")
        raise SchemaError((*where, *path), f"{what} (got {_shortened(first['input'])})") from error
    _refuse_losses(document, dumped, where)
    return dumped


def _refuse_losses(given: JSON, kept: JSON, path: tuple[str | int, ...]) -> None:
    """Raise SchemaError at the first thing in `given` that is not in `kept`."""
    if isinstance(given, Mapping) and isinstance(kept, Mapping):
        for key, value in given.items():
            if key not in kept:
                raise SchemaError((*path, key), "Ray does not know this key and would ignore it")
            _refuse_losses(value, kept[key], (*path, key))
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (value, other) in enumerate(zip(given, kept, strict=True)):
            _refuse_losses(value, other, (*path, number))


_CODE = ("deployment_actors", "gang_scheduling_config", "request_router_config", "user_config")
"""Options of a deployment that hold no number of ours, or the names of functions that Ray would
import."""


_OURS = "wheelway.host:"
"""What is not ours runs already, as it is."""


def _convert(document: Mapping[str, JSON]) -> None:
    """Convert an application's deployments as Serve's controller does (application_state.py,
    `override_deployment_info`, then deployment_state.py, Ray 2.60). There it happens in the one
    loop that serves everybody: what raises there stops it.

    Raises:
        SchemaError: Ray cannot convert it.
    """
    for number, deployment in enumerate(document.get("deployments", ())):
        numbers = {key: value for key, value in deployment.items() if key not in _CODE}
        actor = numbers.get("ray_actor_options") or {}
        # Without what is each release's own, most are alike: what was tried once is known.
        numbers["ray_actor_options"] = {k: v for k, v in actor.items() if k != "runtime_env"}
        numbers["name"] = ""
        if said := _refused_by_conversion(json.dumps(numbers, sort_keys=True)):
            raise SchemaError(("deployments", number), f"Ray cannot convert it: {said}")


@lru_cache(maxsize=1024)
def _refused_by_conversion(deployment: str) -> str:
    """What Ray says to a deployment; empty when it takes it."""
    from ray.serve._private.config import (  # noqa: PLC0415 - slow, see preload
        DeploymentConfig,
        ReplicaConfig,
    )
    from ray.serve.config import AutoscalingConfig  # noqa: PLC0415 - slow, see preload

    options = json.loads(deployment)
    if options.get("num_replicas") == "auto":
        scaling = AutoscalingConfig.default().model_dump(exclude={"policy"})
        options["autoscaling_config"] = scaling | (options.get("autoscaling_config") or {})
        options["num_replicas"] = None
    known = DeploymentConfig.model_fields.keys() & options.keys()
    placing = {key for key in options if key.startswith("placement_group_")}
    placing |= {"max_replicas_per_node"} & options.keys()
    try:
        config = DeploymentConfig(**{key: options[key] for key in known})
        DeploymentConfig.from_proto_bytes(config.to_proto_bytes())
        ReplicaConfig(
            "",
            b"",
            b"",
            b"",
            options["ray_actor_options"],
            **{key: options[key] for key in placing},
        ).to_proto_bytes()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{dotted(first['loc'])}: {first['msg'].removeprefix('Value error, ')}"
    except (ValueError, TypeError, OverflowError) as error:
        return str(error)
    return ""


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def validate(document: Mapping[str, JSON]) -> None:
    """Check one application as Serve will when it gets it.

    Raises:
        Rejected: Ray would refuse it (`ConfigRefused`).
    """
    preload()
    from ray.serve.schema import ServeApplicationSchema  # noqa: PLC0415 - slow, see preload

    checked, name = _without_policies(document), f"application {document.get('name')!r}"
    _check(ServeApplicationSchema, checked, name)
    try:
        quoted(checked)
        if str(checked.get("import_path")).startswith(_OURS):
            _convert(checked)
    except ValueError as error:
        raise Rejected("ConfigRefused", f"Ray Serve could not run {name}: {error}") from error


def validate_together(config: Mapping[str, JSON]) -> None:
    """Check all of a config but what is inside its applications.

    Raises:
        Rejected: Ray would refuse it (`ConfigRefused`).
    """
    preload()
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - slow, see preload

    applications = config.get("applications", ())
    names = Counter(document.get("name") for document in applications)
    routes = Counter(document.get("route_prefix", "/") for document in applications)
    del routes[None]
    # Ray compares each with each: of thousands it is shown those alone that it has cause to refuse.
    suspects = [
        {key: document[key] for key in _TOGETHER if key in document}
        for document in applications
        if names[document.get("name")] > 1
        or routes[document.get("route_prefix", "/")] > 1
        or not document.get("name")
        or not document.keys().isdisjoint({"host", "port"})
    ]
    _check(ServeDeploySchema, {**config, "applications": suspects}, "the Serve config")


_TOGETHER = ("name", "route_prefix", "import_path", "host", "port")
"""What Serve compares between applications, or with the rest, and what none may lack."""


def _check(schema: type[BaseModel], document: Mapping[str, JSON], what: str) -> None:
    try:
        schema.model_validate(document)
    except ValidationError as error:
        lines = [
            f"{dotted(mistake['loc'])}: {mistake['msg'].removeprefix('Value error, ')}"
            for mistake in error.errors(include_url=False)
        ]
        raise Rejected(
            "ConfigRefused", f"Ray Serve would refuse {what}: {'; '.join(lines)}"
        ) from error
