"""Orders about weights, and what is told of them, over a journal that passes wrote."""

import json
import time

import pytest
from packaging.version import Version

from controller.cli.explain import drawn
from controller.cli.logs import _meant, loaders_of
from controller.cli.output import first_line
from controller.cli.status import weights_cells
from controller.errors import WheelwayError
from controller.ops import explain, history, orders, status, weights
from tests.support.passes import Passes

pytestmark = pytest.mark.unit

BY = {"by": "anna", "at": 1000.0}
BAD = {"reason": "LoadFailed", "message": "no such file: model.bin"}


@pytest.fixture
def live(work: Passes, paper_head):
    """Live with 2026.2, before with 2026.1; 2026.3 failed."""
    work.drop()
    for version in ("2026.1", "2026.2"):
        work.drop_weights(version)
        work.settle()
    paper_head.refused_weights["2026.3"] = BAD
    work.drop_weights("2026.3")
    work.settle()
    return work


def served(work):
    (proven,) = work.journal.proven_weights().values()
    return str(proven[0].weights.version)


def refused(reason, order, *args):
    with pytest.raises(WheelwayError) as caught:
        order(*args, **BY)
    assert caught.value.reason == reason
    return caught.value.message


def test_a_rollback_goes_back_to_those_before_and_unpin_forward_again(live):
    back = weights.roll_back(live.journal, "demo", **BY)
    assert (back["before"], back["after"]) == ("2026.2", "2026.1")
    [ordered] = [e for e in live.journal.events(pipeline="demo") if e.reason == "WeightsPinSet"]
    assert ordered.message == f"pinned to 2026.1 by {BY['by']} ({back['pin']['note']})"
    live.settle()
    assert served(live) == "2026.1"
    assert weights.unpin(live.journal, "Demo", **BY)["versions"] == ["2026.1"]
    live.settle()
    assert served(live) == "2026.2"


def test_a_second_rollback_goes_back_further_and_never_forward(live):
    live.drop_weights("2026.4")
    live.settle()
    assert served(live) == "2026.4"
    back = [weights.roll_back(live.journal, "demo", **BY)]
    back.append(weights.roll_back(live.journal, "demo", **BY))  # before a pass saw the first
    live.settle()
    told = [(one["before"], one["after"]) for one in back]
    assert told == [("2026.4", "2026.2"), ("2026.2", "2026.1")]
    assert served(live) == "2026.1"
    said = refused("RollbackImpossible", weights.roll_back, live.journal, "demo")
    assert "no version of demo was live with older weights before" in said


def test_a_rollback_while_new_weights_load_goes_back_to_those_that_serve(live, paper_head):
    paper_head.loading = 1000
    live.drop_weights("2026.4")
    for _ in range(6):
        live.pass_(after=0.2)
    assert served(live) == "2026.2"
    back = weights.roll_back(live.journal, "demo", **BY)
    assert (back["before"], back["after"]) == ("2026.4", "2026.2")


def test_without_former_weights_there_is_nothing_to_go_back_to(work):
    refused("WeightsUnknown", weights.roll_back, work.journal, "demo")
    work.drop()
    work.drop_weights("2026.1")
    work.settle()
    said = refused("RollbackImpossible", weights.roll_back, work.journal, "demo")
    assert "no version of demo was live with older weights before; listed are 2026.1" in said


def test_those_whose_wheel_is_gone_cannot_be_gone_back_to(live):
    live.remove(next(live.wheels.glob("demo_weights-2026.1-*")))
    live.settle()
    said = refused("RollbackImpossible", weights.roll_back, live.journal, "demo")
    assert "no source lists their wheel any more" in said


def test_a_pin_names_what_a_source_lists(live):
    said = refused("VersionUnlisted", weights.pin, live.journal, "demo", [Version("2025")])
    assert said.startswith("no source lists demo-weights 2025; listed are 2026.3, 2026.2, 2026.1")
    weights.pin(live.journal, "demo", [Version("2026.1")], **BY)
    live.settle()
    assert served(live) == "2026.1"
    refused("NotPinned", weights.unpin, live.journal, "other")


