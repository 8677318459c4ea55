"""What is told of passes, to whom, and in which form."""

from __future__ import annotations

import pytest

from controller.config.loading import parse
from controller.config.telemetry import SlackNotification
from controller.errors import ConfigError
from controller.model import Condition, Phase, Quarantine
from tests.support.receivers import DOWN, IRIS, NOW, report

pytestmark = pytest.mark.unit

SICK = Condition(str(IRIS), "Unhealthy", "it dies")


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


@pytest.mark.parametrize("passing", ["Queued", "CheckingFiles", "SchemaStarting"])
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
