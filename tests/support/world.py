"""Short words for tests of planning: releases, applications, situations. All values, no mocks."""

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from controller.config.settings import PipelinePolicy
from controller.model import Placement, PlacementRecord, Release
from controller.observed import Answer, Application, ApplicationStatus, Replica
from controller.planning.policy import Candidate, Verdict
from controller.planning.situation import Limits, Situation

NOW = 1_000_000.0


def release(version="1.0", digest="a", pipeline="iris"):
    return Release(pipeline, Version(version), digest * 64)


def candidate(version="1.0", digest="a", pipeline="iris", project="iris", **more):
    return Candidate(release(version, digest, pipeline), project, "wheels", **more)


def rule(versions="", **more):
    return PipelinePolicy(name="iris", versions=SpecifierSet(versions), **more)


def placement(of=None, generation="1"):
    of = of or release()
    name = f"{of.pipeline}-{of.version}-{of.digest[:4]}{generation}"
    document = {"name": name, "route_prefix": None, "args": {"digest": of.digest}}
    return Placement(name, of, document)


def application(
    of=None,
    status="RUNNING",
    *,
    route=None,
    generation="1",
    message="",
    building=False,
):
    of = of or release()
    placed = placement(of, generation)
    return Application(
        name=placed.name,
        status=ApplicationStatus(status),
        route=route,
        document={**placed.document, "route_prefix": route},
        release=of,
        building=building,
        message=message,
        replicas=() if building else (Replica("STARTING", None),),
    )


def foreign(name="theirs", route="/theirs", *, declarative=True):
    document = {"name": name, "route_prefix": route, "import_path": "their:app"}
    return Application(
        name=name,
        status=ApplicationStatus.RUNNING,
        route=route,
        document=document if declarative else None,
        release=None,
    )


def record(app, *, staged=NOW - 10, routed=None, live=None):
    building_since = staged if app.building else None
    return PlacementRecord(app.name, staged, routed, live, building_since)


def answer(app):
    return Answer(app.release.header, 200, app.name)


def elected(of=None, reason="Elected"):
    return Verdict(of or release(), True, reason, "wanted")


def gone(of, reason):
    return Verdict(of, False, reason, "why")


def situation(verdicts=(), placements=(), applications=(), records=(), answers=None, **more):
    return Situation(
        now=more.pop("now", NOW),
        verdicts=list(verdicts),
        placements={placed.release: placed for placed in placements},
        applications=list(applications),
        records={one.name: one for one in records},
        answers=answers or {},
        limits=more.pop("limits", Limits()),
        inputs=more.pop("inputs", {}),
        **more,
    )


def routes(plan):
    """Application name to route, of a plan."""
    return {a.document["name"]: a.document["route_prefix"] for a in plan.applications}
