"""CodeArtifact in the daemon's whole loop: states and faults, seen from what is served.

Real are the daemon, boto3, the journal and uv; the repository is the stand-in, and so is Ray, which
runs at once whatever is sent to it.
"""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.journal import Journal
from controller.model import Phase
from controller.reconcile.mismatches import MOST as MISMATCHES
from tests.support.acme import section
from tests.support.codeartifact import (
    Address,
    Fault,
    access_denied,
    expired_token,
    internal_error,
    not_found,
    throttled,
)
from tests.support.forwarder import Forwarder
from tests.support.head import eventually
from tests.support.queues import events_queue, sqs
from tests.support.site import Site
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit

POLL = "ListPackageVersions"
ASSETS = "ListPackageVersionAssets"
GET = "GetPackageVersionAsset"
BRISK = """
[rollout]
absence_grace = 0.5
interval = 0.3
retire_limit = 1
workers = 16
"""


@pytest.fixture
def cluster(paper_head):
    """Runs at once whatever is sent to it."""
    paper_head.building = paper_head.starting = paper_head.leaving = 0
    return paper_head


@pytest.fixture
def site(cluster, tmp_path):
    site = Site(tmp_path, cluster)
    yield site
    site.close()


@pytest.fixture
def publish(tmp_path):
    def put(standin, name, version="1.0", *, status="Published", origin="INTERNAL", **how):
        wheel = make_wheel(tmp_path / "made", name, version, **how)
        return standin.shelf.publish(wheel, status=status, origin=origin)

    return put


def live(site, *names, version="1.0"):
    """Wait until these are; the releases by name."""

    def look():
        phases = {str(release): phase for release, phase in site.phases().items()}
        found = {
            name: release
            for name in names
            for release, phase in phases.items()
            if release.startswith(f"{name}@{version}+") and phase is Phase.LIVE
        }
        return found if found.keys() == set(names) else None

    return eventually(look, 60)


def looked_again(site, standin, times=2):
    """Wait until the source was polled that often from now on, and passes followed."""
    polls, passes = len(standin.asked(POLL)), len(site.reports)
    eventually(lambda: len(standin.asked(POLL)) >= polls + times, 60)
    passes = len(site.reports)
    eventually(lambda: len(site.reports) >= passes + 2, 60)


def routes(config):
    return {app["route_prefix"] for app in config["applications"]} - {None}


def explained(site, name):
    """What `wheelway explain` prints of it."""
    command = ["--config", str(site.config), "explain", name]
    done = CliRunner(env={"COLUMNS": "500"}).invoke(app, command, prog_name="wheelway")
    assert done.exit_code == 0, done.output
    return done.stdout


# -- states --------------------------------------------------------------------------------------

GOES_ON = {
    "unlisted": "unlisted in CodeArtifact: it goes on where it runs",
    "archived": "archived in CodeArtifact: it runs from the cache",
    "on-trial": "is 'OnTrial' in CodeArtifact, a state that is not known here",
}
ENDS = {"disposed": "Absent", "deleted": "Absent"}


def test_each_state_does_to_what_runs_what_the_manual_says(site, cluster, at_standin, publish):
    shelf = at_standin.shelf
    for name in (*GOES_ON, *ENDS):
        publish(at_standin, name)
    site.configure(section(at_standin) + BRISK)
    with site.daemon():
        releases = live(site, *GOES_ON, *ENDS)
        shelf.unlist("unlisted", "1.0")
        shelf.archive("archived", "1.0")
        shelf.set_status("on-trial", "1.0", "OnTrial")
        shelf.dispose("disposed", "1.0")
        shelf.delete("deleted", "1.0")
        for name, reason in ENDS.items():
            eventually(lambda name=name: site.phases()[releases[name]] is Phase.RETIRED, 60)
            assert site.release_at(f"/predict/{name}/1.0") == ""
            assert reason in explained(site, name)
        looked_again(site, at_standin)
        for name, said in GOES_ON.items():
            assert site.release_at(f"/predict/{name}/1.0") == releases[name]
            assert said in explained(site, name)
    sent, assets = len(cluster.puts), len(at_standin.asked(ASSETS))
    with site.daemon():  # which has what is archived in its cache, and asks for nothing anew
        looked_again(site, at_standin)
    assert len(cluster.puts) == sent
    assert len(at_standin.asked(ASSETS)) == assets
    assert routes(cluster.puts[-1]) == {f"/predict/{name}/1.0" for name in GOES_ON}


