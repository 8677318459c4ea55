"""Serve's own schema: what it makes of documents, and what it refuses.

Ray's modules (ray.serve.schema, Ray 2.60) take about a second to import and 80 MB to keep, hence
lazily, and in a daemon in a process of their own (`schema_process.py`). Whoever has a document to
check goes by `outline.py`, which asks here once for all that are alike.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ValidationError

from controller.serve.canonical import plain

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


class Asker(Protocol):
    """Has `QUESTIONS` answered, here or elsewhere."""

    def ask(self, question: str, document: Mapping[str, JSON]) -> JSON:
        """The answer of the question of that name.

        Raises:
            SchemaError: Ray would refuse the document.
            Waiting: nobody answers now (`SchemaUnavailable`).
        """

    def expect(self) -> None:
        """Something will be asked soon: be ready for it. Waits for nothing."""

    def close(self) -> None:
        """Nothing will be asked any more."""


class InProcess:
    """Asks in this process, which has Ray's modules from then on."""

    def ask(self, question: str, document: Mapping[str, JSON]) -> JSON:
        """As `Asker` has it; never Waiting."""
        return QUESTIONS[question](document)

    def expect(self) -> None:
        """There is nothing to do meanwhile."""

    def close(self) -> None:
        """What was imported stays."""


# -- the questions -------------------------------------------------------------------------------


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
            kept["autoscaling_config"] = plain(autoscaling)
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


def taken(document: Mapping[str, JSON]) -> None:
    """Check one application as Serve will when it gets it.

    Raises:
        SchemaError: Ray would refuse it, with all that it has to say.
    """
    preload()
    from ray.serve.schema import ServeApplicationSchema  # noqa: PLC0415 - slow, see preload

    checked = _without_policies(document)
    _check(ServeApplicationSchema, checked)
    if str(checked.get("import_path")).startswith(_OURS):
        _convert(checked)


def taken_together(config: Mapping[str, JSON]) -> None:
    """Check a whole config, but not the inside of its applications, as Serve will.

    Raises:
        SchemaError: Ray would refuse it, with all that it has to say.
    """
    preload()
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - slow, see preload

    _check(ServeDeploySchema, config)


QUESTIONS = {check.__name__: check for check in (application, envelope, taken, taken_together)}
"""Pure functions of documents, by name: what any `Asker` answers."""


# -- as Ray has it -------------------------------------------------------------------------------


def _without_policies(document: Mapping[str, JSON]) -> dict[str, JSON]:
    """A copy without autoscaling policies: Ray's schema imports the function that they name, and
    the daemon imports nobody's code.
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


def _check(schema: type[BaseModel], document: Mapping[str, JSON]) -> None:
    try:
        schema.model_validate(document)
    except ValidationError as error:
        lines = [
            f"{dotted(mistake['loc'])}: {mistake['msg'].removeprefix('Value error, ')}"
            for mistake in error.errors(include_url=False)
        ]
        raise SchemaError((), "; ".join(lines)) from error


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
        options = {key: value for key, value in deployment.items() if key not in _CODE}
        actor = options.get("ray_actor_options") or {}
        options["ray_actor_options"] = {k: v for k, v in actor.items() if k != "runtime_env"}
        if said := _refused_by_conversion(options):
            raise SchemaError(("deployments", number), f"Ray cannot convert it: {said}")


def _refused_by_conversion(options: dict[str, JSON]) -> str:
    """What Ray says to a deployment; empty when it takes it."""
    from ray.serve._private.config import (  # noqa: PLC0415 - slow, see preload
        DeploymentConfig,
        ReplicaConfig,
    )
    from ray.serve.config import AutoscalingConfig  # noqa: PLC0415 - slow, see preload

    if options.get("num_replicas") == "auto":
        scaling = AutoscalingConfig.default().model_dump(exclude={"policy"})
        options["autoscaling_config"] = scaling | (options.get("autoscaling_config") or {})
        options["num_replicas"] = None
    known = DeploymentConfig.model_fields.keys() & options.keys()
    scheduling = {key for key in options if key.startswith("placement_group_")}
    scheduling |= {"max_replicas_per_node"} & options.keys()
    try:
        config = DeploymentConfig(**{key: options[key] for key in known})
        DeploymentConfig.from_proto_bytes(config.to_proto_bytes())
        ReplicaConfig(
            "",
            b"",
            b"",
            b"",
            options["ray_actor_options"],
            **{key: options[key] for key in scheduling},
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
