"""When each deadline begins: when an application was staged, built, given its route.

The journal keeps the records that are made here. Time counts against a release only while it could
have done its part: not while Serve builds it or has no room for it, and not while the ingress could
not be asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.model import PlacementRecord
from controller.planning.health import Health, diagnose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.observed import Answer, Application

RETURN_GRACE = 10.0
"""Seconds that an unseen release has at least once the ingress can be asked again: it may be back
before it has learnt all of its routes."""


def dated(
    applications: Iterable[Application], records: Mapping[str, PlacementRecord], now: float
) -> dict[str, PlacementRecord]:
    """The records of our applications by name, with dates for what is new. An application on its
    route without a record served before this journal began and counts as live.
    """
    return {
        app.name: _dated(app, records.get(app.name), now)
        for app in applications
        if app.release is not None
    }


def _dated(app: Application, record: PlacementRecord | None, now: float) -> PlacementRecord:
    if record is None:
        adopted = now if app.route is not None else None
        record = PlacementRecord(app.name, now, adopted, adopted)
    elif _is_settled(app, record, now):
        return record
    staged_at, routed_at = record.staged_at, record.routed_at if app.route is not None else None
    unproven = record.live_at is None
    health = diagnose(app).health if unproven else None
    held_up = unproven and (app.building or health is Health.SHORT)
    # What starts again on its route, as after a restart of the head, cannot answer yet.
    cannot_answer = held_up or health is Health.STARTING
    # What has a route has started; should it have to start again, that begins then.
    started = app.route is not None and health is Health.READY
    if staged_at is None or held_up or started:
        staged_at = now
    if app.route is not None and (routed_at is None or cannot_answer):
        routed_at = now
    building_since = now if record.building_since is None else record.building_since
    return replace(
        record,
        # Nothing was in the future: such a date is of an earlier boot, by a clock that was wrong.
        staged_at=min(staged_at, now),
        routed_at=None if routed_at is None else min(routed_at, now),
        building_since=min(building_since, now) if app.building else None,
    )


def _is_settled(app: Application, record: PlacementRecord, now: float) -> bool:
    """Whether there is nothing to date, as with nearly all in nearly every pass."""
    return (
        record.live_at is not None
        and record.staged_at is not None
        and record.building_since is None
        and not app.building
        and (app.route is None) == (record.routed_at is None)
        and max(record.staged_at, record.routed_at or 0.0) <= now
    )


def restarted(records: Mapping[str, PlacementRecord], at: float) -> dict[str, PlacementRecord]:
    """The records after a config was sent: Serve begins every build that was under way anew."""
    return {
        name: record if record.building_since is None else replace(record, building_since=at)
        for name, record in records.items()
    }


def unwatched(
    records: Mapping[str, PlacementRecord], *, since: float | None, now: float
) -> dict[str, PlacementRecord]:
    """The records without the time in which the cluster could not be observed: a release may have
    been built then, or had no room, and no route was asked.

    `since` is when the cluster was last observed, or tried to be; None when this process does not
    know: then every deadline begins anew.
    """

    def later(at: float | None) -> float | None:
        if at is None:
            return None
        return now if since is None else min(now, at + now - since)

    return {
        name: record
        if record.live_at is not None
        else replace(record, staged_at=later(record.staged_at), routed_at=later(record.routed_at))
        for name, record in records.items()
    }


def excused(
    records: Mapping[str, PlacementRecord],
    answers: Mapping[str, Answer],
    before: Mapping[str, Answer],
    routes: Mapping[str, str],
    *,
    since: float | None,
    now: float,
    probe_deadline: float,
) -> dict[str, PlacementRecord]:
    """The records without the time in which the ingress could not be asked: the time between two
    polls counts only if it answered at both.

    Args:
        records: of what is on the cluster, dated.
        answers: by route, of this poll.
        before: by route, of the poll before; empty in a process that just began, and when the
            cluster could not be observed since.
        routes: by name, of those that hold one.
        since: when the poll before was; None when there was none, or `unwatched` has left out the
            time since then already.
        now: when this one is.
        probe_deadline: seconds.
    """
    latest = now - max(0.0, probe_deadline - RETURN_GRACE)
    found = dict(records)
    for name, route in routes.items():
        record = records[name]
        if record.live_at is not None or record.routed_at is None:
            continue
        away = now - since if since is not None else 0.0
        both = before.get(route), answers.get(route)
        if not all(answer is not None and answer.reached for answer in both):
            routed_at = min(now, max(record.routed_at + away, latest))
            found[name] = replace(record, routed_at=routed_at)
    return found
