"""`[gateway]`: HAProxy in front of Ray's ingress; absent, there is none."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path  # noqa: TC003 - pydantic reads the annotation
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from controller.config.sources import Section
from controller.config.values import Bytes, HttpUrl  # noqa: TC001 - pydantic reads the annotations


def _glob(value: str) -> str:
    if not value.strip():
        raise ValueError("a pipeline's name or glob must not be empty")
    return re.sub(r"[-_.]+", "-", value).lower()  # as PEP 503, but a glob's signs stay


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class GatewayLimits(Section):
    """`[[gateway.limits]]`: what one client may ask of a pipeline; the first whose `name` matches
    wins.
    """

    name: Annotated[str, AfterValidator(_glob)]
    """A pipeline's name or a glob (`acme-*`), normalised as PEP 503 does."""
    rate: Annotated[float, Field(ge=0.1, le=1_000_000)] | None = None
    """Requests a second, on average over 10 s, of each API key, or else of each address; default:
    any."""
    max_body: Bytes | None = None
    """Bytes of a body that says how long it is; default: any. Others the pipeline's own limit
    ends."""


class GatewayOptions(Section):
    """`[gateway]`: HAProxy in front of Ray's ingress."""

    listen: str
    """HOST:PORT for clients; IPv6 in brackets. Without `api_keys` or
    `client_ca` whoever reaches it is served."""
    tls_certificate: Path | None = None
    """PEM file with the certificate and those between it and its authority; default: plain HTTP."""
    tls_key: Path | None = None
    """PEM file with its key; default: it is in `tls_certificate`."""
    client_ca: Path | None = None
    """PEM file of authorities: only clients with a certificate of one of them are served."""
    api_keys: Path | None = None
    """File of who may ask: a line `NAME SHA256 [PIPELINE ...]` for each key, with the SHA-256 of
    the key in hex, and the pipelines that it is for (default: all). Clients send theirs as a
    bearer token or as `x-api-key`."""
    limits: tuple[GatewayLimits, ...] = ()
    """Limits by pipeline."""
    access_log: bool = True
    """Whether each request is written to standard output, as a line of JSON, without its query."""
    sticky_header: HeaderName = "x-wheelway-key"
    """The header by which a client stays with one version of an alias that is sticky by header."""
    sticky_cookie: HeaderName = "wheelway"
    """The cookie, likewise."""
    fallback: HttpUrl | None = None
    """Where requests go whose path is not below `/predict`: the application that was there before,
    such as "http://127.0.0.1:9000"; default: they are answered with 404."""
    binary: Path | None = None
    """The HAProxy to run; default: the one that comes with Ray Serve."""

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if _address(value) is None:
            raise ValueError(
                f"{value!r} is no address with a port, such as 0.0.0.0:8443 or [::1]:8443"
            )
        return value

    @field_validator("fallback")
    @classmethod
    def _has_no_path(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{value!r} must be a host and a port alone; paths stay as they are")
        return value

    @model_validator(mode="after")
    def _has_a_certificate(self) -> Self:
        for name in ("tls_key", "client_ca"):
            if getattr(self, name) is not None and self.tls_certificate is None:
                raise ValueError(f"`{name}` is of no use without `tls_certificate`")
        return self

    @property
    def bind(self) -> str:
        """The address as HAProxy reads it."""
        host, port = _address(self.listen) or ("", 0)
        return f"ipv6@[{host}]:{port}" if ":" in host else f"ipv4@{host}:{port}"


def _address(text: str) -> tuple[str, int] | None:
    """Host and port; None when the text names none."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return None
    host = "127.0.0.1" if host == "localhost" else host
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    return (bare, int(port)) if (address.version == 6) == (bare != host) else None
