"""The `[[sources]]` of the configuration, a section for each kind, and what all sections share.

A new kind is a section here, a member of `AnySource`, and a line in `controller.sources`. What a
section may say is checked when the configuration is read; files that it names are not opened here.
"""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Literal, Self, get_args
from urllib.parse import urlsplit

from packaging.utils import is_normalized_name
from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from controller.config.values import (
    LONGEST,
    Bytes,
    Duration,
    HttpUrl,
    PositiveSeconds,
    Seconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$")]

_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:]*:[0-9a-f:.]*")


class Section(BaseModel):
    """A table of the file: unknown keys are refused, numbers are finite, nothing changes after
    reading.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def _names(value: tuple[str, ...]) -> tuple[str, ...]:
    """Names of packages and globs of them, normalised as PEP 503 does."""
    names = tuple(re.sub(r"[-_.]+", "-", name).lower() for name in value)
    for name, said in zip(names, value, strict=True):
        if not is_normalized_name(re.sub(r"[*?]|\[[^]]*\]", "x", name)):
            raise ValueError(f"{said!r} is neither a package's name nor a glob of names")
    return tuple(dict.fromkeys(names))


Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_names)]


class DirectorySource(Section):
    """`[[sources]] type = "directory"`: wheels in a folder, its sub-folders not included."""

    type: Literal["directory"]
    name: Name = "directory"
    """How status and logs call this source; must be unique."""
    path: Path
    """The folder. Watched, and polled as well for file systems that send no events."""
    poll_interval: Seconds = 5.0
    """Seconds between two looks when no event comes."""
    settle: Seconds = 2.0
    """A file that does not yet end like a wheel is read once it was unchanged for this long."""

    @property
    def where(self) -> str:
        """Where the wheels are, for a person."""
        return str(self.path)


class CodeArtifactSource(Section):
    """`[[sources]] type = "codeartifact"`: packages of format pypi in a repository of AWS
    CodeArtifact. Credentials are found by boto3 as everywhere: environment, profile, container,
    instance.
    """

    type: Literal["codeartifact"]
    name: Name = "codeartifact"
    """How status and logs call this source; must be unique."""
    domain: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,48}[a-z0-9]$")]
    """The CodeArtifact domain."""
    domain_owner: Annotated[str, Field(pattern=r"^[0-9]{12}$")] | None = None
    """The account that owns the domain; default: that of the credentials."""
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,99}$")]
    """The repository in that domain."""
    packages: Names = ("*",)
    """Names of packages, or globs (`acme-*`). A name costs one call a poll; a glob costs one more
    for each thousand packages that begin as it does."""
    origin: Literal["internal", "any"] = "internal"
    """"internal" takes only what was published to the domain itself, never what came through a
    connection to a public index; "any" takes both."""
    entry_repositories: tuple[str, ...] = ()
    """More repositories of the domain through which a version may have entered; `repository`
    itself always may, "*" stands for all."""
    region: str | None = None
    """The AWS region; default: what boto3 is configured to use."""
    endpoint_url: HttpUrl | None = None
    """Where CodeArtifact is reached, for a VPC endpoint or a stand-in."""
    profile: str | None = None
    """A profile of the AWS configuration files."""
    role_arn: Annotated[str, Field(pattern=r"^arn:[a-z-]+:iam::[0-9]{12}:role/.+$")] | None = None
    """A role to assume with the credentials that were found."""
    external_id: str | None = None
    """The external id that the role's trust policy asks for."""
    poll_interval: Annotated[float, Field(ge=1, le=LONGEST), Duration] = 30.0
    """Seconds between two looks at every package."""
    events_queue_url: HttpUrl | None = None
    """An SQS queue with the repository's events from EventBridge: a package that changed is looked
    at at once. The interval stays the authority."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    """Packages asked about at the same time."""
    connect_timeout: PositiveSeconds = 5.0
    """Seconds to connect."""
    read_timeout: PositiveSeconds = 30.0
    """Seconds for an answer, to its end."""
    download_timeout: PositiveSeconds = 900.0
    """Seconds for one wheel."""

    @property
    def where(self) -> str:
        """Where the wheels are, for a person."""
        return f"{self.domain}/{self.repository}"

    def as_index(self) -> Self:
        """The same without what says which wheels are listed and fetched, and when."""
        others = {"packages", "origin", "entry_repositories", "poll_interval", "events_queue_url"}
        fields = type(self).model_fields
        defaults = {name: fields[name].default for name in others | {"download_timeout"}}
        return self.model_copy(update=defaults)


class IndexSource(Section):
    """`[[sources]] type = "index"`: packages of a simple index (PEP 503, 691, 700)."""

    type: Literal["index"]
    name: Name = "index"
    """How status and logs call this source; must be unique."""
    url: str
    """Root of the simple index, the part before `/<package>/`; usually it ends in `/simple`."""
    packages: Names
    """Names of packages, or globs (`acme-*`). A glob reads the index's whole list of names."""
    poll_interval: Seconds = 30.0
    """Seconds between two looks."""
    username: str | None = None
    """User of HTTP basic authentication; `password_file` goes with it."""
    password_file: Path | None = None
    """A file with the password or token that goes with `username`; read again when it changes."""
    token_file: Path | None = None
    """A file with a bearer token; read again when it changes."""
    netrc: Path | None = None
    """A netrc file with an entry for the index's host; read again when it changes."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts beside the index's own that redirects and files may lead to; `*.example.com` stands for
    all below it. They are never sent the credentials."""
    require_hashes: bool = True
    """Refuse files without SHA-256. If false they are downloaded once more to compute it."""
    max_response_bytes: Bytes = 32 * 1024**2
    """Largest page that is read."""
    timeout: PositiveSeconds = 10.0
    """Seconds to connect, and for each wait for more of an answer."""
    ca_file: Path | None = None
    """PEM bundle to trust instead of the public certificate authorities."""

    @property
    def where(self) -> str:
        """Where the wheels are, for a person."""
        return self.url

    @field_validator("url")
    @classmethod
    def _is_root(cls, value: str) -> str:
        try:
            parts = urlsplit(str(AnyHttpUrl(value)))
        except ValidationError:
            raise ValueError("must be a URL such as https://index.example.com/simple") from None
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                "credentials do not belong into the URL, where logs would show them; use "
                "`username` with `password_file`, `token_file` or `netrc`"
            )
        if parts.query or parts.fragment:
            raise ValueError("must be a simple index's root, without `?` and `#`")
        return value.rstrip("/")

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        hosts = tuple(host.lower().strip("[]") for host in value)
        for host, said in zip(hosts, value, strict=True):
            if not _HOST.fullmatch(host):
                raise ValueError(f"{said!r} is no host; write `files.example.com`, without a port")
        return hosts

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("`username` and `password_file` need each other")
        if ":" in (self.username or ""):
            raise ValueError("`username` cannot have a colon (RFC 7617)")
        ways = (self.password_file, self.token_file, self.netrc)
        if sum(way is not None for way in ways) > 1:
            raise ValueError("choose one of `username` with `password_file`, `token_file`, `netrc`")
        return self


AnySource = Annotated[
    DirectorySource | CodeArtifactSource | IndexSource, Field(discriminator="type")
]


def kinds(union: object = AnySource) -> tuple[str, ...]:
    """Every `type` that a table may have which is one of several kinds; default: a source."""
    members: tuple[type[Section], ...] = get_args(get_args(union)[0])
    return tuple(get_args(member.model_fields["type"].annotation)[0] for member in members)


def index_source(name: str, sources: Sequence[AnySource]) -> CodeArtifactSource:
    """The source that `environments.index` names.

    Raises:
        ValueError: there is none of that name, or several that "codeartifact" could mean.
    """
    known = [source for source in sources if isinstance(source, CodeArtifactSource)]
    meant = [source for source in known if source.name == name]
    if not meant and name == "codeartifact" and len(known) == 1:
        meant = known
    if not meant:
        names = ", ".join(source.name for source in known) or "there is none"
        raise ValueError(f"`index` must name a source of type codeartifact ({names}), not {name!r}")
    return meant[0]
