"""The daemon is killed, ended, cut off and started twice; what serves never notices."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.cli.program import ExitCode
from controller.errors import JournalError
from controller.journal import Journal
from controller.model import ApplicationStatus, Phase
from tests.support.forwarder import Forwarder
from tests.support.head import eventually
from tests.support.load import load_on
from tests.support.wheels import make_wheel, sha256

pytestmark = pytest.mark.ray

WHEELWAY = Path(sys.executable).with_name("wheelway")
ROUTE = "/predict/steady/1.0"
UNREACHABLE = "DashboardUnreachable"
ROLLOUT = ("stage", "promote", "retire")
"""The configs of an upgrade that nothing interrupts."""


@pytest.fixture
def forwarder(head):
    """Between the daemon and the dashboard."""
    forwarder = Forwarder(int(head.dashboard_url.rpartition(":")[2]))
    yield forwarder
    forwarder.close()


@contextmanager
def daemon_process(site):
    """The installed command as a process of its own; it has made a pass when the block begins."""
    with (
        (site.folder / "daemon.log").open("ab") as log,
        subprocess.Popen(
            [WHEELWAY, "--config", site.config, "run"], stdout=log, stderr=log, cwd="/"
        ) as process,
    ):
        try:
            eventually(lambda: pid_of_last_pass(site) == process.pid or process.poll() is not None)
            assert process.poll() is None, (site.folder / "daemon.log").read_text()[-2000:]
            yield process
        finally:
            process.kill()


def pid_of_last_pass(site):
    try:
        with Journal.read(site.folder / "state") as journal:
            status = journal.status()
    except JournalError:  # not begun yet
        return None
    return status and status.pid


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

    def kill_at(self, moment, config):
        """Kill it when that PUT of the upgrade is on its way, or answered and not heard of."""
        number = self.before + 1 + ROLLOUT.index(config)

        def strike(count):
            if count == number:
                self.kill()
                raise ConnectionAbortedError("the daemon is dead")

        setattr(self.forwarder, f"{moment}_put", strike)
        eventually(lambda: self.process.poll() is not None)
        setattr(self.forwarder, f"{moment}_put", lambda _: None)

    def application(self):
        return next((app for app in ours(self.site) if str(app.release) == self.release), None)


def when_its_environment_is_built(upgrade):
    built = upgrade.site.folder / "cache" / "environments"
    eventually(lambda: list(built.glob(".*/environment")))
    upgrade.kill()


def when_its_replica_starts(upgrade):
    eventually(lambda: (app := upgrade.application()) and not app.building)
    upgrade.kill()


def when_the_ingress_leads_there(upgrade):
    eventually(lambda: upgrade.site.release_at(ROUTE) == upgrade.release)
    upgrade.kill()


INSTANTS = {
    "right after the drop": Upgrade.kill,
    "while its environment is built": when_its_environment_is_built,
    "before the config that stages it arrives": lambda u: u.kill_at("before", "stage"),
    "before it hears that it is staged": lambda u: u.kill_at("after", "stage"),
    "while its replica starts": when_its_replica_starts,
    "before the config that promotes it arrives": lambda u: u.kill_at("before", "promote"),
    "before it hears that it is promoted": lambda u: u.kill_at("after", "promote"),
    "once the ingress leads there": when_the_ingress_leads_there,
    "before it hears that the old one is retired": lambda u: u.kill_at("after", "retire"),
}


@pytest.mark.timeout(900)
def test_a_daemon_killed_at_any_instant_goes_on_where_it_was_and_no_request_fails(
    site, head, forwarder
):
    site.basics = site.basics.replace(head.dashboard_url, forwarder.url)
    site.configure('[environments]\noffline = true\nfind_links = ["links"]\n')
    make_wheel(site.folder / "links", "lib", "1.0")
    site.drop("steady")
    with ExitStack() as daemons:
        process = daemons.enter_context(daemon_process(site))
        site.wait_for_phase(site.wait_for(ROUTE), Phase.LIVE)
        load = daemons.enter_context(load_on(site.ingress + ROUTE, clients=2, pause=0.02))
        for instant, strike in INSTANTS.items():
            before = forwarder.puts
            requires = ["lib"] if strike is when_its_environment_is_built else []
            wheel = site.drop("steady", marker=instant, requires=requires)
            release = f"steady@1.0+{sha256(wheel)[:8]}"
            strike(Upgrade(site, forwarder, process, release, before))
            assert process.returncode == -signal.SIGKILL, instant
            process = daemons.enter_context(daemon_process(site))
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


def test_an_unreachable_dashboard_is_waited_for_and_nothing_is_blamed_for_it(site, head, forwarder):
    site.basics = site.basics.replace(head.dashboard_url, forwarder.url)
    site.basics = site.basics.replace("[ray]", "[ray]\ntimeout = 3")
    site.configure("")
    with site.daemon():
        site.drop("steady")
        live = site.wait_for(ROUTE)
        site.wait_for_phase(live, Phase.LIVE)
        pids = site.pids("steady")
        with load_on(site.ingress + ROUTE, clients=2, pause=0.02) as load:
            with forwarder.closed():
                [condition] = eventually(lambda: site.conditions(UNREACHABLE))
                assert forwarder.url in condition.message
                site.drop("meanwhile")
                seen = len(site.reports)
                eventually(lambda: len(site.reports) > seen + 2)
                assert "waiting for Ray" in site.reports[-1].sentence
                assert site.phases()[live] is Phase.LIVE
            site.wait_for("/predict/meanwhile/1.0")
            eventually(lambda: not site.conditions(UNREACHABLE))
            with forwarder.mute():
                [condition] = eventually(lambda: site.conditions(UNREACHABLE))
                assert "did not answer" in condition.message
            eventually(lambda: not site.conditions(UNREACHABLE))
        assert load.failures == []
        assert set(load.answered) == {live}
        assert site.quarantines() == {}
        assert site.pids("steady") == pids


def test_a_second_daemon_on_the_same_state_is_refused_and_told_whose_it_is(site):
    with site.daemon():
        eventually(lambda: pid_of_last_pass(site) == os.getpid())
        second = subprocess.run(
            [WHEELWAY, "--config", site.config, "run"],
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
        assert second.returncode == ExitCode.UNAVAILABLE
        assert str(os.getpid()) in second.stderr
        assert str(site.folder / "state") in second.stderr
        assert "Traceback" not in second.stderr
        seen = len(site.reports)
        eventually(lambda: len(site.reports) > seen)


def test_a_daemon_that_is_told_to_end_ends_and_serving_goes_on(site):
    site.drop("steady")
    with daemon_process(site) as process:
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
    with daemon_process(site):
        site.wait_for("/predict/unfinished/1.0")
    assert site.pids("steady") == pids
