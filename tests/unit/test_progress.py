"""What `wheelway up` says of each release as it happens, and the request to copy."""

from __future__ import annotations

import io
import logging
import re
import time
from dataclasses import replace

import pytest
from packaging.version import Version
from rich.console import Console

from controller.cli.progress import LASTS, MOMENT, TURN, Progress, Warnings
from controller.logs import about, tell
from controller.model import Event, Phase, Release
from controller.planning.causes import HEAD_ENDED
from controller.reconcile.report import Report

pytestmark = pytest.mark.unit

IRIS_1 = Release("iris", Version("1.0"), "a" * 64)
IRIS_2 = Release("iris", Version("2.0"), "b" * 64)
IRIS_OLD = Release("iris", Version("0.9"), "c" * 64)
LOCAL = Release("greeter", Version("1.0+cu12"), "d" * 64)

OPENAPI = {
    "paths": {
        "/predict/iris/1.0": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {
                            "examples": {"example1": {"value": {"name": "it's me"}}}
                        }
                    }
                }
            },
            "get": {},
        }
    }
}


class Told:
    """A progress renderer that prints into a text, fed with events."""

    def __init__(self, get=lambda _: None, clock=time.time) -> None:
        self.due = []
        """What is to be called later, and after how many seconds."""
        self.seconds = 0.0
        """By the clock that nobody sets."""
        self._text = io.StringIO()
        out = Console(file=self._text, width=500, highlight=False)
        self._progress = Progress(
            "http://127.0.0.1:8000/",
            out=out,
            get=get,
            clock=clock,
            monotonic=lambda: self.seconds,
            later=lambda *due: self.due.append(due),
        )

    def feed(self, *events: Event) -> list[str]:
        read = self.reading()
        self._progress(Report("a pass", 1.0, tuple(events)))
        return read()

    def reading(self):
        """What gives the lines that are printed from here on."""
        start = self._text.tell()

        def read() -> list[str]:
            self._text.seek(start)
            return self._text.read().splitlines()

        return read


def _reached(release, phase, at, reason="AsPlanned", message=""):
    fields = {"phase": phase.value, "digest": release.digest, "placement": ""}
    return Event(at, str(release), reason, message, fields)


def test_progress_shows_each_step_once_with_the_seconds_it_took():
    told = Told(get=lambda _: OPENAPI)
    lines = told.feed(
        _reached(IRIS_1, Phase.DISCOVERED, 100.0),
        _reached(IRIS_1, Phase.FETCHED, 100.2, "Verified"),
        _reached(IRIS_1, Phase.FETCHED, 100.3, "Preparing"),
    )
    lines += told.feed(_reached(IRIS_1, Phase.PREPARED, 101.0))
    lines += told.feed(
        _reached(IRIS_1, Phase.STAGED, 101.5, "Building"),
        _reached(IRIS_1, Phase.STAGED, 102.0, "Starting"),
    )
    lines += told.feed(
        _reached(IRIS_1, Phase.READY, 103.0), _reached(IRIS_1, Phase.READY, 103.1, "Promoted")
    )
    lines += told.feed(_reached(IRIS_1, Phase.LIVE, 103.4))
    steps = [re.sub(r"^\d\d:\d\d:\d\d  iris 1\.0 +", "", line) for line in lines]
    assert [re.sub(r"  +", "  ", step) for step in steps[:5]] == [
        "fetched, verified  0.2 s",
        "prepared  1.0 s  +0.8 s",
        "staged  1.5 s  +0.5 s",
        "ready  3.0 s  +1.5 s",
        "live  3.4 s  +0.4 s  /predict/iris/1.0",
    ]
    assert lines[5].strip() == (
        "curl -sS http://127.0.0.1:8000/predict/iris/1.0 -H 'content-type: application/json' "
        """-d '{"name": "it'"'"'s me"}'"""
    )
    assert len(lines) == 6
    assert "\x1b" not in "\n".join(lines)


def test_progress_counts_a_release_that_comes_back_from_its_return():
    told = Told()
    told.feed(_reached(IRIS_1, Phase.DISCOVERED, 100.0), _reached(IRIS_1, Phase.LIVE, 103.0))
    told.feed(_reached(IRIS_1, Phase.RETIRING, 500.0, "Absent"))
    lines = told.feed(
        _reached(IRIS_1, Phase.PREPARED, 600.0), _reached(IRIS_1, Phase.STAGED, 600.5, "Building")
    )
    assert [line.split(maxsplit=4)[4] for line in lines] == ["0.0 s", "0.5 s"]


