"""What the dashboard reports about applications, as values of the model. Pure.

The shape is ray.serve.schema.ServeInstanceDetails (`GET /api/serve/applications/`), as Ray 2.60
sends it. The cause of a failure is hidden: the application says only "Failed to update the
deployments"; the traceback is in the deployment's message, between Ray's own frames.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import AfterValidator, BaseModel, StringConstraints, ValidationError

from controller.errors import mistakes
from controller.model import Release
from controller.observed import Application, ApplicationStatus, Part, Replica
from controller.planning.documents import same_document

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from controller.model import JSON

IMPORT_PATH = "wheelway.host:build"
"""The builder of every release's application."""

_TAIL = 25
"""Lines of a cause that are kept."""


_Text = Annotated[str, StringConstraints(min_length=0)]
"""Text that UTF-8 can encode: pydantic checks that only of text with a constraint."""


class _Replica(BaseModel):
    state: _Text
    pid: int | None = None
    replica_id: _Text = ""


class _Deployment(BaseModel):
    status: _Text = ""
    message: _Text | None = None
    target_num_replicas: int | None = None
    replicas: list[_Replica] | None = None


class _Document(BaseModel):
    name: _Text = ""
    route_prefix: _Text | None = None
    deployments: list[dict[str, Any]] = []
    args: dict[str, Any] | None = None


def _well_formed(document: dict[str, Any]) -> dict[str, Any]:
    _Document.model_validate(document, strict=True)
    return document


class _Reported(BaseModel):
    status: _Text
    source: _Text | None = None
    route_prefix: _Text | None = None
    message: _Text | None = None
    deployed_app_config: Annotated[dict[str, Any], AfterValidator(_well_formed)] | None = None
    deployments: dict[_Text, _Deployment] | None = None


class _Details(BaseModel):
    applications: dict[_Text, _Reported]


def parse(
    details: Mapping[str, JSON],
    before: Iterable[Application] = (),
    sent: Mapping[str, Mapping[str, JSON]] | None = None,
    same: Collection[str] = (),
) -> tuple[Application, ...]:
    """Every application that the dashboard reports, by name. One that is as it was `before` is the
    same object, and so is a document that is as it was `sent`, for there are thousands. Those named
    in `same` are reported as before, and left out of the details.

    Raises:
        ValueError: it is not what Ray reports. Nothing of it may be believed then, least of all
            that what it leaves out is gone.
    """
    try:
        applications = _Details.model_validate(details, strict=True).applications
    except ValidationError as error:
        raise ValueError(str(mistakes(error)[0])) from error
    known, sent = {app.name: app for app in before}, sent or {}
    found = {name: known[name] for name in same}
    for name, reported in applications.items():
        found[name] = _application(name, reported, known.get(name), sent.get(name))
    return tuple(found[name] for name in sorted(found))


def _application(
    name: str,
    reported: _Reported,
    before: Application | None,
    sent: Mapping[str, JSON] | None,
) -> Application:
    document: Mapping[str, JSON] | None = None
    if reported.deployed_app_config and reported.source != "imperative":
        # Ray leaves out what was not said, its own default name included.
        document = {"name": name, **reported.deployed_app_config}
    if before is not None and same_document(document, before.document):
        document, release = before.document, before.release
    else:
        if sent is not None and same_document(document, sent):
            document = sent
        release = release_of(document) if document else None
    status = ApplicationStatus(reported.status)
    deployments = reported.deployments or {}
    parts = _parts(document, deployments) if document and release else ()
    named = {part.name for part in parts}
    others = [one for key, one in deployments.items() if key not in named]
    again = {key: one for key, one in deployments.items() if _starts_again(one)}
    failing = (
        [one for key, one in again.items() if key not in named],
        [part for part in parts if part.name in again],
    )
    now = Application(
        name=name,
        status=status,
        # Serve's default for a document that says nothing is "/".
        route=document.get("route_prefix", "/") if document else reported.route_prefix,
        document=document,
        release=release,
        building=status is ApplicationStatus.DEPLOYING and not deployments,
        message=_message(reported.message or "", others, parts),
        failed_start=_message("", *failing) if status is ApplicationStatus.DEPLOYING else "",
        oddity="" if document is None or release is not None else _oddity(document),
        replicas=tuple(
            Replica(replica.state, replica.pid, replica.replica_id)
            for deployment in others
            for replica in deployment.replicas or ()
        ),
        parts=parts,
        part_replicas=tuple(
            (name, replica.replica_id)
            for name in sorted(named & deployments.keys())
            for replica in deployments[name].replicas or ()
            if replica.state != "STOPPING"
        ),
    )
    if before is not None and before.document is document and before == now:
        return before
    return now


def _parts(
    document: Mapping[str, JSON], deployments: Mapping[str, _Deployment]
) -> tuple[Part, ...]:
    """What Serve reports of the parts that a document of ours names."""
    told = document["args"].get("parts")
    found = []
    for name in sorted(told) if isinstance(told, dict) else ():
        inline = isinstance(told[name], dict) and bool(told[name].get("inline"))
        deployment = None if inline else deployments.get(name)
        if deployment is None:
            found.append(Part(name, inline))
            continue
        states = [replica.state for replica in deployment.replicas or ()]
        found.append(
            Part(
                name,
                state=deployment.status,
                running=states.count("RUNNING"),
                wanted=deployment.target_num_replicas,
                message=cause(deployment.message or ""),
            )
        )
    return tuple(found)


