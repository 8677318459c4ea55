"""A daemon's days, told from outside: files come and go, people edit, order and mistype.

The daemon, its journal, its API, uv and the command are the real ones. What is sent to Ray decides
what serves, so a head of paper shows it; what Ray makes of it is shown in `tests/ray`.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from packaging.version import Version

from controller.cli.program import ExitCode
from controller.journal import Journal
from controller.model import Phase
from tests.support.forwarder import Forwarder
from tests.support.head import eventually
from tests.support.service import on_socket
from tests.support.site import WHEELWAY, Site
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit

GOOD = "/predict/good/1.0"
BRISK = "[rollout]\ninterval = 0.3\nabsence_grace = 0\n"


@pytest.fixture
def site(tmp_path, paper_head):
    """A folder with a configuration; no daemon runs yet."""
    site = Site(tmp_path, paper_head)
    site.configure(BRISK)
    yield site
    site.close()


def live(site, name, version="1.0"):
    """The release of that name, once it is live."""
    release = site.wait_for(f"/predict/{name}/{version}")
    site.wait_for_phase(release, Phase.LIVE)
    return release


def passes(site, count):
    """Wait for so many passes from now on."""
    seen = len(site.reports)
    eventually(lambda: len(site.reports) >= seen + count)


def always_served(paper_head, route, since=0):
    """Whether every config from a number on had that route."""
    return all(route in config.values() for config in paper_head.sent()[since:])


# -- files ---------------------------------------------------------------------------------------


def test_names_and_links_that_a_folder_should_not_hold_are_refused_one_by_one(site, paper_head):
    outside = make_wheel(site.folder / "outside", "linked")
    with site.daemon():
        good = site.drop("good")
        live(site, "good")
        sent = len(paper_head.puts)
        (site.wheels / "good-latest.whl").write_bytes(b"whatever")
        (site.wheels / outside.name).symlink_to(outside)
        (site.wheels / "dangling-1.0-py3-none-any.whl").symlink_to(site.wheels / "nowhere")
        (site.wheels / "nested").mkdir()
        shutil.copy(make_wheel(site.folder / "made", "nested"), site.wheels / "nested")
        shutil.copy(good, site.wheels / good.name.replace("1.0", "1.1"))  # sound, wrongly named
        site.drop("pointless", entry_points="")
        site.drop("elsewhere", tag="cp27-cp27m-win32")
        [name] = eventually(lambda: site.conditions("FilenameInvalid"))
        [leading_out] = eventually(lambda: site.conditions("SymlinkOutside"))
        [dangling] = eventually(lambda: site.conditions("Unreadable"))
        [misnamed] = eventually(lambda: site.conditions("MetadataMismatch"))
        [pointless] = eventually(lambda: site.conditions("NotAPipelineWheel"))
        [elsewhere] = eventually(lambda: site.conditions("TagsIncompatible"))
        passes(site, 2)
        assert site.quarantines() == {}
    assert name.message.startswith("good-latest.whl is no wheel's file name")
    assert leading_out.message.startswith(f"{outside.name} is a symlink that leads out of")
    assert dangling.message.startswith("dangling-1.0-py3-none-any.whl is a symlink to nothing")
    assert misnamed.subject == good.name.replace("1.0", "1.1")
    assert "`wheelway.pipelines`" in pointless.message
    assert "cp27-cp27m-win32" in elsewhere.message
    assert len(paper_head.puts) == sent


def test_of_two_projects_that_carry_a_pipeline_the_first_keeps_it_whatever_the_version(site):
    with site.daemon():
        site.drop("good")
        first = live(site, "good")
        for version in ("1.0", "2.0"):
            site.drop("usurper", version, pipelines={"good": "usurper.pipeline:Demo"})
        conflicts = eventually(lambda: (c := site.conditions("Conflict")) and c[1:] and c)
        assert site.release_at(GOOD) == first
    for version, conflict in zip(("1.0", "2.0"), conflicts, strict=True):
        assert conflict.subject.startswith(f"good@{version}+")
        assert "the name good belongs to good" in conflict.message
        assert '`project = "usurper"`' in conflict.message


def test_a_file_that_is_no_wheel_in_place_of_a_good_one_changes_nothing(site, paper_head):
    with site.daemon():
        wheel = site.drop("good")
        good = live(site, "good")
        sent = len(paper_head.puts)
        wheel.write_bytes(b"this is not a zip")
        assert site.quarantine("good").reason == "NotAZip"
        site.drop("other")
        live(site, "other")
        assert site.release_at(GOOD) == good
    assert always_served(paper_head, GOOD, since=sent)


def test_a_requirement_that_is_not_to_be_had_is_waited_for_and_its_release_goes_live_then(site):
    links = site.folder / "links"
    links.mkdir()
    site.configure(BRISK + '[environments]\noffline = true\nfind_links = ["links"]\n')
    with site.daemon():
        site.drop("early", requires=["laterlib==1.0"])
        [condition] = eventually(lambda: site.conditions("RequirementMissingOffline"))
        assert condition.subject.startswith("early@1.0+")
        assert "early-1.0-py3-none-any.whl" in condition.message
        assert "laterlib" in condition.message
        assert "find_links" in condition.message
        assert set(site.phases().values()) == {Phase.FETCHED}
        site.drop("independent")
        live(site, "independent")
        assert site.quarantines() == {}
        make_wheel(links, "laterlib")
        live(site, "early")
        eventually(lambda: not site.conditions("RequirementMissingOffline"))
    assert list(site.folder.glob("cache/environments/*/**/laterlib/pipeline.py"))


# -- edits ---------------------------------------------------------------------------------------


def test_a_policy_edit_retires_a_version_while_the_daemon_runs(site):
    with site.daemon():
        site.drop("ruled", "1.0")
        site.drop("ruled", "2.0")
        old, new = live(site, "ruled", "1.0"), live(site, "ruled", "2.0")
        site.configure(BRISK + '[[pipelines]]\nname = "ruled"\nversions = ">=2"\n')
        site.wait_for_phase(old, Phase.RETIRED)
        assert site.release_at("/predict/ruled/1.0") == ""
        assert site.release_at("/predict/ruled/2.0") == new


BROKEN = {
    "application.yaml.j2": "name: {{ name | json }}\nimport_path: {{ nonsense | json }}\n",
    "serve.yaml.j2": "http_options: {}\napplications: {% for %}\n",
}
"""Each in its second line."""


def test_a_broken_template_keeps_the_last_good_config_in_force_until_it_is_mended(site, paper_head):
    site.basics = site.basics.replace('state = "state"', 'state = "state"\ntemplates = "templates"')
    site.configure(BRISK)
    templates = site.folder / "templates"
    templates.mkdir()
    with site.daemon():
        site.drop("good")
        live(site, "good")
        for name, text in BROKEN.items():
            later, sent = name.partition(".")[0], len(paper_head.puts)
            half = templates / f".{name}"  # a file that is being written is broken otherwise
            half.write_text(text)
            half.rename(templates / name)
            site.drop(later)
            complaints = eventually(lambda: site.conditions("TemplateInvalid"))
            told = f"{templates / name}:2: "
            assert all(told in item.message for item in complaints), complaints
            [phase] = eventually(lambda pipeline=later: phases_of(site, pipeline))
            assert phase in {Phase.FETCHED, Phase.PREPARED}
            assert len(paper_head.puts) == sent
            (templates / name).unlink()
            live(site, later)
            eventually(lambda: not site.conditions("TemplateInvalid"))
        assert site.quarantines() == {}


def phases_of(site, pipeline):
    with Journal.read(site.folder / "state") as journal:
        return [record.phase for record in journal.releases(pipeline)]


# -- orders --------------------------------------------------------------------------------------


def versions(site, phase):
    """Those that are in that phase."""
    return {
        release.split("@")[1].split("+")[0] for release, at in site.phases().items() if at is phase
    }


def test_suspend_rollback_and_pin_act_on_the_live_daemon(site):
    with site.daemon(), on_socket(site.folder / "state" / "control.sock") as client:

        def order(path, **body):
            answer = client.post(f"/v1/{path}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        for version in ("1.0", "2.0"):
            site.drop("ordered", version)
            live(site, "ordered", version)

        order("suspend", pipeline="ordered", by="alice")
        site.drop("ordered", "3.0")
        assert order("reconcile")["complete"]
        eventually(lambda: site.conditions("Suspended"))
        eventually(lambda: Version("3.0") in known(site))
        sent = site.sent()
        assert order("reconcile")["plan"]["changes"] == []
        assert versions(site, Phase.LIVE) == {"1.0", "2.0"}
        assert site.sent() == sent

        done = order("rollback", pipeline="ordered")
        assert (done["before"], done["after"]) == ("2.0", "1.0")
        assert order("reconcile")["plan"]["changes"] == [], "it is still suspended"
        order("resume", pipeline="ordered")
        eventually(lambda: versions(site, Phase.LIVE) == {"1.0"})
        eventually(lambda: not site.release_at("/predict/ordered/2.0"))
        assert site.release_at("/predict/ordered/1.0")

        order("pin", pipeline="ordered", versions=["3.0"])
        site.wait_for("/predict/ordered/3.0")
        eventually(lambda: versions(site, Phase.LIVE) == {"3.0"})
        order("unpin", pipeline="ordered")
        eventually(lambda: versions(site, Phase.LIVE) == {"2.0", "3.0"})
        assert client.get("/readyz").status_code == 200
        told = client.get("/v1/history?pipeline=ordered&limit=500").json()["events"]
        ours = {"SuspensionSet", "SuspensionLifted", "PinSet", "PinLifted"}
        assert ours <= {event["reason"] for event in told}


def known(site):
    with Journal.read(site.folder / "state") as journal:
        return {record.subject.version for record in journal.releases("ordered")}


# -- trouble -------------------------------------------------------------------------------------


def test_an_unreachable_dashboard_is_waited_for_and_nothing_is_blamed_for_it(site, paper_head):
    forwarder = Forwarder(paper_head.ports.ingress)
    site.basics = site.basics.replace(
        f'dashboard_url = "{paper_head.dashboard_url}"',
        f'dashboard_url = "{forwarder.url}"\ntimeout = 3',
    )
    site.configure(BRISK)
    with site.daemon():
        site.drop("good")
        good = live(site, "good")
        with forwarder.closed():
            [condition] = eventually(lambda: site.conditions("DashboardUnreachable"))
            assert forwarder.url in condition.message
            site.drop("meanwhile")
            passes(site, 2)
            assert "waiting for Ray" in site.reports[-1].sentence
            assert site.phases()[good] is Phase.LIVE
        site.wait_for("/predict/meanwhile/1.0")
        eventually(lambda: not site.conditions("DashboardUnreachable"))
        with forwarder.mute():
            [condition] = eventually(lambda: site.conditions("DashboardUnreachable"))
            assert "did not answer" in condition.message
        eventually(lambda: not site.conditions("DashboardUnreachable"))
        assert site.quarantines() == {}
        assert site.phases()[good] is Phase.LIVE
    forwarder.close()
    assert always_served(paper_head, GOOD, since=2)


def test_a_second_daemon_on_the_same_state_is_refused_and_told_whose_it_is(site):
    with site.daemon():
        second = subprocess.run(
            [WHEELWAY, "--config", site.config, "run"],
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
        assert second.returncode == ExitCode.UNAVAILABLE
        assert str(os.getpid()) in second.stderr
        assert str(site.folder / "state") in second.stderr
        assert "Traceback" not in second.stderr
        passes(site, 1)
