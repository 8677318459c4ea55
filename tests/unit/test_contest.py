"""Somebody else changes what was sent: corrected three times, then told, and not fought over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.journal import identity
from controller.model import Phase
from controller.planning import causes
from controller.planning.contest import PAUSE, WINDOW, Contest
from controller.planning.daemons import DaemonMark, mark_of, marked
from controller.planning.overrides import NOTHING_ORDERED, Overrides, Suspension
from controller.planning.plan import PlannedApplication
from tests.support.passes import Passes, reasons
from tests.support.world import NOW, application, release

pytestmark = pytest.mark.unit

THEIRS = {"name": "theirs", "route_prefix": "/theirs", "import_path": "their:app"}
HOUR = 3600.0
ROUTE = "/predict/demo/1.0"


@pytest.fixture
def beside(at_work, paper_head, interpreter, tmp_path):
    """Opens a second daemon, of another state folder, on the same head."""
    opened = []

    def opener(**sections):
        folder = tmp_path / f"beside-{len(opened)}"
        folder.mkdir()
        opened.append(Passes(folder, paper_head, interpreter, **sections))
        return opened[-1]

    yield opener
    for passes in opened:
        passes.close()


def demo(paper_head):
    return paper_head.serves(ROUTE)


def told(report):
    """What is said of the Serve config."""
    return "".join(c.message for c in report.conditions if c.subject == "serve config")


def holder(paper_head):
    """The name of who has the route of `demo`."""
    routes = paper_head.routes()
    return next((name for name, route in routes.items() if route == ROUTE), None)


# -- another writer ------------------------------------------------------------------------------


def test_whoever_sends_another_config_every_ten_seconds_is_told_and_not_fought(work, paper_head):
    work.drop()
    work.settle()
    before, told = len(paper_head.puts), []
    for second in range(600):
        if second % 10 == 0:
            paper_head.receives(THEIRS)
        report = work.pass_(after=1.0)
        told += [c for c in report.conditions if c.reason == "Contested"]
        assert report.next_in > 0.1
    assert len(paper_head.puts) - before < 25  # two or three configs bring it back
    assert len(told) > 500
    assert "demo-1.0" in told[0].message
    assert "was removed" in told[0].message


def test_when_the_other_one_stops_it_is_corrected_and_after_a_while_forgotten(work, paper_head):
    work.drop()
    work.settle()
    for _ in range(6):
        paper_head.receives(THEIRS)
        for _ in range(10):
            report = work.pass_(after=1.0)
    assert reasons(report) == {"serve config": "Contested"}
    for _ in range(130):
        report = work.pass_(after=1.0)
    assert demo(paper_head)
    assert reasons(report) == {"serve config": "Contested"}
    report = work.pass_(after=WINDOW)
    assert reasons(report) == {}


def test_a_setting_that_somebody_else_gave_another_type_is_corrected(at_work, paper_head):
    work = at_work(pipelines=[{"name": "demo", "settings": {"n": 0}}])
    work.drop()
    work.settle()
    [sent] = paper_head.puts[-1]["applications"]
    [host] = sent["deployments"]
    config = host["user_config"]
    theirs = {**host, "user_config": {**config, "settings": {"n": False}}}
    for _ in range(4):
        paper_head.receives({**sent, "deployments": [theirs]})
        work.pass_(after=1.0)
        report = work.pass_(after=1.0)
    assert paper_head.puts[2:] == paper_head.puts[1:2] * 3
    [told] = [c for c in report.conditions if c.subject == "serve config"]
    assert "user_config.settings.n is False, not 0" in told.message


def test_three_that_lie_far_apart_are_no_contest(work, paper_head):
    work.drop()
    work.settle()
    for _ in range(5):
        paper_head.receives(THEIRS)
        assert not reasons(work.settle())
        assert demo(paper_head)
        work.pass_(after=WINDOW / 2)


def test_what_is_rolled_out_or_carried_along_meanwhile_is_no_contest(work, paper_head):
    for version in ("1.0", "2.0", "3.0", "4.0", "5.0"):
        work.drop(version=version)
        paper_head.runs(f"theirs-{version}", f"/theirs/{version}")
        assert not reasons(work.settle())


def test_a_ray_that_reports_what_was_sent_otherwise_is_told_and_not_sent_to_for_ever(
    work, paper_head
):
    def normalised(document):
        host, *rest = document["deployments"]
        return {**document, "deployments": [{**host, "max_ongoing_requests": 7}, *rest]}

    paper_head.rewrites = normalised
    work.drop()
    for _ in range(300):
        report = work.pass_(after=1.0)
    assert len(paper_head.puts) < 12
    [told] = [c for c in report.conditions if c.subject == "serve config"]
    assert told.reason == "NotConverging"
    assert "deployments[0].max_ongoing_requests is 7, not 400" in told.message


def test_a_failed_promotion_gives_the_route_back_at_once_though_others_are_contested(
    work, paper_head
):
    work.drop()
    work.drop("other")
    work.settle()
    good = holder(paper_head)
    _contest_over_other(work, paper_head)
    bad = _promoted_and_mute(work, paper_head)
    work.pass_(after=1.0)
    _take_away(paper_head, "other")
    before = len(paper_head.puts)
    for _ in range(32):
        report = work.pass_(after=1.0)
        assert holder(paper_head) == bad or report.quarantines
        if report.quarantines:
            break
    assert [q.reason for q in report.failures] == ["ProbeFailed"]
    assert holder(paper_head) == good
    assert len(paper_head.puts) - before == 1
    assert reasons(report)["serve config"] == "Contested"


def test_a_route_back_that_somebody_else_takes_again_and_again_is_not_fought_over(work, paper_head):
    work.drop()
    work.drop("other")
    work.settle()
    good = holder(paper_head)
    _contest_over_other(work, paper_head)
    bad = _promoted_and_mute(work, paper_head)
    taken, before = 0, len(paper_head.puts)
    for _ in range(300):
        work.pass_(after=1.0)
        if holder(paper_head) == good:
            taken += 1
            last = paper_head.puts[-1]["applications"]
            theirs = {one["name"]: one["route_prefix"] for one in last} | {good: None, bad: ROUTE}
            paper_head.receives(*(one | {"route_prefix": theirs[one["name"]]} for one in last))
    assert taken
    assert len(paper_head.puts) - before < 5


def _take_away(paper_head, pipeline):
    """Somebody else sends what was sent last, without one pipeline."""
    last = paper_head.puts[-1]["applications"]
    paper_head.receives(*(one for one in last if not one["name"].startswith(pipeline)))


def _contest_over_other(work, paper_head):
    """Somebody else takes one of two pipelines away until nothing is corrected for minutes."""
    for _ in range(60):
        for _ in range(3):
            report = work.pass_(after=2.0)
        if paper_head.serves("/predict/other/1.0"):
            _take_away(paper_head, "other")
    assert reasons(report)["serve config"] == "Contested"
    while not paper_head.serves("/predict/other/1.0"):
        work.pass_(after=5.0)


def _promoted_and_mute(work, paper_head):
    """Other bytes of the version are given its route, and are never seen there."""
    before = holder(paper_head)
    work.drop(marker="other bytes")
    while holder(paper_head) == before:
        work.pass_(after=1.0)
    paper_head.mute.add(ROUTE)
    return holder(paper_head)


# -- another daemon ------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("a1 a2 a3", "b"), ("b", "a1 a2 a3")])
def test_of_two_daemons_on_one_cluster_the_younger_stands_down(
    at_work, beside, paper_head, first, second
):
    older = at_work(rollout={"absence_grace": 10})
    for name in first.split():
        older.drop(name)
    older.settle()
    older.time_passes(60.0)
    younger = beside(rollout={"absence_grace": 10})
    younger.clock.now = older.clock.now
    younger.restart(younger.folder / "born-later")
    for name in second.split():
        younger.drop(name)
    before = len(paper_head.puts)
    heard = set()
    for _ in range(300):
        mine, theirs = older.pass_(after=1.0), younger.pass_(after=1.0)
        heard.add(told(mine))
        for name in first.split():
            assert paper_head.serves(f"/predict/{name}/1.0")
    assert len(paper_head.puts) - before == 2
    assert reasons(mine) == {}
    assert reasons(theirs)["serve config"] == "AnotherDaemon"
    assert f"with its state in {older.mark.folder}, has this" in told(theirs)
    assert f"a younger daemon, {younger.mark}, has marked" in "".join(heard)
    assert "RetireLimit" not in reasons(theirs).values()  # it retires nothing
    assert set(older.phases().values()) == {Phase.LIVE}


def test_it_takes_over_once_the_older_one_is_gone(at_work, beside, paper_head):
    older = at_work()
    older.drop("a")
    older.settle()
    younger = beside()
    younger.clock.now += 1
    younger.restart(younger.folder / "born-later")
    younger.drop("a")
    younger.drop("b")
    for _ in range(30):
        older.pass_(after=1.0)
        report = younger.pass_(after=1.0)
    assert reasons(report)["serve config"] == "AnotherDaemon"
    younger.pass_(after=PAUSE)
    for _ in range(40):
        report = younger.pass_(after=1.0)
    assert reasons(report) == {}
    assert paper_head.serves("/predict/b/1.0")


def test_one_that_lost_its_state_takes_over_what_it_finds_after_a_moment(work, paper_head):
    work.drop()
    work.settle()
    work.restart(work.folder / "fresh")
    work.drop("other")
    report = work.pass_()
    assert report.sent
    assert reasons(report) == {"serve config": "TakingOver"}
    for _ in range(14):
        report = work.pass_(after=1.0)
        assert not report.sent
        assert reasons(report) == {"serve config": "TakingOver"}
    assert reasons(work.settle()) == {}
    assert work.phases() == {"demo-1.0": Phase.LIVE, "other-1.0": Phase.LIVE}


def test_whose_an_application_is_changes_neither_its_name_nor_what_restarts_it(work, paper_head):
    work.drop()
    work.settle()
    [before] = paper_head.puts[-1]["applications"]
    assert mark_of(before) == work.mark
    work.restart(work.folder / "fresh")
    work.settle()
    [after] = paper_head.puts[-1]["applications"]
    assert mark_of(after) == work.mark
    other = DaemonMark("", 0.0, "")
    assert marked(before, other) == marked(after, other)


def test_a_daemon_keeps_its_mark_though_its_journal_is_lost(tmp_path):
    mark = identity(tmp_path, make=True, wall_clock=lambda: 5.0)
    assert mark.since == 5.0
    assert identity(tmp_path, make=True) == identity(tmp_path, make=False) == mark
    (tmp_path / "daemon.json").write_text("torn")
    assert identity(tmp_path, make=False) is None
    assert identity(tmp_path, make=True).id != mark.id


# -- one look at a time --------------------------------------------------------------------------

OWN, OLD, YOUNG = (DaemonMark(f"born-{since}", since, "head") for since in (5, 1, 9))


def of(mark, **how):
    app = application(release(**how), route="/r")
    document = {**app.document, "deployments": [{"name": "Host", "user_config": {"settings": {}}}]}
    bearing = marked(document, mark) if mark else document
    return replace(app, document=bearing)


def looked(contest, mark, now, overrides=NOTHING_ORDERED):
    found = contest.judge([of(mark)], overrides, now)
    return found and (found.cause.reason, found.mark is not None)


def send(contest, mark, now):
    contest.sent([PlannedApplication(of(mark).document, causes.HOLDS_ROUTE)], now)


def test_an_older_daemon_goes_on_when_a_younger_one_claims_what_it_has():
    contest = Contest(OWN, wait=15)
    send(contest, OWN, NOW)
    assert looked(contest, OWN, NOW + 1) is None
    assert looked(contest, YOUNG, NOW + 2) == ("TakingOver", True)
    send(contest, OWN, NOW + 2)
    assert looked(contest, OWN, NOW + 3) == ("TakingOver", False)
    assert looked(contest, YOUNG, NOW + 4) is None  # what is sent now tells it to stand down
    send(contest, OWN, NOW + 4)
    assert looked(contest, OWN, NOW + 20) is None


def test_a_younger_daemon_looks_again_after_its_pause():
    contest = Contest(OWN, wait=15)
    assert looked(contest, OLD, NOW) == ("TakingOver", True)
    send(contest, OWN, NOW)
    assert looked(contest, OLD, NOW + 1) == ("AnotherDaemon", False)
    assert looked(contest, OLD, NOW + PAUSE) == ("AnotherDaemon", False)
    assert looked(contest, OLD, NOW + 1 + PAUSE) == ("TakingOver", True)


def test_what_an_operator_suspended_is_not_claimed():
    suspended = Overrides(suspensions={"iris": Suspension("iris", "somebody", "", NOW)})
    assert looked(Contest(OWN, wait=15), OLD, NOW, suspended) is None


def test_without_a_mark_nobody_is_asked():
    assert looked(Contest(None, wait=15), OLD, NOW) is None
    assert looked(Contest(OWN, wait=15), None, NOW) is None
