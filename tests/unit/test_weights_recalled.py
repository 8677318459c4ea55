"""What weights fit is known over a restart: they are not read again to be passed over again."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.unit

UNFIT = [f"2026.{night}" for night in range(2, 6)]


@pytest.fixture
def served(work):
    """With a release that is live with weights, and four newer ones that do not fit it."""
    work.drop()
    work.drop_weights("2026.1")
    work.settle()
    for night in UNFIT:
        work.drop_weights(night, fits=">=2")
        work.settle()
    return work


def read(work):
    """The versions of the weights that were fetched or looked into, since this was last asked."""
    found = {name.split("-")[1] for name in work.received if name.startswith("demo_weights")}
    work.received.clear()
    return found


def in_force(work):
    return {str(served[0].weights.version) for served in work.journal.proven_weights().values()}


def judged(work):
    return {str(one.version): one.reason for one in work.journal.judged_weights()}


def test_what_does_not_fit_is_not_read_again_after_a_restart(served):
    assert {*UNFIT, "2026.1"} <= read(served)
    before = judged(served)
    served.restart()
    report = served.settle()
    # What serves is to be verified, and the newest wheel of a project may bring something new.
    assert read(served) == {"2026.1", "2026.5"}
    assert (report.sent, in_force(served), judged(served)) == (False, {"2026.1"}, before)


def test_after_a_restart_they_are_read_for_a_release_that_they_fit(served):
    served.restart()
    served.settle()
    read(served)
    served.drop(version="2.0")
    served.settle()
    served.settle()
    assert in_force(served) == {"2026.1", "2026.5"}
    assert not read(served) & set(UNFIT[:-2]), "it keeps two"


def test_other_bytes_under_the_same_version_are_read(served):
    served.restart()
    served.settle()
    read(served)
    served.drop_weights("2026.5", content="others that fit")
    served.settle()
    assert "2026.5" in read(served)
    assert in_force(served) == {"2026.5"}


def test_what_is_listed_no_more_is_forgotten(served):
    for wheel in served.wheels.glob("demo_weights-2026.[2-4]-*"):
        wheel.unlink()
    served.artifacts.request_poll("wheels")
    served.settle()
    known = {
        str(one.weights.version) for of in served.journal.known_weights().values() for one in of
    }
    assert known == {"2026.1", "2026.5"}


def test_what_was_remembered_of_lost_files_is_found_out(served):
    """What is elected is looked into, whatever an earlier run knew of it."""
    served.restart()
    served.settle()
    known = served.journal.known_weights()
    assert {str(one.weights.version) for of in known.values() for one in of} == {"2026.1", *UNFIT}
    assert {one.fits for of in known.values() for one in of} == {"", ">=2"}
