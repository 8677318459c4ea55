"""One way into AWS for one source: session, credentials, clients; the pace and number of requests.

Credentials are found by boto3's own chain, or a role is assumed with what it finds. Nothing is
looked up before the first request, so missing credentials fail this source's listing and nothing
else. After credentials were refused all is built anew, so that nobody who renewed them need restart
the daemon.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader

from controller.errors import Stalled, Transient
from controller.sources.codeartifact.address import RepositoryAddress, queue_region
from controller.sources.codeartifact.failures import (
    THROTTLING,
    UNLIKE,
    MissingThere,
    meaning,
    wait_asked_for,
)
from controller.sources.codeartifact.rate_limiter import LONGEST_WAIT, RateLimiter
from controller.sources.codeartifact.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from botocore.credentials import CredentialResolver
    from mypy_boto3_codeartifact import CodeArtifactClient
    from mypy_boto3_sqs import SQSClient

    from controller.config.sources import CodeArtifactSource

ATTEMPTS = 3
"""Of one call, by botocore's `standard` retries, which are for hiccups; jobs retry after that."""
STALE = frozenset({"CredentialsExpired", "CredentialsInvalid", "CredentialsMissing"})
"""Reasons after which credentials are looked for again."""
_WAYS = {
    "env": "environment variables (AWS_ACCESS_KEY_ID)",
    "assume-role": "a role in the profile",
    "assume-role-with-web-identity": "a web identity (AWS_WEB_IDENTITY_TOKEN_FILE)",
    "sso": "single sign-on of the profile",
    "login": "a login session of the profile",
    "shared-credentials-file": "{credentials_file}",
    "custom-process": "a credential process of the profile",
    "config-file": "{config_file}",
    "container-role": "the container (AWS_CONTAINER_CREDENTIALS_*)",
    "iam-role": "the instance's metadata",
}
"""botocore's providers in words; those that are older than its documentation are left out."""


