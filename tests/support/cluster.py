"""A cluster that is played, for tests of planning: Serve starts applications slowly and by their
nature well or badly, its ingress follows late. Values only; nothing runs and nothing waits.
"""

from dataclasses import dataclass, replace

from packaging.version import Version

from controller.model import Placement, Release
from controller.observed import Answer, Application, ApplicationStatus, Replica, WeightsError
from controller.planning.weights import (
    NONE,
    Weights,
    falls_back_to_none,
    former_in_document,
    in_document,
)

NATURES = ("good", "raises", "hangs", "mute")
"""Mute: it becomes ready, but never answers at its route."""


@dataclass
class Running:
    app: Application
    nature: str
    release: Release | None
    """What it is, which Serve forgets as soon as it is being deleted."""
    build_left: int = 0
    """Moves until its build has ended."""
    serves: Weights | None = None
    """The weights of its one replica."""
    refused: str = ""
    """The digest of those that it could not take."""

    @property
    def leaving(self):
        return self.app.status is ApplicationStatus.DELETING


class Cluster:
    def __init__(self):
        self.running = {}
        self.leads_to = {}
        """By route: what the ingress has there, which may be out of date."""
        self.reachable = True
        self.build_takes = 1
        """Moves; a config that comes meanwhile begins the build anew."""
        self.bad_weights = set()
        """Digest of a release and of weights that it cannot take."""

    @property
    def applications(self):
        return [running.app for running in self.running.values()]

    @property
    def ours(self):
        return [r for r in self.running.values() if r.release and not r.leaving]

    def holder(self, route):
        """Who has the route by the config last applied, ours or not."""
        held = (r for r in self.running.values() if r.app.route == route and not r.leaving)
        return next(held, None)

    def put(self, documents, natures):
        """What is in the config is there afterwards, and of all declarative ones nothing else."""
        wanted = {document["name"]: document for document in documents}
        for name, running in self.running.items():
            app = running.app
            if name in wanted:
                assert app.document is not None, f"{name} is not ours to change, or being deleted"
                document = wanted.pop(name)
                if in_document(document) != in_document(app.document):
                    running.refused = ""
                running.app = replace(app, document=document, route=document["route_prefix"])
                running.build_left = self.build_takes
            elif app.document is not None:
                status = ApplicationStatus.DELETING
                running.app = replace(app, status=status, document=None, release=None)
        for document in wanted.values():
            self._start(document, natures)

    def _start(self, document, natures):
        release = release_of(document)
        app = Application(
            document["name"],
            ApplicationStatus.DEPLOYING,
            document["route_prefix"],
            document,
            release,
            building=True,
        )
        nature = natures[release.digest][document["args"]["option"]]
        self.running[app.name] = Running(app, nature, release, self.build_takes)

    def add(self, stranger):
        self.running[stranger.name] = Running(stranger, "good", None)

    def move_on(self):
        for name, running in list(self.running.items()):
            app = running.app
            if running.leaving:
                del self.running[name]
            elif app.building and running.build_left > 1:
                running.build_left -= 1
            elif app.building:
                running.app = replace(app, building=False, replicas=(Replica("STARTING", 1),))
            elif app.status is ApplicationStatus.DEPLOYING and running.nature != "hangs":
                self._starts(running)
            elif app.status is ApplicationStatus.RUNNING:
                self._loads(running)

    def _starts(self, running):
        app, there = running.app, (Replica("RUNNING", 1, f"{running.app.name}#0"),)
        wanted, former = in_document(app.document), former_in_document(app.document)
        running.serves, running.refused = wanted, ""
        bad = running.nature == "raises"
        message = "it raised"
        if not bad and self._refuses(running, wanted):
            has_former = former is not None or falls_back_to_none(app.document)
            running.serves, running.refused = former, wanted.digest
            bad = not has_former or self._refuses(running, former)
            message = f"wheelway-failure[LoadFailed] with the weights {wanted}: it raised"
        status = ApplicationStatus.DEPLOY_FAILED if bad else ApplicationStatus.RUNNING
        running.app = replace(app, status=status, message=message if bad else "", replicas=there)

    def _loads(self, running):
        """In place: what it cannot take changes nothing."""
        wanted = in_document(running.app.document)
        if wanted == running.serves or running.refused:
            return
        if self._refuses(running, wanted):
            running.refused = wanted.digest
        else:
            running.serves = wanted

    def _refuses(self, running, weights):
        return weights is not None and (running.release.digest, weights.digest) in self.bad_weights

    def reboot(self):
        """Serve has what was applied from its storage, and begins with all of it anew."""
        self.leads_to = {}
        for running in self.ours:
            running.build_left = self.build_takes
            running.app = replace(
                running.app, status=ApplicationStatus.DEPLOYING, building=True, replicas=()
            )

    def ingress_follows(self):
        self.leads_to = {
            running.app.route: running
            for running in self.running.values()
            if running.app.route and not running.leaving
        }

    def fall_ill(self, route):
        """Whoever runs at the route fails its health checks."""
        there = self.holder(route)
        if there is not None and there.release and there.app.status is ApplicationStatus.RUNNING:
            there.app = replace(there.app, status=ApplicationStatus.UNHEALTHY)

    def get_well(self):
        for running in self.running.values():
            if running.app.status is ApplicationStatus.UNHEALTHY:
                running.app = replace(running.app, status=ApplicationStatus.RUNNING)

    def answer(self, route):
        if not self.reachable:
            return Answer(None, None, detail="connection refused", reached=False)
        there = self.leads_to.get(route)
        well = there is not None and there.app.status is not ApplicationStatus.UNHEALTHY
        if not well or there.nature == "mute" or there.app.name not in self.running:
            return Answer(None, 503)
        error = WeightsError(there.refused, "LoadFailed", "it raised") if there.refused else None
        return Answer(
            there.release and there.release.header,
            200,
            there.app.name,
            weights=str(there.serves or ""),
            weights_error=error,
            replica=f"{there.app.name}#0",
        )


def place(release, option, weights=NONE, *, restart=False):
    """The placement of a release with one of the options that restart replicas, and its weights."""
    name = f"{release.pipeline}-{release.version}-{release.digest[-7:]}{option}"
    args = {
        "pipeline": release.pipeline,
        "version": str(release.version),
        "digest": release.digest,
        "option": option,
    }
    document = {"route_prefix": None, "args": args}
    if weights.wanted is not None and restart:
        args["weights"] = weights.wanted.document
        name += f"w{weights.wanted.digest[-4:]}"
    elif weights.wanted is not None:
        config = {"weights": weights.wanted.document}
        if weights.former is not None or weights.without:
            config["former_weights"] = weights.former.document if weights.former else None
        document["deployments"] = [{"name": "Host", "user_config": config}]
    return Placement(name, release, {"name": name, **document})


def release_of(document):
    args = document["args"]
    return Release(args["pipeline"], Version(args["version"]), args["digest"])
