"""Stand-ins for whoever asks: CodeArtifact with sources of it, a head with passes beside it."""

from __future__ import annotations

import importlib
import os
import resource
import sys

import pytest
from packaging.tags import sys_tags

from controller.authoring.scaffold import Wrap, create
from controller.cache.environments.base import detect
from controller.cache.environments.builder import Environments
from controller.config.settings import EnvironmentOptions
from controller.config.sources import CodeArtifactSource as Options
from controller.config.sources import IndexSource as IndexOptions
from controller.journal import Journal
from controller.sources.codeartifact import CodeArtifactSource, rate_limiter
from controller.sources.simple_index.source import IndexSource
from tests.support.acme import ONCE
from tests.support.canned import canned
from tests.support.codeartifact import StandIn
from tests.support.edits import Running, forget, record
from tests.support.golden import Golden
from tests.support.paper_head import PaperHead
from tests.support.passes import Clock, Passes
from tests.support.receivers import Office
from tests.support.scene import play
from tests.support.simple_index import SimpleIndex
from tests.support.site import BUSY, Site
from tests.support.wheels import make_wheel
from tests.support.wrapping import write


@pytest.fixture(autouse=True)
def memory_of_this_process():
    """What a test makes of this process's memory would hold for all that come after it, and for
    whatever these start.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    yield
    after = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, before)
    assert after == before, "the test limited its own process; see wheelway.memory.limit"


@pytest.fixture(scope="module")
def running_standin():
    with StandIn() as running:
        yield running


@pytest.fixture
def standin(running_standin):
    """One for each module, as new for each test."""
    yield running_standin
    running_standin.reset()


@pytest.fixture
def client(standin):
    return standin.client(config=ONCE)


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path / "dist")


@pytest.fixture
def built(tmp_path):
    """Builds wheels."""

    def build(name="demo", version="1.0", **how):
        return make_wheel(tmp_path / "dist", name, version, **how)

    return build


@pytest.fixture
def published(at_standin, wheel):
    at_standin.shelf.publish(wheel)
    return wheel


@pytest.fixture
def publish(at_standin, built):
    """Publishes a wheel to the stand-in."""

    def put(name="demo", version="1.0", **how):
        return at_standin.shelf.publish(built(name, version, **how))

    return put


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """AWS as on a machine where nobody ever configured it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def at_standin(standin, alone, monkeypatch):
    """Credentials, region and endpoint of the stand-in in the environment."""
    for name, value in standin.environment.items():
        monkeypatch.setenv(name, value)
    # Else the rate begins at one request a second when the first ones are refused.
    monkeypatch.setattr(rate_limiter, "SLOWEST", 50.0)
    return standin


@pytest.fixture
def opened(clock):
    """Opens sources of the stand-in's repository; time is the test's."""
    made = []

    def opener(tags=None, before=None, jitter=lambda: 0.0, **options):
        options = {"type": "codeartifact", "domain": "acme", "repository": "pipelines", **options}
        tags = list(sys_tags()) if tags is None else tags
        more = {"before": before, "clock": clock, "jitter": jitter}
        made.append(CodeArtifactSource(Options(**options), tags, **more))
        return made[-1]

    yield opener
    for source in made:
        source.close()


@pytest.fixture
def source(at_standin, opened):
    return opened(packages=["demo"])


@pytest.fixture(scope="session")
def interpreter():
    """What this one has, found out once."""
    return detect()


@pytest.fixture(scope="session")
def uv_environ(tmp_path_factory):
    """One cache of uv's: it looks at the interpreter once only."""
    cache = str(tmp_path_factory.mktemp("uv-cache"))
    return {**os.environ, "UV_CACHE_DIR": cache, "UV_HTTP_RETRIES": "0"}


@pytest.fixture
def find_links(tmp_path):
    folder = tmp_path / "find links"
    folder.mkdir()
    return folder


@pytest.fixture
def at_uv(tmp_path, interpreter, uv_environ, find_links):
    """Opens environments under one cache folder; offline with `find_links` but for what is said."""

    def opener(*, environ=uv_environ, **options):
        options = EnvironmentOptions(**{"find_links": (find_links,), "offline": True, **options})
        return Environments(tmp_path / "cache", interpreter, options, environ=environ)

    return opener