def test_a_quarantine_is_listed_and_lifted_by_the_version_of_the_weights(live, paper_head):
    (failed,) = status.quarantines(live.journal, everything=False)
    assert (failed["pipeline"], failed["version"], failed["stage"]) == ("demo", "1.0", "weights")
    assert failed["weights"].startswith("demo-weights@2026.3+")
    refused("NotQuarantined", weights.clear_quarantine, live.journal, "demo", Version("2026.2"))
    paper_head.refused_weights.clear()
    (lifted,) = weights.clear_quarantine(live.journal, "demo", Version("2026.3"), **BY)
    then = lifted.pop("then")
    assert lifted == failed
    mark = failed["weights"]
    assert then == f"The daemon has {mark} tried again at its next pass; see `wheelway status`."
    live.settle()
    assert served(live) == "2026.3"
    assert status.quarantines(live.journal, everything=True) == []


def test_status_says_with_which_weights_a_release_is_live(live):
    seen = status.tell(live.journal, lambda: live.config, live.clock(), everything=False)
    (release,) = seen["releases"]
    assert release["weights"].startswith("demo-weights@2026.2+")
    assert [c["reason"] for c in seen["conditions"]] == ["WeightsRefused"]
    assert json.dumps(seen)
    assert release["wanted_weights"] == release["weights"]
    rows = [[*cells] for cells in weights_cells(release, live.clock())]
    assert [(name.strip(), version, state) for name, version, (state, _), *_ in rows] == [
        ("demo-weights", "2026.2", "Live"),
        ("demo-weights", "2026.3", "Refused"),
    ]
    assert rows[1][3] == "LoadFailed"
    assert all(row[4] for row in rows), "since when"


def test_status_says_which_weights_a_release_is_to_have_and_does_not_have_yet(live, paper_head):
    paper_head.loading = 1000
    live.drop_weights("2026.4")
    for _ in range(6):
        live.pass_(after=0.2)
    seen = status.tell(live.journal, lambda: live.config, live.clock(), everything=False)
    rows = [*weights_cells(seen["releases"][0], live.clock())]
    told = [(version, state) for _, version, (state, _), *_ in rows]
    assert told == [("2026.2", "Live"), ("2026.4", "Wanted")]


def test_explain_tells_of_all_that_were_looked_into(live):
    story = explain.tell(live.journal, "demo", now=time.time())
    told = {one["version"]: one["reason"] for one in story["weights"]}
    assert told == {"2026.3": "Quarantined", "2026.2": "Elected", "2026.1": "NotKept"}
    (chapter,) = story["releases"]
    assert [mark.split("+")[0] for mark in chapter["former_weights"]] == ["demo-weights@2026.1"]
    (failed,) = chapter["refused_weights"]
    assert (failed["reason"], failed["message"]) == ("LoadFailed", BAD["message"])
    assert story["unread"] == []


def test_explain_knows_the_weights_by_their_own_name(live):
    story = explain.tell(live.journal, "demo-weights", now=time.time())
    said = "demo-weights: weights for demo; 2026.3: Quarantined; 2026.2 are for 1.0"
    assert story["summary"] == said
    assert [one["version"] for one in story["weights"]] == ["2026.3", "2026.2", "2026.1"]
    one = explain.tell(live.journal, "demo-weights", Version("2026.1"), now=time.time())
    assert [found["version"] for found in one["weights"]] == ["2026.1"]
    one = explain.tell(live.journal, "demo", Version("2026.3"), now=time.time())
    assert one["summary"] == "demo-weights: weights for demo; 2026.3: Quarantined"
    assert [found["version"] for found in one["weights"]] == ["2026.3"]


def test_weights_that_fail_their_inspection_are_told_of_their_pipeline(live):
    live.drop_weights("2026.4", files={"elsewhere/model.bin": "4"})
    report = live.settle()
    (condition,) = [c for c in report.conditions if c.reason == "WeightsUnsound"]
    assert (condition.subject, condition.ok) == ("demo", False)
    assert condition.message.count("demo_weights-2026.4-py3-none-any.whl: ") == 1
    assert "`wheelway explain demo-weights`" in condition.message
    story = explain.tell(live.journal, "demo-weights", now=time.time())
    said = "demo-weights: weights for demo; 2026.3: Quarantined; 2026.2 are for 1.0"
    assert story["summary"] == said
    told = explain.tell(live.journal, "demo", now=time.time())
    assert "WeightsUnsound" in {c["reason"] for c in told["conditions"]}
    live.drop_weights("2026.5")
    assert "WeightsUnsound" not in {c.reason for c in live.settle().conditions}


