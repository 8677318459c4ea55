"""What runs on the cluster, as Serve and its ingress say: asked with retries, and not believed at
once.

This is memory between passes; the time is a parameter. Answers of dashboard and ingress come in;
the same go out, or an error.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from controller import retry
from controller.errors import Transient, WheelwayError
from controller.planning.dates import dated, excused, restarted, unwatched
from controller.planning.probing import due, routes_to_probe
from controller.planning.remembered import Remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from concurrent.futures import Executor

    from controller.journal import Reader
    from controller.model import PlacementRecord
    from controller.observed import Answer, Application
    from controller.planning.plan import PlannedApplication
    from controller.serve.dashboard import Dashboard
    from controller.serve.ingress import Ingress

EMPTY_FOR = 20.0
"""Seconds that a cluster must report that it is empty when it just was not: longer than Serve's
controller takes to come back with the head's storage (16 s measured)."""

PROBING = 2.0
"""Seconds of a pass in which questions to the ingress begin, as long as each may take (`Ingress`):
an ingress that hangs holds a pass for a few seconds only. Routes not asked by then come first in
the next pass."""

ROUTELESS_FOR = 15.0
"""Seconds that an ingress may have no route before that is told: on a head that has just started
the first takes some time to reach it."""


class Observer:
    """Asks one cluster's dashboard. After a failure it waits at most `cap` seconds, unless Ray asks
    for more, so that Ray's return is soon noticed.
    """

    def __init__(
        self, dashboard: Dashboard, journal: Reader, *, cap: float, jitter: Callable[[], float]
    ) -> None:
        self._dashboard = dashboard
        self._journal = journal
        self.cap = cap
        self._jitter = jitter
        self._trouble: retry.Failure | None = None
        self._empty_since: float | None = None
        self._emptied = False  # by our own last config

    @property
    def failures(self) -> int:
        """Polls in a row that failed."""
        return self._trouble.count if self._trouble else 0

    def wait(self, now: float) -> float:
        """Seconds for which Ray is left alone, as it could not be observed."""
        return max(0.0, self._trouble.retry_at - now) if self._trouble else 0.0

    def applications(self, now: float) -> tuple[Application, ...]:
        """Every application, ours or not. While it has to `wait` nothing is asked, and the last
        error is raised again.

        Raises:
            WheelwayError: they cannot be known.
        """
        if self._trouble is not None and now < self._trouble.retry_at:
            raise self._trouble.error
        try:
            found = self._dashboard.applications()
            self._doubt_emptiness(found, now)
        except WheelwayError as error:
            self._trouble = retry.failed(
                error, self._trouble, now=now, jitter=self._jitter(), cap=self.cap
            )
            raise
        self._trouble = None
        return found

    def applied(self, applications: Collection[PlannedApplication]) -> None:
        """Note that a config was taken: an empty one explains that nothing runs."""
        self._emptied = not applications

    def _doubt_emptiness(self, applications: Collection[Application], now: float) -> None:
        """Serve also reports no application while its controller cannot be asked, for its actor is
        not found or not restored yet (ray/dashboard/modules/serve, GET). If that were believed, a
        config without what serves would be sent.

        Raises:
            Transient: `ClusterEmpty`, for as long as that may pass.
        """
        if applications:
            self._emptied, self._empty_since = False, None
            return
        gone = [r.name for r in self._journal.placements().values() if r.live_at is not None]
        if not gone or self._emptied:
            self._empty_since = None
            return
        self._empty_since = self._empty_since or now
        if now - self._empty_since < EMPTY_FOR:
            raise Transient(
                "ClusterEmpty",
                f"Ray Serve reports no application at all, though {', '.join(sorted(gone))} served "
                f"when it was last seen; believed once it said so for {EMPTY_FOR:g} s",
                retry_after=1.0,
            )


@dataclass(frozen=True, slots=True)
class _Routes:
    """The routes of ours, in one poll."""

    held: frozenset[str]
    unproven: Mapping[str, str]
    """By application name: routes whose holder was never seen there."""
    needed: frozenset[str]
    """Routes whose answer a plan needs."""
    awake: frozenset[str]
    """Routes that may be asked: an application scaled to no replica would be woken."""
    settled: frozenset[str]
    """Routes that are awake and not needed, which are asked in turns."""


