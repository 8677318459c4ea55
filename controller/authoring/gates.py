"""The gates of `wheelway check`: what a wheel has to pass before it is served, on any machine.

The daemon's own code judges: inspection, author options and environments of the cache. What a
replica does before it is ready is done by `wheelway.local`, in a process of the release's own
environment that never outlives this one. All files go into a temporary folder; only uv fills its
own cache, as it does for the author's other projects.

Results are values, which the CLI shows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename

from controller.authoring.harness import command_of, started
from controller.authoring.wishes import Wished
from controller.cache.environments import base, uv
from controller.cache.environments.builder import Environments
from controller.cache.environments.overlay import MARKER
from controller.cache.wheels import inspection
from controller.cache.wheels.store import Store
from controller.errors import Rejected, Stalled, WheelwayError
from controller.model import Revision
from controller.planning import wheel_names
from controller.sources import index_access, open_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from controller.cache.environments.base import Base
    from controller.config.settings import Config
    from controller.model import JSON, Artifact, Environment, PipelineEntry, WeightsEntry
    from controller.sources.codeartifact import CodeArtifactIndex

INSPECT: Final = "inspect"
WISHES: Final = "wishes"
ENVIRONMENT: Final = "environment"
STARTING: Final = ("verify", "import", "schemas", "load", "examples")
"""The gates of `wheelway.local`: what a replica does until it is ready, in that order."""
RESOURCES: Final = "resources"

_CHUNK = 1 << 20
_SHOWN = 60
"""Characters of a stream that a person is shown."""
_PIN = re.compile(r"^[\w.-]+==[^\s;\\]+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Gate:
    """What came of one gate; `name` is one of the constants above."""

    name: str
    ok: bool | None
    """None: not run, because an earlier one failed."""
    reason: str = ""
    """PascalCase, the daemon's word for the same failure; empty when it passed."""
    message: str = ""
    """For a person: what was found, or what is wrong and what to do about it."""
    seconds: float = 0.0
    pipeline: str = ""
    """Empty for a gate that concerns the whole wheel."""
    detail: Mapping[str, JSON] = field(default_factory=dict)
    """Facts for a script: the types' schemas, installed versions, peak memory in bytes."""
    log_tail: str = ""
    """The last lines that it said before it failed."""


def passed(gates: Iterable[Gate]) -> bool:
    """Whether every pipeline of a wheel with these results would be served."""
    return all(gate.ok for gate in gates)


def served(gates: Iterable[Gate]) -> dict[str, bool]:
    """Each pipeline of a wheel with these results: whether it would be served.

    Empty when no gate concerned a pipeline.
    """
    each: dict[str, bool] = {}
    for gate in gates:
        if gate.pipeline:
            each[gate.pipeline] = each.get(gate.pipeline, True) and gate.ok is True
    return each


def check(
    wheel: Path,
    config: Config,
    *,
    weights: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Gate]:
    """Try a wheel, yielding each gate when it ends; close the iterator to stop in between.

    A failure ends its pipeline's way: what would have come after it is yielded as not run. Other
    pipelines of the same wheel go on.

    Args:
        wheel: the file, under the name that it is to be published by.
        config: limits, environments, caps and policy to judge by. `rollout.ready_deadline` bounds
            the time from the start of a pipeline's process to its last example.
        weights: a wheel of weights to load, or a folder as pipelines find it in `context.weights`.
        clock: monotonic seconds.

    Raises:
        WheelwayError: this machine cannot judge any wheel; `PythonUnusable`, `WheelwayMissing`,
            `CacheUnusable`, `UvMissing`.
    """
    found = base.detect(config.ray.python)
    if "wheelway" not in found.importable:
        raise Stalled(
            "WheelwayMissing",
            f"{found.python} cannot import wheelway, so no pipeline can be tried with it; install "
            "wheelway there, or set `ray.python` to an interpreter that has it",
        )
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="wheelway-check-", ignore_cleanup_errors=True)
        )
        index = None
        if (access := index_access(config)) is not None:
            index = open_index(access, config.environments.timeout)
            stack.callback(index.close)
        yield from _Trial(Path(name), found, config, clock, index).gates(wheel, weights)