@pytest.fixture
def paper_head():
    with PaperHead() as running:
        yield running


@pytest.fixture
def at_work(paper_head, interpreter, tmp_path):
    """Opens the reconciler of one folder, with sections of the configuration."""
    opened = []

    def opener(**sections):
        opened.append(Passes(tmp_path, paper_head, interpreter, **sections))
        return opened[-1]

    yield opener
    for passes in opened:
        passes.close()


@pytest.fixture
def work(at_work):
    return at_work()


@pytest.fixture
def site(tmp_path, paper_head):
    """Where a daemon works beside a paper head."""
    opened = Site(tmp_path, paper_head)
    opened.configure(BUSY)
    yield opened
    opened.close()


@pytest.fixture
def inquisitive(monkeypatch):
    """Looks at Ray's side in every pass."""
    monkeypatch.setattr("controller.daemon.loop.INSPECT_EVERY", 0.0)


@pytest.fixture
def office(tmp_path):
    """Where notifications are made, beside a receiver that takes them."""
    with canned() as server:
        made = Office(tmp_path, server)
        yield made
        server.release.set()
        made.close()


@pytest.fixture(scope="session")
def golden(pytestconfig):
    return Golden(update=pytestconfig.getoption("update_golden"))


@pytest.fixture(scope="session")
def scene(interpreter, tmp_path_factory):
    """One daemon's life, over; whoever orders something does so in a copy of its journal."""
    with PaperHead() as head:
        yield play(tmp_path_factory.mktemp("scene"), head, interpreter)


@pytest.fixture
def done(monkeypatch):
    """What the daemon's parts did so far."""
    return record(monkeypatch)


@pytest.fixture
def running(tmp_path, done):
    """The daemon's parts, with two sources."""
    with Journal.open(tmp_path / "state") as journal:
        made = Running(tmp_path, journal)
        yield made
        made.assembly.close()


@pytest.fixture
def stocked(running, done):
    """Each of the two sources has a wheel, which is fetched and prepared."""
    running.wheel("a", "alpha")
    running.wheel("b", "beta")
    running.revisions = running.poll()
    running.fetched = {name: running.fetch(one) for name, one in running.revisions.items()}
    forget(done)
    return running


@pytest.fixture
def index(monkeypatch):
    """A simple index; the machine's proxies are not for it."""
    monkeypatch.setenv("NO_PROXY", "*")
    with SimpleIndex() as index:
        yield index


@pytest.fixture
def elsewhere(index):
    """A second server; by the name `localhost` it is another host than the index."""
    with SimpleIndex() as server:
        yield server


@pytest.fixture
def connect(clock, monkeypatch):
    """Opens sources on an index, of package `demo` where nothing else is said."""
    monkeypatch.setenv("NO_PROXY", "*")
    opened = []

    def connect(index, *packages, fit=None, clock=clock, **options):
        url = getattr(index, "url", index)
        options = IndexOptions(type="index", url=url, packages=packages or ("demo",), **options)
        opened.append(IndexSource(options, fit=fit, clock=clock, wall_clock=lambda: 1.8e9))
        return opened[-1]

    yield connect
    for source in opened:
        source.close()


@pytest.fixture
def wrap(tmp_path, monkeypatch):
    """Has `wheelway new --wrap` wrap the class `Model` of this code, beside these files."""

    def wrapped(code, examples=(), files=(), target="legacy:Model", name="scored"):
        root = tmp_path / "legacy"
        write(root, {"legacy.py": code, **dict(files)})
        monkeypatch.chdir(root)
        return create(name, tmp_path / "made", Wrap(target, root, examples))

    return wrapped


@pytest.fixture
def pipeline(monkeypatch):
    """The class that `wrap` generated, imported as a replica would."""

    def imported(made, name="scored.pipeline", cls="Scored"):
        monkeypatch.syspath_prepend(made.folder / "src")
        return getattr(importlib.import_module(name), cls)

    yield imported
    for name in [*sys.modules]:
        if name.partition(".")[0] in {"common", "legacy", "models", "scored"}:
            del sys.modules[name]
