"""What `wheelway explain` says of a journal that real writes filled."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from packaging.version import Version

from controller.cli.program import ExitCode
from controller.journal import Journal
from controller.journal.records import RefusedWheel
from controller.model import (
    Listing,
    Phase,
    Release,
    Transition,
)
from controller.ops.documents import WeightsOfAll
from tests.support.command import (
    IRIS_1,
    LOCAL,
    Command,
    passed,
    pid_of_a_process_that_ended,
    reach,
    revision,
)

pytestmark = pytest.mark.unit

ANSI = "\x1b"


@pytest.fixture
def wheelway(tmp_path):
    return Command(tmp_path)


@pytest.fixture
def filled(wheelway):
    wheelway.fill()
    return wheelway


def test_explain_says_exactly_why_the_new_version_is_not_live(filled):
    result = filled("explain", "IRIS")
    assert result.exit_code == 0
    first, *_ = result.stdout.splitlines()
    assert first.startswith("iris: 1.0 is live; the newest, 3.0, is not")
    for part in (
        "not live: it failed when it was started: LoadFailed",
        "model.bin is missing",
        r"|   \x1b[31min load",
        "wheelway quarantine clear iris 2.0",
        "live at /predict/iris/1.0",
        "+3.0 s  Live",
    ):
        assert part in result.stdout
    assert ANSI not in result.stdout


def test_what_was_live_when_the_daemon_was_last_seen_may_not_be_so_any_more(filled):
    assert filled.json("explain", "iris")["last_seen"] is None
    with Journal.open(filled.state) as journal:
        passed(journal, pid=pid_of_a_process_that_ended(), at=time.time() - 3 * 3600 - 60)
    told = filled("explain", "iris").stdout
    was = "1.0 was live when the daemon was last seen, 3 h ago; the newest, 3.0, is not"
    assert told.startswith(f"iris: {was}")
    assert "live at /predict/iris/1.0 when the daemon was last seen\n" in told
    assert "iris: 1.0 was live when the daemon was last seen, 3 h ago" in filled("explain").stdout
    document = filled.json("explain", "iris")
    assert document["live"] == ["1.0"]
    assert document["last_seen"].endswith("Z")


def test_a_wheel_refused_before_its_pipelines_are_known_is_found_by_pipeline_project_and_file(
    filled,
):
    for name in ("iris", "Acme.Iris", "acme_iris-3.0-py3-none-any.whl"):
        reasons = [row["reason"] for row in filled.json("explain", name)["releases"]]
        assert "NotAZip" in reasons, name
    assert "FilenameInvalid" in filled("explain", "Bad Name.whl").stdout


def test_a_refused_copy_of_a_live_wheel_is_not_taken_for_its_file(filled):
    own, copy = revision("acme-iris", IRIS_1), "other-1.0-py3-none-any.whl"
    other = replace(own, project="other", filename=copy, locator=copy)
    why = "it says of itself that it is acme-iris"
    with Journal.open(filled.state) as journal:
        for revisions in ((own, other), (other, own)):
            journal.save_listing(Listing("directory", revisions), time.time())
            refused = RefusedWheel(own.sha256, copy, "MetadataMismatch", why, "inputs", 1.0)
            journal.keep_refused([refused])
            for asked in (copy, "iris"):
                told = filled.json("explain", asked)["releases"]
                assert [item["file"] for item in told if item["live"]] == [own.filename], asked


def test_explain_says_since_when_the_reason_holds_which_may_be_newer_than_the_phase(filled):
    now = time.time()
    gone = Transition(IRIS_1, Phase.LIVE, "Missing", "no source lists it", "iris-1.0-0123abcd")
    with Journal.open(filled.state) as journal:
        journal.record(gone, now - 3)
    head = next(line for line in filled("explain", "iris", "1.0").stdout.splitlines()[1:] if line)
    assert re.search(r"Live  Missing, for [3-9] s \(Live for 4 min\)$", head), head
    head = next(line for line in filled("explain", "greeter").stdout.splitlines()[1:] if line)
    assert re.search(r"Live  AnswersAtRoute, for 4 min$", head), head


def test_what_all_releases_have_of_weights_is_read_once_however_many_are_told(filled, monkeypatch):
    read, of = [], WeightsOfAll.of
    monkeypatch.setattr(WeightsOfAll, "of", lambda reader: read.append(reader) or of(reader))
    assert len(filled.json("explain", "iris")["releases"]) > 1
    assert len(read) == 1


def test_a_wheel_that_nobody_looked_into_is_explained_as_that(filled):
    unread = Release("acme-iris", Version("0.1"), "9" * 64)
    with Journal.open(filled.state) as journal:
        listing = Listing("shelf", (revision("acme-iris", unread),))
        journal.save_listing(listing, time.time())
    document = filled.json("explain", "acme-iris", "0.1")
    assert document["unread"][0]["file"] == "acme_iris-0.1-py3-none-any.whl"
    assert "not fetched" in filled("explain", "acme-iris", "0.1").stdout


def test_a_timeline_says_what_is_now_when_the_release_came_back(filled):
    with Journal.open(filled.state) as journal:
        steps = [(Phase.RETIRED, "Absent", 10.0), (Phase.LIVE, "AnswersAtRoute", time.time())]
        reach(journal, LOCAL, steps)
    told = filled("explain", "greeter").stdout
    timeline = told[told.index("timeline, each phase when it was first reached:") :]
    assert re.search(r"^ +\S+ \S+ +now  Live$", timeline, re.MULTILINE)
    assert "now  Live" not in filled("explain", "iris").stdout


def test_an_unknown_name_is_answered_with_those_that_come_near(filled):
    result = filled("explain", "irsi")
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr.startswith("error: ")
    assert "did you mean iris" in result.stderr
    assert "2.0, 1.0, 0.9" in filled("explain", "iris", "7").stderr
    assert filled("explain", "iris", "x.y").exit_code == ExitCode.USAGE