def test_nothing_but_what_is_published_here_is_newly_selected(site, cluster, at_standin, publish):
    publish(at_standin, "unlisted", status="Unlisted")
    publish(at_standin, "archived", status="Archived")
    publish(at_standin, "unfinished", status="Unfinished")
    publish(at_standin, "on-trial", status="OnTrial")
    publish(at_standin, "foreign", origin="EXTERNAL")
    publish(at_standin, "good")
    names = ["unlisted", "archived", "unfinished", "on-trial", "foreign", "good"]
    site.configure(section(at_standin, packages=names) + BRISK)
    with site.daemon():
        live(site, "good")
        looked_again(site, at_standin)
        assert routes(cluster.puts[-1]) == {"/predict/good/1.0"}
        assert "archived in CodeArtifact" in explained(site, "archived")
        assert "unlisted in CodeArtifact" in explained(site, "unlisted")
        assert "StateUnknown" in explained(site, "on-trial")
        assert "Unfinished" in explained(site, "unfinished")
        assert "OriginExternal" in explained(site, "foreign")
        for name in ("unlisted", "archived", "unfinished", "on-trial"):
            at_standin.shelf.set_status(name, "1.0", "Published")
        live(site, "unlisted", "archived", "unfinished", "on-trial")


def test_what_was_deleted_and_comes_back_with_other_bytes_is_a_new_release(
    site, at_standin, publish, tmp_path
):
    publish(at_standin, "again")
    site.configure(section(at_standin) + BRISK)
    with site.daemon():
        old = live(site, "again")["again"]
        at_standin.shelf.republish(make_wheel(tmp_path / "made", "again", marker="other bytes"))
        new = site.wait_for("/predict/again/1.0", other_than=old)
        site.wait_for_phase(new, Phase.LIVE)
        eventually(lambda: site.phases()[old] is Phase.RETIRED, 60)


def test_a_wheel_that_follows_its_sdist_is_served_when_it_comes(site, at_standin, publish):
    at_standin.shelf.store("slow-1.0.tar.gz", b"sources")
    site.configure(section(at_standin) + BRISK)
    with site.daemon():
        eventually(lambda: site.conditions("SdistOnly"), 60)
        assert "an sdist and no wheel (yet)" in explained(site, "slow")
        publish(at_standin, "slow")
        live(site, "slow")
        eventually(lambda: not site.conditions("SdistOnly"), 60)


def test_pages_in_another_order_or_twice_change_nothing(site, cluster, at_standin, publish):
    for version in ("1.0", "2.0", "3.0"):
        publish(at_standin, "paged", version)
    at_standin.page_size = 1
    site.configure(section(at_standin) + BRISK + '[[pipelines]]\nname = "paged"\nkeep = 3\n')
    with site.daemon():
        for version in ("1.0", "2.0", "3.0"):
            live(site, "paged", version=version)
        sent = len(cluster.puts)
        for pages in ("reversed", "repeated"):
            at_standin.inject(POLL, Fault(pages=pages), times=3)
        looked_again(site, at_standin, times=7)
    assert len(cluster.puts) == sent


# -- faults --------------------------------------------------------------------------------------

