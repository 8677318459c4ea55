"""Weights of their own, from a wheel in the folder to what replicas answer: daemon and head."""

import os
import signal
from contextlib import ExitStack

import pytest

from tests.support.forwarder import Forwarder
from tests.support.head import eventually
from tests.support.load import load_on
from tests.support.tuned import Gate, Tuned

pytestmark = pytest.mark.ray

NO_GRACE = "[rollout]\nabsence_grace = 0\n"
TWO = "[options]\nnum_replicas = 2\n"


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture(scope="module")
def forwarder(head):
    """Between the daemon and the dashboard."""
    forwarder = Forwarder(int(head.dashboard_url.rpartition(":")[2]))
    yield forwarder
    forwarder.close()


@pytest.fixture(scope="module")
def site(folder, head, forwarder):
    """One folder for all; no daemon runs yet."""
    folder.basics = folder.basics.replace(head.dashboard_url, forwarder.url)
    folder.configure(NO_GRACE)
    return folder


@pytest.fixture
def at_work(site):
    with site.daemon():
        yield site


def test_weights_come_to_running_replicas_and_bad_ones_change_nothing(at_work, forwarder, gate):
    site, tuned, other = at_work, Tuned(at_work, "tuned"), Tuned(at_work, "bystander")
    one = tuned.weights("1.0")  # before its pipeline
    eventually(lambda: site.conditions("WaitingForPipeline"))
    other.publish()
    tuned.publish(TWO)
    site.wait_for(tuned.route)
    site.wait_for(other.route)
    tuned.wait_live_with(one)
    assert tuned.answer() == ("1.0", one)
    before, bystanders = tuned.applications(), other.applications()
    assert [len(replicas) for replicas in before.values()] == [2]
    eventually(lambda: not site.conditions("WaitingForPipeline"))

    with load_on(f"{site.ingress}{tuned.route}", 3, pause=0.01) as load:
        sent = forwarder.puts
        two = tuned.weights("2.0", {"gate": str(gate.folder)})
        gate.turn()
        eventually(lambda: set(tuned.by_replica().values()) == {one, two})
        site.passes()
        assert tuned.live_with() == one
        gate.turn()
        tuned.wait_live_with(two)
        assert set(tuned.by_replica().values()) == {two}
        assert tuned.answer() == ("2.0", two)
        assert tuned.applications() == before
        assert forwarder.puts == sent + 1

        for version, fault, reason in [
            ("3.0", {"raise": "these are bad"}, "LoadFailed"),
            ("4.0", {"wrong": "they say nonsense"}, "ExampleFailed"),
        ]:
            bad = tuned.weights(version, fault)
            found = tuned.wait_refused(bad)
            assert found.reason == reason
            assert next(iter(fault.values())) in found.message
            eventually(lambda: tuned.configured() == [two, one])
        eventually(lambda: "weights_error" not in tuned.told())
        assert tuned.answer() == ("2.0", two)
        assert forwarder.puts == sent + 5

        tuned.weights("5.0", wrong_hash=[f"{tuned.project}/model.json".replace("-", "_")])
        assert site.quarantine(tuned.project).reason == "RecordInvalid"
        unfit = tuned.weights("6.0", wheelway_toml="fits = '>=9'\n")
        assert unfit in {c.subject for c in eventually(lambda: site.conditions("FitsNothing"))}
        assert tuned.answer() == ("2.0", two)
        assert tuned.applications() == before
        assert forwarder.puts == sent + 5
    assert not load.failures
    assert other.applications() == bystanders
    assert other.answer() == (None, "")