def test_a_person_is_told_of_the_newest_weights_and_of_those_in_force(live):
    story = explain.tell(live.journal, "demo-weights", now=time.time())
    last = story["weights"][-1] | {"reason": "Pinned", "message": "for 1.0", "takers": ["1.0"]}
    other = last | {"message": "no", "takers": []}
    story["weights"] = [other | {"version": f"2026.{n}"} for n in range(365, 0, -1)]
    story["weights"][-1] = last
    wheel = {"source": "wheels", "project": "demo-weights", "digest": "", "note": ""}
    story["unread"] = [wheel | {"version": f"2025.{n}", "file": f"{n}.whl"} for n in range(1, 41)]
    told = "\n".join(str(getattr(one, "renderable", one)) for one in drawn(story))
    assert "2026.356" in told
    assert "2026.355" not in told
    assert "demo-weights 2026.1 " in told
    assert "and 354 older, looked into: `--json` has all" in told
    assert told.count(".whl: listed by wheels") == 10
    assert "40.whl" in told
    assert "and 30 older, not fetched" in told


def test_explain_says_that_weights_fit_nothing(work):
    work.drop()
    work.drop_weights("2026.1", fits=">=7")
    work.settle()
    story = explain.tell(work.journal, "demo", now=time.time())
    (one,) = story["weights"]
    assert one["reason"] == "FitsNothing"
    assert [condition["reason"] for condition in story["conditions"]] == ["FitsNothing"]
    assert "fits = '>=7'" in one["message"]


def test_weights_that_are_switched_off_are_no_longer_told_of_a_release(live):
    live.restart(pipelines=[{"name": "demo", "weights": {"active": False}}])
    live.settle()
    seen = status.tell(live.journal, lambda: live.config, live.clock(), everything=False)
    assert seen["releases"][0]["weights"] is None


def test_a_quarantine_that_is_lifted_while_nothing_can_be_sent_is_tried_again_later(
    live, paper_head
):
    paper_head.refused_weights["2026.4"] = BAD
    live.drop_weights("2026.4")
    while not any("2026.4" in str(config) for config in paper_head.puts):
        live.pass_(after=0.2)
    orders.suspend(live.journal, "", **BY)
    for _ in range(5):
        live.pass_(after=1.0)
    (release,) = live.journal.proven_weights()
    assert "2026.4" in {str(q.weights.version) for q in live.journal.refused_weights()[release]}
    sent = len(paper_head.puts)
    paper_head.refused_weights.clear()
    weights.clear_quarantine(live.journal, "demo", Version("2026.4"), **BY)
    for _ in range(5):
        report = live.pass_(after=1.0)
    assert "2026.4" not in {q["weights"] for q in status.quarantines(live.journal, everything=True)}
    told = [c.message for c in report.conditions if c.reason == "WeightsRefused"]
    assert any("That was lifted: they are tried again once" in message for message in told)
    assert len(paper_head.puts) == sent
    orders.resume(live.journal, "", **BY)
    live.settle()
    assert served(live) == "2026.4"
    assert len(paper_head.puts) == sent + 2
    assert live.journal.lifted_weights() == {}


def test_those_in_force_that_are_listed_nowhere_any_more_are_told_of(live):
    live.remove(next(live.wheels.glob("demo_weights-2026.2-*")))
    live.settle()
    told = explain.tell(live.journal, "demo", now=time.time())["weights"]
    assert served(live) == "2026.2"
    (one,) = [one for one in told if one["version"] == "2026.2"]
    assert one["takers"] == ["1.0"]
    assert one["message"] == "for 1.0; no source lists it any more"


def test_what_to_do_about_weights_that_failed_is_read_though_the_line_is_cut(live, paper_head):
    paper_head.refused_weights["2026.4"] = BAD | {"message": "no " * 400}
    live.drop_weights("2026.4")
    told = [c.message for c in live.settle().conditions if c.reason == "WeightsRefused"]
    (line,) = map(first_line, told)
    assert "(LoadFailed); demo-weights@2026.2+" in line
    assert "`wheelway quarantine clear demo 2026.4 --weights` has these tried again" in line
    assert line.endswith("no no ...")


