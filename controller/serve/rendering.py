"""From a release to its Serve application, and from applications to the whole Serve config.

Pure but for reading the templates. Equal inputs give equal documents: a placement's name holds a
digest over everything whose change restarts replicas, so what Serve runs under a name never
changes but for its lightweight options.
"""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING

import httpx

from controller.errors import Rejected, Stalled, TemplateError
from controller.model import Artifact, Environment, PipelineEntry, Placement, Release
from controller.planning.daemons import marked
from controller.planning.documents import same_document
from controller.planning.remembered import Remembered
from controller.planning.weights import NONE, Choice, Weights, in_document
from controller.serve.application import release_of
from controller.serve.canonical import AllGiven, to_yaml
from controller.serve.outline import Schema
from controller.serve.schema import SchemaError
from controller.serve.templates import Templates
from controller.serve.variables import (
    ORDINARY,
    ORDINARY_PARTS,
    ORDINARY_RELEASE,
    filled_options,
    named,
    part_of,
    text_of,
    weights_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from controller.config.settings import Options, PartOptions, RayOptions, ServeOptions
    from controller.model import JSON
    from controller.planning.daemons import DaemonMark

APPLICATION = "application.yaml.j2"
CONFIG = "serve.yaml.j2"
ENCODED_ROUTES = "encoded_routes.yaml.j2"

_NO_PARTS: Mapping[str, PartOptions] = MappingProxyType({})
_MOST = 4096
"""Options that are remembered."""

_LIGHTWEIGHT = {
    "autoscaling_config",
    "backpressure_config",
    "graceful_shutdown_timeout_s",
    "graceful_shutdown_wait_loop_s",
    "health_check_period_s",
    "health_check_timeout_s",
    "logging_config",
    "max_ongoing_requests",
    "max_queued_requests",
    "max_surge_percent",
    "num_replicas",
    "rolling_update_percentage",
    "user_config",
}
"""A deployment's options that Serve changes without restarting replicas (ray/serve/_private:
`DeploymentConfig`'s update types and `DeploymentVersion.requires_actor_restart`, Ray 2.60)."""


class Renderer:
    """Renders with the templates of one operator."""

    def __init__(
        self,
        override: Path | None = None,
        *,
        wheelway: str | None = None,
        mark: DaemonMark | None = None,
        schema: Schema | None = None,
    ) -> None:
        """`override` is the operator's folder; `wheelway` is the version that replicas will run;
        `mark` says whose each application is; `schema` is Ray's, by default in this process.
        """
        self._schema = schema or Schema()
        self._mark = mark
        self._met: set[str] = set()
        """Options that were rendered before: Ray's schema is not asked about them again."""
        self._templates = Templates(override)
        self._wheelway = wheelway or version("wheelway")
        self._encoded: Remembered[tuple[Mapping[str, JSON], str], dict[str, JSON]] = Remembered(
            lambda of: self._normalised(ENCODED_ROUTES, of[0])
        )
        self._texts = Remembered(lambda document: to_yaml([document]), same=same_document)
        self._valid = Remembered(self._schema.validate)

    def fingerprint(self) -> str:
        """A digest of the templates: while it stays, so do renders. Raises TemplateError."""
        return self._templates.fingerprint()

    def expect(self, options: Options, parts: Mapping[str, PartOptions] = _NO_PARTS) -> None:
        """Get ready to check these options: a release with them is about to be placed."""
        if text_of(options, parts) not in self._met:
            self._schema.expect()

    def place(
        self,
        release: Release,
        entry: PipelineEntry,
        artifact: Artifact,
        environment: Environment,
        options: Options,
        settings: Mapping[str, JSON],
        parts: Mapping[str, PartOptions] = _NO_PARTS,
        weights: Choice = NONE,
        weights_deadline: float = 300.0,
    ) -> Placement:
        """A release's application; `options` and `settings` are the effective ones, and so are
        those of each of its `parts`, by name. New weights have `weights_deadline` seconds to load.

        Raises:
            TemplateError: the template cannot render any release.
            Rejected: it can, but not this one: an option or setting that Ray refuses.
        """
        variables = {
            "release": named(release, artifact.project),
            "target": entry.target,
            "tree": str(artifact.tree),
            "record_digest": artifact.record_digest,
            "environment": {"digest": environment.lock_digest, "python": environment.python},
            "options": filled_options(options),
            "settings": dict(settings),
            "parts": [part_of(part, parts[part.name], options) for part in entry.parts],
            **(of_weights := weights_of(weights, options, parts.values(), weights_deadline)),
        }
        try:
            document = self._application(variables, release)
        except TemplateError as error:
            ordinary = {**ORDINARY, "parts": ORDINARY_PARTS if entry.parts else []}
            ordinary |= of_weights
            self._application(ordinary, ORDINARY_RELEASE)  # raises if the template is to blame
            raise Rejected(
                "OptionsRefused",
                f"{release}: Ray Serve could not run it with these options and settings: "
                f"{error.message}",
            ) from error
        if len(self._met) >= _MOST:
            self._met.clear()
        self._met.add(text_of(options, parts))
        name = _name(release, restart_digest(document))
        if self._mark is not None:
            document = marked(document, self._mark)
        return Placement(name, release, {**document, "name": name})

    def _application(self, variables: Mapping[str, JSON], release: Release) -> dict[str, JSON]:
        more = {"name": "", "wheelway": self._wheelway}
        document = self._normalised(APPLICATION, {**variables, **more})
        if release_of(document) != release:
            self._templates.blame(
                APPLICATION,
                ("args", "release"),
                "import_path and args.release must stay as the shipped template has them: the "
                "running release is recognised by them",
            )
        for key in ("target", "tree", "record_digest"):
            if document.get("args", {}).get(key) != variables[key]:
                self._templates.blame(
                    APPLICATION,
                    ("args",),
                    f"args.{key} must stay as the shipped template has it: no replica starts "
                    "without it",
                )
        self._check_parts(document, variables["parts"])
        if in_document(document) != Weights.read(variables["weights"]):
            self._templates.blame(
                APPLICATION,
                ("args",),
                "args.weights, and the weights in user_config, must stay as the shipped template "
                "has them: replicas would go on with the former ones",
            )
        return {**document, "name": "", "route_prefix": None}

    def _check_parts(
        self, document: Mapping[str, JSON], parts: Sequence[Mapping[str, JSON]]
    ) -> None:
        """A template of before there were parts knows nothing of them."""
        told = document.get("args", {}).get("parts") or {}
        names = {deployment["name"] for deployment in document.get("deployments", ())}
        if not all(
            part["name"] in told and (part["inline"] or part["name"] in names) for part in parts
        ):
            self._templates.blame(
                APPLICATION,
                ("args", "parts"),
                "args.parts, and a deployment for each part that is not inline, must stay as the "
                "shipped template has them: a pipeline would not find its parts",
            )

    def _normalised(self, name: str, variables: Mapping[str, object]) -> dict[str, JSON]:
        try:
            return self._schema.application(self._templates.document(name, variables))
        except SchemaError as error:
            self._templates.blame(name, error.path, f"Ray Serve would not take it: {error}")

    def encoded_routes(self, options: RayOptions) -> dict[str, JSON]:
        """The application that answers percent-encoded routes of releases with local versions, and
        asks the ingress under their plain spelling; raises TemplateError.
        """
        ca_file = options.ingress_ca_file
        variables = {
            "ingress_url": options.ingress_url,
            "ca_file": None if ca_file is None else str(ca_file),
            "wheelway": self._wheelway,
        }
        return self._encoded.of(ENCODED_ROUTES, (variables, self.fingerprint()))

    def serve_config(
        self, applications: Sequence[Mapping[str, JSON]], serve: ServeOptions, ingress_url: str
    ) -> dict[str, JSON]:
        """The whole config, to be PUT or written with `to_yaml`.

        Raises:
            TemplateError: the template is broken, or changes the applications.
            Stalled: Ray would not take `[serve]` (`ServeOptionsRefused`).
        """
        url = httpx.URL(ingress_url)
        port = url.port or (443 if url.scheme == "https" else 80)
        given = AllGiven(applications)
        variables = {
            "proxy_location": serve.proxy_location,
            "http_options": {"host": url.host, "port": port, **serve.http_options},
            "applications": given,
        }
        config = self._templates.document(CONFIG, variables)
        config["applications"] = given.dereferenced(config.get("applications"))
        if config["applications"] != list(applications):
            # Otherwise observed and desired would differ for ever, and each pass would PUT.
            self._templates.blame(
                CONFIG, ("applications",), "must emit `applications` exactly as they are given"
            )
        try:
            self._schema.envelope(config)
        except SchemaError as error:
            if error.path[:1] in {("http_options",), ("proxy_location",)}:
                raise Stalled("ServeOptionsRefused", f"[serve] {error}") from error
            self._templates.blame(CONFIG, error.path, f"Ray Serve would not take it: {error}")
        return config

    def check(self, serve: ServeOptions, ray: RayOptions) -> None:
        """Render an ordinary release and a whole config; raises TemplateError where a template
        cannot be used, and Stalled as `serve_config`.
        """
        ordinary = self._application(ORDINARY, ORDINARY_RELEASE) | {"name": "ordinary"}
        self.serve_config([ordinary, self.encoded_routes(ray)], serve, ray.ingress_url)

    def to_yaml(self, config: Mapping[str, JSON]) -> str:
        """Canonical YAML that `serve deploy` takes: equal configs give equal bytes. Applications
        that are as in the config before are not written again.
        """
        applications = config.get("applications")
        texts = [self._texts.of(one["name"], one) for one in applications or ()]
        self._texts.forget_unused()
        return "".join(
            "".join([f"{key}:\n", *texts])
            if key == "applications" and texts
            else to_yaml({key: config[key]})
            for key in sorted(config)
        )

    def validate(self, config: Mapping[str, JSON]) -> None:
        """Check a config against Ray's own schema before it leaves; of the applications, those that
        were not in the config before.

        Raises:
            Rejected: Ray would refuse it (`ConfigRefused`); a bad application is named.
        """
        for document in config.get("applications", ()):
            self._valid.of(document.get("name"), document)
        self._valid.forget_unused()
        self._schema.validate_together(config)


# -- names ---------------------------------------------------------------------------------------


def restart_digest(document: Mapping[str, JSON]) -> str:
    """Eight hex digits over everything in an application whose change restarts its replicas.

    Whether a deployment scales by itself, and by which policy, is part of Serve's code version;
    its bounds are not (ray/serve/_private/deploy_utils.py, `get_app_code_version`).
    """
    heavy = {key: value for key, value in document.items() if key not in _OUTSIDE}
    heavy["deployments"] = []
    for deployment in document.get("deployments", ()):
        autoscaling = deployment.get("autoscaling_config")
        scaling = [] if autoscaling is None else [autoscaling.get("policy")]
        kept = {key: value for key, value in deployment.items() if key not in _LIGHTWEIGHT}
        heavy["deployments"].append({**kept, "scaling": scaling})
    text = json.dumps(heavy, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


_OUTSIDE = {"name", "route_prefix", "deployments", "logging_config"}


def _name(release: Release, digest: str) -> str:
    """Readable in `serve status`, never parsed. Ray names log files by it, so it has an end."""
    readable = re.sub(r"[^A-Za-z0-9._-]", "-", f"{release.pipeline}-{release.version}")
    return f"{readable[:120]}-{digest}"