def _starts_again(deployment: _Deployment) -> bool:
    """Whether its message is of a failed start, and none of its replicas has started since. What
    is left from before a new config is not: Serve then says that the deployment failed or is well.
    """
    return (
        deployment.status == "UPDATING"
        and _RETRIED.match(deployment.message or "") is not None
        and all(replica.state != "RUNNING" for replica in deployment.replicas or ())
    )


def _oddity(document: Mapping[str, JSON]) -> str:
    """What of a document cannot be written as strict JSON; empty for nothing."""
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except ValueError as error:
        return str(error)
    return ""


def release_of(document: Mapping[str, JSON]) -> Release | None:
    """The release that a document of ours runs; None when it is not ours or not a release's."""
    arguments = document.get("args")
    said = arguments.get("release") if isinstance(arguments, dict) else None
    if document.get("import_path") != IMPORT_PATH or not isinstance(said, dict):
        return None
    pipeline, version, digest = (str(said.get(key)) for key in ("pipeline", "version", "digest"))
    try:
        if pipeline != canonicalize_name(pipeline, validate=True):
            return None
        release = Release(pipeline, Version(version), digest)
    except ValueError:  # InvalidName, InvalidVersion, and numbers of thousands of digits
        return None
    return release if re.fullmatch(r"[0-9a-f]{64}", digest) else None


# -- causes --------------------------------------------------------------------------------------

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MARKER = re.compile(r"wheelway-failure\[\w+\] ")
_UPDATE_FAILED = re.compile(r"^Failed to update the deployments \[.*\]\.?$")
_BOILERPLATE = re.compile(
    r" This may be due to a problem with its constructor or initial health check failing\."
    r"( See controller logs for details\.)?( Error:)?"
    r"|^A replica failed to start with exception\. Retrying \d+ more time\(s\)\. Error:$"
)
_RETRIED = re.compile(
    r"A replica failed to start with exception\. Retrying \d+ more time\(s\)\. Error:\n"
)
"""Only of a deployment of which no replica ever started, or in a rolling update; of others Serve
does not say how often it tries (`record_replica_startup_failure`)."""
_ACTOR = re.compile(r"(ray::\S+\(\)|ray\.exceptions\.\S+: ray::\S+\(\)) \(pid=.*\)$")
_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line \d+')
_RAYS_OWN = re.compile(r"/(site-packages/ray|concurrent/futures)/")
_TRACEBACK = "Traceback (most recent call last):"
_DIED = "ActorDiedError()"
_DIED_IN_WORDS = (
    "the replica's process died while it started: it exited, crashed, or was killed for the memory "
    "it used"
)


def _message(own: str, deployments: Iterable[_Deployment], parts: Iterable[Part]) -> str:
    """The causes, a part's first: when it fails, whatever calls it may fail for that."""
    causes = [cause(deployment.message or "") for deployment in deployments]
    if not _UPDATE_FAILED.match(own.strip()):
        causes.insert(0, cause(own))
    of_parts = [_of_part(part) for part in parts]
    return "\n".join(dict.fromkeys(filter(None, [*of_parts, *causes]))) or own.strip()


def _of_part(part: Part) -> str:
    """Its cause, told to be its own; the host of a part that fails says so by itself."""
    marker = _MARKER.match(part.message)
    at, says = marker.end() if marker else 0, f"the part {part.name!r}: "
    if not part.message or part.message.startswith(says, at):
        return part.message
    return f"{part.message[:at]}{says}{part.message[at:]}"


def cause(text: str) -> str:
    """What a message of Serve says about the pipeline: from our host's marker on, if it has one,
    else without Ray's frames and phrases; at most the last 25 lines.
    """
    if not text:  # as it is of what is well
        return ""
    lines = [_COLOUR.sub("", line).rstrip() for line in text.splitlines()]
    # Ray writes the actor that failed over the first line of the innermost traceback.
    lines = [_TRACEBACK if _ACTOR.match(line) else line for line in lines]
    # The last marker: those before it are in source lines that a traceback quotes.
    for number in reversed(range(len(lines))):
        if marker := _MARKER.search(lines[number]):
            first, rest = lines[number][marker.start() :], lines[number + 1 :]
            return "\n".join([first, *rest[-_TAIL:]]).strip()
    kept = [
        _DIED_IN_WORDS if line == _DIED else _BOILERPLATE.sub("", line)
        for line in _without_rays_frames(lines)
    ]
    return "\n".join([line for line in kept if line][-_TAIL:])


def _without_rays_frames(lines: Iterable[str]) -> Iterable[str]:
    inside = False
    for line in lines:
        if frame := _FRAME.match(line):
            inside = bool(_RAYS_OWN.search(frame["file"]))
        elif not line.startswith("    "):
            inside = False
        if not inside and not line.endswith(_TRACEBACK):
            yield line
