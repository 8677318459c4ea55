"""`wheelway status --watch`: the same overview, kept up to date, with what Ray says beside it.

On a terminal the screen is drawn anew every second. Elsewhere each change is printed as it comes,
as text or as a JSON document a line. Daemon, dashboard and metrics are asked anew each time, so it
outlives restarts of all of them; what cannot be had is a dash.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from controller.cli.output import (
    PHASE_STYLES,
    Cell,
    clean,
    console,
    day_and_time,
    first_line,
    paragraph,
    stack,
    table,
)
from controller.cli.status import drawn, part_cells, read_status, weights_cells
from controller.errors import JournalError, Waiting, WheelwayError
from controller.ops.documents import part_document
from controller.ops.times import ago, seconds
from controller.serve.dashboard import Dashboard
from controller.serve.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console, RenderableType

    from controller.cli.invocation import Invocation
    from controller.config.settings import Config, RayOptions
    from controller.model import JSON
    from controller.observed import Application, Part
    from controller.ops.documents import PartDocument, ReleaseDocument
    from controller.ops.status import StatusDocument
    from controller.serve.traffic import Flow

    _Seen = tuple[JSON, str, str]
    """The document, why the daemon did not tell it itself, and what is missing of Ray."""

INTERVAL: Final = 1.0
"""Seconds between two drawings."""
BESIDE_INTERVAL: Final = 2.0
"""Seconds between two questions to the dashboard."""
TRAFFIC_INTERVAL: Final = 5.0
"""Seconds between two readings of Ray's metrics, a page of a megabyte."""
TIMEOUT: Final = 3.0
"""Seconds for one answer of the dashboard."""
FRESH: Final = 10.0
"""Seconds for which a change stands out."""
HEADS: Final = (
    *("pipeline", "version", "phase", "reason", "since", "replicas", "requests/s", "p50"),
)


