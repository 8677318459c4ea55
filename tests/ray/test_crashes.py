"""The daemon is killed, cut off and told to end; what serves never notices.

Kills before anything reached Ray are shown beside a paper head (`tests/unit/test_killed.py`).
"""

import signal
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from controller.cli.program import ExitCode
from controller.model import Phase
from controller.observed import ApplicationStatus
from tests.support.forwarder import Forwarder
from tests.support.head import eventually
from tests.support.load import load_on
from tests.support.wheels import sha256

pytestmark = pytest.mark.ray

ROUTE = "/predict/steady/1.0"
ROLLOUT = ("stage", "promote", "retire")
"""The configs of an upgrade that nothing interrupts."""


@pytest.fixture(scope="module")
def forwarder(head):
    """Between the daemon and the dashboard."""
    forwarder = Forwarder(int(head.dashboard_url.rpartition(":")[2]))
    yield forwarder
    forwarder.close()


@pytest.fixture(scope="module")
def site(folder, head, forwarder):
    """One release is live at the route, once a daemon was started."""
    folder.basics = folder.basics.replace(head.dashboard_url, forwarder.url)
    folder.configure("")
    folder.drop("steady")
    return folder


def ours(site):
    """Our applications that are meant to be there."""
    return [
        app
        for app in site.dashboard.applications()
        if app.release is not None and app.status is not ApplicationStatus.DELETING
    ]


@dataclass
class Upgrade:
    """One upgrade of the route, in the middle of which the daemon is killed."""

    site: object
    forwarder: Forwarder
    process: subprocess.Popen
    release: str
    before: int
    """PUTs that came before it."""

    def kill(self):
        self.process.kill()
        self.process.wait(60)

    def kill_after(self, config):
        """Kill it when that PUT of the upgrade is answered and not heard of."""
        number = self.before + 1 + ROLLOUT.index(config)

        def strike(count):
            if count == number:
                self.kill()
                raise ConnectionAbortedError("the daemon is dead")

        self.forwarder.after_put = strike
        eventually(lambda: self.process.poll() is not None)
        self.forwarder.after_put = lambda _: None

    def application(self):
        return next((app for app in ours(self.site) if str(app.release) == self.release), None)


def when_its_replica_starts(upgrade):
    eventually(lambda: (app := upgrade.application()) and not app.building)
    upgrade.kill()


def when_the_ingress_leads_there(upgrade):
    eventually(lambda: upgrade.site.release_at(ROUTE) == upgrade.release)
    upgrade.kill()


INSTANTS = {
    "before it hears that it is staged": lambda u: u.kill_after("stage"),
    "while its replica starts": when_its_replica_starts,
    "before it hears that it is promoted": lambda u: u.kill_after("promote"),
    "once the ingress leads there": when_the_ingress_leads_there,
    "before it hears that the old one is retired": lambda u: u.kill_after("retire"),
}


def test_a_daemon_killed_at_any_instant_goes_on_where_it_was_and_no_request_fails(site, forwarder):
    with ExitStack() as daemons:
        process = daemons.enter_context(site.process())
        site.wait_for_phase(site.wait_for(ROUTE), Phase.LIVE)
        load = daemons.enter_context(load_on(site.ingress + ROUTE, clients=2, pause=0.02))
        for instant, strike in INSTANTS.items():
            before = forwarder.puts
            release = f"steady@1.0+{sha256(site.drop('steady', marker=instant))[:8]}"
            strike(Upgrade(site, forwarder, process, release, before))
            assert process.returncode == -signal.SIGKILL, instant
            process = daemons.enter_context(site.process())
            site.wait_for_phase(release, Phase.LIVE)
            eventually(lambda: len(ours(site)) == 1)
            [app] = ours(site)
            assert (str(app.release), app.route) == (release, ROUTE), instant
            assert site.release_at(ROUTE) == release, instant
            eventually(lambda there=release: load.answered.get(there, 0) > 5)
            assert forwarder.puts - before <= len(ROLLOUT) + 1, instant
            assert load.failures == [], instant
    assert site.quarantines() == {}
    assert len(load.answered) == 1 + len(INSTANTS)


def test_a_dashboard_that_is_away_or_mute_costs_no_request_and_no_replica(site, forwarder):
    site.config.write_text(site.basics.replace("[ray]", "[ray]\ntimeout = 3"))
    with site.daemon():
        live = site.wait_for(ROUTE)
        site.wait_for_phase(live, Phase.LIVE)
        pids = site.pids("steady")
        with load_on(site.ingress + ROUTE, clients=2, pause=0.02) as load:
            outages = {forwarder.url: forwarder.closed, "did not answer": forwarder.mute}
            for told, outage in outages.items():
                with outage():
                    [condition] = eventually(lambda: site.conditions("DashboardUnreachable"))
                    assert told in condition.message
                    assert site.phases()[live] is Phase.LIVE
                eventually(lambda: not site.conditions("DashboardUnreachable"))
        assert load.failures == []
        assert set(load.answered) == {live}
    assert site.pids("steady") == pids
    assert site.quarantines() == {}
    site.configure("")


def test_a_daemon_that_is_told_to_end_ends_and_serving_goes_on(site):
    with site.process() as process:
        live = site.wait_for(ROUTE)
        site.wait_for_phase(live, Phase.LIVE)
        pids = site.pids("steady")
        with load_on(site.ingress + ROUTE, clients=2, pause=0.02) as load:
            site.drop("unfinished")
            eventually(lambda: len(ours(site)) == 2)
            process.send_signal(signal.SIGTERM)  # SIGINT likewise, see the daemon's tests
            assert process.wait(60) == ExitCode.OK
            answered = load.answered.get(live, 0)
            eventually(lambda: load.answered.get(live, 0) > answered + 20)
    assert load.failures == []
    assert site.pids("steady") == pids
    assert "Traceback" not in (site.folder / "daemon.log").read_text()
    with site.process():
        site.wait_for("/predict/unfinished/1.0")
    assert site.pids("steady") == pids
