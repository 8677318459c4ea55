"""How releases are run: `[serve]` of the configuration, and the options of `wheelway.toml`.

Whatever number stands here reaches Ray Serve's controller, which serves all releases and converts
them to protobuf in its one loop: a number that does not fit stops that loop for everybody. So each
has a bound, far above what anybody means and far below what Ray can convert.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from controller.config.sources import Section
from controller.config.values import Bytes, Duration, PositiveSeconds, Table

DAY: Final = 86400.0
REPLICAS: Final = 10_000
"""The most that anybody may say; Ray's own limit is an int32, and a node's ports are a thousand."""
PART_NAME: Final = r"^[a-z][a-z0-9_-]{0,62}$"
"""A part's, and its deployment's."""
REPLICA_COUNTS: Final = frozenset({"min_replicas", "initial_replicas", "max_replicas"})
_MUCH: Final = 1_000_000
"""Of requests, factors, seconds in an autoscaling configuration."""
AUTOSCALING: Final = {
    "min_replicas": (0, REPLICAS),
    "initial_replicas": (0, REPLICAS),
    "max_replicas": (1, REPLICAS),
    "target_ongoing_requests": (0.001, _MUCH),
    # So often every replica and every proxy reports to Serve's controller, which is one for all.
    "metrics_interval_s": (1, _MUCH),
    "look_back_period_s": (1, _MUCH),  # five times in it they count their requests
    "upscaling_factor": (0.001, _MUCH),
    "downscaling_factor": (0.001, _MUCH),
    "upscale_delay_s": (0, _MUCH),
    "downscale_delay_s": (0, _MUCH),
    "downscale_to_zero_delay_s": (0, _MUCH),
}
"""The numbers of ray.serve.config.AutoscalingConfig, the least and the most of each."""
_ENVIRONMENT_LIMIT: Final = 64 * 1024
"""Characters of all variables together; Linux gives one of them 128 KiB (execve(2))."""
_RESERVED: Final = {
    "CPU": "num_cpus",
    "GPU": "num_gpus",
    "memory": "memory",
    "object_store_memory": "memory",
}
"""Resources that Ray knows by options of their own."""

Replicas = Annotated[int, Field(ge=1, le=REPLICAS)]
Units = Annotated[float, Field(ge=0, le=1_000_000)]
"""Of a resource: Ray counts ten-thousandths in an int64."""
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$")]
"""A resource's name; Ray encodes it as ASCII."""
PartName = Annotated[str, Field(pattern=PART_NAME)]
Timeout = Annotated[float, Field(gt=0, le=DAY), Duration]
ShutdownTimeout = Annotated[float, Field(ge=0, le=DAY), Duration]
BatchWait = Annotated[float, Field(ge=0, le=10), Duration]
HealthCheckPeriod = Annotated[float, Field(ge=0.1, le=DAY), Duration]
SHUTDOWN_MARGIN: Final = 60.0
"""Seconds that a wheel may take to end after its longest request."""