def test_a_replica_that_starts_while_bad_weights_are_wanted_has_the_former(at_work, gate):
    site, tuned = at_work, Tuned(at_work, "killed")
    one = tuned.weights("1.0")
    tuned.publish()
    site.wait_for(tuned.route)
    tuned.wait_live_with(one)
    bad = tuned.weights("2.0", {"raise": "bad at night", "gate": str(gate.folder)})
    former = eventually(lambda: (t := tuned.told()).get("weights_loading") == bad and t["replica"])
    [pid] = site.pids("killed")
    os.kill(pid, signal.SIGKILL)
    gate.turn()
    found = tuned.wait_refused(bad)
    assert (found.reason, "bad at night" in found.message) == ("LoadFailed", True)
    eventually(lambda: tuned.configured()[0] == one)
    state = eventually(lambda: (t := tuned.told()) and "weights_error" not in t and t)
    assert (state["weights"], state["replica"] != former) == (one, True)
    assert tuned.answer() == ("1.0", one)
    assert "killed" not in site.quarantines()


def test_what_starts_while_a_service_is_silent_has_its_weights_later(site, forwarder, tmp_path):
    tuned, service = Tuned(site, "patient"), tmp_path / "service"
    service.touch()
    one = tuned.weights("1.0")
    tuned.publish()
    with site.daemon():
        site.wait_for(tuned.route)
        tuned.wait_live_with(one)
        two = tuned.weights("2.0", {"service": str(service)})
        tuned.wait_live_with(two)
        former, sent = tuned.told()["replica"], forwarder.puts
        service.unlink()
        [pid] = site.pids("patient")
        os.kill(pid, signal.SIGKILL)  # its only replica
        eventually(lambda: site.pids("patient") - {pid})
        state = eventually(lambda: (t := tuned.told()).get("replica", former) != former and t)
        assert (state["weights"], state["weights_error"]["reason"]) == (one, "LoadFailed")
        [condition] = eventually(lambda: site.conditions("WeightsBackOff"))
        for told in (state["replica"], "the feature store did not answer", "rollback patient"):
            assert told in condition.message
        assert tuned.answer() == ("1.0", one)
        service.touch()
        eventually(lambda: tuned.answer() == ("2.0", two))
        eventually(lambda: not site.conditions("WeightsBackOff"))
        assert "weights_error" not in tuned.told()
        assert (tuned.refused(), tuned.live_with(), tuned.configured()) == ({}, two, [two, one])
        assert forwarder.puts == sent

        service.unlink()
        before = tuned.applications()
        with load_on(site.ingress + tuned.route, 2, pause=0.02) as load:
            rule = '[[pipelines]]\nname = "patient"\noptions = { max_memory = "2GiB" }\n'
            site.configure(NO_GRACE + rule)
            [condition] = eventually(lambda: site.conditions("WeightsAwaited"))
            assert "the feature store did not answer" in condition.message
            assert before.keys() < tuned.applications().keys()
            eventually(lambda: tuned.answer() == ("2.0", two))
            service.touch()
            eventually(lambda: len(tuned.applications()) == 1, deadline=120.0)
        assert not load.failures
        assert tuned.applications().keys() != before.keys()
        assert (tuned.refused(), tuned.answer()) == ({}, ("2.0", two))
        assert "patient" not in site.quarantines()
        # Nothing is left to do for the daemons of later tests, which count what theirs send.
        site.configure(NO_GRACE)
        eventually(lambda: tuned.applications().keys() == before.keys(), deadline=120.0)


