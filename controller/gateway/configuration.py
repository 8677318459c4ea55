"""From `[gateway]` to the files that HAProxy reads, in one folder of its own.

All names in them are relative to that folder, which is HAProxy's working directory. Certificates
are copied there under the name of their digest: a file that is renewed badly is refused by the
check of the configuration that would use it, and the one in force stays.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import resource
import ssl
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import urlsplit

from controller import templates
from controller.errors import ConfigError
from controller.gateway import keys
from controller.gateway.commit import MAP
from controller.gateway.routing import RATE_PERIOD, Limit
from controller.gateway.runtime import BUFFER
from controller.model import DEFAULT_CLUSTER
from controller.rayhead import haproxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from controller.config.gateway import GatewayLimits, GatewayOptions
    from controller.config.settings import Config

TEMPLATE: Final = "haproxy.cfg.j2"
CONFIG: Final = "haproxy.cfg"
ADMIN: Final = "admin.sock"
MASTER: Final = "master.sock"
PEERS: Final = "peers.sock"
_LONGEST_PEM: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster's ingress."""

    name: str
    ingress_url: str
    ca_file: Path | None = None
    """What an https ingress is verified by; default: the machine's authorities."""


@dataclass(frozen=True, slots=True)
class Files:
    """What HAProxy reads, by name; the configuration names the others."""

    config: str
    others: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Server:
    name: str
    address: str
    host: str
    authority: str
    """As in a `Host` header."""
    tls: bool
    ca: str


def _quoted(value: object) -> str:
    """A word of HAProxy's configuration, in which nothing means anything but itself.

    https://docs.haproxy.org/2.8/configuration.html#2.2
    """
    text = str(value)
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError(f"{text!r} has control characters, which HAProxy cannot be told")
    return "'" + text.replace("'", "'\\''") + "'"


def _name(value: object) -> str:
    """What may be an expression's argument as it is."""
    text = str(value)
    if not re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", text):
        raise ValueError(f"{text!r} is no name: letters, digits and . _ : - alone")
    return text


class Templates(templates.Templates):
    """The gateway's; a word or a name is all that a value can be in them."""

    FILTERS: ClassVar = MappingProxyType({"quoted": _quoted, "name": _name})

    def is_one(self, name: str) -> bool:
        """Those in HAProxy's own language."""
        return name.endswith(templates.GATEWAY)


def files(
    options: GatewayOptions,
    clusters: Iterable[Cluster],
    *,
    longest_request: float,
    descriptors: int,
    override: Path | None = None,
) -> Files:
    """What HAProxy reads for these options.

    Args:
        options: `[gateway]`.
        clusters: all that there are.
        longest_request: seconds; how long an answer may take, and a worker outlives a reload.
        descriptors: those that RLIMIT_NOFILE allows, negative for any number.
        override: the operator's folder of templates.

    Raises:
        ConfigError: a certificate cannot be read, or a URL cannot be asked by HAProxy.
        TemplateError: the operator's template cannot be rendered.
    """
    server, authorities = _certificate(options), _pem(options.client_ca, "gateway.client_ca")
    others = {
        _named(kind, content): content
        for kind, content in (("server", server), ("clients", authorities))
        if content
    }
    variables = {
        "listen": options.bind,
        "map": MAP,
        "admin": ADMIN,
        "peers": PEERS,
        "tls": _named("server", server) if server else "",
        "client_ca": _named("clients", authorities) if authorities else "",
        "api_keys": options.api_keys is not None,
        "access_log": options.access_log,
        "sticky_header": options.sticky_header,
        "sticky_cookie": options.sticky_cookie,
        "fallback": options.fallback and asdict(_server(Cluster("fallback", options.fallback))),
        "clusters": [asdict(_server(cluster)) for cluster in clusters],
        "maxconn": haproxy.connections(descriptors),
        "hard_stop": haproxy.hard_stop(longest_request),
        "longest": haproxy.hard_stop(longest_request),
        "bufsize": BUFFER,
        "rate_period": RATE_PERIOD,
    }
    return Files(Templates(override).rendered(TEMPLATE, variables), others)


def of_config(config: Config, options: GatewayOptions) -> Files:
    """The files for a configuration, its one cluster, and what this process may open.

    Raises:
        ConfigError, TemplateError: as `files`, or there is a mistake in the API keys.
    """
    if options.api_keys is not None:
        keys.read(options.api_keys)
    return files(
        options,
        [Cluster(DEFAULT_CLUSTER, config.ray.ingress_url, config.ray.ingress_ca_file)],
        longest_request=config.serve.longest_request,
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        override=config.paths.templates,
    )


def limits(of: Iterable[GatewayLimits], pipelines: Iterable[str]) -> dict[str, Limit]:
    """The limits in force for each of these pipelines; none for those that no rule names."""
    rules = tuple(of)
    matching = {
        pipeline: next((rule for rule in rules if fnmatch.fnmatchcase(pipeline, rule.name)), None)
        for pipeline in pipelines
    }
    return {
        pipeline: Limit(
            None if rule.rate is None else max(1, round(rule.rate * RATE_PERIOD)), rule.max_body
        )
        for pipeline, rule in matching.items()
        if rule is not None
    }


def _server(cluster: Cluster) -> _Server:
    parts = urlsplit(cluster.ingress_url)
    if parts.path not in {"", "/"} or parts.query or parts.hostname is None:
        raise ConfigError(
            f"{cluster.ingress_url}: the gateway can reach {cluster.name} only by a host and a "
            "port, without a path"
        )
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    ca = str(cluster.ca_file or _public_authorities(cluster.ingress_url)) if tls else ""
    return _Server(cluster.name, f"{host}:{port}", parts.hostname, parts.netloc, tls, ca)


def _public_authorities(url: str) -> str:
    """The machine's; HAProxy's `@system-ca` means those of the machine on which it was built."""
    paths = ssl.get_default_verify_paths()
    if (found := paths.cafile or paths.capath) is None:
        raise ConfigError(
            f"{url}: there are no public authorities on this machine to verify it by; name its own "
            "(`ca_file` of [ray]), or install them (ca-certificates)"
        )
    return found


def _certificate(options: GatewayOptions) -> bytes:
    """The certificate and its key in one file, as HAProxy wants them; empty for plain HTTP."""
    certificate = _pem(options.tls_certificate, "gateway.tls_certificate")
    return b"\n".join(filter(None, [certificate, _pem(options.tls_key, "gateway.tls_key")]))


def _pem(path: Path | None, key: str) -> bytes:
    if path is None:
        return b""
    try:
        with path.open("rb") as stream:
            content = stream.read(_LONGEST_PEM + 1)
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror or error}") from error
    if b"-----BEGIN " not in content or len(content) > _LONGEST_PEM:
        raise ConfigError(f"{key}: {path} is no PEM file")
    return content


def _named(kind: str, content: bytes) -> str:
    return f"{kind}-{hashlib.sha256(content).hexdigest()[:16]}.pem"
