"""Real indexes, from upload by twine to the inspected wheel, through the daemon's own parts."""

from __future__ import annotations

import base64
import hashlib
from functools import partial

import pytest

from controller.cache.environments.base import detect
from controller.cache.wheels.store import Store
from controller.config.settings import InspectionLimits
from controller.config.sources import IndexSource as Options
from controller.model import Artifact, Phase
from controller.reconcile.artifacts import Artifacts, Means
from controller.reconcile.assembly import _receive
from controller.reconcile.jobs import Jobs
from controller.sources import open_source
from tests.support.indexes import PASSWORD, USER, devpi, pypiserver
from tests.support.site import Site
from tests.support.wheels import make_wheel, sha256

pytestmark = [pytest.mark.unit, pytest.mark.timeout(300)]

SOURCE = """
[[sources]]
type = "index"
url = "{url}"
packages = ["lives"]
poll_interval = 1
"""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """The machine's proxies are not for loopback."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture(scope="module")
def base():
    return detect()


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """What every server has from the beginning."""
    folder = tmp_path_factory.mktemp("stock")
    return [
        make_wheel(folder, "served", "1.0+cu1"),
        make_wheel(folder, "grows"),
        make_wheel(folder, "globbed-one"),
        make_wheel(folder, "pythons"),
        make_wheel(folder, "pythons", "2.0", requires_python=">=3.99"),
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, stock):
    """A pypiserver for everybody."""
    with pypiserver(tmp_path_factory.mktemp("pypiserver")) as index:
        index.upload(*stock)
        yield index


@pytest.fixture(scope="module")
def stage(tmp_path_factory, stock):
    """A devpi-server with an index of its own."""
    with devpi(tmp_path_factory.mktemp("devpi")) as index:
        index.upload(*stock)
        yield index


@pytest.fixture(params=["pypiserver", "devpi"])
def index(request):
    """Each of them in turn."""
    return request.getfixturevalue({"pypiserver": "plain", "devpi": "stage"}[request.param])


@pytest.fixture
def artifacts(base, tmp_path):
    """Opens a artifacts over an index and a real store; jobs run when they are asked for."""
    opened = []

    def over(index, *packages, **options):
        options = Options(type="index", url=index.url, packages=packages, **options)
        source = open_source(options, tags=base.tags, python_version=base.version)
        opened.append(source)
        store = Store(tmp_path / "cache")
        return Artifacts(
            [source],
            Jobs(0, lambda: None),
            Means(
                receive=partial(_receive, store, base, InspectionLimits()),
                prepare=lambda artifact: pytest.fail(f"nobody asked for {artifact}"),
                is_sound=lambda artifact: pytest.fail(f"nobody asked for {artifact}"),
                mend=lambda artifact, _: pytest.fail(f"nobody asked for {artifact}"),
                prune=None,
            ),
            remembered={},
        )

    yield over
    for source in opened:
        source.close()


def listed(artifacts):
    artifacts.request_poll("index")
    artifacts.poll()
    return artifacts.listings()["index"]


def received(artifacts, revision):
    """The artifact, without its environment."""
    [source] = artifacts.sources.values()
    return artifacts._means.receive(source, revision)


def test_an_uploaded_wheel_is_listed_fetched_and_inspected(index, artifacts, stock):
    wheel = stock[0]
    artifacts = artifacts(index, "served")
    [revision] = listed(artifacts).revisions
    assert (revision.filename, revision.sha256) == (wheel.name, sha256(wheel))
    artifact = received(artifacts, revision)
    assert isinstance(artifact, Artifact)
    assert artifact.wheel.read_bytes() == wheel.read_bytes()
    assert artifact.size == wheel.stat().st_size
    assert [entry.name for entry in artifact.pipelines] == ["served"]


def test_an_upload_is_seen_at_the_next_look_and_a_quiet_one_changes_nothing(
    index, artifacts, tmp_path
):
    artifacts = artifacts(index, "grows", "not-there")
    first = listed(artifacts)
    assert [str(revision.version) for revision in first.revisions] == ["1.0"]
    assert [(item.subject, item.reason) for item in first.notes] == [
        ("not-there", "PackageMissing")
    ]
    assert first.unobserved == ()
    assert listed(artifacts) is first
    index.upload(make_wheel(tmp_path, "grows", "2.0"))
    assert [str(revision.version) for revision in listed(artifacts).revisions] == ["1.0", "2.0"]


def test_a_glob_reads_the_servers_list(index, artifacts):
    artifacts = artifacts(index, "globbed-*")
    assert [revision.project for revision in listed(artifacts).revisions] == ["globbed-one"]


def test_requires_python_comes_through_where_the_server_tells_it(stage, artifacts):
    listing = listed(artifacts(stage, "pythons"))
    assert [str(revision.version) for revision in listing.revisions] == ["1.0"]
    assert [item.reason for item in listing.pending] == ["RequiresPython"]


def test_a_server_without_sha_256_serves_only_when_that_is_allowed(tmp_path, artifacts):
    wheel = make_wheel(tmp_path / "packages", "bare")
    with pypiserver(tmp_path, "--hash-algo", "md5") as index:
        strict = listed(artifacts(index, "bare"))
        assert [item.reason for item in strict.refused] == ["HashMissing"]
        assert "only md5" in strict.refused[0].message
        lenient = artifacts(index, "bare", require_hashes=False)
        [revision] = listed(lenient).revisions
        assert revision.sha256 == sha256(wheel)
        assert received(lenient, revision).wheel.read_bytes() == wheel.read_bytes()


def test_a_server_with_passwords_is_read_with_the_right_one(tmp_path, artifacts):
    hashed = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    (tmp_path / "accounts").write_text(f"{USER}:{{SHA}}{hashed}\n")
    options = ("-a", "list,download,update", "-P", str(tmp_path / "accounts"))
    secret = tmp_path / "secret"
    secret.write_text("not it")
    make_wheel(tmp_path / "packages", "closed")
    with pypiserver(tmp_path, *options) as index:
        asks = artifacts(index, "closed", username=USER, password_file=secret)
        asks.poll()
        [condition] = asks.conditions()
        assert condition.reason == "IndexForbidden"  # so pypiserver answers; 401 elsewhere
        assert "not it" not in condition.message
        secret.write_text(f"{PASSWORD}\n")
        knows = artifacts(index, "closed", username=USER, password_file=secret)
        [revision] = listed(knows).revisions
        assert received(knows, revision).pipelines[0].name == "closed"


def test_an_upload_becomes_a_live_route(index, paper_head, tmp_path):
    site = Site(tmp_path, paper_head)
    site.configure(SOURCE.format(url=index.url))
    with site.daemon():
        assert site.release_at("/predict/lives/1.0") == ""
        index.upload(make_wheel(tmp_path / "made", "lives", marker=index.url))
        site.wait_for_phase(site.wait_for("/predict/lives/1.0"), Phase.LIVE)
    assert site.conditions("PackageMissing") == []
    site.close()