def test_a_daemon_killed_amid_a_swap_goes_on_where_it_was_and_no_request_fails(
    site, forwarder, gate
):
    tuned = Tuned(site, "steady")
    one = tuned.weights("1.0")
    tuned.publish()
    with ExitStack() as daemons:
        process = daemons.enter_context(site.process())
        site.wait_for(tuned.route)
        tuned.wait_live_with(one)
        load = daemons.enter_context(load_on(site.ingress + tuned.route, 2, pause=0.02))

        def kill():
            process.kill()
            process.wait(60)

        def killed_after_put(number, publish):
            """Kill it when that PUT from now on is answered and not heard of."""
            struck = forwarder.puts + number

            def strike(count):
                if count == struck:
                    kill()
                    raise ConnectionAbortedError("the daemon is dead")

            forwarder.after_put = strike
            mark = publish()
            eventually(lambda: process.poll() is not None)
            forwarder.after_put = lambda _: None
            return mark

        puts = forwarder.puts
        two = killed_after_put(1, lambda: tuned.weights("2.0"))
        eventually(lambda: tuned.answer() == ("2.0", two))  # also without a daemon
        process = daemons.enter_context(site.process())
        tuned.wait_live_with(two)
        assert forwarder.puts == puts + 1

        three = tuned.weights("3.0", {"gate": str(gate.folder)})
        eventually(lambda: tuned.told().get("weights_loading") == three)
        kill()
        gate.turn()
        process = daemons.enter_context(site.process())
        tuned.wait_live_with(three)
        assert forwarder.puts == puts + 2

        bad = killed_after_put(1, lambda: tuned.weights("4.0", {"raise": "bad"}))
        eventually(lambda: "weights_error" in tuned.told())
        process = daemons.enter_context(site.process())
        tuned.wait_refused(bad)
        eventually(lambda: tuned.configured() == [three, two])
        assert forwarder.puts == puts + 4

        worse = killed_after_put(2, lambda: tuned.weights("5.0", {"raise": "worse"}))
        process = daemons.enter_context(site.process())
        eventually(lambda: "weights_error" not in tuned.told())
        assert set(tuned.refused()) == {bad, worse}
        assert tuned.configured() == [three, two]
        assert forwarder.puts == puts + 6
        assert tuned.answer() == ("3.0", three)
    assert not load.failures


def test_weights_stay_though_their_wheel_goes_and_damaged_ones_are_made_again(site):
    tuned = Tuned(site, "kept")
    one = tuned.weights("1.0")
    tuned.publish()
    with site.daemon():
        site.wait_for(tuned.route)
        tuned.wait_live_with(one)
        two = tuned.weights("2.0")
        tuned.wait_live_with(two)
        for wheel in site.wheels.glob("kept_weights-2*.whl"):
            wheel.unlink()
        site.passes()
        assert tuned.configured() == [two, one]
    with site.daemon():  # which prunes the cache first of all
        site.passes()
        [pid] = site.pids("kept")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: site.pids("kept") - {pid})
        eventually(lambda: tuned.told().get("weights") == two)
        assert tuned.live_with() == two

        damaged = [
            f
            for f in site.folder.glob("cache/**/kept_weights/model.json")
            if '"1.0"' in f.read_text()
        ]
        assert damaged
        for file in damaged:
            file.chmod(0o644)
            file.write_text('{"name": "x.x"}')
        site.configure(NO_GRACE + '[[pipelines]]\nname = "kept"\nweights = { pins = ["1.0"] }\n')
        tuned.wait_live_with(one)
        assert tuned.answer() == ("1.0", one)
        assert not tuned.refused()
    site.configure(NO_GRACE)


def test_weights_come_by_new_replicas_where_two_instances_have_no_room(at_work):
    site, tuned = at_work, Tuned(at_work, "roomy")
    one = tuned.weights("1.0")
    tuned.publish('[options]\nweights_swap = "restart"\n')
    site.wait_for(tuned.route)
    tuned.wait_live_with(one)
    first = tuned.applications()
    with load_on(site.ingress + tuned.route, 2, pause=0.02) as load:
        two = tuned.weights("2.0")
        tuned.wait_live_with(two)
        assert tuned.answer() == ("2.0", two)
        eventually(lambda: len(tuned.applications()) == 1)
        second = tuned.applications()
        assert second.keys() != first.keys()
        bad = tuned.weights("3.0", {"raise": "bad"})
        assert tuned.wait_refused(bad).reason == "LoadFailed"
        eventually(lambda: tuned.applications() == second)
        assert tuned.answer() == ("2.0", two)
        four = tuned.weights("4.0")
        tuned.wait_live_with(four)
    assert not load.failures
    assert "roomy" not in site.quarantines()