class _Trial:
    """One wheel's way through the gates, in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        found: Base,
        config: Config,
        clock: Callable[[], float],
        index: CodeArtifactIndex | None,
    ) -> None:
        self._folder = folder
        self._base = found
        self._config = config
        self._clock = clock
        self._weights: Mapping[str, Path] = {}
        """The folder that each pipeline finds in `context.weights`."""
        self._store = Store(folder / "cache")
        self._environments = Environments(
            folder / "cache",
            found,
            config.environments,
            environ=_uv_environ(),
            clock=clock,
            index=index,
        )

    def gates(self, wheel: Path, weights: Path | None) -> Iterator[Gate]:
        began = self._clock()
        try:
            artifact = self._inspect(wheel)
            self._weights = self._folders(weights, artifact)
        except WheelwayError as error:
            yield self._failed(INSPECT, error, began)
            yield from _not_run(WISHES, ENVIRONMENT, *STARTING, RESOURCES)
            return
        names = ", ".join([*map(_named, artifact.pipelines), *map(_for_whom, artifact.weights)])
        about = f"{artifact.project} {artifact.version}, {artifact.size} bytes: {names}"
        about = "; but without effect: ".join([about, *artifact.notes])
        yield self._passed(INSPECT, began, about, digest=artifact.digest, size=artifact.size)
        if artifact.weights:  # data alone: what they are good for is seen with their pipeline
            return
        able = []
        for entry in artifact.pipelines:
            began = self._clock()
            try:
                able.append(wished := Wished.of(entry, self._config))
            except WheelwayError as error:
                yield replace(self._failed(WISHES, error, began), pipeline=entry.name)
                yield from _not_run(*STARTING, RESOURCES, pipeline=entry.name)
            else:
                gate = self._passed(WISHES, began, wished.about, **wished.detail)
                yield replace(gate, pipeline=entry.name)
        if able:
            yield from self._run(artifact, able)
        else:
            yield from _not_run(ENVIRONMENT)

    def _run(self, artifact: Artifact, able: Iterable[Wished]) -> Iterator[Gate]:
        began = self._clock()
        try:
            environment = self._environments.prepare(artifact)
        except WheelwayError as error:
            yield self._failed(ENVIRONMENT, error, began)
            for pipeline in able:
                yield from _not_run(*STARTING, RESOURCES, pipeline=pipeline.entry.name)
            return
        installed = _installed(environment)
        about = f"on top of the base: {', '.join(installed)}" if installed else "the base suffices"
        yield self._passed(ENVIRONMENT, began, about, installed=installed)
        for pipeline in able:
            for gate in self._start(artifact, environment, pipeline):
                yield replace(gate, pipeline=pipeline.entry.name)

    # -- without running anything ----------------------------------------------------------------

    def _inspect(self, wheel: Path) -> Artifact:
        revision, limits = _revision(wheel), self._config.inspection
        with _readable(wheel), wheel.open("rb") as stream:
            chunks = iter(lambda: stream.read(_CHUNK), b"")
            kept = self._store.add(revision, chunks, limits)
        base, tree = self._base, self._store.tree_path(revision.sha256)
        with self._store.unpacking(revision) as into:
            judged_by = limits, tuple(base.tags), base.version, tree
            artifact = inspection.inspect(kept, revision, *judged_by, into)
            self._store.tree(artifact, into)
        return artifact

    def _folders(self, weights: Path | None, artifact: Artifact) -> dict[str, Path]:
        if weights is None:
            return {}
        names = {entry.name for entry in artifact.pipelines}
        if weights.is_dir():
            return dict.fromkeys(names, weights.absolute())
        given = self._inspect(weights)
        found = {
            entry.pipeline: given.tree.joinpath(*entry.package.split("."))
            for entry in given.weights
            if entry.pipeline in names
            and SpecifierSet(entry.fits).contains(artifact.version, prereleases=True)
        }
        if not found:
            whom = ", ".join(map(_for_whom, given.weights)) or "no weights at all"
            raise Rejected(
                "FitsNothing",
                f"{weights.name} has {whom}; {artifact.filename} has {', '.join(sorted(names))} "
                f"{artifact.version}",
            )
        return found

    # -- in a process ----------------------------------------------------------------------------

    def _start(
        self, artifact: Artifact, environment: Environment, pipeline: Wished
    ) -> Iterator[Gate]:
        began = last = self._clock()
        deadline = began + self._config.rollout.ready_deadline
        remaining = list(STARTING)
        peak = 0
        weights = self._weights.get(pipeline.entry.name)
        command = command_of(artifact, environment, self._base, pipeline, weights)
        environ = base.clean_environ(os.environ) | (pipeline.options.env_vars or {})
        with started(command, environ, self._folder, clock=self._clock) as harness:
            for report in harness.reports(deadline):
                last = self._clock()
                if report["gate"] == "memory":
                    peak = report["detail"]["peak_bytes"]
                    continue
                remaining.remove(report["gate"])
                yield _reported(report)
                if not report["ok"]:
                    yield from _not_run(*remaining, RESOURCES)
                    return
            if remaining:
                allowed = self._config.rollout.ready_deadline
                yield self._failed(remaining[0], harness.ended(deadline, allowed), last)
                yield from _not_run(*remaining[1:], RESOURCES)
                return
        about = f"at most {peak / 2**20:.0f} MiB of memory, {last - began:.1f} s until ready"
        yield self._passed(RESOURCES, began, about, peak_bytes=peak, ready_after=last - began)

    # -- results ---------------------------------------------------------------------------------

    def _passed(self, name: str, began: float, message: str = "", **detail: JSON) -> Gate:
        seconds = self._clock() - began
        return Gate(name, ok=True, message=message, seconds=seconds, detail=detail)

    def _failed(self, name: str, error: WheelwayError, began: float) -> Gate:
        tail = error.log_tail if isinstance(error, Rejected) else ""
        seconds = self._clock() - began
        return Gate(name, False, error.reason, error.message, seconds, log_tail=tail)


def _named(entry: PipelineEntry) -> str:
    parts = ", ".join(part.name for part in entry.parts)
    return f"{entry.name} (parts {parts})" if parts else entry.name


def _for_whom(weights: WeightsEntry) -> str:
    return f"weights for {weights.pipeline} {weights.fits or '(any version)'}"


def _not_run(*names: str, pipeline: str = "") -> Iterator[Gate]:
    for name in names:
        yield Gate(name, ok=None, pipeline=pipeline)


def _streamed(examples: Iterable[Iterable[str]]) -> Iterator[str]:
    """What streams began with, one for each example that was answered so."""
    for items in examples:
        first = " ".join(items) or "nothing"
        yield f"streamed {first if len(first) <= _SHOWN else f'{first[: _SHOWN - 3]}...'}"


def _reported(report: Mapping[str, JSON]) -> Gate:
    """A line of the harness as a gate."""
    detail = report["detail"]
    message = report["message"]
    if report["ok"] and report["gate"] == "examples":
        message = f"{detail['count']} passed" if detail["count"] else "none: give the class some"
        parts = [f"{count} of {name}" for name, count in detail.get("parts", {}).items()]
        message = ", ".join([message, *parts, *_streamed(detail.get("first_items", ()))])
    return Gate(
        name=report["gate"],
        ok=report["ok"],
        reason=report["reason"],
        message=message,
        seconds=report["seconds"],
        detail=detail,
        log_tail=report["tail"],
    )


def _revision(wheel: Path) -> Revision:
    """The file as a source would list it."""
    try:
        project, version, _, _ = wheel_names.parse(wheel.name)
    except InvalidWheelFilename as error:
        raise Rejected(
            "FilenameInvalid",
            f"{error}; keep the name that the build backend gave the wheel (PEP 427)",
        ) from error
    with _readable(wheel), wheel.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
    return Revision("check", project, version, wheel.name, str(wheel), digest, size)


@contextlib.contextmanager
def _readable(wheel: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Rejected(
            "WheelUnreadable", f"{wheel} cannot be read: {error.strerror or error}"
        ) from error


def _installed(environment: Environment) -> list[str]:
    """`name==version` of what an environment has on top of the base."""
    if environment.python is None:
        return []
    lock = Path(environment.python).parent.parent / MARKER
    return _PIN.findall(lock.read_text(encoding="utf-8"))


def _uv_environ() -> dict[str, str]:
    """The author's environment for uv, with the author's cache: nothing is fetched twice."""
    own = {}
    with contextlib.suppress(subprocess.SubprocessError, OSError):  # then a cache of this check's
        own["UV_CACHE_DIR"] = subprocess.check_output(
            [uv.find(), "cache", "dir", "--color", "never"],
            cwd="/",
            encoding="utf-8",
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            timeout=30,
        ).strip()
    return {**own, **os.environ}
