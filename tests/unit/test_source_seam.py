"""What sources say reaches election, journal and `explain` as they said it."""

from __future__ import annotations

import json
import threading

import pytest
from packaging.tags import sys_tags
from packaging.version import Version

from controller.cli.explain import drawn
from controller.cli.output import console, stack
from controller.config.loading import parse
from controller.config.sources import CodeArtifactSource as Options
from controller.config.sources import DirectorySource
from controller.errors import ConfigError
from controller.journal import Journal
from controller.journal.records import listing_of, listing_text
from controller.model import Availability, Condition, Listing, Refusal, Revision
from controller.ops.explain import tell
from controller.planning.catalogue import Catalogues
from controller.planning.wheel_names import version_named
from controller.reconcile.artifacts import Artifacts, Means
from controller.reconcile.jobs import Jobs
from controller.sources import index_access, open_index, open_source
from tests.support.head import eventually
from tests.support.wheels import MULTIPLYING

pytestmark = pytest.mark.unit


def revision(version="1.0", availability=Availability.SELECTABLE, note="", digest="a"):
    name = f"acme_iris-{version}-py3-none-any.whl"
    return Revision(
        "wheels", "acme-iris", Version(version), name, "x", digest * 64, 7, availability, note
    )


class Told:
    """A source that lists what a test says, when it may."""

    name = "wheels"
    poll_interval = 30.0
    watch_note = ""

    def __init__(self, *listings):
        self.listings = list(listings)
        self.listed = 0
        self.may = threading.Event()
        self.may.set()

    def list(self):
        self.listed += 1
        assert self.may.wait(60)
        return self.listings[min(self.listed, len(self.listings)) - 1]


def artifacts_of(source, jobs=None, **more):
    jobs = jobs or Jobs(0, lambda: None)
    return Artifacts(
        [source],
        jobs,
        Means(receive=None, prepare=None, is_sound=None, mend=None, prune=None),
        remembered={},
        **more,
    )


# -- artifacts -----------------------------------------------------------------------------------


def test_notes_are_conditions_as_they_are():
    notes = (
        Condition("acme-iris", "UpstreamAllowed", "block it"),
        Condition("acme-iris==1.0", "Disposed", "gone", ok=True),
    )
    artifacts = artifacts_of(Told(Listing("wheels", (), notes=notes)))
    artifacts.poll()
    assert artifacts.conditions() == list(notes)


def test_a_look_that_is_asked_for_while_one_is_under_way_is_made_after_it():
    source = Told(Listing("wheels", ()), Listing("wheels", (revision(),)))
    source.may.clear()
    jobs = Jobs(1, lambda: None)
    artifacts = artifacts_of(source, jobs)
    artifacts.poll()
    eventually(lambda: source.listed == 1)
    artifacts.request_poll("wheels")
    artifacts.poll()
    artifacts.poll()
    source.may.set()
    eventually(lambda: not jobs.running(("list", "wheels")))
    assert source.listed == 1
    artifacts.poll()
    eventually(lambda: len(artifacts.listings()["wheels"].revisions) == 1)
    jobs.close()


def test_a_long_listing_does_not_make_the_passes_spin(clock):
    source = Told(Listing("wheels", ()))
    source.may.clear()
    jobs = Jobs(1, lambda: None)
    artifacts = artifacts_of(source, jobs, clock=clock)
    artifacts.poll()
    clock.now += 31
    artifacts.poll()
    assert artifacts.next_poll() > 1
    source.may.set()
    jobs.close()


def test_a_look_in_between_does_not_put_off_the_regular_one(clock):
    source = Told(Listing("wheels", ()))
    artifacts = artifacts_of(source, clock=clock)
    artifacts.poll()
    clock.now += 29
    artifacts.request_poll("wheels")
    artifacts.poll()
    assert (source.listed, artifacts.next_poll()) == (2, 1.0)
    clock.now += 1
    artifacts.poll()
    assert source.listed == 3


# -- election ------------------------------------------------------------------------------------


def test_what_is_gone_is_as_if_it_were_not_listed():
    listing = Listing(
        "wheels",
        (
            revision("1.0", Availability.GONE),
            revision("1.1", Availability.RETAINED),
            revision("1.2"),
        ),
    )
    found = Catalogues(list(sys_tags())).of([listing])
    assert [str(one.version) for one in found.revisions] == ["1.1", "1.2"]


def test_a_version_whose_wheel_has_not_arrived_is_not_absent():
    listing = Listing(
        "wheels",
        (),
        refused=(Refusal("acme-iris==2.0", "TagsIncompatible", ""), Refusal("ray", "X", "")),
        pending=(
            Refusal("acme-iris==1.0", "SdistOnly", ""),
            Refusal("acme_iris-3.0-py3-none-any.whl", "StillCopying", ""),
        ),
    )
    wanted = {("acme-iris", Version(version)) for version in ("1.0", "2.0", "3.0")}
    artifacts = artifacts_of(Told(listing))
    artifacts.poll()
    assert artifacts.listed().unread == wanted


@pytest.mark.parametrize(
    ("subject", "named"),
    [
        ("Acme.Iris==1.0", ("acme-iris", Version("1"))),
        ("acme_iris-1.0-py3-none-any.whl", ("acme-iris", Version("1.0"))),
        ("acme-iris==latest", None),
        ("acme-iris", None),
        ("iris@1.0+01234567", None),
        ("Bad Name.whl", None),
        (f"acme_iris-1.0-{MULTIPLYING}.whl", None),
        ("acme-iris==" + "9" * 5000, None),
        ("ä" * 200 + "-1.0-py3-none-any.whl", None),
    ],
)
def test_subjects_name_a_version_in_two_ways(subject, named):
    assert version_named(subject) == named


