"""Receivers of notifications on loopback, and passes that are told to them."""

from __future__ import annotations

from packaging.version import Version

from controller.config.telemetry import WebhookNotification
from controller.journal import Journal
from controller.model import Condition, Phase, Release, Transition
from controller.planning.plan import Plan
from controller.reconcile.report import Report
from controller.telemetry.notifications import Notifications
from tests.support.head import eventually

IRIS = Release("iris", Version("1.4"), "ab" * 32)
NOW = 1_000_000.0
OK = (200, b"ok", {})
DOWN = Condition("ray", "DashboardUnreachable", "nothing answers")


class Office:
    """A journal, receivers, and a clock to turn."""

    def __init__(self, folder, server):
        self.journal = Journal.open(folder / "state")
        self.server = server
        self.now, self.turned = NOW, 0.0
        self.open = []
        server.answers["/hook"] = OK

    def notifications(self, *options, **more):
        options = options or (self.webhook(),)
        made = Notifications(
            options,
            self.journal,
            sources=["shelf"],
            clock=lambda: self.now + self.turned,
            monotonic=lambda: self.now,
            jitter=lambda: 0.0,
            host="head-1",
            **more,
        )
        self.open.append(made)
        return made

    def webhook(self, **more):
        given = {} if more.keys() & {"url", "url_file"} else {"url": f"{self.server.url}/hook"}
        return WebhookNotification(type="webhook", **given, **{"hold": 60, **more})

    def step(self, phase, at=NOW, reason="Because", release=IRIS):
        return self.journal.record(Transition(release, phase, reason, "so it is"), at)

    def heard(self, number=1):
        """What came, once there is as much of it."""
        eventually(lambda: len(self.server.asked) >= number)
        return self.server.bodies()

    def close(self):
        for made in self.open:
            made.close(0.5)
        self.journal.close()

    def live(self, version="1.0"):
        """A release that goes live now, as a report."""
        release = Release("iris", Version(version), "cd" * 32)
        self.step(Phase.STAGED, release=release)
        return report(self.step(Phase.LIVE, release=release))


def report(*events, conditions=(), quarantines=()):
    return Report("", 1.0, tuple(events), Plan((), ()), tuple(conditions), tuple(quarantines))
