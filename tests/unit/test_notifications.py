"""What is told of passes, and how it gets to real receivers on loopback that behave and do not."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress

import pytest
from packaging.version import Version

from controller.config.loading import parse
from controller.config.telemetry import SlackNotification, WebhookNotification
from controller.errors import ConfigError
from controller.journal import Journal
from controller.model import Condition, Phase, Quarantine, Release, Transition
from controller.planning.plan import Plan
from controller.reconcile.report import Report
from controller.telemetry.notifications import QUEUED, Notifications
from tests.support.canned import canned
from tests.support.head import eventually

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.4"), "ab" * 32)
PLAN = Plan((), ())
NOW = 1_000_000.0
OK = (200, b"ok", {})
DOWN = Condition("ray", "DashboardUnreachable", "nothing answers")
SICK = Condition(str(IRIS), "Unhealthy", "it dies")


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


@pytest.fixture
def office(tmp_path):
    with canned() as server:
        made = Office(tmp_path, server)
        yield made
        server.release.set()
        made.close()


def report(*events, conditions=(), plan=PLAN, quarantines=()):
    return Report("", 1.0, tuple(events), plan, tuple(conditions), tuple(quarantines))


# -- what is told --------------------------------------------------------------------------------


def test_a_release_that_goes_live_is_told_with_its_seconds_as_a_field(office):
    told = office.notifications()
    office.step(Phase.DISCOVERED, NOW)
    office.step(Phase.STAGED, NOW + 1)
    told.observe(report(office.step(Phase.LIVE, NOW + 3.25, "AnswersAtRoute")))
    (document,) = office.heard()
    assert document == {
        "event": "live",
        "text": "iris 1.4 (abababab) is live at /predict/iris/1.4",
        "subject": "iris@1.4+abababab",
        "reason": "AnswersAtRoute",
        "at": "1970-01-12T13:46:43.250Z",
        "host": "head-1",
        "fields": {
            "pipeline": "iris",
            "version": "1.4",
            "digest": "ab" * 32,
            "message": "so it is",
            "route": "/predict/iris/1.4",
            "seconds": 3.25,
        },
    }


def test_quarantined_and_retired_are_told_with_reason_and_stage(office):
    told = office.notifications()
    office.step(Phase.STAGED)
    bad = office.step(Phase.QUARANTINED, reason="LoadFailed")
    quarantine = Quarantine(IRIS, "stage", "LoadFailed", "so it is", "inputs")
    told.observe(report(bad, quarantines=[quarantine]))
    office.step(Phase.RETIRING)
    told.observe(report(office.step(Phase.RETIRED, reason="Drained")))
    first, second = office.heard(2)
    assert (first["event"], first["fields"]["stage"]) == ("quarantined", "stage")
    assert first["text"] == "iris 1.4 (abababab) is quarantined: LoadFailed"
    assert (second["event"], second["reason"]) == ("retired", "Drained")


def test_only_transitions_are_told(office):
    told = office.notifications()
    found_running = office.step(Phase.LIVE, reason="AnswersAtRoute")
    still_live = office.step(Phase.LIVE, reason="RouteNotAnswering")
    between = [office.step(phase) for phase in (Phase.RETIRING, Phase.STAGED, Phase.READY)]
    told.observe(report(found_running, still_live, *between))
    told.observe(report(office.step(Phase.LIVE, NOW + 9)))
    (document,) = office.heard()
    assert document["at"].endswith("49.000Z")
    told.close()
    assert len(office.server.asked) == 1


def test_a_condition_is_told_when_it_lasts_and_when_it_is_over(office):
    told = office.notifications()
    told.observe(report(conditions=[DOWN]))
    office.now += 59
    told.observe(report(conditions=[DOWN]))
    assert told.counts() == {}
    office.now += 1
    for _ in range(3):
        told.observe(report(conditions=[DOWN]))
    office.now += 40
    told.observe(report())
    first, second = office.heard(2)
    assert (first["event"], first["text"]) == ("condition", "ray: DashboardUnreachable")
    assert first["fields"] == {"message": "nothing answers", "seconds": 60.0}
    assert (second["event"], second["text"]) == ("resolved", "ray: DashboardUnreachable is over")
    assert second["fields"] == {"seconds": 100.0}


@pytest.mark.parametrize("passing", ["Queued", "CheckingFiles"])
def test_what_is_over_before_it_lasted_is_never_told(office, passing):
    told = office.notifications()
    told.observe(report(conditions=[DOWN]))
    office.now += 30
    told.observe(report())
    office.now += 100
    told.observe(report(conditions=[DOWN, Condition("a.whl", "StillCopying", "wait", ok=True)]))
    told.observe(report(conditions=[Condition(str(IRIS), passing, "its turn comes")]))
    office.now += 100
    told.observe(report(conditions=[Condition(str(IRIS), passing, "its turn comes")]))
    told.close()
    assert office.server.asked == []


def test_a_source_that_cannot_be_read_is_stalled(office):
    told = office.notifications(office.webhook(hold=0, events=("stalled",)))
    shelf = Condition("shelf", "DirectoryMissing", "it is not there")
    told.observe(report(conditions=[DOWN, shelf]))
    (document,) = office.heard()
    assert (document["event"], document["text"]) == ("stalled", "source shelf: DirectoryMissing")
    told.close()
    assert len(office.server.asked) == 1


def test_a_restart_tells_nothing_twice_and_misses_no_end(office):
    office.journal.set_conditions([DOWN, SICK], NOW - 300)
    office.journal.set_conditions([DOWN, SICK, Condition("x", "DiskFull", "no room")], NOW - 10)
    told = office.notifications()
    lasting = [DOWN, SICK, Condition("x", "DiskFull", "no room")]
    told.observe(report(conditions=lasting))
    office.now += 50
    told.observe(report(conditions=lasting[1:]))
    assert {said["text"] for said in office.heard(2)} == {
        "x: DiskFull",
        "ray: DashboardUnreachable is over",
    }


@pytest.mark.parametrize("step", [-3600, 3600])
def test_what_lasts_is_not_counted_by_the_wall(office, step):
    told = office.notifications()
    told.observe(report(conditions=[DOWN]))
    office.turned = step
    office.now += 59
    told.observe(report(conditions=[DOWN]))
    assert office.server.asked == []
    office.now += 1
    told.observe(report(conditions=[DOWN]))
    [said] = office.heard()
    assert said["fields"]["seconds"] == 60


def test_texts_are_the_same_for_the_same_thing(office):
    told = office.notifications(office.webhook(hold=5))
    for length in (6, 61):
        told.observe(report(conditions=[DOWN]))
        office.now += length
        told.observe(report(conditions=[DOWN]))
        told.observe(report())
    texts = [said["text"] for said in office.heard(4)]
    assert texts[:2] == texts[2:]


# -- how it gets there ---------------------------------------------------------------------------


def live(office, version="1.0"):
    """A release that goes live now, as a report."""
    release = Release("iris", Version(version), "cd" * 32)
    office.step(Phase.STAGED, release=release)
    return report(office.step(Phase.LIVE, release=release))


def test_failures_are_tried_again_until_it_is_taken(office):
    office.server.answers["/hook"] = [(500, b"", {}), (503, b"", {"Retry_After": "1"}), OK]
    told = office.notifications()
    told.observe(live(office))
    first, second, third = office.heard(3)
    assert first == second == third
    eventually(lambda: told.counts() == {("webhook", "sent"): 1})
    at = office.server.asked_at
    assert at[1] - at[0] >= 0.5  # of its own, without jitter
    assert at[2] - at[1] >= 1.0  # as it was asked to


def test_too_many_requests_waits_as_long_as_it_is_asked_to(office):
    office.server.answers["/hook"] = [(429, b"", {"Retry_After": "2"}), OK]
    told = office.notifications()
    told.observe(live(office))
    office.heard(2)
    assert office.server.asked_at[1] - office.server.asked_at[0] >= 2.0
    eventually(lambda: told.counts() == {("webhook", "sent"): 1})


def test_a_refusal_is_dropped_counted_and_told_without_the_address(office, caplog):
    office.server.answers["/hook"] = [(404, b"no_team", {}), OK]
    told = office.notifications()
    with caplog.at_level(logging.WARNING):
        told.observe(live(office, "1"))
        told.observe(live(office, "2"))
        eventually(lambda: sum(told.counts().values()) == 2)
    assert told.counts() == {("webhook", "dropped"): 1, ("webhook", "sent"): 1}
    (record,) = [found for found in caplog.records if "dropped" in found.getMessage()]
    assert "404" in record.getMessage()
    assert office.server.url not in caplog.text
    assert record.wheelway.kind == "NotificationDropped"


def test_what_cannot_be_delivered_for_long_is_given_up(office, caplog):
    office.server.answers["/hook"] = (500, b"", {})
    told = office.notifications(office.webhook(give_up=0))
    told.observe(live(office))
    eventually(lambda: told.counts() == {("webhook", "dropped"): 1})
    assert len(office.server.asked) == 1


def test_a_receiver_that_hangs_holds_up_no_pass_and_no_other_receiver(office, caplog):
    office.server.answers["/slow"] = "hang"
    slow = WebhookNotification(type="webhook", name="slow", url=f"{office.server.url}/slow")
    told = office.notifications(slow, office.webhook())
    with caplog.at_level(logging.WARNING):
        for number in range(QUEUED + 20):
            told.observe(live(office, str(number)))
    eventually(lambda: told.counts().get(("webhook", "sent"), 0) >= QUEUED, 60)
    # One is being sent, the rest of those beyond the queue were the oldest.
    eventually(lambda: told.counts().get(("slow", "dropped"), 0) in {19, 20})
    told_of = [found for found in caplog.records if "slow: more than" in found.getMessage()]
    assert len(told_of) == 1
    assert told.counts().get(("slow", "sent"), 0) == 0


@pytest.fixture
def dripping():
    """A receiver that sends a beginning, and then a byte now and then for as long as it may."""
    listening, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def drip(beginning):
        def answer():
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(beginning)
                while not ended.wait(0.02):
                    connection.sendall(b"x")

        thread = threading.Thread(target=answer)
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listening.getsockname()[1]}/"

    threads = []
    yield drip
    ended.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    listening.close()


@pytest.mark.parametrize(
    ("beginning", "result", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Long: ", "dropped", "does not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", "sent", ""),
        (b"HTTP/1.1 404 No\r\nContent-Length: 999999999\r\n\r\nno team ", "dropped", "no team"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 999999999\r\n\r\n" + b"no" * 5000, "dropped", "nono"),
    ],
)
def test_a_receiver_that_answers_for_ever_is_left_in_time(
    office, dripping, caplog, beginning, result, said
):
    told = office.notifications(office.webhook(url=dripping(beginning), timeout=1, give_up=0))
    with caplog.at_level(logging.WARNING):
        told.observe(live(office))
        eventually(lambda: told.counts() == {("webhook", result): 1})
    assert said in caplog.text


def test_ending_waits_for_nobody_for_long(office):
    office.server.answers["/hook"] = "hang"
    told = office.notifications()
    for number in range(5):
        told.observe(live(office, str(number)))
    office.heard(1)
    ended = threading.Thread(target=told.close, args=(0.2,))
    ended.start()
    ended.join(60)
    assert not ended.is_alive()
    assert told.counts() == {("webhook", "dropped"): 4}


def test_ending_hands_over_what_is_queued(office):
    told = office.notifications()
    for number in range(20):
        told.observe(live(office, str(number)))
    told.close(20)
    assert told.counts() == {("webhook", "sent"): 20}


def test_addresses_and_tokens_come_from_files_that_may_change(office, tmp_path):
    address, token = tmp_path / "url", tmp_path / "token"
    token.write_text("first\n")
    told = office.notifications(office.webhook(url_file=address, token_file=token))
    told.observe(live(office, "1"))
    address.write_text(f"{office.server.url}/hook\n")  # it waits for the file
    office.heard(1)
    token.write_text("second\n")
    told.observe(live(office, "2"))
    office.heard(2)
    sent = [headers["authorization"] for _, _, headers, _ in office.server.asked]
    assert sent == ["Bearer first", "Bearer second"]


def test_another_configuration_keeps_the_receivers_that_stay(office):
    stays, goes = office.webhook(hold=0), office.webhook(name="goes", hold=0)
    told = office.notifications(stays, goes)
    told.observe(report(conditions=[DOWN]))
    office.heard(2)
    comes = office.webhook(name="comes", hold=0)
    office.journal.set_conditions([DOWN], NOW - 300)
    told.renew([stays, comes], ["shelf"])
    told.observe(report(conditions=[DOWN]))
    told.observe(report())
    eventually(lambda: sum(told.counts().values()) == 4)
    assert told.counts() == {
        ("webhook", "sent"): 2,
        ("goes", "sent"): 1,
        ("comes", "sent"): 1,
    }


def test_a_receiver_that_cannot_be_used_leaves_those_before_as_they_were(office, monkeypatch):
    goes = office.webhook(hold=0)
    told = office.notifications(goes)
    comes = [office.webhook(name=name, hold=0) for name in ("comes", "never")]
    before = threading.active_count()
    monkeypatch.setenv("HTTPS_PROXY", "socks9://proxy")
    with pytest.raises(ConfigError, match="environment variable HTTPS_PROXY"):
        told.renew(comes, [])
    assert threading.active_count() == before
    told.observe(report(conditions=[DOWN]))
    eventually(lambda: told.counts() == {("webhook", "sent"): 1}, 20)


def test_slack_gets_a_text_an_attachment_and_no_way_to_mention_everybody(office):
    slack = SlackNotification(type="slack", url=f"{office.server.url}/hook", hold=0)
    told = office.notifications(slack)
    told.observe(report(conditions=[Condition("ray", "Odd", "<!channel> a & b")]))
    (document,) = office.heard()
    assert document["text"] == "ray: Odd"
    (attachment,) = document["attachments"]
    assert attachment["text"] == "&lt;!channel&gt; a &amp; b"
    assert attachment["color"] == "warning"
    fields = {field["title"]: field["value"] for field in attachment["fields"]}
    assert fields == {"host": "head-1", "reason": "Odd", "seconds": "0.0"}


# -- the configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ('type = "webhook"', "give one of `url` and `url_file`"),
        ('type = "webhook"\nurl = "http://a"\nurl_file = "b"', "give one of"),
        ('type = "webhook"\nurl = "hooks.example.com"', "`url` must be one such as"),
        ('type = "mail"\nurl = "http://a"', "says which kind of notification this is: webhook"),
        ('url = "http://a"', "notifications.0.type: says which kind"),
        ('type = "slack"\nurl = "http://a"\nevents = []', "notifications.0.events"),
        ('type = "slack"\nurl = "http://a"\nevents = ["born"]', "notifications.0.events.0"),
        ('type = "slack"\nurl = "http://a"\ncolour = 1', "notifications.0.colour: unknown key"),
        (
            'type = "slack"\nurl = "http://a"\n[[notifications]]\ntype = "slack"\nurl = "http://b"',
            "two notifications are called 'slack'",
        ),
    ],
)
def test_mistakes_in_the_configuration_are_named_with_their_line(tmp_path, section, complaint):
    with pytest.raises(ConfigError) as caught:
        parse(f"[[notifications]]\n{section}\n", tmp_path / "controller.toml")
    assert complaint in caught.value.message
    assert "controller.toml:" in caught.value.message


def test_files_are_relative_to_the_configuration(tmp_path):
    text = '[[notifications]]\ntype = "slack"\nurl_file = "slack-url"\n'
    (section,) = parse(text, tmp_path / "controller.toml").notifications
    assert section.url_file == tmp_path / "slack-url"
    assert section.where == str(tmp_path / "slack-url")