def test_progress_counts_a_live_release_that_starts_once_more_from_there():
    told = Told()
    told.feed(_reached(IRIS_1, Phase.DISCOVERED, 100.0), _reached(IRIS_1, Phase.LIVE, 103.0))
    # New weights that restart replicas, say.
    lines = told.feed(
        _reached(IRIS_1, Phase.PREPARED, 600.0),
        _reached(IRIS_1, Phase.STAGED, 600.5, "Building"),
        _reached(IRIS_1, Phase.READY, 601.5),
        _reached(IRIS_1, Phase.LIVE, 602.0),
    )
    seconds = [re.findall(r"[+\d.]+ s\b", line) for line in lines[:4]]
    assert seconds == [["0.0 s"], ["0.5 s"], ["1.5 s", "+1.0 s"], ["2.0 s", "+0.5 s"]]


@pytest.mark.parametrize("answers", [1, 3, None])
def test_a_document_that_cannot_be_had_at_first_is_asked_for_again_and_then_shown(answers):
    looks = []

    def get(_):
        looks.append(1)
        return OPENAPI if answers is not None and len(looks) > answers else None

    told = Told(get)
    _, more = told.feed(_reached(IRIS_1, Phase.LIVE, 100.0))
    assert more.strip() == "curl -sS http://127.0.0.1:8000/predict/iris/1.0"
    read = told.reading()
    while told.due:
        told.due.pop()[1]()
    assert len(looks) == (answers or 3) + 1
    if answers is None:
        assert read() == []
        return
    line, more = read()
    assert line.split()[1:] == ["iris", "1.0", "answers", "its", "first", "example:"]
    assert more.strip().startswith("curl -sS http://127.0.0.1:8000/predict/iris/1.0 -H 'content-")


def test_a_release_that_left_is_not_asked_again():
    told = Told()
    told.feed(_reached(IRIS_1, Phase.LIVE, 100.0))
    told.feed(_reached(IRIS_1, Phase.RETIRING, 101.0, "Absent"))
    [(_, look)] = told.due
    told._progress._get = pytest.fail
    look()


def test_progress_tells_a_failure_with_its_reason_and_where_to_read_on():
    line, more = Told().feed(
        _reached(IRIS_2, Phase.QUARANTINED, 100.0, "LoadFailed", "model.bin is missing\nmore")
    )
    assert "quarantined" in line
    assert line.endswith("LoadFailed: model.bin is missing")
    assert more.strip() == "wheelway explain iris 2.0"


def test_progress_tells_a_condition_once_it_has_lasted_and_nothing_of_one_that_has_not():
    told = Told(clock=lambda: 100.0)
    appeared, gone = (
        Event(at, "iris@1.0+aaaaaaaa", "IngressUnreachable", "a 404", {"condition": what})
        for at, what in ((100.0, "appeared"), (100.4, "gone"))
    )
    assert told.feed(appeared) == []
    told.seconds = 0.4
    assert told.feed(gone) == []
    told.seconds = 100.0
    assert told.feed() == []
    again = Event(200.0, "ray", "DashboardUnreachable", "nobody answers", {"condition": "appeared"})
    assert told.feed(again) == []
    told.seconds = 100.0 + LASTS
    (line,) = told.feed()
    assert line.split(maxsplit=1)[1].split() == ["ray", "DashboardUnreachable", "nobody", "answers"]
    gone = Event(204.0, "ray", "DashboardUnreachable", "no longer", {"condition": "gone"})
    (line,) = told.feed(gone)
    assert "resolved" in line


def test_progress_tells_a_failure_of_a_whole_wheel_once():
    why = (Phase.QUARANTINED, 100.0, "RequirementsUnsatisfiable", "no zz-alpha")
    first, _, second, _ = Told().feed(_reached(IRIS_1, *why), _reached(IRIS_2, *why))
    assert first.endswith("RequirementsUnsatisfiable: no zz-alpha")
    assert second.endswith("RequirementsUnsatisfiable, as iris 1.0")


def test_progress_says_why_a_release_does_not_go_on_and_says_it_once():
    told = Told()
    short = _reached(IRIS_2, Phase.STAGED, 100.0, "InsufficientResources", "no CPU is free")
    assert "no CPU is free" in told.feed(short)[0]
    assert told.feed(short) == []
    assert "staged" in told.feed(_reached(IRIS_2, Phase.STAGED, 101.0, "Starting"))[0]
    kept_out = _reached(IRIS_OLD, Phase.FETCHED, 100.0, "NotKept", "keep = 2: 2.0, 1.0")
    assert "NotKept: keep = 2" in told.feed(kept_out)[0]