TROUBLES = {
    "throttled": (throttled(), "Throttled", "raise `poll_interval`"),
    "put-off": (throttled(retry_after=1), "Throttled", "raise `poll_interval`"),
    "failing": (internal_error(), "AwsFailed", "500 InternalServerException"),
    "denied": (
        access_denied(),
        "AccessDenied",
        f"codeartifact:{POLL} on {Address().arn({'repository': '', 'package': 'denied'})}",
    ),
    "expired": (expired_token(), "CredentialsExpired", "AWS_ACCESS_KEY_ID"),
}
ASTRAY = {
    "other-repository": ({"repository": "elsewhere"}, "RepositoryUnknown", "`repository`"),
    "other-domain": ({"domain": "nowhere"}, "DomainUnknown", "`domain`"),
    "other-profile": ({"profile": "nobody"}, "ProfileUnknown", "`profile`"),
}


def test_sources_in_trouble_say_so_and_serve_on_and_the_others_go_on(
    site, cluster, at_standin, publish
):
    gate = Forwarder(int(at_standin.url.rpartition(":")[2]))
    names = (*TROUBLES, "cut-off", "healthy")
    more = {name: options for name, (options, _, _) in ASTRAY.items()}
    more["cut-off"] = {"endpoint_url": gate.url}
    for name in names:
        publish(at_standin, name)
    sections = [
        section(at_standin, name=name, packages=[name], **more.get(name, {}))
        for name in (*names, *ASTRAY)
    ]
    site.configure("".join(sections) + BRISK)
    with site.daemon():
        live(site, *names)
        complains(site, ASTRAY)
        sent = len(cluster.puts)
        with gate.closed():
            for name, (fault, _, _) in TROUBLES.items():
                at_standin.inject(POLL, fault, package=name, times=None)
            for name in names:
                publish(at_standin, name, "2.0")
            live(site, "healthy", version="2.0")
            complains(site, TROUBLES | {"cut-off": (None, "EndpointUnreachable", gate.url)})
        at_standin.heal()
        live(site, *names, version="2.0")
        troubles = {(name, reason) for name, (_, reason, _) in TROUBLES.items()}
        eventually(lambda: not troubles & present(site).keys(), 60)
    gate.close()
    first = {f"/predict/{name}/1.0" for name in names}
    assert all(routes(config) >= first for config in cluster.puts[sent:])


def present(site):
    """What the conditions of now say, by subject and reason."""
    with Journal.read(site.folder / "state") as journal:
        return {(found.subject, found.reason): found.message for found, _ in journal.conditions()}


def complains(site, expected):
    """Wait until each of these sources says for which reason it cannot be read, and what of it."""
    reasons = {(name, reason) for name, (_, reason, _) in expected.items()}
    eventually(lambda: present(site).keys() >= reasons, 60)
    found = present(site)
    for name, (_, reason, said) in expected.items():
        assert said in found.get((name, reason), "")


BROKEN = {
    "cut": (Fault(cut=0.5), 2, "DownloadBroken"),
    "cut-silently": (Fault(cut=0.5, announced=False), 2, "DownloadBroken"),
    "dripping": (Fault(drip=(1, 0.05)), 1, "DownloadBroken"),
    "not-there-yet": (not_found(), 1, "AssetMissing"),
    "wrong": (Fault(wrong=True), MISMATCHES - 1, "DigestMismatch"),
    "forbidden": (access_denied(), 1, "AccessDenied"),
    "failing": (internal_error(), 3, "AwsFailed"),
}


def test_downloads_that_fail_are_told_and_come_right_while_everything_serves_on(
    site, cluster, at_standin, publish
):
    names = (*BROKEN, "poisoned")
    for name in names:
        publish(at_standin, name)
    site.configure(section(at_standin, packages=names, download_timeout=1) + BRISK)
    with site.daemon():
        live(site, *names)
        sent = len(cluster.puts)
        for name, (fault, times, _) in BROKEN.items():
            at_standin.inject(GET, fault, package=name, times=times)
        at_standin.inject(GET, Fault(wrong=True), package="poisoned", times=MISMATCHES)
        for name in names:
            publish(at_standin, name, "2.0")
        live(site, *BROKEN, version="2.0")
        assert site.quarantine("poisoned").reason == "WrongBytes"
        publish(at_standin, "poisoned", "3.0")
        live(site, "poisoned", version="3.0")
        assert site.quarantines().keys() == {"poisoned"}
    said = {(c.subject, c.reason) for report in site.reports for c in report.conditions}
    for name, (_, _, reason) in BROKEN.items():
        assert (f"{name.replace('-', '_')}-2.0-py3-none-any.whl", reason) in said
    first = {f"/predict/{name}/1.0" for name in names}
    assert all(routes(config) >= first for config in cluster.puts[sent:])


