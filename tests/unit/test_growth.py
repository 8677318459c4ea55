"""What a pass costs grows no faster than what is listed, and what is over costs nothing.

Counted are calls of functions, never seconds: the same in each run, whatever else the machine does.
`benchmarks/pass_cost.py` has the seconds.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import fields

import pytest
from packaging.version import Version

from controller.config.settings import Config
from controller.model import Phase, Quarantine, Release, Transition
from controller.ops.status import tell
from controller.planning.overrides import Pin
from controller.reconcile.desired import Desired
from controller.serve.rendering import APPLICATION
from controller.serve.templates import shipped
from tests.support.paper_daemon import WAY, Daemon

pytestmark = pytest.mark.unit

SIZES = (10, 20, 40)
LINEAR = 1.25
"""As much may the last step of the sizes be dearer, for a pipeline, than the one before: each with
each would make it twice as dear."""


@pytest.fixture
def daemon(tmp_path):
    """Opens a daemon of paper, at rest, with so many pipelines."""
    opened = []

    def opener(pipelines, **how):
        made = Daemon(tmp_path / str(len(opened)), pipelines, **how)
        opened.append(made.__enter__())
        made.settle()
        return made

    yield opener
    for made in opened:
        made.__exit__(None, None, None)


def calls(work):
    """How many functions a piece of work calls in this thread."""
    counted = Counter()

    def count(_frame, event, _argument):
        counted[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return counted["call"] + counted["c_call"]


def quiet(daemon):
    """Calls of a pass with nothing to do, but for what is done once in a while."""
    return min(calls(daemon.pass_) for _ in range(8))


def scraped(daemon):
    """Calls of what Prometheus is answered with."""
    return min(calls(daemon.telemetry.metrics.render) for _ in range(3))


def retire(daemon, numbers):
    """Releases that are over, of each pipeline in turns."""
    version = daemon.source.revisions[0].version
    with daemon.journal.transaction():
        for number in numbers:
            old = Release(f"pipeline-{number % daemon.pipelines}", version, f"{number:064x}")
            for phase in (Phase.LIVE, Phase.RETIRED):
                daemon.journal.record(Transition(old, phase, "Past", "it is over"), 1.0)


def grows_linearly(counts):
    first, second, third = counts
    each = [(second - first) / (SIZES[1] - SIZES[0]), (third - second) / (SIZES[2] - SIZES[1])]
    return each[1] <= LINEAR * each[0]


def test_a_pass_with_nothing_to_do_grows_with_what_is_listed_and_no_faster(daemon):
    counts = [quiet(daemon(size)) for size in SIZES]
    assert grows_linearly(counts), counts


def test_so_does_all_that_a_new_release_takes(daemon):
    counts = []
    for size in SIZES:
        made = daemon(size)
        made.publish(0)
        counts.append(calls(made.settle))
    assert grows_linearly(counts), counts


def test_and_what_status_shows(daemon):
    counts = []
    for size in SIZES:
        made = daemon(size)

        def look(made=made):
            tell(made.journal, lambda: made.config, 1.0, everything=False)

        counts.append(calls(look))
    assert grows_linearly(counts), counts


def test_and_a_scrape_of_the_metrics(daemon):
    counts = [scraped(daemon(size)) for size in SIZES]
    assert grows_linearly(counts), counts


def test_a_scrape_is_no_dearer_for_what_is_over(daemon):
    made = daemon(10)
    retire(made, range(10))  # one of each pipeline: the phase is a line of its own
    before = scraped(made)
    retire(made, range(10, 500))
    assert scraped(made) <= 1.02 * before


def test_pipelines_of_one_wheel_are_no_dearer_than_wheels_of_their_own(daemon):
    apart, together = daemon(20), daemon(20, wheels=1)
    assert quiet(together) <= 1.02 * quiet(apart)


def test_what_is_over_costs_nothing(daemon):
    made = daemon(10)
    before = quiet(made)
    with made.journal.transaction():
        for number in range(500):
            old = Release(
                f"pipeline-{number % 10}", made.source.revisions[0].version, f"{number:064x}"
            )
            for phase in (Phase.LIVE, Phase.RETIRED):
                made.journal.record(Transition(old, phase, "Past", "it is over"), 1.0)
            stage = "inspect" if number % 2 else "stage"
            made.journal.add_quarantine(Quarantine(old, stage, "LoadFailed", "it failed", "x"))
    made.telemetry.told = made.journal.last_event()
    assert quiet(made) <= 1.02 * before


def test_a_pass_with_nothing_to_do_places_plans_and_writes_nothing(daemon):
    made = daemon(10)
    made.pass_()
    gatherer = made.reconciler._gatherer
    placed, judged = gatherer._placed.made, gatherer._election._verdicts.made
    written = []
    made.journal._connection.set_trace_callback(written.append)
    _, report = made.pass_()
    _, again = made.pass_()
    assert again.plan is report.plan
    assert (gatherer._placed.made, gatherer._election._verdicts.made) == (placed, judged)
    tables = {line.split()[3] for line in written if line.startswith("INSERT")}
    assert tables <= {"INTO", "status", "meta"}


def test_a_daemon_at_rest_has_an_environment_made_again_that_is_there_no_more(daemon):
    made = daemon(10)
    made.pass_()
    before = made.prepared
    made.jobs.drop(lambda key: key[0] == "prepare")
    _, report = made.pass_()
    assert made.prepared == before + 20  # two versions of each
    assert not report.plan.changes


def test_and_goes_by_an_order_at_once(daemon):
    made = daemon(10)
    made.pass_()
    pin = Pin("pipeline-0", (Version("1.3"),), by="a person", note="", at=1.0)
    made.journal.order(pin, message="pinned")
    _, report = made.pass_()
    [change] = report.plan.changes
    assert (change.action, change.application.startswith("pipeline-0-1.3")) == ("add", True)


class Watched:
    """A daemon, and what its gatherer desires in each pass; one that `forgets` works it out anew
    each time.
    """

    def __init__(self, daemon, *, forgets):
        self.daemon = daemon
        self.desired = None
        self.documents = {}
        """By name: of all that was ever placed."""
        gatherer = daemon.reconciler._gatherer
        gathered = gatherer.desired

        def watched(*facts, **more):
            if forgets:
                gatherer._latest = None
            self.desired = gathered(*facts, **more)
            placed = self.desired.placements.values()
            self.documents.update((one.name, one.document) for one in placed)
            return self.desired

        gatherer.desired = watched

    def pass_(self):
        """What came of a pass, and whether the gatherer answered as it did in the one before."""
        before = self.desired
        _, report = self.daemon.pass_()
        shown = {part.name: getattr(self.desired, part.name) for part in fields(Desired)}
        prepared = self.daemon.prepared
        return (shown, prepared, report.sentence, report.plan.changes), self.desired is before

    def newest(self):
        return max(self.desired.inputs, key=lambda release: (release.version, release.pipeline))

    # -- what becomes another ----------------------------------------------------------------

    def lists_a_new_wheel(self):
        self.daemon.publish(0)
        self.daemon.artifacts.request_poll("paper")

    def lists_another_which_fails(self):
        self.daemon.publish(1)
        self.daemon.artifacts.request_poll("paper")
        self.pass_()
        new = self.newest()
        failed = Quarantine(new, "stage", "LoadFailed", "it failed", self.desired.inputs[new])
        self.daemon.journal.add_quarantine(failed)

    def clears_its_quarantine(self):
        [failed] = self.daemon.journal.quarantines()
        self.daemon.journal.clear_quarantine(failed.subject.pipeline, at=1.0)

    def pins(self):
        pin = Pin("pipeline-1", (Version("1.3"),), by="a person", note="", at=1.0)
        self.daemon.journal.order(pin, message="pinned")

    def unpins(self):
        pin = self.daemon.journal.overrides().pins["pipeline-1"]
        self.daemon.journal.lift(pin, at=1.0, by="a person")

    def sees_an_application_of_an_old_release(self):
        [old] = [one for name, one in self.documents.items() if "pipeline-1-1.3-" in name]
        present = [app.document for app in self.daemon.dashboard.applications()]
        self.daemon.head.receives(*present, {**old, "route_prefix": "/elsewhere"})

    def sees_an_application_go(self):
        present = [app.document for app in self.daemon.dashboard.applications()]
        self.daemon.head.receives(*present[1:])

    def edits_a_template(self):
        folder = self.daemon.folder / "templates"
        folder.mkdir()
        text = (shipped() / APPLICATION).read_text()
        (folder / APPLICATION).write_text(f"{text}# edited\n")

    def drops_environments(self):
        self.daemon.jobs.drop(lambda key: key[0] == "prepare")

    def edits_the_configuration(self):
        rules = [{"name": "pipeline-2", "keep": 1}]
        given = self.daemon.config.model_dump(exclude={"pipelines"}, exclude_unset=True)
        self.daemon.reconciler.renew(Config(**given, pipelines=rules))

    def withdraws_a_wheel(self):
        gone = self.newest().digest
        source = self.daemon.source
        source.revisions = [one for one in source.revisions if one.sha256 != gone]
        self.daemon.artifacts.request_poll("paper")


def test_a_daemon_at_rest_desires_what_it_would_work_out_anew_whatever_becomes_another(daemon):
    twins = [Watched(daemon(4), forgets=forgets) for forgets in (False, True)]

    def rested():
        """What both desire once nothing is another."""
        for _ in range(WAY):
            (found, at_rest), (anew, _) = [twin.pass_() for twin in twins]
            assert found == anew
            if at_rest:
                return found
        pytest.fail("never at rest")

    before = rested()
    for change in (
        Watched.lists_a_new_wheel,
        Watched.lists_another_which_fails,
        Watched.clears_its_quarantine,
        Watched.pins,
        Watched.unpins,
        Watched.sees_an_application_of_an_old_release,
        Watched.sees_an_application_go,
        Watched.edits_a_template,
        Watched.drops_environments,
        Watched.edits_the_configuration,
        Watched.withdraws_a_wheel,
    ):
        for twin in twins:
            change(twin)
        (found, _), (anew, _) = [twin.pass_() for twin in twins]
        assert found == anew, change.__name__
        assert found != before, change.__name__
        before = rested()


def test_what_stays_as_it_is_has_the_same_document_from_the_cluster_to_the_config(daemon):
    one = daemon(SIZES[0])
    one.publish(0)
    one.artifacts.request_poll(one.source.name)
    moving = 0
    for _ in range(6):
        _, report = one.pass_()
        observed = {app.name: app.document for app in one.dashboard.applications()}
        planned = {str(item.document["name"]): item.document for item in report.plan.applications}
        changed = {change.application for change in report.plan.changes}
        for name in observed.keys() & planned.keys() - changed:
            assert planned[name] is observed[name]
        moving += bool(changed)
    assert moving == 3


def test_a_pass_in_which_one_release_moves_compares_no_settings_of_the_others(daemon, monkeypatch):
    counts = []
    for size in SIZES:
        one = daemon(size)
        one.publish(0)
        compared = []
        monkeypatch.setattr(
            "controller.planning.documents.same",
            lambda ours, theirs, compared=compared: compared.append(ours) or ours == theirs,
        )
        one.settle()
        counts.append(len(compared))
    assert max(counts) <= 10


def test_what_the_journal_is_asked_about_one_pipeline_is_no_dearer_for_all_others(daemon):
    def steps(made):
        """Of SQLite's machine, when one release of each pipeline failed."""
        counted = Counter()
        journal = made.journal
        failed = {record.subject.pipeline: record.subject for record in journal.releases()}
        with journal.transaction():
            for one in failed.values():
                journal.add_quarantine(Quarantine(one, "stage", "LoadFailed", "it failed", "x"))
        journal._connection.set_progress_handler(lambda: counted.update("n") or 0, 1)
        (one, *_) = journal.releases("pipeline-0")
        assert journal.events(subject=str(one.subject), pipeline="pipeline-0")
        assert journal.events(pipeline="pipeline-0", version=one.subject.version, since=0.0)
        assert len(journal.quarantines("pipeline-0")) == 1
        journal._connection.set_progress_handler(None, 1)
        return counted["n"]

    assert steps(daemon(SIZES[-1])) <= 1.02 * steps(daemon(SIZES[0]))


def test_a_release_that_goes_live_is_told_of_no_dearer_for_all_others(daemon):
    def rows(made):
        """Steps of SQLite's machine in the pass in which it goes live."""
        counted = Counter()
        made.publish(0)
        made.artifacts.request_poll(made.source.name)
        while True:
            counted.clear()
            made.journal._connection.set_progress_handler(lambda: counted.update("n") or 0, 1)
            _, report = made.pass_()
            made.journal._connection.set_progress_handler(None, 1)
            if any(event.fields.get("phase") == Phase.LIVE for event in report.events):
                return counted["n"]

    assert rows(daemon(SIZES[-1])) <= 1.5 * rows(daemon(SIZES[0]))