# -- journal -------------------------------------------------------------------------------------


def test_notes_come_back_from_the_journal():
    listing = Listing(
        "wheels",
        (revision("1.0", Availability.RETAINED, "archived"), revision("2.0")),
        notes=(Condition("acme-iris", "UpstreamAllowed", "block it", ok=True),),
    )
    assert listing_of(listing_text(listing)) == listing


def test_listings_of_before_are_read_and_written_as_they_were():
    text = listing_text(Listing("wheels", (revision(),), (Refusal("a", "B", "c"),)))
    assert "note" not in text
    before = json.dumps(json.loads(text))
    assert listing_of(before).revisions[0].note == ""
    assert listing_of(before).notes == ()


# -- explain -------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path) as journal:
        yield journal


def shown(story):
    out = console()
    with out.capture() as said:
        out.print(stack(*drawn(story)))
    return " ".join(said.get().split())


def test_explain_tells_of_a_standing_what_its_source_says(journal):
    note = "archived in CodeArtifact: it runs from the cache"
    journal.save_listing(Listing("wheels", (revision("1.0", Availability.RETAINED, note),)), 0.0)
    story = tell(journal, "acme-iris", Version("1.0"), now=1.0)
    assert note in shown(story)
    assert story["unread"][0]["note"] == note


def test_explain_tells_of_versions_without_a_wheel_and_of_the_whole_package(journal):
    journal.save_listing(Listing("wheels", (revision("1.0"),)), 0.0)
    journal.set_conditions(
        [
            Condition("acme-iris==0.9", "Disposed", "its files are gone", ok=True),
            Condition("acme-iris==0.8", "SdistOnly", "publish a wheel"),
            Condition("acme-iris", "UpstreamAllowed", "block it"),
            Condition("other==0.9", "Disposed", "another's", ok=True),
        ],
        0.0,
    )
    found = [c["reason"] for c in tell(journal, "Acme_Iris", now=1.0)["conditions"]]
    assert sorted(found) == ["Disposed", "SdistOnly", "UpstreamAllowed"]
    found = [c["reason"] for c in tell(journal, "acme-iris", Version("0.9"), now=1.0)["conditions"]]
    assert sorted(found) == ["Disposed", "UpstreamAllowed"]


# -- configuration -------------------------------------------------------------------------------

CODEARTIFACT = """
[[sources]]
type = "directory"
path = "wheels"

[[sources]]
type = "codeartifact"
domain = "acme"
repository = "pipelines"
"""


def refused(text, tmp_path):
    with pytest.raises(ConfigError) as caught:
        parse(text, tmp_path / "controller.toml")
    return caught.value.message.replace(str(tmp_path), "")


def test_sources_are_told_apart_by_their_type(tmp_path):
    config = parse(CODEARTIFACT + 'packages = ["acme-*"]\n', tmp_path / "controller.toml")
    assert [type(source) for source in config.sources] == [DirectorySource, Options]
    assert [source.name for source in config.sources] == ["directory", "codeartifact"]
    assert config.sources[0].path == tmp_path / "wheels"
    assert config.sources[1].where == "acme/pipelines"


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ('domian = "x"', "/controller.toml:10: sources.1.domian: unknown key"),
        ("poll_interval = 0", "/controller.toml:10: sources.1.poll_interval: "),
        ('packages = ["a b"]', "/controller.toml:10: sources.1.packages: 'a b' is neither"),
    ],
)
def test_a_mistake_in_a_source_is_told_with_its_line_and_key(tmp_path, line, mistake):
    assert mistake in refused(CODEARTIFACT + line + "\n", tmp_path)


@pytest.mark.parametrize("line", ['type = "s3"', 'path = "wheels"'])
def test_a_kind_of_source_that_is_not_there_is_told_with_those_that_are(tmp_path, line):
    said = refused(f"[[sources]]\n{line}\n", tmp_path)
    assert ": sources.0.type: says which kind of source this is" in said
    assert "directory, codeartifact, index" in said


@pytest.mark.parametrize(
    ("index", "mistake"),
    [
        ('index = "other"', "must name a source of type codeartifact (codeartifact)"),
        ('index = "directory"', "must name a source of type codeartifact"),
        ('index = "codeartifact"\nindex_url = "https://x"', "`index` and `index_url` contradict"),
        ('index = "codeartifact"\noffline = true', "`index` and `offline` contradict"),
    ],
)
def test_an_index_that_cannot_be_meant_is_told(tmp_path, index, mistake):
    said = refused(f"{CODEARTIFACT}[environments]\n{index}\n", tmp_path)
    assert said.startswith("/controller.toml:10: environments: ")
    assert mistake in said


@pytest.mark.parametrize("named", ["codeartifact", "team"])
def test_an_index_is_the_source_of_that_name_or_the_only_one(tmp_path, named):
    text = f'{CODEARTIFACT}name = "team"\n[environments]\nindex = "{named}"\n'
    index = open_index(index_access(parse(text, tmp_path / "controller.toml")), 600.0)
    assert index._options.name == "team"
    index.close()


def test_of_several_the_index_is_named(tmp_path):
    another = '[[sources]]\ntype = "codeartifact"\ndomain = "b2"\nrepository = "re"\nname = "two"\n'
    text = f'{CODEARTIFACT}name = "one"\n{another}[environments]\nindex = "codeartifact"\n'
    assert "must name a source of type codeartifact (one, two)" in refused(text, tmp_path)


def test_opening_a_source_asks_nothing(alone):
    options = Options(type="codeartifact", domain="acme", repository="pipelines", profile="none")
    source = open_source(options, tags=())
    assert source.calls == {}
    source.close()
    source.close()