# -- push ----------------------------------------------------------------------------------------


def test_events_alone_are_enough_for_a_release_to_come_and_go(site, at_standin, publish, caplog):
    publish(at_standin, "other")
    packages = ["pushed", "other"]
    with events_queue(at_standin) as url:
        client = sqs(at_standin, url)

        def send(*bodies):
            for body in bodies:
                client.send_message(QueueUrl=url, MessageBody=body)

        def send_what_else_comes(event):
            elsewhere = event["detail"] | {"repositoryName": "elsewhere", "packageName": "other"}
            send(json.dumps(event | {"detail": elsewhere}), json.dumps(event), json.dumps(event))

        source = section(at_standin, packages=packages, poll_interval=3600, events_queue_url=url)
        site.configure(source + BRISK)
        with site.daemon():
            live(site, "other")
            looked = len(at_standin.asked(POLL))
            send("no JSON", "[]", '{"source": "aws.codeartifact"}')
            at_standin.subscribe(send_what_else_comes)
            publish(at_standin, "pushed")
            release = live(site, "pushed")["pushed"]
            at_standin.shelf.delete("pushed", "1.0")
            eventually(lambda: site.phases()[release] is Phase.RETIRED, 60)
    assert {call.asked.params["package"] for call in at_standin.asked(POLL)[looked:]} == {"pushed"}
    assert caplog.text.count("no event of EventBridge's") == 1


# -- libraries among the pipelines ---------------------------------------------------------------


def test_with_every_package_libraries_are_fetched_once_and_alarm_nobody(site, at_standin, publish):
    for version in ("1.0", "1.1", "1.2", "1.3"):
        publish(at_standin, "acme-lib", version, pipelines={}, entry_points="")
    publish(at_standin, "iris")
    site.configure(section(at_standin) + BRISK)
    for _ in range(2):
        with site.daemon():
            live(site, "iris")
            eventually(lambda: site.conditions("NotAPipelineWheel"), 60)
            looked_again(site, at_standin)
    fetched = sorted(call.asked.params["asset"] for call in at_standin.asked(GET))
    assert fetched == [
        f"{stem}-py3-none-any.whl" for stem in ("acme_lib-1.2", "acme_lib-1.3", "iris-1.0")
    ]
    assert site.quarantines() == {}
    with Journal.read(site.folder / "state") as journal:
        assert {condition.ok for condition, _ in journal.conditions()} <= {True}
    assert "NotAPipelineWheel" in explained(site, "acme-lib")


# -- what pipelines require ----------------------------------------------------------------------


def test_requirements_come_from_the_repository_and_its_token_stays_out_of_sight(
    site, at_standin, publish, tmp_path, monkeypatch, caplog
):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    publish(at_standin, "acme-lib", pipelines={}, entry_points="")
    publish(at_standin, "needy", requires=["acme-lib>=1"])
    source = section(at_standin, packages=["needy"])
    site.configure(source + BRISK + '[environments]\nindex = "codeartifact"\n')
    with site.daemon():
        live(site, "needy")
    assert at_standin.asked("GetAuthorizationToken")
    assert {call.asked.params["package"] for call in at_standin.asked("Download")} == {"acme-lib"}
    tokens = at_standin.access._tokens
    assert tokens
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.is_relative_to(tmp_path / "state") for path in kept)
    assert any(path.is_relative_to(tmp_path / "cache") for path in kept)
    assert not [path for path in kept for token in tokens if token.encode() in path.read_bytes()]
    assert not [token for token in tokens if token in caplog.text or token in str(site.reports)]