class DeploymentOptions(Section):
    """How one deployment is run: a pipeline's, or that of a part of it."""

    num_replicas: int | Literal["auto"] | None = None
    """* Fixed number of replicas, or "auto"."""
    autoscaling_config: Table | None = None
    """* Serve's autoscaling settings (min_replicas, max_replicas, target_ongoing_requests...)."""
    max_ongoing_requests: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """* Requests one replica works on at the same time (100)."""
    graceful_shutdown_timeout: ShutdownTimeout | None = None
    """* Seconds a replica may take to finish its requests when it is retired (the pipeline's
    `request_timeout` and 5 more)."""
    health_check_period: HealthCheckPeriod | None = None
    """* Seconds between two health checks of a replica (10)."""
    health_check_timeout: Timeout | None = None
    """* Seconds after which an unanswered health check has failed (30)."""
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Threads for synchronous stages (4)."""
    max_batch_size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """* Requests that `infer_batch` is given at once (32)."""
    batch_wait_timeout: BatchWait | None = None
    """* Seconds that a request may wait for others to come into its batch (0)."""
    max_memory: Bytes | None = None
    """Bytes a replica may allocate; default 80 % of what is available when it starts."""
    ray_actor_options: ActorOptions | None = None
    """What a replica needs from Ray."""
    inline: bool | None = None
    """Whether a part runs in threads of its pipeline's replicas instead of in a deployment of its
    own (false): for small machines. A pipeline's holds for all its parts."""

    @field_validator("num_replicas")
    @classmethod
    def _some(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and not 1 <= value <= REPLICAS:
            raise ValueError(f'must be "auto" or a number from 1 to {REPLICAS}')
        return value

    @field_validator("autoscaling_config")
    @classmethod
    def _bounded(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for key, number in (value or {}).items():
            least, most = AUTOSCALING.get(key, (-math.inf, math.inf))
            if isinstance(number, (int, float)) and not least <= number <= most:
                raise ValueError(f"{key} must be from {least} to {most}")
        return value


class Options(DeploymentOptions):
    """How a release is run. In `wheelway.toml` these are the author's wishes, in `[serve.defaults]`
    and `[[pipelines]]` the operator's word, which overrides them; every field is optional.

    Those marked * change without restarting replicas.
    """

    max_queued_requests: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """* Requests one replica lets wait beyond these before it answers 503 (200)."""
    max_request_bytes: Bytes | None = None
    """* Largest request body; beyond it 413 (16 MiB)."""
    request_timeout: Timeout | None = None
    """* Seconds for one request, to the first item of a stream; beyond it 504 (60)."""
    stream_timeout: Timeout | None = None
    """* Seconds between two items of a stream; beyond it the stream breaks off (60)."""
    access_log: bool | None = None
    """* Whether Serve logs a line for each request (false): that costs a small pipeline a sixth of
    its requests."""
    weights_swap: Literal["in-place", "restart"] | None = None
    """How new weights come in force ("in-place"): loaded beside those that serve, in the same
    replica, or in new replicas, where two instances have no room in one. Also the latter where
    parts have deployments of their own, for all change together."""
    env_vars: dict[str, str] | None = None
    """Environment variables of the replicas, those of parts included."""

    @field_validator("request_timeout")
    @classmethod
    def _longer_than_batches_wait(cls, value: float | None, info: ValidationInfo) -> float | None:
        wait = info.data.get("batch_wait_timeout")
        if value is not None and wait is not None and value <= wait:
            raise ValueError(f"must be longer than batch_wait_timeout, which is {wait:g}")
        return value

    @field_validator("env_vars")
    @classmethod
    def _passable(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, text in (value or {}).items():
            if not re.fullmatch(r"[^=\0\s]+", name):
                raise ValueError(f"{name!r} is no name of an environment variable")
            if "\0" in text:
                raise ValueError(f"{name} holds NUL, where the system would cut it off")
        if sum(len(name) + len(text) for name, text in (value or {}).items()) > _ENVIRONMENT_LIMIT:
            raise ValueError(f"together they may have {_ENVIRONMENT_LIMIT} characters at most")
        return value


class PartOptions(DeploymentOptions):
    """How a part of a pipeline is run. All else it shares with its pipeline: environment variables,
    settings, the deadline of a request.
    """


class ActorOptions(Section):
    """Resources of one replica (Ray's actor options)."""

    num_cpus: Units | None = None
    """CPUs to reserve (1); fractions are allowed."""
    num_gpus: Units | None = None
    """GPUs to reserve (0); fractions of one are allowed."""
    memory: Bytes | None = None
    """Bytes to reserve for scheduling; no limit, see `max_memory`."""
    resources: dict[Label, Units] | None = None
    """Custom resources to reserve, by the names that the nodes were started with."""
    accelerator_type: Label | None = None
    """The kind of accelerator that the node must have, such as "T4"."""

    @field_validator("num_gpus")
    @classmethod
    def _whole_beyond_one(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError(f"beyond one Ray gives whole GPUs only, not {value:g}")
        return value

    @field_validator("resources")
    @classmethod
    def _custom(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        for name in _RESERVED.keys() & (value or {}):
            raise ValueError(f"{name} is no custom resource: set `{_RESERVED[name]}` instead")
        return value


class Caps(Section):
    """The most that a wheel may wish for; an author's wish above a cap is refused, not cut."""

    num_replicas: Replicas | None = 100
    """Also caps `max_replicas` of an autoscaling configuration."""
    num_cpus: Units | None = 64
    """CPUs of one replica."""
    num_gpus: Units | None = 8
    """GPUs of one replica."""
    memory: Bytes | None = 2**40
    """Bytes that one replica reserves."""
    max_memory: Bytes | None = 2**40
    """Bytes that one replica may allocate."""
    max_request_bytes: Bytes | None = 2**30
    """Bytes of a request body."""
    request_timeout: PositiveSeconds | None = None
    """Seconds for one request, to the first item of a stream."""
    stream_timeout: PositiveSeconds | None = None
    """Seconds between two items of a stream."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of one replica for synchronous stages."""
    graceful_shutdown_timeout: ShutdownTimeout | None = None
    """Seconds for which a retired replica keeps what it reserved (`longest_request` and 60
    more)."""
    health_check_period: HealthCheckPeriod | None = 60.0
    """Seconds between two health checks."""
    health_check_timeout: Timeout | None = 300.0
    """Seconds after which an unanswered health check has failed."""
    resources: Units | None = 1000
    """Units of each custom resource of one replica."""


class ServeOptions(Section):
    """`[serve]`: what all applications share."""

    proxy_location: Literal["HeadOnly", "EveryNode", "Disabled"] = "HeadOnly"
    """On which nodes the ingress listens (Serve's `proxy_location`)."""
    http_options: Table = Field(default_factory=dict)
    """Serve's HTTP options (host, port, ...); host and port default to those of `ingress_url`."""
    longest_request: Timeout = 900.0
    """The longest `request_timeout` and `stream_timeout` of any release. When one goes live the
    ingress is replaced, and ends requests, streams among them, that last longer: start the head
    with the same number (`wheelway ray-head --longest-request`; `wheelway up` does)."""
    defaults: Options = Options()
    """Options of every pipeline, below the wheel's own wishes."""
    caps: Caps = Caps()

    @field_validator("http_options")
    @classmethod
    def _startable(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, number in value.items():
            most = 65535 if key == "port" else 2**31 - 1
            if isinstance(number, (int, float)) and not 0 <= number <= most:
                raise ValueError(f"{key} must be from 0 to {most}")
        return value

    @model_validator(mode="after")
    def _all_finish(self) -> Self:
        self.admit(self.defaults, "defaults")
        return self

    def admit(self, options: Options, whose: str) -> None:
        """Nothing, if requests of these options may finish.

        Raises:
            ValueError: they may last too long; `whose` says where that was said.
        """
        for name in ("request_timeout", "stream_timeout"):
            seconds = getattr(options, name) or 0
            if seconds > self.longest_request:
                raise ValueError(f"{whose}: {name} = {seconds:g}, but {self.why_not_longer}")

    @property
    def longest_shutdown(self) -> float:
        """Seconds for which a wheel may wish to be waited for when it is retired."""
        said = self.caps.graceful_shutdown_timeout
        return self.longest_request + SHUTDOWN_MARGIN if said is None else said

    @property
    def why_not_longer(self) -> str:
        """Why no request may last longer, and what to do about it."""
        return (
            f"the ingress ends requests after {self.longest_request:g} s whenever a release goes "
            "live; raise `longest_request` of [serve], and start the head with the same number "
            "(`wheelway ray-head --longest-request`)"
        )
