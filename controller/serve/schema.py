"""Serve's own schema: what it makes of documents, and what it refuses.

Ray's modules (ray.serve.schema, Ray 2.60) take about a second to import and 80 MB to keep, hence
lazily, and for a daemon in a process of their own (`schema_process.py`). Documents are checked by
way of `outline.py`, which asks here once for all that are alike.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ValidationError

from controller.errors import mistakes
from controller.serve.canonical import plain

if TYPE_CHECKING:
    from types import ModuleType

    from controller.model import JSON

_importing = threading.Lock()


class _Ray(NamedTuple):
    """Modules of Ray's."""

    schema: ModuleType
    config: ModuleType
    private: ModuleType


def preload() -> _Ray:
    """Import Ray's schema: now, rather than at the first use.

    Ray's modules import each other in circles, and two threads that enter these at different places
    end in an import deadlock: hence one place, and a lock.
    """
    with _importing:
        from ray.serve import config, schema  # noqa: PLC0415 - a second, at a quiet moment
        from ray.serve._private import config as private  # noqa: PLC0415 - as above
    return _Ray(schema, config, private)


class SchemaError(ValueError):
    """Ray would refuse a document, or silently not do what it says; `path` leads to the spot."""

    def __init__(self, path: Sequence[str | int], message: str) -> None:
        super().__init__(f"{dotted(path)}: {message}" if path else message)
        self.path = tuple(path)
        self.message = message


def dotted(path: Sequence[str | int]) -> str:
    """`deployments[0].num_replicas`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


class Asker:
    """Has `QUESTIONS` answered: here in this process, which has Ray's modules from then on."""

    def ask(self, question: str, document: Mapping[str, JSON]) -> JSON:
        """The answer of the question of that name.

        Raises:
            SchemaError: Ray would refuse the document.
            Waiting: there is no answer now (`SchemaStarting`, `SchemaUnavailable`); never here.
        """
        return QUESTIONS[question](document)

    def expect(self) -> None:
        """Get ready, without waiting, for a question that will come soon."""

    def close(self) -> None:
        """End: no more questions come."""


# -- the questions -------------------------------------------------------------------------------
# Each raises SchemaError, with all that Ray has to say.


def application(document: Mapping[str, JSON]) -> dict[str, JSON]:
    """The application as Serve will report it back in `deployed_app_config`.

    Ray ignores unknown keys, so that a misspelt option does nothing; here they are refused.
    """
    ray, checked = preload(), _without_policies(document)
    dumped = _dump(ray.schema.ServeApplicationSchema, checked, ())
    for number, (ours, kept) in enumerate(
        zip(document.get("deployments", ()), dumped.get("deployments", ()), strict=True)
    ):
        if autoscaling := ours.get("autoscaling_config"):
            # Ray keeps this as a plain dict here and checks it only while it deploys.
            where = ("deployments", number, "autoscaling_config")
            _dump(
                ray.config.AutoscalingConfig,
                checked["deployments"][number]["autoscaling_config"],
                where,
            )
            kept["autoscaling_config"] = plain(autoscaling)
    _convert(checked)
    return dumped


def envelope(config: Mapping[str, JSON]) -> None:
    """Check all of a config but its applications; what Ray would ignore is refused as well."""
    _dump(preload().schema.ServeDeploySchema, {**config, "applications": []}, ())


def taken(document: Mapping[str, JSON]) -> None:
    """Check one application as Serve will when it gets it."""
    checked = _without_policies(document)
    _check(preload().schema.ServeApplicationSchema, checked)
    if str(checked.get("import_path")).startswith(_OURS):
        _convert(checked)


def taken_together(config: Mapping[str, JSON]) -> None:
    """Check a whole config, but not the inside of its applications, as Serve will."""
    _check(preload().schema.ServeDeploySchema, config)


QUESTIONS = {check.__name__: check for check in (application, envelope, taken, taken_together)}
"""Pure functions of documents, by name: what any `Asker` answers."""


# -- as Ray has it -------------------------------------------------------------------------------


def _without_policies(document: Mapping[str, JSON]) -> dict[str, JSON]:
    """A copy without autoscaling policies: Ray's schema imports the function that they name, and
    the daemon imports no code of others.
    """
    copy: dict[str, JSON] = plain(document)
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
        first = mistakes(error)[0]
        # A union's branches are part of pydantic's path, and mean nothing to a reader.
        path = tuple(part for part in first.keys if not str(part).startswith("dict["))
        what = f"{first.what} (got {_shortened(first.given)})"
        raise SchemaError((*where, *path), what) from error
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


def _check(schema: type[BaseModel], document: Mapping[str, JSON]) -> None:
    try:
        schema.model_validate(document)
    except ValidationError as error:
        raise SchemaError((), "; ".join(_mistakes(error))) from error


def _mistakes(error: ValidationError) -> list[str]:
    return [f"{dotted(one.keys)}: {one.what}" for one in mistakes(error)]


_CODE = ("deployment_actors", "gang_scheduling_config", "request_router_config", "user_config")
"""Options of a deployment that hold none of our numbers, or names of functions that Ray would
import."""


_OURS = "wheelway.host:"
"""The start of our import paths; all other applications run already, as they are."""


def _convert(document: Mapping[str, JSON]) -> None:
    """Convert an application's deployments as Serve's controller does (application_state.py,
    `override_deployment_info`, then deployment_state.py, Ray 2.60). There it happens in the one
    loop that serves everybody: what raises there stops it. Here it raises SchemaError.
    """
    for number, deployment in enumerate(document.get("deployments", ())):
        options = {key: value for key, value in deployment.items() if key not in _CODE}
        actor = options.get("ray_actor_options") or {}
        options["ray_actor_options"] = {k: v for k, v in actor.items() if k != "runtime_env"}
        if said := _refused_by_conversion(options):
            raise SchemaError(("deployments", number), f"Ray cannot convert it: {said}")


def _refused_by_conversion(options: dict[str, JSON]) -> str:
    """What Ray says to a deployment; empty when it takes it."""
    ray = preload()
    if options.get("num_replicas") == "auto":
        scaling = ray.config.AutoscalingConfig.default().model_dump(exclude={"policy"})
        options["autoscaling_config"] = scaling | (options.get("autoscaling_config") or {})
        options["num_replicas"] = None
    known = ray.private.DeploymentConfig.model_fields.keys() & options.keys()
    scheduling = {key for key in options if key.startswith("placement_group_")}
    scheduling |= {"max_replicas_per_node"} & options.keys()
    try:
        config = ray.private.DeploymentConfig(**{key: options[key] for key in known})
        ray.private.DeploymentConfig.from_proto_bytes(config.to_proto_bytes())
        numbers = {key: options[key] for key in scheduling}
        ray.private.ReplicaConfig(
            "", b"", b"", b"", options["ray_actor_options"], **numbers
        ).to_proto_bytes()
    except ValidationError as error:
        return _mistakes(error)[0]
    except (ValueError, TypeError, OverflowError) as error:
        return str(error)
    return ""


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