class Connection:
    """Clients of one source. Any method may be called from any thread.

    Args:
        options: the source.
        closing: set when the source ends; requests that wait for their turn are given up then.
        clock: monotonic seconds, for the waits that AWS asks for.
    """

    def __init__(
        self,
        options: CodeArtifactSource,
        closing: threading.Event,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._closing = closing
        self._rate_limiter = RateLimiter(closing, clock=clock)
        self._building = threading.Lock()
        self._counting = threading.Lock()
        self._session: botocore.session.Session | None = None
        self._where: RepositoryAddress | None = None
        self._clients: dict[str, Any] = {}
        # Downloads and events send beside what is polled.
        self._wire = Wire(options, closing, options.concurrency + 8)
        self._calls: Counter[str] = Counter()

    @property
    def calls(self) -> Mapping[str, int]:
        """Requests sent so far by operation, each retry counted; a copy."""
        with self._counting:
            return dict(self._calls)

    def codeartifact(self) -> CodeArtifactClient:
        """The client for the repository; to be asked for and used within `translated`."""
        client: CodeArtifactClient = self._client(
            "codeartifact", self._options.endpoint_url, self._options.region
        )
        return client

    def sqs(self) -> SQSClient:
        """The client for the events' queue, at the host that the queue's URL names."""
        url = self._options.events_queue_url or ""
        parts = urlsplit(url)
        region = queue_region(url) or self._options.region
        client: SQSClient = self._client("sqs", f"{parts.scheme}://{parts.netloc}", region)
        return client

    @contextmanager
    def translated(self, package: str = "") -> Iterator[None]:
        """Turn what botocore raises inside into the project's own errors, and so what its parser or
        the caller's raises for an answer that no CodeArtifact gives.

        Raises:
            MissingThere: the package, version or asset is not there.
            Transient: `Throttled`, `EndpointUnreachable`, `AwsFailed`, `AwsUnexpected`.
            Waiting: `QuotaExceeded`.
            Stalled: everything that a person must mend; see `failures`.
        """
        try:
            yield
        except (BotoCoreError, ClientError, *UNLIKE) as error:
            found = meaning(error, self._address(), package)
            if not isinstance(found, MissingThere) and found.reason in STALE:
                self.renew()
            raise found from error

    def renew(self) -> None:
        """Forget session and credentials: the next client finds them anew, as well as authorities
        and proxies.
        """
        with self._building:
            self._session = self._where = None
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def close(self) -> None:
        """Let go of clients and connections."""
        self.renew()
        self._wire.close()

    def interrupt(self) -> None:
        """After `closing` was set: end what is under way at once."""
        self._wire.interrupt()

    # -- session ---------------------------------------------------------------------------------

    def _client(self, service: str, endpoint: str | None, region: str | None) -> Any:
        with self._building:
            if service not in self._clients:
                _silence()
                session: Any = boto3.Session(botocore_session=self._core())
                try:
                    client = session.client(
                        service, endpoint_url=endpoint, region_name=region, config=self._config()
                    )
                except ValueError as error:
                    if isinstance(error, BotoCoreError):
                        raise
                    raise Stalled(
                        "EndpointInvalid",
                        f"source {self._options.name}: botocore does not take {endpoint} ({error});"
                        " correct `endpoint_url` or `events_queue_url`",
                    ) from error
                client.meta.events.register(f"before-send.{service}", self._on_send)
                if service == "codeartifact":
                    client.meta.events.register(f"needs-retry.{service}", self._on_answer)
                self._clients[service] = client
            return self._clients[service]

    def _config(self) -> Config:
        return Config(
            connect_timeout=self._options.connect_timeout,
            read_timeout=self._options.read_timeout,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            user_agent_extra=f"wheelway/{version('wheelway')}",
        )

    def _core(self) -> botocore.session.Session:
        """The session; `_building` is held."""
        if self._session is None:
            core = botocore.session.Session(profile=self._options.profile)
            core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
            self._wire.begin(core.get_config_variable("ca_bundle"))
            # What is registered for a client is called before what is for all: it may wait.
            answering: Any = self._wire.send  # the stubs know of none that answers
            core.register("before-send", answering)
            if self._options.role_arn:
                chain: CredentialResolver = core.get_component("credential_provider")
                core.register_component("credential_provider", _Role(self._options, core, chain))
            self._session = core
        return self._session

    def _address(self) -> RepositoryAddress:
        """Where requests go, for messages. Found out once, for it reads files."""
        with self._building:
            if self._where is None:
                self._where = self._looked_up()
            return self._where

    def _looked_up(self) -> RepositoryAddress:
        """Find that out without failing: `_building` is held, and an error is about to be told."""
        options = self._options
        region, partition = options.region, "aws"
        regions: tuple[str, ...] = ()
        looked_in = ", ".join(way for way in _WAYS.values() if "{" not in way)
        try:
            core = self._session or botocore.session.Session(profile=options.profile)
            region = region or core.get_config_variable("region")
            looked_in = _looked_in(botocore.session.Session(profile=options.profile))
            partition = core.get_partition_for_region(region) if region else partition
            if not options.endpoint_url:
                known = core.get_available_regions("codeartifact", partition_name=partition)
                regions = tuple(known)
        except BotoCoreError:
            pass  # the error that is being told is the same one, or matters more
        return RepositoryAddress(options, region, partition, looked_in, regions)

    # -- every request ---------------------------------------------------------------------------

    def _on_send(self, request: Any, event_name: str = "", **_: object) -> None:
        """Before each attempt of each call: wait for its turn, count it."""
        del request
        operation = event_name.rpartition(".")[2]
        paced = event_name.startswith("before-send.codeartifact")
        granted = not paced or self._rate_limiter.acquire()
        if self._closing.is_set():
            raise Transient("SourceClosed", f"source {self._options.name} was closed")
        if not granted:
            raise self._throttled(operation)
        with self._counting:
            self._calls[operation] += 1

    def _throttled(self, operation: str) -> Transient:
        if wait := self._rate_limiter.wait:
            return Transient(
                "Throttled",
                f"AWS asks source {self._options.name} to send fewer requests ({operation}); "
                f"the next one may go in {wait:.0f} s. If this lasts raise `poll_interval` or "
                "the account's quota",
                retry_after=wait,
            )
        return Transient(
            "Throttled",
            f"AWS asks source {self._options.name} to send fewer requests ({operation}); the turn "
            f"of this one did not come within {LONGEST_WAIT:g} s. If this lasts raise "
            "`poll_interval` or the account's quota",
        )

    def _on_answer(self, **answer: Any) -> None:
        """After each attempt: learn the pace from it. Botocore may still try again by itself."""
        if isinstance(answer.get("caught_exception"), Transient):
            return  # it was not sent: its turn did not come, or the source ended
        parsed: Mapping[str, Any] = (answer.get("response") or (None, {}))[1]  # none: nothing came
        about, code = parsed.get("ResponseMetadata", {}), parsed.get("Error", {}).get("Code")
        refused = code in THROTTLING or about.get("HTTPStatusCode") == 429
        wait = wait_asked_for(about.get("HTTPHeaders", {}), now=time.time()) if refused else None
        self._rate_limiter.learn(refused=refused, retry_after=wait)


@dataclass(frozen=True, slots=True)
class _Role:
    """Credentials of a role, assumed with those that the chain finds, renewed when they end."""

    options: CodeArtifactSource
    core: botocore.session.Session
    chain: CredentialResolver

    def load_credentials(self) -> DeferredRefreshableCredentials | None:
        """As botocore asks for it: None when there is nothing to assume the role with."""
        source = self.chain.load_credentials()
        if source is None:
            return None
        external = {"ExternalId": self.options.external_id} if self.options.external_id else {}
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=partial(self.core.create_client, region_name=self.options.region),
            source_credentials=source,
            role_arn=self.options.role_arn or "",
            extra_args={"RoleSessionName": "wheelway", **external},
        )
        return DeferredRefreshableCredentials(
            method="wheelway-role", refresh_using=fetcher.fetch_credentials
        )


@cache
def _loader(path: str | None) -> Any:
    """Shared for the models it has read: another client takes a tenth of the first one's time."""
    return create_loader(path)


def _silence() -> None:
    """Keep botocore from logging whole answers and headers, as it does at DEBUG: they hold tokens
    and session credentials.
    """
    logger = logging.getLogger("botocore")
    if logger.getEffectiveLevel() < logging.INFO:
        logger.setLevel(logging.INFO)


def _looked_in(core: botocore.session.Session) -> str:
    """Where the chain looks, in its order, with the files' real names."""
    files = {
        name: str(core.get_config_variable(name)) for name in ("credentials_file", "config_file")
    }
    providers = core.get_component("credential_provider").providers
    ways = [_WAYS[one.METHOD].format(**files) for one in providers if one.METHOD in _WAYS]
    return ", ".join(ways)