@dataclass(frozen=True, slots=True)
class Beside:
    """What Ray said last."""

    replicas: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of each application, by name: how many run, of how many."""
    flows: Mapping[str, Flow] = field(default_factory=dict)
    parts: Mapping[str, Sequence[Part]] = field(default_factory=dict)
    """Of each application."""
    note: str = ""
    """Why something is missing, for a person."""


class Watch:
    """Asks Ray in a thread of its own, so that nothing it waits for stops the screen."""

    def __init__(self, options: RayOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        patient = options.model_copy(update={"timeout": min(options.timeout, TIMEOUT)})
        self._dashboard = Dashboard.connect(patient)
        self._traffic = Traffic(self._dashboard, clock=clock)
        self._clock = clock
        self._traffic_at = float("-inf")
        self._ending = threading.Event()
        self._polled = threading.Event()
        self._thread = threading.Thread(target=self._work, name="wheelway-watch", daemon=True)
        self.seen = Beside(note="Ray has not been looked at yet")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()

    def wait(self) -> None:
        """Wait until Ray was asked once, whatever it said."""
        self._polled.wait(2 * TIMEOUT)

    def _work(self) -> None:
        while not self._ending.is_set():
            self.seen = self._poll()
            self._polled.set()
            self._ending.wait(BESIDE_INTERVAL)
        self._traffic.close()
        self._dashboard.close()

    def _poll(self) -> Beside:
        try:
            applications = self._dashboard.applications()
        except WheelwayError as error:
            return Beside(note=f"replicas are not known: {error.message}")
        flows = self.seen.flows
        if self._clock() - self._traffic_at >= TRAFFIC_INTERVAL:
            self._traffic_at = self._clock()
            calls = {(app.name, part.name) for app in applications for part in app.parts}
            flows = self._traffic.poll(calls)
        running = {app.name: _running(app) for app in applications}
        return Beside(running, flows, {app.name: app.parts for app in applications})


def watch(asked: Invocation, config: Config, *, everything: bool, as_json: bool) -> None:
    """Show the overview until somebody interrupts.

    Raises:
        JournalError, Waiting: not on a terminal, and there is no journal to begin with.
    """
    out = console()

    def now() -> _Seen:
        said: list[str] = []
        status = read_status(asked, everything=everything, say=said.append)
        missing = beside.seen.note
        if not missing and status["releases"] and not beside.seen.flows:
            missing = (
                "requests/s and p50: nothing from Ray so far (its metrics come every ten seconds)"
            )
        return document(status, beside.seen), " ".join(said), missing

    with Watch(config.ray) as beside:
        if out.is_terminal and not as_json:
            _on_terminal(now, out)
        else:
            beside.wait()
            _line_by_line(now, out, as_json=as_json)


def document(status: StatusDocument, beside: Beside) -> JSON:
    """`status --json` with more keys of each release: replicas (running, total),
    requests_per_second and p50 (seconds); null where Ray does not say. Its parts are those of now.
    """

    def said(placement: str) -> dict[str, JSON]:
        replicas, flow = beside.replicas.get(placement), beside.flows.get(placement)
        return {
            "replicas": replicas and dict(zip(("running", "total"), replicas, strict=True)),
            "requests_per_second": flow and round(flow.requests_per_second, 3),
            "p50": flow and flow.p50,
        }

    def parts(release: ReleaseDocument) -> list[PartDocument]:
        now = beside.parts.get(release["placement"])
        return release["parts"] if now is None else list(map(part_document, now))

    releases = [
        {**release, **said(release["placement"]), "parts": parts(release)}
        for release in status["releases"]
    ]
    return {**status, "releases": releases}


def _on_terminal(now: Callable[[], _Seen], out: Console) -> None:
    from rich.live import Live  # noqa: PLC0415 - for a terminal alone

    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            try:
                screen = shown(*now())
            except (JournalError, Waiting) as error:  # it may be there in a second
                screen = paragraph(error.message, style="red")
            live.update(screen, refresh=True)
            time.sleep(INTERVAL)


def _line_by_line(now: Callable[[], _Seen], out: Console, *, as_json: bool) -> None:
    before: JSON = None
    while True:
        try:
            seen, remark, missing = now()
        except (JournalError, Waiting):
            if before is None:
                raise
        else:
            news = (*_news(seen), remark)
            if news != before:
                before = news
                if as_json:
                    sys.stdout.write(json.dumps(seen, ensure_ascii=False) + "\n")
                else:
                    out.print(day_and_time(seconds(seen["at"])))
                    out.print(shown(seen, remark, missing), end="\n\n")
                sys.stdout.flush()
        time.sleep(INTERVAL)


def _news(seen: JSON) -> tuple[JSON, ...]:
    """What is worth printing again when it changes: not the time nor the traffic."""
    keys = ("pipeline", "version", "digest", "phase", "reason", "replicas", "parts")
    releases = [
        [*(release[key] for key in keys), *_weights_of(release)] for release in seen["releases"]
    ]
    conditions = [(item["subject"], item["reason"]) for item in seen["conditions"]]
    return releases, conditions, seen["daemon"]["state"]


def _weights_of(release: JSON) -> list[JSON]:
    refused = [failed["weights"] for failed in release.get("refused_weights", ())]
    return [release.get("weights"), release.get("wanted_weights"), refused]


def shown(seen: JSON, *notes: str) -> RenderableType:
    """The overview for a person, with what Ray said."""
    now = seconds(seen["at"])
    rows = [
        row
        for release in seen["releases"]
        for row in (
            _row(release, now - seconds(release["since"])),
            *map(_part_row, release["parts"]),
            *((*cells, "", "", "") for cells in weights_cells(release, now)),
        )
    ]
    return stack(*drawn(seen, releases=table(HEADS, rows), note="\n".join(filter(None, notes))))


def _row(release: JSON, age: float) -> Sequence[Cell]:
    phase, replicas = release["phase"], release["replicas"] or {}
    style = PHASE_STYLES.get(phase, "")
    running, total = replicas.get("running"), replicas.get("total", "-")
    return (
        release["pipeline"],
        release["version"],
        (phase, f"{style} bold" if age < FRESH else style),
        clean(release["reason"]),
        ago(age),
        _replicas(running, total),
        "-" if release["requests_per_second"] is None else rate(release["requests_per_second"]),
        "-" if release["p50"] is None else duration(release["p50"]),
    )


def _part_row(part: PartDocument) -> Sequence[Cell]:
    counts = "-" if part["inline"] else _replicas(part["running"], part["wanted"])
    return (*part_cells(part), first_line(part["message"]), "", counts, "", "")


def _replicas(running: int | None, total: int | str | None) -> Cell:
    total = "-" if total is None else total
    return str(total) if running in {None, total} else (f"{running}/{total}", "yellow")


def _running(application: Application) -> tuple[int, int]:
    states = [replica.state for replica in application.replicas]
    return states.count("RUNNING"), len(states)


def rate(per_second: float) -> str:
    """Requests a second with two significant digits."""
    return f"{per_second:,.0f}" if per_second >= 10 or per_second == 0 else f"{per_second:.2g}"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: `0.4 ms`, `230 ms`, `2.1 s`."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
