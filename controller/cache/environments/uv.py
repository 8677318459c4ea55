"""uv as a subprocess: how it is started, and what its failures mean for a release.

uv tells its failures apart in words only, so every pattern it is matched by is here, in `_failure`,
and `tests/unit/test_environment_refusals.py` provokes them for real. Credentials never stand on a
command line: an index goes in through the environment, or through uv's own configuration and
keyring.

https://docs.astral.sh/uv/reference/environment/ has its variables.
"""

from __future__ import annotations

import re
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import uv

from controller.cache.environments.base import clean_environ
from controller.errors import Rejected, Stalled, Transient, Waiting, WheelwayError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from controller.config.settings import EnvironmentOptions

LONGEST_EXPLANATION = 1200
"""Characters of uv's explanation in a message; the log tail has all of one that is longer."""

# Variables that would contradict the arguments below; those about indexes, credentials, TLS,
# proxies, retries and resolution stay the operator's.
_CONTRADICTING = frozenset(
    {
        "FORCE_COLOR",
        "UV_CONSTRAINT",
        "UV_EXCLUDE",
        "UV_FIND_LINKS",
        "UV_LINK_MODE",
        "UV_NO_BINARY",
        "UV_NO_VERIFY_HASHES",
        "UV_OFFLINE",
        "UV_OVERRIDE",
        "UV_PROJECT",
        "UV_PYTHON",
        "UV_REQUIRE_HASHES",
        "UV_SYSTEM_PYTHON",
        "UV_TORCH_BACKEND",
        "UV_VENV_SEED",
        "UV_WORKING_DIR",
    }
)
# What names other indexes than the one that is handed over, which is to be the only one: whoever
# registers a name elsewhere would get in. uv's own files can name them as well, so none is read.
_OTHER_INDEXES = re.compile(r"UV_(INDEX(_\w+)?|DEFAULT_INDEX|EXTRA_INDEX_URL|NO_INDEX|CONFIG_FILE)")
_UNAUTHORIZED = re.compile(
    r"\b(401 Unauthorized|403 Forbidden|407 Proxy Authentication Required)\b"
)
_UNREACHABLE = re.compile(
    r"Failed to fetch|Failed to download|error sending request|error decoding response body"
    r"|HTTP status (server|client) error|[Cc]lient error \(Connect\)|dns error|timed out"
    r"|Request failed after|[Cc]onnection (refused|reset)"
)
_UNTRUSTED = re.compile(r"invalid peer certificate|UnknownIssuer|certificate verify failed")
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|os error (28|122)\b")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


_GLANCE = 0.25
"""Seconds between two checks whether a run was closed."""


class NoSolution(Exception):  # noqa: N818 - an answer of the resolver, translated by who asked
    """No set of versions fits, of all that uv could see.

    Attributes:
        explanation: why, a conclusion a line, without hints.
        unseen: true when uv would have liked to ask an index and was not allowed to.
        rest: what it said beside that; all of it when the explanation had to be cut.
    """

    def __init__(self, explanation: str, *, unseen: bool, rest: str) -> None:
        super().__init__(explanation)
        self.explanation = explanation
        self.unseen = unseen
        self.rest = rest


class Index(Protocol):
    """A package index whose credentials change: `controller.sources` has them."""

    def variables(self) -> Mapping[str, str]:
        """What uv's environment needs to use it; the values of `*_PASSWORD` are secret."""

    def forget(self) -> None:
        """The credentials that were handed out last were refused."""


