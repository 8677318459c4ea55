"""The configuration: TOML and environment in, validated values out; unknown keys are refused.

Durations are in seconds, sizes in bytes, or say their unit ("30s", "16MiB"). Relative paths are
relative to the configuration file's folder. Every field can also come from the environment:
`WHEELWAY_RAY__DASHBOARD_URL` sets `dashboard_url` of `[ray]`; the environment wins over the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from controller.config.api import ApiOptions
from controller.config.gateway import GatewayOptions  # noqa: TC001 - pydantic reads the annotation
from controller.config.requirements import parse_specifiers
from controller.config.serve import (
    ActorOptions,
    Caps,
    Options,
    PartName,
    PartOptions,
    ServeOptions,
)
from controller.config.sources import (
    AnySource,
    CodeArtifactSource,
    DirectorySource,
    IndexSource,
    Name,
    Section,
    index_source,
)
from controller.config.telemetry import AnyNotification, LogOptions
from controller.config.values import (  # noqa: TC001 - pydantic reads the annotations
    Bytes,
    HttpUrl,
    PositiveSeconds,
    Seconds,
    Table,
)

__all__ = [
    "ActorOptions",
    "AnySource",
    "Caps",
    "CodeArtifactSource",
    "DirectorySource",
    "IndexSource",
    "Options",
    "PartOptions",
    "ServeOptions",
    "index_source",
]


class RayOptions(Section):
    """`[ray]`: the cluster that serves."""

    dashboard_url: HttpUrl = "http://127.0.0.1:8265"
    """Base URL of the Ray dashboard's REST API."""
    ingress_url: HttpUrl = "http://127.0.0.1:8000"
    """Base URL of the Serve ingress, for probes."""
    token_file: Path | None = None
    """A file with the bearer token (RAY_AUTH_MODE=token); read again when it changes. Default: the
    credential `wheelway.ray-token`, if the service manager hands one over, else where Ray's own
    clients look: RAY_AUTH_TOKEN_PATH, or `~/.ray/auth_token`."""
    ca_file: Path | None = None
    """PEM bundle for an https dashboard, and for an https ingress besides the public authorities;
    replicas read it for the latter."""
    python: Path | None = None
    """The interpreter Ray runs on, where `wheelway` must be importable; default: the daemon's."""
    timeout: PositiveSeconds = 10.0
    """Seconds for one request to the dashboard; a PUT that starts Serve gets six times as long."""

    @property
    def ingress_ca_file(self) -> Path | None:
        """What to trust of the ingress besides the public authorities, if it is https."""
        return self.ca_file if self.ingress_url.startswith("https:") else None


class PathOptions(Section):
    """`[paths]`: where the daemon keeps things."""

    cache: Path = Path("/var/cache/wheelway")
    """Wheels, their trees and environments; Ray's user must be able to read it."""
    state: Path = Path("/var/lib/wheelway")
    """The journal."""
    retention: Seconds = 7 * 86400.0
    """Seconds that a wheel and its environment stay in the cache after they were last needed."""
    templates: Path | None = None
    """A folder whose files override the shipped templates of the same name."""


class JournalOptions(Section):
    """`[journal]`: how long what is over stays known. What is on the cluster, listed or ordered is
    never forgotten.
    """

    keep_for: Seconds = 180 * 86400.0
    """Seconds that events, sent configs and releases that are over stay known, and how these
    failed."""
    keep_events: Annotated[int, Field(gt=0)] = 20_000
    """The newest events, and sent configs, beyond which none stay whatever their age."""
    keep_releases: Annotated[int, Field(gt=0)] = 5_000
    """The same for releases that are over (Retired, Superseded) and listed no more."""


