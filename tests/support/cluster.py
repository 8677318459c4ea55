"""A cluster that is played, for tests of planning: Serve starts applications slowly and by their
nature well or badly, its ingress follows late. Values only; nothing runs and nothing waits.
"""

from dataclasses import dataclass, field, replace

from packaging.version import Version

from controller.model import Placement, Release
from controller.observed import Answer, Application, ApplicationStatus
from controller.planning.weights import NONE, in_document
from tests.support.replicas import Failing, Played, wanted_number

NATURES = ("good", "raises", "hangs", "mute")
"""Mute: it becomes ready, but never answers at its route."""
PART = "risk"
NODES = 3


@dataclass
class Running:
    app: Application
    nature: str
    release: Release | None
    """What it is, which Serve forgets as soon as it is being deleted."""
    build_left: int = 0
    """Moves until its build has ended."""
    replicas: list[Played] = field(default_factory=list)
    is_ill: bool = False
    """All fail their health checks."""
    part_is_down: int = 0
    """Moves until a replica of its part starts again."""
    drains: int = 0
    """Moves for which it is still there once it is being deleted."""
    made: int = 0
    turn: int = 0

    @property
    def leaving(self):
        return self.app.status is ApplicationStatus.DELETING

    @property
    def has_parts(self):
        return self.release is not None and "parts" in (self.app.document or {}).get("args", {})

    @property
    def up(self):
        return [replica for replica in self.replicas if replica.is_up]

    @property
    def is_whole(self):
        return len(self.up) == len(self.replicas) and not self.part_is_down

    def look(self, **changes):
        """What the dashboard shows from now on."""
        shown = () if changes.get("building", self.app.building) else self.replicas
        self.app = replace(self.app, **changes, replicas=tuple(one.seen for one in shown))