def test_weights_that_hang_end_the_process_or_need_too_much_are_refused_as_well(site, gate):
    tuned = Tuned(site, "fragile")
    one = tuned.weights("1.0")
    tuned.publish("[options]\nmax_memory = '256MiB'\n")
    with site.daemon():
        site.wait_for(tuned.route)
        tuned.wait_live_with(one)
        before = tuned.applications()
        with load_on(site.ingress + tuned.route, 2, pause=0.02) as load:
            big = tuned.weights("2.0", {"big": 2000})
            assert tuned.wait_refused(big).reason == "OutOfMemory"
            eventually(lambda: tuned.configured() == [one, None])
            hanging = tuned.weights("3.0", {"gate": str(gate.folder)})
            eventually(lambda: tuned.told().get("weights_loading") == hanging)
            # It is still given its time; it gets none any more.
            site.configure(f"{NO_GRACE}ready_deadline = 1\n")
            assert tuned.wait_refused(hanging).reason == "StartTimeout"
            eventually(lambda: tuned.configured() == [one, None])
            site.configure(NO_GRACE)
            assert tuned.answer() == ("1.0", one)
        assert not load.failures
        assert tuned.applications() == before
        gate.turn()  # or the replica's process could not end

        deadly = tuned.weights("4.0", {"exit": True})
        assert tuned.wait_refused(deadly).reason == "ReplicaDied"
        eventually(lambda: tuned.configured()[0] == one)
        eventually(lambda: tuned.told().get("weights") == one)
        assert "fragile" not in site.quarantines()
        five = tuned.weights("5.0")
        tuned.wait_live_with(five)


def test_a_new_release_is_tried_with_the_newest_weights_and_served_with_those_that_work(at_work):
    site, tuned = at_work, Tuned(at_work, "renewed")
    one = tuned.weights("1.0")
    tuned.publish()
    first = site.wait_for(tuned.route)
    tuned.wait_live_with(one)
    with load_on(site.ingress + tuned.route, 2, pause=0.02) as load:
        bad = tuned.weights("2.0", {"raise": "bad for all"})
        tuned.wait_refused(bad)
        tuned.publish(marker="other bytes")
        site.wait_for(tuned.route, other_than=first)
        assert tuned.answer() == ("1.0", one)
        eventually(lambda: len(tuned.applications()) == 1)
        three = tuned.weights("3.0")
        tuned.wait_live_with(three)
        assert tuned.answer() == ("3.0", three)
    assert not load.failures
    assert "renewed" not in site.quarantines()


def test_weights_that_only_one_replica_takes_are_refused_for_both(at_work, gate):
    site, tuned = at_work, Tuned(at_work, "halved")
    one = tuned.weights("1.0")
    tuned.publish(TWO)
    site.wait_for(tuned.route)
    tuned.wait_live_with(one)
    before = tuned.applications()
    gate.turn()
    with load_on(site.ingress + tuned.route, 2, pause=0.02) as load:
        bad = tuned.weights("2.0", {"lottery": str(gate.folder)})
        assert tuned.wait_refused(bad).reason == "LoadFailed"
        eventually(lambda: set(tuned.by_replica().values()) == {one})
        site.passes()
        assert tuned.live_with() == one
        assert tuned.applications() == before
    assert not load.failures

    deadly = tuned.weights("3.0", {"exit": True})  # for both at once: Serve may start no others
    assert tuned.wait_refused(deadly).reason == "ReplicaDied"
    eventually(lambda: tuned.configured()[0] == one)
    eventually(lambda: tuned.told().get("weights") == one)
    assert "halved" not in site.quarantines()


def test_each_version_has_the_weights_that_fit_it(at_work):
    site, old, new = at_work, Tuned(at_work, "versions"), Tuned(at_work, "versions")
    new.route = "/predict/versions/2.0"
    one = old.weights("1.0", wheelway_toml="fits = '<2'\n")
    two = old.weights("2.0", wheelway_toml="fits = '>=2'\n")
    old.publish()
    old.publish(version="2.0")
    site.wait_for(old.route)
    site.wait_for(new.route)
    eventually(lambda: old.answer() == ("1.0", one))
    eventually(lambda: new.answer() == ("2.0", two))
    with load_on(site.ingress + old.route, 2, pause=0.02) as load:
        three = old.weights("3.0", wheelway_toml="fits = '>=2'\n")
        eventually(lambda: new.answer() == ("3.0", three))
        assert old.answer() == ("1.0", one)
    assert not load.failures
