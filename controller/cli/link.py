"""How commands ask the daemon: through its control socket, or its journal when nobody answers.

The daemon knows more than its journal, and who may use its socket need not be able to read its
files. Without the daemon, commands that only need the journal go on, and say so on stderr.
"""

from __future__ import annotations

import getpass
import http.client
import json
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlencode

from controller.cli.output import clean
from controller.errors import (
    JournalError,
    NotPermitted,
    TemplateError,
    Transient,
    Waiting,
    WheelwayError,
)
from controller.journal.permissions import not_permitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from controller.cli.invocation import Invocation
    from controller.journal import Journal, Reader
    from controller.model import JSON

_T = TypeVar("_T")

READING: Final = 5.0
"""Seconds for an answer to a question, which the journal can answer as well."""
ORDERING: Final = 30.0
"""Seconds for an answer to an order, which may wait for the journal."""


class Unanswered(Transient):
    """Nobody listens at the control socket: nothing was done there."""


class Silent(Waiting):
    """The daemon listens and does not answer: what it did is not known."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket; httpx could do it, but takes longer to import than all of this."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def get(asked: Invocation, *path: str, **query: str | int | bool | None) -> Any:
    """Read what the daemon has at a path below `/v1`: its JSON document, or its text.

    Raises:
        Unanswered, Silent, NotPermitted: it cannot be asked, or does not answer.
        WheelwayError: as the daemon raised it; Waiting for what may pass.
    """
    given = {
        key: str(value).lower() if isinstance(value, bool) else value
        for key, value in query.items()
        if value is not None
    }
    address = "/".join(quote(part, safe="") for part in path)
    return _ask(asked, "GET", f"/v1/{address}?{urlencode(given)}".rstrip("?"), READING)


def post(asked: Invocation, *path: str, more: float = 0.0, **body: JSON) -> Any:
    """Order something of the daemon, which may take `more` seconds than usual; raises as `get`.

    The daemon is asked an easy question first: if it hangs, waiting would be in vain and nobody
    would know what it did.
    """
    try:
        _ask(asked, "GET", "/livez", READING)
    except Silent as error:
        socket_path = asked.whereabouts().socket
        raise Unanswered(
            error.reason,
            f"the daemon at {socket_path} does not answer ({error.__cause__ or error.message}): "
            "it hangs. systemd restarts one that is a service (`journalctl -u wheelway` says "
            "more); end `wheelway up` or `run` by Ctrl-C, else by SIGKILL, and start it again",
        ) from error
    except Waiting as error:  # it answers, though its passes do not go on
        note(error.message)
    return _ask(asked, "POST", "/v1/" + "/".join(path), ORDERING + more, body)


def _ask(asked: Invocation, method: str, address: str, timeout: float, body: JSON = None) -> Any:
    path = asked.whereabouts().socket
    connection = _UnixConnection(path, timeout)
    try:
        connection.connect()
    except PermissionError as error:
        raise not_permitted(path, "use the control socket") from error
    except OSError as error:
        raise Unanswered(
            "DaemonUnreachable", f"the daemon does not answer at {path} ({_why(error, asked)})"
        ) from error
    try:
        headers = {} if body is None else {"content-type": "application/json"}
        connection.request(method, address, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Silent(
            "DaemonSilent",
            f"the daemon at {path} took the request and did not answer it "
            f"({error or type(error).__name__})",
        ) from error
    finally:
        connection.close()
    return _understood(answer, content)


def _why(error: OSError, asked: Invocation) -> str:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            from controller.journal import holder  # noqa: PLC0415 - needless where it answers

            if (starting := holder(asked.whereabouts().state)) is not None:
                return f"process {starting.process} is starting it, or it has no control socket"
            return "it is down, or has no control socket"
        case BlockingIOError():
            return "nobody takes connections: it hangs, or very many ask"
    return str(error)


def _understood(answer: http.client.HTTPResponse, content: bytes) -> Any:
    """The document; or the daemon's error, raised here as it was raised there."""
    kind = answer.headers.get_content_type()
    try:
        document = json.loads(content) if kind.endswith("json") else content.decode()
    except ValueError as error:
        raise Silent("DaemonSilent", f"the daemon's answer is no {kind}: {error}") from error
    if answer.status == http.client.OK:
        return document
    if not isinstance(document, dict):
        raise Silent("DaemonSilent", f"the daemon answered {answer.status} {answer.reason}")
    reason, message = str(document.get("reason", "")), str(document.get("detail", ""))
    if answer.status == http.client.SERVICE_UNAVAILABLE:
        raise Waiting(reason, message)
    if reason == "TemplateInvalid":
        raise TemplateError(message)
    raise WheelwayError(reason, message)


# -- or the journal ------------------------------------------------------------------------------


@contextmanager
def _instead(error: WheelwayError) -> Iterator[None]:
    """Tell a user who may use neither the socket nor the journal of both."""
    try:
        yield
    except JournalError as other:
        if not isinstance(error, NotPermitted):
            raise
        raise NotPermitted(error.reason, f"{error.message}; and {other.message}") from other
    except NotPermitted as other:
        if isinstance(error, NotPermitted):
            raise error from other
        raise NotPermitted(other.reason, f"{error.message}; and {other.message}") from other


def note(message: str) -> None:
    """Print a remark on stderr."""
    print(f"note: {clean(message)}", file=sys.stderr)


def told(
    asked: Invocation,
    *path: str,
    otherwise: Callable[[Reader], _T],
    say: Callable[[str], None] = note,
    **query: str | int | bool | None,
) -> _T:
    """What the daemon tells; or its journal when the daemon does not answer, with a remark."""
    try:
        document: _T = get(asked, *path, **query)
    except (Unanswered, Silent, NotPermitted) as error:
        with _instead(error), asked.reader() as reader:
            document = otherwise(reader)
        say(f"{error.message}; this is from its journal")
    return document


def ordered(
    asked: Invocation,
    *path: str,
    otherwise: Callable[[Journal], _T],
    **body: JSON,
) -> _T:
    """Have the daemon do something; write it into its journal when it does not answer."""
    try:
        done: _T = post(asked, *path, **body)
    except (Unanswered, NotPermitted) as error:
        with _instead(error), asked.journal() as journal:
            done = otherwise(journal)
        note(f"{error.message}; it is in its journal now, for its next pass")
    except Silent as error:
        message = f"{error.message}; `wheelway status` and `history` show whether it did it"
        raise Silent(error.reason, message) from error
    return done


def whoami() -> str:
    """Who gives an order, for those who read of it later."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return "operator"
