"""What counts as absent: only what a source looked for and did not find."""

from __future__ import annotations

import pytest

from controller.config.settings import Config
from controller.model import Availability, Listing, PlacementRecord, Refusal, Revision
from controller.observed import Application, ApplicationStatus
from controller.planning.disappearance import Absences
from controller.planning.paths import path_of
from controller.planning.policy import ABSENT
from controller.reconcile.artifacts import Artifacts, Means
from controller.reconcile.desired import Gatherer
from controller.reconcile.jobs import Jobs
from tests.support.world import release

pytestmark = pytest.mark.unit

SERVED = release(pipeline="iris")
LIVE = Application(
    name="iris-1.0-aaaa",
    status=ApplicationStatus.RUNNING,
    route=path_of(SERVED),
    document={"args": {"release": {"project": "acme-iris"}}},
    release=SERVED,
)


class Source:
    """Lists what it is given."""

    name = "index"
    poll_interval = 5.0
    watch_note = ""

    def __init__(self, listing: Listing):
        self.list = lambda: listing


def reasons_for(listing):
    """What policy says of the one release that is live, when its source lists this."""
    artifacts = Artifacts(
        [Source(listing)],
        Jobs(0, lambda: None),
        Means(
            receive=pytest.fail,
            prepare=pytest.fail,
            is_sound=pytest.fail,
            mend=pytest.fail,
            prune=pytest.fail,
        ),
        remembered={},
    )
    artifacts.poll()
    election = Gatherer(
        *(Config(), artifacts),
        renderer=None,
        tags=(),
        absences=Absences(),
    )
    records = {LIVE.name: PlacementRecord(LIVE.name, 1.0, 1.0, 1.0)}
    desired = election.desired([LIVE], records, [], 10.0)
    return [verdict.reason for verdict in desired.verdicts]


def test_a_version_that_its_source_does_not_list_is_absent():
    assert reasons_for(Listing("index", ())) == [ABSENT]
    assert reasons_for(Listing("index", (), unobserved=("other",))) == [ABSENT]


def test_a_version_of_a_project_that_could_not_be_looked_at_is_not():
    assert reasons_for(Listing("index", (), unobserved=("acme-iris",))) == []


def test_nor_is_one_whose_file_is_there_but_cannot_be_read():
    pending = Refusal("acme_iris-1.0-py3-none-any.whl", "HashPending", "is read after the others")
    assert reasons_for(Listing("index", (), pending=(pending,))) == []


def test_a_yanked_version_goes_on_where_it_runs_and_starts_nowhere_else():
    def yanked(digest):
        return Revision(
            *("index", "acme-iris", SERVED.version, "acme_iris-1.0-py3-none-any.whl", "url"),
            *(digest, None, Availability.RETAINED),
        )

    assert reasons_for(Listing("index", (yanked(SERVED.digest),))) == ["Elected"]
    assert "Elected" not in reasons_for(Listing("index", (yanked("b" * 64),)))


def test_a_version_that_vanished_a_moment_ago_is_only_missing():
    absences, gone = Absences(), {SERVED}
    assert absences.lately(gone, 100.0, grace=10.0) == gone
    assert absences.lately(gone, 109.0, grace=10.0) == gone
    assert absences.lately(gone, 110.0, grace=10.0) == set()
    assert absences.lately(set(), 111.0, grace=10.0) == set()
    assert absences.lately(gone, 112.0, grace=10.0) == gone  # it came back in between