def _routes(seen: tuple[Collection[Application], Mapping[str, PlacementRecord]]) -> _Routes:
    applications, records = seen
    ours = [(app, app.route) for app in applications if app.release and app.route]
    needed = frozenset(routes_to_probe(applications, records))
    awake = frozenset(route for app, route in ours if app.replicas)
    return _Routes(
        held=frozenset(route for _, route in ours),
        unproven={app.name: route for app, route in ours if records[app.name].live_at is None},
        needed=needed,
        awake=awake,
        settled=awake - needed,
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking the ingress."""

    records: dict[str, PlacementRecord]
    """With dates for what is new and without time that does not count."""
    answers: dict[str, Answer]
    """By route: the last one, for those whose answer a plan needs and all that were ever asked."""
    heard: dict[str, list[Answer]]
    """By route: every answer of this poll."""


class Probes:
    """Asks one cluster's ingress. `probe_deadline` is in seconds, `budget` how many seconds of a
    poll questions may begin in, `threads` what asks. `close` it.
    """

    def __init__(
        self,
        ingress: Ingress,
        *,
        probe_deadline: float,
        budget: float = PROBING,
        monotonic: Callable[[], float] = time.monotonic,
        threads: Executor | None = None,
    ) -> None:
        self._ingress = ingress
        self.deadline = probe_deadline
        self._budget = budget
        self._monotonic = monotonic
        self._threads = threads or ThreadPoolExecutor(8, "wheelway-probe")
        self._routes = Remembered(_routes)
        self._answers: dict[str, Answer] = {}
        """The last answer of the ingress at each route."""
        self._unreached: dict[str, Answer] = {}
        """By route: what came instead since the ingress was last reached."""
        self._said: Mapping[str, Answer] = {}
        """All answers of the last poll."""
        self._asked: dict[str, float] = {}
        """When each route was asked last."""
        self._observed_at: float | None = None
        self._unobserved_at: float | None = None
        self._restarted_at: float | None = None
        self._routeless_since: float | None = None

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=True)

    def interrupted(
        self, records: Mapping[str, PlacementRecord], now: float
    ) -> dict[str, PlacementRecord]:
        """The records without the time since the cluster was last observed, or tried to be, as it
        could not be now. Keep them: a process that comes later knows nothing of that time.
        """
        found = self._without_gap(records, now)
        self._unobserved_at = now
        return found

    def restarted(self, now: float) -> None:
        """Note that a config was sent, which restarted every build."""
        self._restarted_at = now

    def ask(
        self,
        applications: Collection[Application],
        records: Mapping[str, PlacementRecord],
        now: float,
        *,
        progressed: Callable[[], None],
        more: Sequence[str] = (),
    ) -> Asked:
        """Date what is new, and ask the ingress at the routes in question, at those of `more`
        besides. `progressed` is called after each answer.
        """
        dates = dated(applications, records, now)
        if self._restarted_at is not None:
            dates, self._restarted_at = restarted(dates, self._restarted_at), None
        gap = self._unobserved_at is not None
        if gap:
            dates = self._without_gap(dates, now)
        routes = self._routes_now(applications, dates)
        before, since = self._said, self._observed_at
        asked = due(routes.needed, routes.settled, self._asked, since=since, now=now)
        answers = self._ask_at([*asked, *more], progressed)
        said = self._ingress.vouched(dict(answers[: len(asked)]), applications)
        said = self._with_grace(said, now)
        self._asked |= dict.fromkeys(said, now)
        self._said, self._observed_at, self._unobserved_at = said, now, None
        if gap:
            before, since = {}, None
        dates = excused(
            *(dates, said, before, routes.unproven),
            since=since,
            now=now,
            probe_deadline=self.deadline,
        )
        heard: dict[str, list[Answer]] = {}
        for route, answer in answers:
            heard.setdefault(route, []).append(answer)
        return Asked(dates, self._known(said, routes), heard)

    def _routes_now(
        self, applications: Collection[Application], dates: Mapping[str, PlacementRecord]
    ) -> _Routes:
        """The routes of this poll; what is known of others is forgotten."""
        made = self._routes.made
        routes = self._routes.of(None, (applications, dates))
        if self._routes.made != made:
            self._answers = {r: a for r, a in self._answers.items() if r in routes.held}
            self._asked = {r: at for r, at in self._asked.items() if r in routes.held}
        return routes

    def _ask_at(
        self, routes: Sequence[str], progressed: Callable[[], None]
    ) -> list[tuple[str, Answer]]:
        """The answers, in order of the questions; there was no time for those after them."""
        until = self._monotonic() + self._budget

        def probe(route: str) -> Answer | None:
            return self._ingress.probe(route) if self._monotonic() < until else None

        said = []
        for route, answer in zip(routes, self._threads.map(probe, routes), strict=True):
            if answer is not None:
                said.append((route, answer))
                progressed()
        return said

    def _with_grace(self, said: Mapping[str, Answer], now: float) -> dict[str, Answer]:
        """The answers. An ingress without routes is excused only for a while."""
        if any(answer.reached for answer in said.values()):
            self._routeless_since = None
        elif self._routeless_since is None and any(answer.routeless for answer in said.values()):
            self._routeless_since = now
        since = self._routeless_since
        if since is None or now - since < ROUTELESS_FOR:
            return dict(said)
        return {route: replace(answer, routeless=False) for route, answer in said.items()}

    def _known(self, said: Mapping[str, Answer], routes: _Routes) -> dict[str, Answer]:
        """What is `said` now, and the last answers of settled routes."""
        reached = {route: answer for route, answer in said.items() if answer.reached}
        away = {route: answer for route, answer in said.items() if not answer.reached}
        if not reached:
            away = {r: answer for r, answer in self._unreached.items() if r in routes.awake} | away
        self._unreached = away
        self._answers |= reached
        known = self._answers
        if routes.needed:
            known = {r: answer for r, answer in known.items() if r not in routes.needed}
        return {**known, **away, **said}

    def _without_gap(
        self, records: Mapping[str, PlacementRecord], now: float
    ) -> dict[str, PlacementRecord]:
        since = self._observed_at if self._unobserved_at is None else self._unobserved_at
        return unwatched(records, since=since, now=now)
