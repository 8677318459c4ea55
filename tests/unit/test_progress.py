"""What `wheelway up` says of each release as it happens, and the request to copy."""

from __future__ import annotations

import io
import logging
import re
import time

import pytest
from packaging.version import Version
from rich.console import Console

from controller.cli.progress import LASTS, Progress, Warnings, arguments_of
from controller.logs import about, tell
from controller.model import Event, Phase, Release
from controller.reconcile.report import Report
from wheelway import Pipeline, contract, openapi
from wheelway.schema import interface_of

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
        self._text = io.StringIO()
        out = Console(file=self._text, width=500, highlight=False)
        self._progress = Progress(
            "http://127.0.0.1:8000/",
            out=out,
            get=get,
            clock=clock,
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
    now = [100.0]
    told = Told(clock=lambda: now[0])
    appeared, gone = (
        Event(at, "iris@1.0+aaaaaaaa", "IngressUnreachable", "a 404", {"condition": what})
        for at, what in ((100.0, "appeared"), (100.4, "gone"))
    )
    assert told.feed(appeared) == []
    now[0] = 100.4
    assert told.feed(gone) == []
    now[0] = 200.0
    assert told.feed() == []
    again = Event(200.0, "ray", "DashboardUnreachable", "nobody answers", {"condition": "appeared"})
    assert told.feed(again) == []
    now[0] = 200.0 + LASTS
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
    unnamed = _reached(IRIS_1, Phase.FETCHED, 100.0, "NameUndecided", "somebody may have it")
    (line,) = told.feed(unnamed)
    assert line.split(maxsplit=3)[3].split(maxsplit=1) == ["waiting", "somebody may have it"]


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
    (line,) = told.feed(Event(1.0, "ray", "DashboardUnreachable", "nobody\nanswers", fields))
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


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"paths": {}},
        {"paths": {"/": {"post": {}}}},
        {"paths": {"/": {"post": {"requestBody": {"content": {}}}}}},
        {"paths": {"/": {"post": {"requestBody": {"content": {"application/json": 1}}}}}},
    ],
)
def test_an_odd_document_gives_no_request(document):
    assert arguments_of(document) == []


class _Scale(Pipeline):
    def infer(self, request: list[float]) -> list[float]:
        return request


class _Upside(Pipeline):
    def infer(self, image: bytes) -> bytes:
        return image


class _Count(Pipeline):
    def infer(self, text: bytes) -> int:
        return len(text)


@pytest.mark.parametrize(
    ("pipeline", "examples", "arguments"),
    [
        (_Scale, ([1, 2],), ["-H", "content-type: application/json", "-d", "[1, 2]"]),
        (_Scale, ([1] * 500,), []),
        (_Scale, (), []),
        (_Count, (b"it's\n",), ["--data-binary", "it's\n"]),
        (_Count, (b"@FILE",), ["--data-raw", "@FILE"]),
        (_Count, (b"@" * 500,), ["--data-binary", "@FILE"]),
        (_Count, (b"\x89PNG",), ["--data-binary", "@FILE"]),
        (_Count, (b"\x00",), ["--data-binary", "@FILE"]),
        (_Count, (b"x" * 500,), ["--data-binary", "@FILE"]),
        (_Count, (), ["--data-binary", "@FILE"]),
        (_Upside, (), ["--data-binary", "@FILE", "-o", "RESULT"]),
    ],
)
def test_the_request_to_copy_is_one_that_the_pipeline_takes(pipeline, examples, arguments):
    release = contract.Release("demo", "1.0", "ab" * 32)
    document = openapi.document(release, interface_of(pipeline), examples, "/predict/demo/1.0")
    found = arguments_of(document)
    if pipeline is not _Scale:
        assert found[:2] == ["-H", "content-type: application/octet-stream"]
        found = found[2:]
    assert found == arguments


def test_weights_are_told_of_when_they_serve_and_when_they_failed():
    told, fields = Told(), {"weights": "iris-weights@2026.11.28+3f9a01c4"}
    subject, said = str(IRIS_1), "every replica answers with them"
    (live,) = told.feed(Event(0.0, subject, "WeightsLive", said, fields))
    assert "iris 1.0" in live
    assert live.endswith("weights live       iris-weights@2026.11.28+3f9a01c4")
    lines = told.feed(Event(1.0, subject, "LoadFailed", "quarantined for it: no file", fields))
    assert lines[0].endswith("weights failed     LoadFailed: quarantined for it: no file")
    assert "explain iris 1.0" in lines[1]
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