def test_progress_tells_that_a_name_is_waited_for_only_if_that_takes_a_moment():
    told = Told()
    unnamed = _reached(IRIS_1, Phase.FETCHED, 100.0, "NameUndecided", "somebody may have it")
    assert told.feed(unnamed) == []
    told.seconds = 0.1
    assert "fetched" in told.feed(_reached(IRIS_1, Phase.FETCHED, 100.1, "Preparing"))[0]
    told.seconds = 60.0
    assert told.feed() == []
    assert told.feed(replace(unnamed, subject=str(IRIS_2))) == []
    told.seconds += MOMENT
    (line,) = told.feed()
    assert line.split(maxsplit=3)[1:3] == ["iris", "2.0"]
    assert line.split(maxsplit=3)[3].split(maxsplit=1) == ["waiting", "somebody may have it"]
    assert told.feed(replace(unnamed, subject=str(IRIS_2))) == []


def test_progress_says_once_that_a_release_has_waited_long_for_its_turn():
    told = Told()
    queued, turn = (
        Event(at, str(IRIS_1), "Queued", "4 releases are starting", {"condition": what})
        for at, what in ((100.0, "appeared"), (138.0, "gone"))
    )
    told.feed(_reached(IRIS_1, Phase.PREPARED, 100.0, "Queued"))
    assert told.feed(queued) == []
    told.seconds = TURN
    (line,) = told.feed()
    assert line.split(maxsplit=4)[1:4] == ["iris", "1.0", "waiting"]
    assert line.endswith("for its turn: 4 releases are starting")
    told.seconds = 38.0
    assert told.feed() == []
    assert "staged" in told.feed(turn, _reached(IRIS_1, Phase.STAGED, 138.0, "Building"))[0]
    assert told.feed(replace(queued, subject=str(IRIS_2))) == []
    assert told.feed(replace(turn, subject=str(IRIS_2))) == []


def test_progress_says_in_one_line_that_the_head_before_has_ended():
    told, ended = Told(), (HEAD_ENDED.reason, HEAD_ENDED.message)
    (line,) = told.feed(
        _reached(IRIS_1, Phase.RETIRED, 100.0, *ended),
        _reached(LOCAL, Phase.RETIRED, 100.0, *ended),
        _reached(IRIS_2, Phase.SUPERSEDED, 100.0, *ended),
    )
    assert line.split(maxsplit=1)[1] == (
        "the former Ray head has ended, and 3 releases with it; what is wanted starts anew"
    )
    (line,) = told.feed(_reached(IRIS_1, Phase.PREPARED, 101.0))
    assert line.split(maxsplit=3)[3].split() == ["prepared", "0.0", "s"]


def test_progress_tells_once_that_a_name_is_anothers():
    told, why = Told(), ("Conflict", "the name iris belongs to garden")
    appeared = Event(100.0, str(IRIS_1), *why, {"condition": "appeared", "ok": False})
    (line,) = told.feed(_reached(IRIS_1, Phase.FETCHED, 100.0, *why), appeared)
    assert line.endswith("Conflict: the name iris belongs to garden")
    told.seconds = 60.0
    assert told.feed(replace(appeared, fields={"condition": "gone"})) == []
    told.feed(_reached(IRIS_2, Phase.LIVE, 100.0))
    told.feed(replace(appeared, subject=str(IRIS_2)))
    told.seconds += LASTS
    assert "Conflict" in told.feed()[0], "of what serves, nothing said so yet"


def test_progress_tells_what_the_daemon_warns_of_unless_an_event_tells_it():
    told = Told()
    read = told.reading()
    warnings = Warnings(told._progress)
    logger = logging.getLogger("a daemon's")
    logger.addHandler(warnings)
    logger.setLevel(logging.INFO)
    logger.info("a round of looking")
    logger.warning("the files of %s had been altered;\nthey were made again", "a.whl")
    tell(logger, Event(1.0, "ray", "HAProxyOff", "slow", {"condition": "appeared", "ok": False}))
    logger.error("the pass was cut short", extra=about("PassFailed", REASON="DiskFull"))
    logger.removeHandler(warnings)
    lines = [line.split(maxsplit=1)[1] for line in read()]
    assert lines == ["the files of a.whl had been altered;", "the pass was cut short"]