class InspectionLimits(Section):
    """`[inspection]`: what a wheel may be at most."""

    max_size: Bytes = 2 * 1024**3
    """Bytes of the wheel file."""
    max_files: Annotated[int, Field(gt=0)] = 20_000
    """Entries in the archive."""
    max_unpacked_size: Bytes = 8 * 1024**3
    """Bytes of all entries, unpacked."""
    max_ratio: Annotated[float, Field(gt=1)] = 200.0
    """Unpacked over packed size of any entry above one mebibyte, and of the whole archive."""
    max_path_length: Annotated[int, Field(gt=0)] = 240
    """Characters of an entry's path."""
    max_pipelines: Annotated[int, Field(gt=0)] = 100
    """Pipelines of one wheel. Each is an application with replicas of its own, so a hundred already
    take a large machine."""
    max_parts: Annotated[int, Field(ge=0)] = 20
    """Parts of one pipeline. Each is a deployment with replicas of its own."""


class EnvironmentOptions(Section):
    """`[environments]`: how requirements are installed."""

    index_url: str | None = None
    """The package index; default: what uv is configured to use on this machine."""
    index: Name | None = None
    """Instead of `index_url`: the name of a `codeartifact` source, or "codeartifact" for the only
    one. Its repository is the only package index, with a token that is renewed in time; uv's own
    configuration files are not read then."""
    find_links: tuple[Path, ...] = ()
    """Folders with more wheels."""
    ca_file: Path | None = None
    """PEM bundle that uv trusts *instead of* the public authorities, for an index or a proxy with a
    certificate of your own; default: SSL_CERT_FILE of the daemon's environment, else the public
    ones."""
    offline: bool = False
    """Never ask an index: `find_links` and uv's cache must do."""
    timeout: PositiveSeconds = 600.0
    """Seconds for resolving and installing one environment."""


class RolloutOptions(Section):
    """`[rollout]`: pace and patience."""

    interval: PositiveSeconds = 5.0
    """Seconds between two passes when nothing happens."""
    max_staging: Annotated[int, Field(gt=0)] = 4
    """Releases that may start at the same time; of those that wait, who waits longest is next."""
    ready_deadline: PositiveSeconds = 300.0
    """Seconds from the end of a release's build until every example must have passed; time in which
    Ray has no room for its replica does not count. Ray tells of that only after 30 s: with less a
    shortage looks like a slow start."""
    probe_deadline: PositiveSeconds = 30.0
    """Seconds from promotion until the ingress must answer with the release's own header; time in
    which the ingress could not be asked does not count."""
    build_deadline: PositiveSeconds = 60.0
    """Seconds a PUT waits for a build in progress, which it would cancel and restart; one that
    promotes a ready release waits 10 at most."""
    absence_grace: Seconds = 10.0
    """Seconds that a version must be missing from every source before it is retired: a file that is
    replaced by removing and copying is missing for a moment."""
    retire_limit: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of a source's live releases that may vanish from it at once (one always may); more
    retires nothing and asks for a person, until nothing of that source is missing any more."""
    workers: Annotated[int, Field(gt=0, le=256)] = 4
    """Wheels fetched and environments built at the same time."""


class PolicyOptions(Section):
    """`[policy]`."""

    unlisted: Literal["active", "inactive"] = "active"
    """Whether pipelines that no `[[pipelines]]` names are served."""


def _project(value: str) -> str:
    try:
        return canonicalize_name(value, validate=True)
    except InvalidName as error:
        raise ValueError(f"{value!r} is no distribution's name") from error


def _specifiers(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_specifiers(value)
    except ValueError as error:
        raise ValueError(f"{error}; write PEP 440 specifiers such as '>=1,<3'") from error


def _versions(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        return value
    try:
        return tuple(item if isinstance(item, Version) else Version(item) for item in value)
    except (InvalidVersion, TypeError) as error:
        raise ValueError(f"{error}; write PEP 440 versions as strings") from error


Project = Annotated[str, AfterValidator(_project)]
Specifiers = Annotated[SpecifierSet, BeforeValidator(_specifiers)]
Versions = Annotated[tuple[Version, ...], BeforeValidator(_versions)]


class WeightsPolicy(Section):
    """`weights` of a rule: which weights wheels its pipelines take; the newest that is allowed and
    fits a release is in force for it.
    """

    active: bool = True
    """Whether they take any."""
    project: Project | None = None
    """The distribution whose weights these are, when several are for one pipeline; default: the
    first that was."""
    versions: Specifiers = SpecifierSet()
    """PEP 440 specifiers, such as ">=2026"."""
    keep: Annotated[int, Field(ge=1)] = 1
    """How many of the newest matching versions are fetched and verified; the newest is in force,
    the others are at hand when it fails."""
    prereleases: bool = False
    """Whether pre-releases and development releases (PEP 440) are taken."""
    pins: Versions = ()
    """Exactly one of these versions, the newest that fits; `versions` and `keep` do not apply."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