def test_the_name_of_a_project_of_weights_is_no_pipelines_and_what_to_type_is_told(live):
    name, two = "Demo-Weights", [Version("2026.2")]
    for order, args, typed in (
        (orders.roll_back, (), "rollback demo --weights"),
        (orders.pin, (two,), "pin demo 2026.2 --weights"),
        (orders.unpin, (), "unpin demo --weights"),
        (orders.suspend, (), "suspend demo"),
        (orders.resume, (), "resume demo"),
        (orders.clear_quarantine, (two[0],), "quarantine clear demo 2026.2 --weights"),
    ):
        said = refused("NameUnknown", order, live.journal, name, *args)
        assert said == (
            f"no pipeline is called {name!r}, that is the project of the weights of demo: "
            f"`wheelway {typed}`"
        )
    with pytest.raises(WheelwayError, match="`wheelway history demo`"):
        history.tell(live.journal, name, 10)
    said = refused("WeightsUnknown", weights.roll_back, live.journal, name)
    assert said.endswith("they are those of demo: give that name")
    assert live.journal.overrides().suspensions == {}


def test_a_pin_of_weights_that_failed_is_refused_and_names_what_has_them_tried(live):
    said = refused("WeightsRefused", weights.pin, live.journal, "demo", [Version("2026.3")])
    assert "`wheelway quarantine clear demo 2026.3 --weights` has them tried again" in said
    assert said.endswith(f"Why: {BAD['message']}")
    weights.pin(live.journal, "demo", [Version("2026.3"), Version("2026.1")], **BY)
    live.settle()
    assert served(live) == "2026.1"


def test_a_pin_of_weights_that_fail_later_names_what_has_them_tried(live, paper_head):
    paper_head.refused_weights["2026.4"] = BAD
    live.drop_weights("2026.4")
    wanted = Version("2026.4")
    while wanted not in {r.version for r in live.journal.listings()["wheels"].revisions}:
        live.pass_(after=0.2)
    weights.pin(live.journal, "demo", [wanted], **BY)
    (unmet,) = [c for c in live.settle().conditions if c.reason == "PinUnmet"]
    assert "failed (LoadFailed); those in force stay." in unmet.message
    order = "wheelway quarantine clear demo 2026.4 --weights"
    assert f"`{order}` has these tried again." in unmet.message


def test_what_follows_when_a_quarantine_is_lifted_is_told(live, paper_head):
    def then():
        live.journal.refuse_weights(failed)
        (lifted,) = weights.clear_quarantine(live.journal, "demo", Version("2026.3"), **BY)
        return lifted["then"]

    ((failed,),) = live.journal.refused_weights().values()
    orders.suspend(live.journal, "demo", **BY)
    assert "once demo is no longer suspended: `wheelway resume demo`" in then()
    orders.resume(live.journal, "demo", **BY)
    weights.pin(live.journal, "demo", [Version("2026.2")], **BY)
    assert "pinned to 2026.2" in then()
    weights.unpin(live.journal, "demo", **BY)
    live.journal.refuse_weights(failed)
    live.drop_weights("2026.4")
    live.settle()
    said = then()
    assert said.startswith("demo-weights@2026.4+")
    assert "are newer and serve on" in said
    assert said.endswith("may be chosen again: `wheelway pin demo 2026.3 --weights`.")
    live.remove(next(live.wheels.glob("demo_weights-2026.3-*")))
    live.settle()
    assert then().startswith("No source lists demo-weights@2026.3+")


def test_the_log_of_weights_is_that_of_who_loads_them(live):
    story = explain.tell(live.journal, "demo-weights", now=time.time())
    assert loaders_of(story) == ["demo"]
    assert loaders_of(explain.tell(live.journal, "demo", now=time.time())) == []
    with pytest.raises(WheelwayError, match="`wheelway logs demo`"):
        _meant("demo-weights", story["releases"], loaders_of(story))


def test_the_advice_for_a_wrong_fits_is_that_for_weights(live):
    live.drop_weights("2026.4", fits="banana")
    live.settle()
    story = explain.tell(live.journal, "demo-weights", Version("2026.4"), now=time.time())
    ((first, again),) = [c["remedies"] for c in story["releases"] if c["remedies"]]
    assert "[[pipelines]]" not in first
    assert "fits = '>=1,<2'" in first
    assert again == (
        "Other bytes are looked into once they are published; these after "
        "`wheelway quarantine clear demo-weights 2026.4`."
    )
