"""From `twine upload` to a live route, by way of CodeArtifact's wire: boto3 and the stand-in."""

import httpx
import pytest

from controller.journal import Journal
from controller.model import Phase
from tests.support.acme import section
from tests.support.codeartifact import StandIn
from tests.support.head import eventually
from tests.support.publishing import twine_upload
from tests.support.queues import events_queue
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.ray

POLL = "ListPackageVersions"
ONE, TWO, THREE = (f"/predict/acme-demo/{version}" for version in ("1.0", "2.0", "3.0"))


@pytest.fixture
def standin(monkeypatch):
    with StandIn() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def looked_again(site, standin):
    """Wait until the source was polled twice from now on, and a pass followed."""
    polls = len(standin.asked(POLL))
    eventually(lambda: len(standin.asked(POLL)) >= polls + 2)
    passes = len(site.reports)
    eventually(lambda: len(site.reports) > passes)


def notes(site):
    """What the source says of the versions' standing, by version."""
    with Journal.read(site.folder / "state") as journal:
        listing = journal.listings()["codeartifact"]
    return {str(revision.version): revision.note for revision in listing.revisions}


def test_a_wheel_uploaded_to_codeartifact_lives_and_ends_with_its_state(
    site, standin, tmp_path, monkeypatch
):
    monkeypatch.setenv("NO_PROXY", "*")
    shelf = standin.shelf

    def upload(version):
        done = twine_upload(standin, make_wheel(tmp_path / "made", "acme-demo", version))
        assert done.returncode == 0, done.stdout + done.stderr

    site.configure(section(standin, packages=["acme-*"]) + "[rollout]\nabsence_grace = 1\n")
    with site.daemon():
        assert site.release_at(ONE) == ""
        upload("1.0")
        first = site.wait_for(ONE)
        site.wait_for_phase(first, Phase.LIVE)
        assert site.ask(ONE, [1]).json()["echo"] == [1]
        upload("2.0")
        second = site.wait_for(TWO)
        site.wait_for_phase(second, Phase.LIVE)

        shelf.unlist("acme-demo", "1.0")
        shelf.archive("acme-demo", "2.0")
        shelf.publish(make_wheel(tmp_path / "made", "acme-demo", "3.0"), status="Unlisted")
        eventually(lambda: len(notes(site)) == 3 and all(notes(site).values()))
        looked_again(site, standin)
        assert (site.release_at(ONE), site.release_at(TWO)) == (first, second)
        assert site.release_at(THREE) == ""

        shelf.delete("acme-demo", "1.0")
        eventually(lambda: site.phases()[first] is Phase.RETIRED)
        assert httpx.get(f"{site.ingress}{ONE}").status_code == 404
        assert site.release_at(TWO) == second


def test_an_event_is_enough_for_a_wheel_to_become_live(site, standin, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with events_queue(standin) as queue:
        site.configure(section(standin, poll_interval=3600, events_queue_url=queue))
        with site.daemon():
            eventually(lambda: standin.asked("ListPackages"))
            wheel = make_wheel(tmp_path / "made", "acme-pushed")
            done = twine_upload(standin, wheel)
            assert done.returncode == 0, done.stdout + done.stderr
            release = site.wait_for("/predict/acme-pushed/1.0")
            site.wait_for_phase(release, Phase.LIVE)
    assert len(standin.asked("ListPackages")) == 1