class Cluster:
    """Also the ingress, as `controller.reconcile.observer.Probes` asks it."""

    def __init__(self):
        self.running = {}
        self.leads_to = {}
        """By route: what the ingress has there, which may be out of date."""
        self.reachable = True
        self.build_takes = 1
        """Moves; a config that comes meanwhile begins the build anew."""
        self.drain_takes = 1
        """Moves until what is deleted is gone."""
        self.hears_after = dict.fromkeys(range(NODES), 0)
        """By node: moves until its replicas hear of a config."""
        self.failing = Failing()

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
                self._update(running, wanted.pop(name))
            elif app.document is not None:
                running.drains = self.drain_takes
                running.look(status=ApplicationStatus.DELETING, document=None, release=None)
        for document in wanted.values():
            self._start(document, natures)

    def _update(self, running, document):
        """What failed to start is tried again with another config, but for its route."""
        is_news = running.app.document.get("deployments") != document.get("deployments")
        if is_news:
            for replica in running.replicas:
                replica.hears_in = self.hears_after[replica.node]
            if running.app.status is ApplicationStatus.DEPLOY_FAILED:
                running.look(status=ApplicationStatus.DEPLOYING, message="")
        running.look(document=document, route=document["route_prefix"])
        running.build_left = self.build_takes

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
                running.drains -= 1
                if running.drains <= 0:
                    del self.running[name]
            elif running.release is None:
                continue
            elif app.building and running.build_left > 1:
                running.build_left -= 1
            elif app.building:
                running.look(building=False)
                self._scale(running)
            elif app.status is not ApplicationStatus.DEPLOYING or running.nature != "hangs":
                self._tend(running)
        self.failing.pass_on()

    def _scale(self, running):
        number = wanted_number(running.app.document)
        del running.replicas[number:]
        while len(running.replicas) < number:
            running.made += 1
            node = len(running.replicas) % NODES
            running.replicas.append(Played(f"{running.app.name}#{running.made}", node))
        running.look()

    def _tend(self, running):
        """Replicas load what they are told, and those that are not there start; Serve gives up
        those of a config with which none did.
        """
        app = running.app
        deploying = app.status is ApplicationStatus.DEPLOYING
        if app.status is ApplicationStatus.DEPLOY_FAILED and not running.up:
            return
        self._scale(running)
        failures = []
        for replica in running.replicas:
            if replica.is_up:
                replica.follow(running.release, app.document, self.failing)
            elif why := self._why_not(running, replica):
                failures.append(why)
        if why := self._why_no_part(running):
            failures.append(why)
        if failures:
            ended = deploying or app.status is ApplicationStatus.DEPLOY_FAILED
            status = ApplicationStatus.DEPLOY_FAILED if ended else ApplicationStatus.UNHEALTHY
            running.look(status=status, message=f"wheelway-failure[LoadFailed] {failures[-1]}")
        elif running.is_ill:
            running.look(status=ApplicationStatus.UNHEALTHY)
        else:
            running.look(status=ApplicationStatus.RUNNING, message="")

    def _why_not(self, running, replica):
        if running.nature == "raises":
            return f"the part {PART!r}: it raised" if running.has_parts else "it raised"
        return replica.start(running.release, running.app.document, self.failing)

    def _why_no_part(self, running):
        """Whether the replica of its part is away, and cannot start again."""
        if not running.part_is_down:
            return ""
        running.part_is_down -= 1
        if running.part_is_down:
            return f"the part {PART!r}: its process ended"
        weights = in_document(running.app.document)
        if self.failing.takes(running.release, weights, 0):
            return ""
        running.part_is_down = 1
        named = f"with the weights {weights}: " if weights else ""
        return f"the part {PART!r}: {named}it raised"

    def reboot(self):
        """Serve has what was applied from its storage, and begins with all of it anew."""
        self.leads_to = {}
        for running in self.ours:
            running.build_left = self.build_takes
            running.replicas, running.part_is_down = [], 0
            running.look(status=ApplicationStatus.DEPLOYING, building=True)

    def ingress_follows(self):
        self.leads_to = {
            running.app.route: running
            for running in self.running.values()
            if running.app.route and not running.leaving
        }

    # -- mishaps -----------------------------------------------------------------------------------

    def fall_ill(self, route):
        """Whoever runs at the route fails its health checks."""
        there = self._runs_at(route)
        if there is not None:
            there.is_ill = True
            there.look(status=ApplicationStatus.UNHEALTHY)

    def get_well(self):
        for running in self.running.values():
            was_ill, running.is_ill = running.is_ill, False
            if was_ill and running.is_whole and not running.leaving:
                running.look(status=ApplicationStatus.RUNNING, message="")

    def lose_a_replica(self, route, number):
        """It starts anew, alone, with another id; whoever else is there goes on."""
        there = self._runs_at(route)
        if there is not None and number < len(there.replicas):
            there.made += 1
            node = there.replicas[number].node
            there.replicas[number] = Played(f"{there.app.name}#{there.made}", node)
            there.look(status=ApplicationStatus.UNHEALTHY)

    def lose_a_part(self, route, moves):
        there = self._runs_at(route)
        if there is not None and there.has_parts:
            there.part_is_down = moves
            message = f"the part {PART!r}: its process ended"
            there.look(status=ApplicationStatus.UNHEALTHY, message=message)

    def silence(self, route, number, moves):
        """A replica is not heard for a while, though it is listed."""
        there = self._runs_at(route)
        if there is not None and number < len(there.replicas):
            there.replicas[number].silent = moves

    def _runs_at(self, route):
        there, started = (
            self.holder(route),
            {ApplicationStatus.RUNNING, ApplicationStatus.UNHEALTHY},
        )
        return there if there and there.release and there.app.status in started else None

    # -- what the ingress says ---------------------------------------------------------------------

    def vouched(self, answers, _):
        return answers

    def probe(self, route):
        if not self.reachable:
            return Answer(None, None, detail="connection refused", reached=False)
        there = self.leads_to.get(route)
        if there is None or there.app.name not in self.running:
            return Answer(None, 503)
        if there.release is None:
            return Answer(None, 200, there.app.name)
        speaking = [one for one in there.up if not one.silent]
        if not speaking or there.nature == "mute" or there.is_ill:
            return Answer(None, 503)
        there.turn += 1
        replica = speaking[there.turn % len(speaking)]
        return Answer(
            there.release.header,
            200,
            there.app.name,
            weights=str(replica.serves or ""),
            weights_error=replica.error,
            replica=replica.id,
        )


def place(release, option, weights=NONE, *, restart=False, replicas=1, parts=False):
    """The placement of a release with one of the options that restart replicas, and its weights."""
    name = f"{release.pipeline}-{release.version}-{release.digest[-7:]}{option}"
    args = {
        "pipeline": release.pipeline,
        "version": str(release.version),
        "digest": release.digest,
        "option": option,
    }
    host = {"name": "Host", "num_replicas": replicas}
    document = {"route_prefix": None, "args": args, "deployments": [host]}
    if parts:
        args["parts"] = {PART: {}}
    if weights.wanted is not None and (restart or parts):
        args["weights"] = weights.wanted.document
        name += f"w{weights.wanted.digest[:8]}"
    elif weights.wanted is not None:
        host["user_config"] = {"weights": weights.wanted.document}
        if weights.former is not None or weights.without:
            former = weights.former.document if weights.former else None
            host["user_config"]["former_weights"] = former
    return Placement(name, release, {"name": name, **document})


def release_of(document):
    args = document["args"]
    return Release(args["pipeline"], Version(args["version"]), args["digest"])