class PipelinePolicy(Section):
    """`[[pipelines]]`: the operator's rule for a pipeline; the first whose `name` matches wins."""

    name: str
    """A pipeline's name or a glob (`acme-*`), normalised as PEP 503 does."""
    active: bool = True
    """Whether it is served at all."""
    project: Project | None = None
    """The distribution whose pipeline this is, when several carry one of this name; default: the
    first that did."""
    versions: Specifiers = SpecifierSet()
    """PEP 440 specifiers, such as ">=1,<3"."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many of the newest matching versions are served side by side."""
    prereleases: bool = False
    """Whether pre-releases and development releases (PEP 440) are served."""
    pins: Versions = ()
    """Exactly these versions instead of the newest; `versions` and `keep` do not apply."""
    options: Options = Options()
    """How its releases are run, over what their wheels wish for."""
    parts: dict[PartName, PartOptions] = Field(default_factory=dict)
    """How each part of its releases is run, likewise."""
    settings: Table = Field(default_factory=dict)
    """Handed to the pipeline, merged key by key over the wheel's own; changes need no restart."""
    weights: WeightsPolicy = Field(default_factory=WeightsPolicy)
    """Which weights it takes, of wheels that hold only data."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @field_validator("name")
    @classmethod
    def _normalise(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a pipeline's name or glob must not be empty")
        return re.sub(r"[-_.]+", "-", value).lower()  # as PEP 503, but a glob's signs stay


class Config(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_prefix="WHEELWAY_",
        env_nested_delimiter="__",
    )

    sources: tuple[AnySource, ...] = ()
    ray: RayOptions = RayOptions()
    paths: PathOptions = PathOptions()
    journal: JournalOptions = JournalOptions()
    inspection: InspectionLimits = InspectionLimits()
    environments: EnvironmentOptions = EnvironmentOptions()
    rollout: RolloutOptions = RolloutOptions()
    serve: ServeOptions = ServeOptions()
    policy: PolicyOptions = PolicyOptions()
    api: ApiOptions = ApiOptions()
    gateway: GatewayOptions | None = None
    pipelines: tuple[PipelinePolicy, ...] = ()
    log: LogOptions = LogOptions()
    notifications: tuple[AnyNotification, ...] = ()

    @field_validator("sources", "notifications")
    @classmethod
    def _unique_names(cls, value: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        names = [item.name for item in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"two {info.field_name} are called {name!r}; give each its own `name`"
                )
        return value

    @field_validator("pipelines")
    @classmethod
    def _all_finish(
        cls, value: tuple[PipelinePolicy, ...], info: ValidationInfo
    ) -> tuple[PipelinePolicy, ...]:
        for rule in value if "serve" in info.data else ():
            info.data["serve"].admit(rule.options, f"options of {rule.name!r}")
        return value

    @field_validator("environments")
    @classmethod
    def _one_index(cls, value: EnvironmentOptions, info: ValidationInfo) -> EnvironmentOptions:
        if value.index is None or "sources" not in info.data:
            return value
        if value.index_url is not None or value.offline:
            other = "offline" if value.offline else "index_url"
            raise ValueError(f"`index` and `{other}` contradict each other; keep one")
        index_source(value.index, info.data["sources"])
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        *_: Any,
        **others: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose content arrives as init arguments."""
        del settings_cls, others
        return env_settings, init_settings
