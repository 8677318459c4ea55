"""The daemon's log in each of its forms; journald's is read back from a real datagram socket."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from packaging.version import Version

from controller import logs
from controller.config.telemetry import LogOptions
from controller.journal import Journal
from controller.logs import KINDS, PASS, JsonLines, Readable, ToJournal, about, begin, is_journal
from controller.model import Condition, Event, Phase, Release, Transition
from tests.support.journald import SIZE, Journald
from tests.support.network import in_own_network

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.4"), "ab" * 32)
SMALL = 4096
"""Bytes of a sender's buffer that a few lines fill."""


@pytest.fixture
def journald(tmp_path):
    running = Journald(tmp_path / "socket")
    yield running
    running.socket.close()


@pytest.fixture
def log(journald):
    with logging_to(journald.path) as logger:
        yield logger


@contextmanager
def logging_to(path, **options):
    """A logger that writes to a journald, and to `aside` what it does not take."""
    logger = logging.getLogger("wheelway.test")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.aside = io.StringIO()
    aside = logging.StreamHandler(logger.aside)
    logger.output = ToJournal(otherwise=aside, path=path, **options)
    logger.addHandler(logger.output)
    yield logger
    logger.removeHandler(logger.output)
    logger.output.close()


@pytest.fixture
def root():
    """The root logger, put back afterwards."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    logger.handlers[:] = []
    yield logger
    for output in logger.handlers[:]:
        logger.removeHandler(output)
        output.close()
    logger.handlers[:] = before
    logger.setLevel(level)


# -- journald ------------------------------------------------------------------------------------


def test_a_line_reaches_the_journal_with_its_fields(log, journald):
    log.warning("%s is bad", "it", extra=about("ReleaseQuarantined", REASON="LoadFailed", STAGE=""))
    found = journald.receive()
    assert found["MESSAGE"] == "it is bad"
    assert found["PRIORITY"] == "4"
    assert found["SYSLOG_IDENTIFIER"] == "wheelway"
    assert found["MESSAGE_ID"] == KINDS["ReleaseQuarantined"]
    assert found["REASON"] == "LoadFailed"
    assert "STAGE" not in found
    assert "PASS" not in found
    assert found["LOGGER"] == "wheelway.test"
    assert found["CODE_FILE"].endswith("test_logs.py")
    assert int(found["CODE_LINE"]) > 0


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_levels_become_syslogs_priorities(log, journald, level, priority):
    getattr(log, level)("said")
    assert journald.receive()["PRIORITY"] == priority


@pytest.mark.parametrize(
    "message", ["two\nlines", "\n", "ends so\n", "umlaut ü\nand =", "A=B\nPRIORITY=0", "50% of it"]
)
def test_whatever_a_message_holds_it_stays_one_field(log, journald, message):
    log.error(message, extra=about(SUBJECT=message))
    found = journald.receive()
    assert found["MESSAGE"] == message
    assert found["SUBJECT"] == message
    assert found["PRIORITY"] == "3"


def test_a_message_beyond_a_datagram_comes_by_descriptor(log, journald):
    text = "line\n" * SIZE
    log.info(text, extra=about(REASON="Long"))
    found = journald.receive()
    assert journald.by_descriptor
    assert found["MESSAGE"] == text
    assert found["REASON"] == "Long"


def test_a_traceback_is_part_of_the_message(log, journald):
    try:
        {}["lost"]
    except KeyError:
        log.exception("it failed")
    message = journald.receive()["MESSAGE"]
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("KeyError: 'lost'")


def test_undecodable_names_become_escapes(log, journald):
    log.info("file %s", os.fsdecode(b"\xff.whl"))
    assert journald.receive()["MESSAGE"] == "file \\udcff.whl"


def test_a_journald_that_was_started_anew_is_found_again(log, journald):
    log.info("one")
    assert journald.receive()["MESSAGE"] == "one"
    journald.close()
    log.info("nobody listens")
    assert log.aside.getvalue() == "nobody listens\n"
    again = Journald(journald.path)
    log.info("two")
    assert again.receive()["MESSAGE"] == "two"
    again.socket.close()


@pytest.mark.parametrize("limit", ["the kernel's", "the sender's", 1, 10, 512])
def test_a_journald_that_takes_nothing_holds_up_one_line_at_most(tmp_path, limit):
    """Whichever is full first, the sender's buffer or journald's queue, however long that is."""
    path = tmp_path / "socket"
    if isinstance(limit, int):
        journald = in_own_network(lambda: Journald(path), {"net.unix.max_dgram_qlen": limit})
    else:
        journald = Journald(path)
    with logging_to(path, timeout=0.1) as log:
        waits = log.output._transport.socket
        if limit == "the sender's":
            waits.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        sent = 0
        while not log.aside.getvalue():
            log.info("line %d", sent)
            sent += 1
        taken = sent - 1
        for _ in range(3):
            assert not waits.getblocking()
            log.info("line %d", sent)
            sent += 1
        assert log.aside.getvalue().splitlines() == [f"line {n}" for n in range(taken, sent)]
        for number in range(taken):
            assert journald.receive()["MESSAGE"] == f"line {number}"
        log.info("again")
        assert journald.receive()["MESSAGE"] == "again"
        assert waits.getblocking()
    journald.close()


def test_a_journald_that_only_pauses_gets_every_line_in_its_order(log, journald):
    log.output._transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    with ThreadPoolExecutor(1) as reader:
        took = reader.submit(lambda: [journald.receive()["MESSAGE"] for _ in range(200)])
        for number in range(200):
            log.info("line %d", number)
        assert took.result(60) == [f"line {n}" for n in range(200)]
    assert log.aside.getvalue() == ""


def test_the_pass_is_a_field_of_what_its_own_thread_says(log, journald):
    PASS.set(41)
    try:
        log.info("in the pass")
        other = threading.Thread(target=log.info, args=("beside it",))
        other.start()
        other.join()
    finally:
        PASS.set(0)
    assert journald.receive()["PASS"] == "41"
    assert "PASS" not in journald.receive()


def test_a_releases_whole_story_is_one_filter_away(log, journald, tmp_path):
    """What `journalctl PIPELINE=iris VERSION=1.4` shows: its steps, its conditions, its end."""
    told = []
    with Journal.open(tmp_path / "state") as journal:
        for number, phase in enumerate(Phase):
            told.append(journal.record(Transition(IRIS, phase, "Because", "so it is"), number))
        told += journal.set_conditions([Condition(str(IRIS), "Unhealthy", "it dies")], 20.0)
        told += journal.set_conditions([], 21.0)
    found = []
    for event in told:
        logs.tell(log, event, digest=IRIS.digest)
        found.append(journald.receive())
    assert {(entry["PIPELINE"], entry["VERSION"]) for entry in found} == {("iris", "1.4")}
    assert {entry["RELEASE"] for entry in found} == {str(IRIS)}
    assert {entry["DIGEST"] for entry in found} == {IRIS.digest}
    assert [entry.get("PHASE") for entry in found] == [*Phase, None, None]
    assert [entry["REASON"] for entry in found] == ["Because"] * 10 + ["Unhealthy"] * 2
    kinds = {identifier: kind for kind, identifier in KINDS.items()}
    assert [kinds[entry["MESSAGE_ID"]] for entry in found] == [
        *(f"Release{phase}" for phase in Phase),
        *("ConditionAppeared", "ConditionGone"),
    ]
    quarantined = next(entry for entry in found if entry.get("PHASE") == "Quarantined")
    assert quarantined["PRIORITY"] == "4"
    assert quarantined["MESSAGE"] == f"{IRIS} Quarantined, Because: so it is"


def test_what_is_said_of_a_pipeline_or_a_file_is_found_by_its_fields(log, journald, tmp_path):
    file = "iris-1.4.0-py3-none-any.whl"
    said = [
        Condition("iris", "PinUnmet", "nothing fits"),
        Condition("rag", "Suspended", "suspended by bob"),
        Condition("odd", "SettingsRefused", "known by its release"),
        Condition(file, "WheelInvalid", "it is no zip"),
        Condition("llm==2.0", "Unfinished", "it comes"),
        Condition("serve config", "Suspended", "suspended by bob"),
        Condition("ray", "DashboardUnreachable", "nothing answers"),
    ]
    found = {}
    with Journal.open(tmp_path / "state") as journal:
        known = Release("odd", Version("1"), "cd" * 32)
        journal.record(Transition(known, Phase.LIVE, "Because", "so it is"), 1.0)
        for event in journal.set_conditions(said, 2.0):
            logs.tell(log, event)
            entry = journald.receive()
            found[entry["SUBJECT"]] = (entry.get("PIPELINE"), entry.get("VERSION"))
        assert {e.subject for e in journal.events(pipeline="iris")} == {"iris", file}
        assert [e.subject for e in journal.events(pipeline="iris", version=IRIS.version)] == [file]
        journal.set_conditions([], 3.0)
        assert len(journal.events(pipeline="iris")) == 4
    assert found == {
        "iris": ("iris", None),
        "rag": ("rag", None),
        "odd": ("odd", None),
        file: ("iris", "1.4.0"),
        "llm==2.0": ("llm", "2.0"),
        "serve config": (None, None),
        "ray": (None, None),
    }


def test_each_kind_has_an_identifier_of_its_own_as_journald_wants_it():
    assert len(set(KINDS.values())) == len(KINDS)
    assert all(re.fullmatch(r"[0-9a-f]{32}", identifier) for identifier in KINDS.values())
    assert {f"Release{phase}" for phase in Phase} <= KINDS.keys()


def test_identifiers_never_change():
    assert KINDS["ReleaseLive"] == "1d19683b536f469690c6503c8608072d"
    assert KINDS["ReleaseQuarantined"] == "a90c7f7621dc4bb5a0c2d2ddf421accd"


# -- text and JSON -------------------------------------------------------------------------------


def _record(message, *args, level=logging.WARNING, **extra):
    logger = logging.getLogger("wheelway")
    return logger.makeRecord("wheelway", level, __file__, 1, message, args, None, extra=extra)


def test_text_is_dated_unless_who_reads_it_dates_it():
    line = Readable(colour=False, dated=True).format(_record("it is late"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARNING it is late", line)
    assert Readable(colour=False, dated=False).format(_record("so")) == "WARNING so"


def test_colour_says_the_level_and_nothing_else_is_steered():
    line = Readable(colour=True, dated=False).format(_record("a\x1b[2Jb"))
    assert "\x1b[33m" in line
    assert "\x1b[2J" not in line
    assert "a\\x1b[2Jb" in line


def test_further_lines_are_indented():
    assert Readable(colour=False, dated=False).format(_record("a\nb")) == "WARNING a\n    b"


def test_json_is_one_object_a_line():
    event = Event(1.0, str(IRIS), "AnswersAtRoute", "it\nanswers", {"phase": "Live"})
    written = io.StringIO()
    output = logging.StreamHandler(written)
    output.setFormatter(JsonLines())
    logger = logging.getLogger("wheelway.json")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(output)
    logs.tell(logger, event, digest=IRIS.digest)
    logger.removeHandler(output)
    (line,) = written.getvalue().splitlines()
    found = json.loads(line)
    assert found["message"] == f"{IRIS} Live, AnswersAtRoute: it\nanswers"
    assert found["kind"] == "ReleaseLive"
    assert found["message_id"] == KINDS["ReleaseLive"]
    assert (found["pipeline"], found["version"], found["digest"]) == ("iris", "1.4", IRIS.digest)
    assert (found["phase"], found["reason"], found["level"]) == ("Live", "AnswersAtRoute", "info")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["at"])
    assert "pass" not in found


# -- which form ----------------------------------------------------------------------------------


def test_the_journal_is_recognised_by_device_and_inode(tmp_path):
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        assert is_journal(stream, f"{status.st_dev}:{status.st_ino}")
        assert not is_journal(stream, f"{status.st_dev}:{status.st_ino + 1}")
        assert not is_journal(stream, "")
        assert not is_journal(stream, "nonsense")
    assert not is_journal(io.StringIO(), "1:2")


@pytest.mark.parametrize(
    ("wanted", "connected", "kind", "formatter"),
    [
        ("auto", True, ToJournal, None),
        ("auto", False, logging.StreamHandler, Readable),
        ("text", True, logging.StreamHandler, Readable),
        ("json", True, logging.StreamHandler, JsonLines),
        ("journal", False, ToJournal, None),
    ],
)
def test_the_form_is_what_is_configured_or_what_fits(
    root, tmp_path, wanted, connected, kind, formatter
):
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        here = f"{status.st_dev}:{status.st_ino}" if connected else ""
        options = LogOptions(format=wanted, level="warning")
        begin(options, stream=stream, environ={"JOURNAL_STREAM": here})
        (output,) = root.handlers
        if kind is ToJournal:
            assert output.format(_record("%s is late", "it")) == "it is late"
        assert type(output) is kind
        assert formatter is None or isinstance(output.formatter, formatter)
        assert root.level == logging.WARNING


def test_another_configuration_takes_the_place_of_the_one_before(root, capsys):
    begin(LogOptions(format="text"), stream=sys.stderr, environ={})
    logging.getLogger("wheelway").info("first")
    begin(LogOptions(format="json"), stream=sys.stderr, environ={}, level=logging.ERROR)
    logging.getLogger("wheelway").warning("not this")
    logging.getLogger("wheelway").error("second")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("INFO    first")
    assert json.loads(second)["message"] == "second"