def test_progress_of_what_ran_already_has_no_seconds_and_a_curl_that_works_anyway():
    line, more = Told().feed(_reached(LOCAL, Phase.LIVE, 100.0))
    assert line.split()[1:] == ["greeter", "1.0+cu12", "live", "/predict/greeter/1.0+cu12"]
    assert more.strip() == "curl -sS http://127.0.0.1:8000/predict/greeter/1.0+cu12"


def test_progress_notes_conditions_but_not_those_of_every_rollout():
    told = Told()
    fields = {"condition": "appeared", "ok": False}
    assert told.feed(Event(1.0, "x.whl", "StillCopying", "wait", fields)) == []
    assert told.feed(Event(1.0, str(IRIS_1), "CheckingFiles", "wait", fields)) == []
    told.feed(Event(1.0, "ray", "DashboardUnreachable", "nobody\nanswers", fields))
    told.seconds = LASTS
    (line,) = told.feed()
    assert line.split(maxsplit=1)[1].split() == ["ray", "DashboardUnreachable", "nobody", "answers"]
    (line,) = told.feed(
        Event(2.0, "ray", "DashboardUnreachable", "no longer", {"condition": "gone", "ok": False})
    )
    assert "resolved" in line


def test_progress_tells_in_order_though_what_jobs_did_is_heard_of_late():
    told = Told()
    lines = told.feed(_reached(IRIS_1, Phase.LIVE, 200.0))
    lines += told.feed(  # fetched at 190, heard of only now
        _reached(IRIS_2, Phase.DISCOVERED, 188.0),
        _reached(IRIS_2, Phase.FETCHED, 190.0, "Verified"),
    )
    times = [line[:8] for line in lines if line[:1] != " "]
    assert times == sorted(times)
    assert lines[-1].endswith("fetched, verified     2.0 s")


def test_weights_are_told_of_when_they_serve_and_when_they_failed():
    told, fields = Told(), {"weights": "iris-weights@2026.11.28+3f9a01c4"}
    subject, said = str(IRIS_1), "every replica answers with them"
    (live,) = told.feed(Event(0.0, subject, "WeightsLive", said, fields))
    assert "iris 1.0" in live
    assert live.endswith("weights live       iris-weights@2026.11.28+3f9a01c4")
    lines = told.feed(Event(1.0, subject, "LoadFailed", "quarantined for it: no file", fields))
    assert lines[0].endswith("weights failed     LoadFailed: quarantined for it: no file")
    assert "explain iris 1.0" in lines[1]
    said = f"{fields['weights']} failed with it (LoadFailed); others stay in force. Why: no file"
    refused = Event(1.0, subject, "WeightsRefused", said, {"condition": "appeared", "ok": False})
    told.feed(refused)
    told.seconds = 60.0
    assert told.feed() == [], "told by the line above"
    assert told.feed(replace(refused, fields={"condition": "gone"})) == []
    told.feed(replace(refused, message=said.replace("11.28", "11.29")))
    told.seconds += LASTS
    assert "WeightsRefused" in told.feed()[0]
    (lifted,) = told.feed(Event(2.0, subject, "QuarantineCleared", "", fields | {"by": "anna"}))
    assert "weights" not in lifted


def test_progress_says_that_a_release_went_back_from_weights_that_failed():
    told = Told(get=lambda _: OPENAPI)
    told.feed(_reached(IRIS_1, Phase.LIVE, 103.0), _reached(IRIS_1, Phase.STAGED, 200.0))
    why = "it went back from iris-weights@2+ab to iris-weights@1+cd: LoadFailed: no file"
    (line,) = told.feed(_reached(IRIS_1, Phase.LIVE, 203.0, "WeightsRefused", why))
    assert re.search(rf"iris 1\.0 +back +3\.0 s +{re.escape(why)}$", line)
    assert told.feed(_reached(IRIS_1, Phase.LIVE, 204.0, "AnswersAtRoute")) == []


def test_progress_shows_how_to_ask_a_release_that_came_back_as_it_did_before():
    known = [OPENAPI]
    told = Told(get=lambda _: known.pop() if known else None)
    first = told.feed(_reached(IRIS_1, Phase.LIVE, 103.0))[-1]
    told.feed(_reached(IRIS_1, Phase.RETIRING, 500.0))
    assert " -d " in first
    assert told.feed(_reached(IRIS_1, Phase.LIVE, 600.0))[-1] == first