@dataclass(frozen=True, slots=True)
class Uv:
    """The uv binary with the settings that all its runs share."""

    binary: Path
    options: EnvironmentOptions
    cache: Path
    """uv's cache, unless the environment has UV_CACHE_DIR; on the file system of the environments,
    for hard links."""
    environ: Mapping[str, str]
    clock: Callable[[], float] = time.monotonic
    index: Index | None = None
    """Instead of any index that the options, the environment or uv's own configuration name; none
    of these files is read then."""
    closed: threading.Event = field(default_factory=threading.Event)
    """Once set, what runs is ended and nothing more is run."""

    def run(self, *arguments: str | Path, until: float, stdin: str = "") -> str:
        """Run uv to its end and return its stdout.

        Args:
            arguments: the command and its options.
            until: when it must have ended, by `clock`.
            stdin: what `-` as a file reads.

        Raises:
            NoSolution: it is a resolution and there is none.
            Rejected: `HashMismatch`, `RequirementNotFromIndex`.
            Transient: `IndexUnreachable`, `EnvironmentTimeout`, `UvInterrupted`, `UvFailed`.
            Stalled: `IndexUnauthorized`, `IndexUntrusted`, `CertificateUnreadable`, `UvMissing`,
                `FindLinksMissing`.
            Waiting: `DiskFull`.
            WheelwayError: what keeps the index from giving credentials.
        """
        self._check_ca_file()
        access = self.index.variables() if self.index else {}
        try:
            process = subprocess.Popen(
                [self.binary, "--color", "never", "--no-progress", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",  # no project's uv settings; the user's and the system's count
                encoding="utf-8",
                errors="replace",
                env=self._environ(access),
                umask=0o022,  # Ray's user must be able to read what is installed
            )
        except OSError as error:
            raise _missing(f"{self.binary} does not run: {error.strerror or error}") from error
        with process:
            try:
                stdout, stderr = self.outcome(process, until, stdin)
            except BaseException:
                process.kill()
                raise
        if process.returncode == 0:
            return stdout
        failure = _failure(process.returncode, _redacted(stderr, access).strip())
        if self.index and isinstance(failure, Stalled) and failure.reason == "IndexUnauthorized":
            self.index.forget()
        raise failure

    def _check_ca_file(self) -> None:
        """Raise where `ca_file` cannot be read: uv would go on with the public authorities."""
        if self.options.ca_file is None:
            return
        try:
            ssl.create_default_context(cafile=str(self.options.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise Stalled(
                "CertificateUnreadable", f"environments.ca_file {self.options.ca_file}: {error}"
            ) from error

    def outcome(
        self, process: subprocess.Popen[str], until: float, stdin: str = ""
    ) -> tuple[str, str]:
        """A process's stdout and stderr, once it ended by itself.

        Raises:
            Transient: `EnvironmentTimeout`, `UvInterrupted`; it still runs then.
        """
        given: str | None = stdin
        while not self.closed.is_set():
            left = until - self.clock()
            try:
                return process.communicate(given, timeout=max(0.0, min(left, _GLANCE)))
            except subprocess.TimeoutExpired as error:
                if left <= _GLANCE:
                    raise self.too_slow() from error
            given = None  # it may be handed over once only
        raise Transient("UvInterrupted", "the daemon ends or has a new configuration")

    def candidates(self, *folders: Path) -> Sequence[str | Path]:
        """The arguments that say where wheels may come from: `find_links`, these, and the index.

        Raises:
            Stalled: `FindLinksMissing`.
        """
        arguments: list[str | Path] = ["--only-binary", ":all:"]
        for folder in (*self.options.find_links, *folders):
            if not folder.is_dir():
                raise Stalled(
                    "FindLinksMissing",
                    f"`environments.find_links` names {folder}, which is not a folder; create it or"
                    " take it out of the list",
                )
            arguments += ["--find-links", folder.absolute()]
        return [*arguments, "--offline"] if self.options.offline else arguments

    def _environ(self, access: Mapping[str, str]) -> dict[str, str]:
        clean = clean_environ(self.environ)
        environ = {key: value for key, value in clean.items() if key not in _CONTRADICTING}
        environ.setdefault("UV_CACHE_DIR", str(self.cache))
        environ["UV_PYTHON_DOWNLOADS"] = "never"
        if self.options.ca_file is not None:
            environ["SSL_CERT_FILE"] = str(self.options.ca_file)
        environ["UV_NO_WRAP"] = "1"  # its explanations are read a line at a time
        if self.index is not None:
            kept = {
                key: value for key, value in environ.items() if not _OTHER_INDEXES.fullmatch(key)
            }
            return {**kept, **access, "UV_NO_CONFIG": "1"}
        if self.options.index_url is not None:
            environ.pop("UV_INDEX_URL", None)
            environ["UV_DEFAULT_INDEX"] = self.options.index_url
        return environ

    def too_slow(self) -> Transient:
        """The error for an environment that was not done in time."""
        return Transient(
            "EnvironmentTimeout",
            f"resolving and installing did not end within {self.options.timeout:g} s; it is tried "
            "again with what was already downloaded, or raise `environments.timeout`",
        )


def find() -> Path:
    """The binary that the `uv` package brings.

    Raises:
        Stalled: `UvMissing`.
    """
    try:
        return Path(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise _missing("its binary is not where the `uv` package puts it") from error


def _missing(why: str) -> Stalled:
    return Stalled(
        "UvMissing",
        f"environments cannot be built without uv: {why}; reinstall it beside the daemon with "
        "`pip install --force-reinstall uv`",
    )


def _redacted(text: str, access: Mapping[str, str]) -> str:
    """What uv said, without any password that it may hold."""
    for name, value in access.items():
        if name.endswith("_PASSWORD") and value:
            text = text.replace(value, "***")
    return _CREDENTIALS.sub("***@", text)


def _failure(code: int, text: str) -> WheelwayError | NoSolution:
    """What a failed run means; certain patterns first, for a text may hold several."""
    said = _one_line(text)
    if code < 0:
        return Transient("UvInterrupted", f"uv was ended by signal {-code}; it is started again")
    if _DISK_FULL.search(text):
        return Waiting("DiskFull", f"no space left to build an environment; free some: {said}")
    if refusal := _refusal(text, said):
        return refusal
    if verdict := _verdict(text, said):
        return verdict
    if _UNREACHABLE.search(text):
        return Transient("IndexUnreachable", f"the package index cannot be reached: {said}")
    return Transient("UvFailed", f"uv ended with {code}: {said}")


def _refusal(text: str, said: str) -> Stalled | None:
    """What a person must mend before the index can be used; None for nothing."""
    if _UNAUTHORIZED.search(text):
        refused = " ".join(line for line in text.splitlines() if _UNAUTHORIZED.search(line))
        return Stalled(
            "IndexUnauthorized",
            "the package index refuses the credentials; renew them where `environments.index_url` "
            "or uv's configuration has them, or for `environments.index` allow the daemon's role "
            f"to read the repository: {_cut(refused.strip())}",
        )
    if _UNTRUSTED.search(text):
        return Stalled(
            "IndexUntrusted",
            "the package index shows a certificate that is not trusted; set `environments.ca_file` "
            f"to a bundle with the authority that signed it: {said}",
        )
    return None


def _verdict(text: str, said: str) -> Rejected | NoSolution | None:
    """What is wrong with the requirements themselves; None for nothing."""
    if "No solution found" in text:
        unseen = "network was disabled" in text or "index lookups were disabled" in text
        derivation, hints = _explanation(text)
        explanation = _cut(derivation)
        rest = hints if explanation == derivation else text
        return NoSolution(explanation, unseen=unseen, rest=rest)
    if "Hash mismatch" in text:
        return Rejected(
            "HashMismatch",
            "the index has other bytes now than those locked for this release; publish the release "
            f"again if that is meant: {said}",
            log_tail=text,
        )
    if "URL dependenc" in text:
        return Rejected(
            "RequirementNotFromIndex",
            f"a requirement leads to a URL instead of an index, which is not installed: {said}",
            log_tail=text,
        )
    return None


def _explanation(text: str) -> tuple[str, str]:
    """The resolver's derivation without its heading, a conclusion a line, and the hints below."""
    body, hint, hints = text.partition("No solution found")[2].partition("\nhint:")
    derivation = body.partition("cause:")[2] or body
    lines = (" ".join(line.split()) for line in derivation.splitlines())
    return "\n".join(filter(None, lines)), f"{hint}{hints}".strip()


def _one_line(text: str) -> str:
    """The chain of `error:` and `cause:` joined by colons, without warnings and hints."""
    body = text.partition("\nhint:")[0]
    start = body.find("error:")
    parts = re.split(r"\b(?:error|cause):\s", body[max(start, 0) :])
    return _cut(": ".join(" ".join(part.split()) for part in parts if part.strip()))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_EXPLANATION else text[: LONGEST_EXPLANATION - 1] + "…"
