"""What the `codeartifact` source makes of a repository, by boto3's own wire to the stand-in."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from packaging.tags import Tag
from packaging.version import Version

from controller.errors import Stalled, Transient
from controller.journal.records import listing_of, listing_text
from controller.model import Availability, Listing
from controller.sources.codeartifact.upstreams import SELDOM
from tests.support.acme import FILES, POLL, asked, later, reasons, versions
from tests.support.codeartifact import Fault, expired_token
from tests.support.wheels import make_wheel, revision_of, sha256

pytestmark = pytest.mark.unit


@pytest.fixture
def publish(at_standin, tmp_path):
    def put(name="demo", version="1.0", **how):
        return at_standin.shelf.publish(make_wheel(tmp_path / "dist", name, version, **how))

    return put


# -- wheels --------------------------------------------------------------------------------------


def test_a_published_wheel_is_listed_with_its_bytes(source, at_standin, wheel):
    at_standin.shelf.publish(wheel)
    listing = source.list()
    [revision] = listing.revisions
    assert (revision.source, revision.project, revision.version) == (
        "codeartifact",
        "demo",
        Version("1.0"),
    )
    assert (revision.filename, revision.sha256) == (wheel.name, sha256(wheel))
    assert revision.size == wheel.stat().st_size
    assert (revision.availability, revision.note) == (Availability.SELECTABLE, "")
    assert (listing.refused, listing.pending, listing.notes) == ((), (), ())
    assert b"".join(source.fetch(revision)) == wheel.read_bytes()


def test_the_download_is_pinned_to_the_revision_that_was_listed(source, at_standin, publish):
    published = publish()
    [revision] = source.list().revisions
    list(source.fetch(revision))
    [call] = at_standin.asked("GetPackageVersionAsset")
    assert call.asked.params["packageVersionRevision"] == published.revision


def test_of_several_wheels_the_one_with_the_best_tag_is_taken(at_standin, opened, publish):
    tags = [Tag("cp311", "cp311", "linux_x86_64"), Tag("py3", "none", "any")]
    source = opened(tags=tags, packages=["demo"])
    publish()
    [revision] = source.list().revisions
    assert revision.filename == "demo-1.0-py3-none-any.whl"
    publish(tag="cp311-cp311-linux_x86_64")
    publish(tag="cp39-cp39-win32")
    later(clock=source._clock)
    [revision] = source.list().revisions
    assert revision.filename == "demo-1.0-cp311-cp311-linux_x86_64.whl"


def test_of_two_builds_the_higher_is_taken(at_standin, source, tmp_path):
    for build in ("2", "10"):
        name = f"demo-1.0-{build}-py3-none-any.whl"
        at_standin.shelf.publish(make_wheel(tmp_path / build, marker=build, filename=name))
    [revision] = source.list().revisions
    assert revision.filename == "demo-1.0-10-py3-none-any.whl"


def test_a_version_without_a_fitting_wheel_is_refused_by_itself(source, publish):
    publish(tag="cp39-cp39-win32")
    publish(version="2.0")
    listing = source.list()
    assert versions(listing) == ["2.0"]
    assert reasons(listing.refused) == {"demo==1.0": "TagsIncompatible"}
    assert "demo-1.0-cp39-cp39-win32.whl" in listing.refused[0].message


def test_an_sdist_waits_for_its_wheel_and_the_wheel_is_noticed_at_once(
    source, at_standin, publish, clock
):
    at_standin.shelf.store("demo-1.0.tar.gz", b"an sdist")
    listing = source.list()
    assert versions(listing) == []
    assert reasons(listing.pending) == {"demo==1.0": "SdistOnly"}
    publish()
    later(clock)
    listing = source.list()
    assert (versions(listing), listing.pending) == (["1.0"], ())


def test_what_waits_for_a_wheel_is_looked_at_less_and_less_often(source, at_standin, clock):
    at_standin.shelf.store("demo-1.0.tar.gz", b"an sdist")
    looks = []
    for _ in range(240):
        source.list()
        looks.append(asked(at_standin, FILES))
        later(clock)
    first, second = looks[59], looks[239] - looks[179]
    assert first > 5
    assert 0 < second <= 2, "two hours later it is one look in half an hour to an hour"


def test_a_version_whose_files_are_not_told_yet_waits(source, at_standin, publish, clock):
    publish()
    at_standin.inject(FILES, Fault("ResourceNotFoundException", "Package version not found"))
    listing = source.list()
    assert reasons(listing.pending) == {"demo==1.0": "WheelNotArrived"}
    later(clock)
    assert versions(source.list()) == ["1.0"]


def test_a_version_that_is_no_version_is_refused(source, at_standin, publish):
    publish()
    package = at_standin.shelf.package("demo")
    strange = package.versions["1.0"]
    package.versions["latest"] = type(strange)(
        **{
            field: getattr(strange, field)
            for field in ("package", "published", "entry", "origin", "status", "assets")
        },
        version="latest",
    )
    listing = source.list()
    assert versions(listing) == ["1.0"]
    assert reasons(listing.refused) == {"demo==latest": "VersionInvalid"}


def test_a_new_revision_with_the_same_wheel_is_the_same_release(source, at_standin, publish, clock):
    publish()
    [before] = source.list().revisions
    at_standin.shelf.store("demo-1.0.tar.gz", b"an sdist that came late")
    later(clock)
    [after] = source.list().revisions
    assert after.sha256 == before.sha256
    assert b"".join(source.fetch(after))  # under the new revision
    with pytest.raises(Transient) as caught:
        list(source.fetch(before))
    assert caught.value.reason == "AssetMissing"


# -- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "availability"),
    [
        ("Published", Availability.SELECTABLE),
        ("Unlisted", Availability.RETAINED),
        ("Archived", Availability.RETAINED),
        ("Disposed", Availability.GONE),
        ("Deleted", Availability.GONE),
    ],
)
def test_each_state_has_its_standing_and_says_so(
    source, at_standin, publish, clock, state, availability
):
    published = publish()
    source.list()
    at_standin.shelf.set_status("demo", "1.0", state)
    later(clock)
    [revision] = source.list().revisions
    assert revision.availability is availability
    assert revision.sha256 == published.assets[0].hashes["SHA-256"]
    if state == "Published":
        assert revision.note == ""
    else:
        assert revision.note.startswith(f"{state.lower()} in CodeArtifact")


def test_a_state_that_nobody_knows_is_not_deployed(source, at_standin, publish):
    publish()
    at_standin.shelf.set_status("demo", "1.0", "Quantum")
    listing = source.list()
    assert versions(listing) == []
    assert reasons(listing.refused) == {"demo==1.0": "StateUnknown"}


def test_an_unfinished_version_is_ignored_and_asked_nothing_of(source, at_standin, publish, clock):
    publish()
    at_standin.shelf.set_status("demo", "1.0", "Unfinished")
    listing = source.list()
    assert versions(listing) == []
    [note] = listing.notes
    assert (note.subject, note.reason, note.ok) == ("demo==1.0", "Unfinished", True)
    assert asked(at_standin, FILES) == 0
    at_standin.shelf.set_status("demo", "1.0", "Published")
    later(clock)
    assert versions(source.list()) == ["1.0"]


def test_an_archived_version_is_told_by_its_wheel_even_to_a_daemon_that_just_started(
    source, at_standin, publish
):
    publish()
    at_standin.shelf.archive("demo", "1.0")
    [revision] = source.list().revisions
    assert revision.availability is Availability.RETAINED
    assert "runs from the cache" in revision.note


def test_a_disposed_version_is_told_to_a_daemon_that_never_knew_its_files(
    source, at_standin, publish
):
    publish()
    at_standin.shelf.dispose("demo", "1.0")
    listing = source.list()
    assert listing.revisions == ()
    [note] = listing.notes
    assert (note.subject, note.reason, note.ok) == ("demo==1.0", "Disposed", True)
    assert asked(at_standin, FILES) == 0


def test_a_deleted_version_is_gone_and_other_bytes_under_it_are_another_release(
    source, at_standin, publish, clock, tmp_path
):
    publish()
    [before] = source.list().revisions
    at_standin.shelf.delete("demo", "1.0")
    later(clock)
    assert source.list().revisions == ()
    publish(marker="other bytes")
    later(clock)
    [after] = source.list().revisions
    assert (after.version, after.filename) == (before.version, before.filename)
    assert after.sha256 != before.sha256


def test_bytes_that_are_replaced_between_two_looks_are_another_release(
    source, at_standin, publish, clock, tmp_path
):
    publish()
    [before] = source.list().revisions
    at_standin.shelf.republish(make_wheel(tmp_path / "again", marker="other bytes"))
    later(clock)
    [after] = source.list().revisions
    assert after.sha256 != before.sha256


def test_a_status_that_changes_costs_no_look_at_files(source, at_standin, publish, clock):
    publish()
    source.list()
    before = asked(at_standin, FILES)
    for state in ("Unlisted", "Published"):
        at_standin.shelf.set_status("demo", "1.0", state)
        later(clock)
        source.list()
    assert asked(at_standin, FILES) == before


# -- where it came from --------------------------------------------------------------------------


def test_what_came_from_a_public_index_is_not_taken(source, at_standin, publish, tmp_path):
    publish()
    confusing = make_wheel(tmp_path / "evil", "demo", "99.0")
    at_standin.shelf.publish(confusing, origin="EXTERNAL", entry="public:pypi")
    listing = source.list()
    assert versions(listing) == ["1.0"]
    [note] = listing.notes
    assert (note.subject, note.reason, note.ok) == ("demo", "OriginExternal", False)
    assert "99.0" in note.message
    assert "public:pypi" in note.message
    assert all(call.asked.params["packageVersion"] == "1.0" for call in at_standin.asked(FILES))


def test_any_origin_is_taken_when_the_operator_says_so(at_standin, opened, tmp_path):
    wheel = make_wheel(tmp_path / "public", "demo", "99.0")
    at_standin.shelf.publish(wheel, origin="EXTERNAL", entry="public:pypi")
    assert versions(opened(packages=["demo"], origin="any").list()) == ["99.0"]


@pytest.mark.parametrize(
    ("allowed", "taken"), [((), []), (("staging",), ["1.0"]), (("*",), ["1.0"])]
)
def test_versions_enter_through_the_named_repositories_only(
    at_standin, opened, tmp_path, allowed, taken
):
    at_standin.shelf.publish(make_wheel(tmp_path / "dist"), entry="staging")
    listing = opened(packages=["demo"], entry_repositories=allowed).list()
    assert versions(listing) == taken
    assert reasons(listing.notes) == ({} if taken else {"demo": "EntryRepositoryForeign"})
    assert all("a copy still counts" in note.message for note in listing.notes)


def test_external_packages_that_only_a_glob_matches_are_no_trouble(
    at_standin, opened, publish, tmp_path
):
    publish()
    at_standin.shelf.publish(
        make_wheel(tmp_path / "public", "requests", "2.0"), origin="EXTERNAL", entry="public:pypi"
    )
    listing = opened().list()
    assert versions(listing) == ["1.0"]
    [note] = listing.notes
    assert (note.subject, note.reason, note.ok) == ("requests", "OriginExternal", True)


# -- packages ------------------------------------------------------------------------------------


def test_globs_find_packages_and_only_theirs(at_standin, opened, publish, clock):
    for name in ("acme-iris", "acme-rag", "other"):
        publish(name)
    source = opened(packages=["Acme_*"])
    assert [one.project for one in source.list().revisions] == ["acme-iris", "acme-rag"]
    assert {call.asked.params["packagePrefix"] for call in at_standin.asked("ListPackages")} == {
        "acme-"
    }
    publish("acme-late")
    later(clock)
    assert "acme-late" in {one.project for one in source.list().revisions}


def test_packages_are_listed_in_pages(at_standin, opened, publish):
    at_standin.page_size = 2
    for number in range(5):
        publish(f"acme-{number}")
    assert len(opened().list().revisions) == 5
    assert asked(at_standin, "ListPackages") == 3


def test_a_named_package_that_is_not_there_is_told(source, at_standin, publish, clock):
    [note] = source.list().notes
    assert (note.subject, note.reason, note.ok) == ("demo", "PackageMissing", False)
    publish()
    later(clock)
    assert source.list().notes == ()


def test_a_package_that_vanishes_from_the_listing_of_packages_is_asked_itself(
    at_standin, opened, publish, clock
):
    publish("acme-a")
    publish("acme-b")
    source = opened(packages=["acme-*"])
    assert len(source.list().revisions) == 2
    at_standin.page_size = 1
    at_standin.inject("ListPackages", Fault(pages="repeated"), after=0)
    at_standin.inject("ListPackages", Fault(pages="reversed"), times=1)
    later(clock)
    assert len(source.list().revisions) == 2
    at_standin.heal()
    at_standin.shelf.delete("acme-b")
    later(clock)
    assert [one.project for one in source.list().revisions] == ["acme-a"]


# -- what a poll costs ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7])
def test_a_steady_poll_of_named_packages_is_one_call_each(
    at_standin, opened, publish, clock, count
):
    names = [f"model-{number}" for number in range(count)]
    for name in names:
        publish(name)
        publish(name, "2.0")
    source = opened(packages=names)
    first = source.list()
    assert source.calls["ListPackageVersions"] == count
    before = dict(source.calls)
    # Exactly so many until an hour has passed; then upstreams are asked about once more.
    began = clock.now
    for polls, seconds in enumerate((30, 60, 90, SELDOM - 1), start=1):
        clock.now = began + seconds
        assert source.list() is first
        assert {**before, POLL: count * (polls + 1)} == source.calls
    clock.now = began + SELDOM
    assert source.list() is first
    assert source.calls == {**before, POLL: count * 6, "DescribePackage": 2 * count}
    assert "ListPackages" not in source.calls
    sent = {operation: asked(at_standin, operation) for operation in source.calls}
    assert sent == source.calls


def test_a_poll_costs_one_more_call_for_each_page_beyond_the_first(
    source, at_standin, publish, clock
):
    for number in range(5):
        publish(version=f"1.{number}")
    at_standin.page_size = 2
    assert len(source.list().revisions) == 5
    before = source.calls[POLL]
    later(clock)
    assert len(source.list().revisions) == 5
    assert source.calls[POLL] - before == 3
    assert {call.asked.params["maxResults"] for call in at_standin.asked(POLL)} == {1000}


def test_a_steady_poll_of_a_glob_costs_a_listing_of_packages_as_well(
    at_standin, opened, publish, clock
):
    for name in ("acme-a", "acme-b"):
        publish(name)
    source = opened(packages=["acme-*", "acme-iris-*"])
    source.list()
    before = dict(source.calls)
    later(clock)
    source.list()
    assert source.calls == {**before, POLL: before[POLL] + 2, "ListPackages": 2}


def test_only_what_changed_has_its_files_asked_for(at_standin, opened, publish, clock):
    names = [f"model-{number}" for number in range(5)]
    for name in names:
        for version in ("1.0", "1.1", "1.2"):
            publish(name, version)
    source = opened(packages=names)
    source.list()
    before = dict(source.calls)
    publish("model-3", "2.0")
    later(clock)
    source.list()
    spent = {key: source.calls[key] - before[key] for key in source.calls}
    assert spent == {POLL: 5, FILES: 1, "DescribePackage": 0}


def test_packages_are_asked_about_several_at_a_time_and_the_answer_has_their_order(
    at_standin, opened, publish
):
    names = [f"model-{number}" for number in range(20)]
    for name in names:
        publish(name)
    listing = opened(packages=list(reversed(names)), concurrency=8).list()
    assert [one.project for one in listing.revisions] == sorted(names)


def test_two_listings_at_once_do_the_work_of_two(at_standin, opened, publish):
    publish()
    source = opened(packages=["demo"])
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: source.list(), range(2))
    assert first == second
    assert source.calls[POLL] == 2


# -- across a restart ----------------------------------------------------------------------------


def again(listing):
    """As the journal gives it back."""
    return listing_of(listing_text(listing))


def test_after_a_restart_only_what_changed_has_its_files_asked_for(
    at_standin, opened, publish, tmp_path
):
    for version in ("1.0", "1.1", "1.2"):
        publish(version=version)
    before = opened(packages=["demo"]).list()
    publish(version="2.0")
    at_standin.shelf.republish(make_wheel(tmp_path / "again", version="1.2", marker="other"))
    at_standin.shelf.unlist("demo", "1.1")
    source = opened(packages=["demo"], before=again(before))
    listing = source.list()
    assert source.calls[FILES] == 2
    fresh = opened(packages=["demo"]).list()
    assert listing == fresh


def test_a_disposed_version_is_known_by_its_wheel_across_a_restart(at_standin, opened, publish):
    publish()
    before = opened(packages=["demo"]).list()
    at_standin.shelf.dispose("demo", "1.0")
    [revision] = opened(packages=["demo"], before=again(before)).list().revisions
    assert revision.availability is Availability.GONE
    assert revision.sha256 == before.revisions[0].sha256


@pytest.mark.parametrize(
    "other", [{"tags": [Tag("py3", "none", "any")]}, {"region": "eu-central-1"}]
)
def test_another_interpreter_or_place_remembers_nothing(at_standin, opened, publish, other):
    publish()
    before = opened(packages=["demo"]).list()
    source = opened(packages=["demo"], before=again(before), **other)
    assert len(source.list().revisions) == 1
    assert source.calls[FILES] == 1


def test_what_a_source_of_another_kind_listed_under_the_name_is_no_harm(
    at_standin, opened, publish, wheel
):
    publish()
    strange = Listing("codeartifact", (revision_of(wheel),))
    assert len(opened(packages=["demo"], before=strange).list().revisions) == 1


# -- pages that change while they are read -------------------------------------------------------


@pytest.mark.parametrize("pages", ["reversed", "repeated"])
def test_a_page_that_comes_twice_or_in_another_order_loses_no_version(
    source, at_standin, publish, clock, pages
):
    for number in range(6):
        publish(version=f"1.{number}")
    at_standin.page_size = 2
    known = source.list()
    at_standin.inject(POLL, Fault(pages=pages))
    later(clock)
    assert source.list() == known


@pytest.mark.parametrize("pages", ["reversed", "repeated"])
def test_nor_does_the_first_listing_of_all(source, at_standin, publish, pages):
    for number in range(6):
        publish(version=f"1.{number}")
    at_standin.page_size = 2
    at_standin.inject(POLL, Fault(), times=1)
    at_standin.inject(POLL, Fault(pages=pages), times=1)
    assert len(source.list().revisions) == 6


# -- hints and rounds ----------------------------------------------------------------------------


def test_a_hint_makes_only_its_package_be_looked_at_until_the_interval_has_passed(
    at_standin, opened, publish, clock
):
    for name in ("acme-a", "acme-b"):
        publish(name)
    source = opened(packages=["acme-*"])
    source.list()
    publish("acme-a", "2.0")
    publish("acme-b", "2.0")
    before = dict(source.calls)
    later(clock, 1)
    assert source._hint("acme-a")
    assert versions(source.list()) == ["1.0", "2.0", "1.0"]
    assert source.calls[POLL] - before[POLL] == 1
    assert source.calls["ListPackages"] == before["ListPackages"]
    later(clock, 29)
    assert source._hint("acme-a")
    assert versions(source.list()) == ["1.0", "2.0", "1.0", "2.0"]


def test_a_hint_finds_a_package_that_is_new(at_standin, opened, publish, clock):
    source = opened(packages=["acme-*"])
    assert source.list().revisions == ()
    publish("acme-new")
    later(clock, 1)
    assert source._hint("acme-new")
    assert not source._hint("other")
    assert versions(source.list()) == ["1.0"]


def test_without_a_hint_a_listing_is_of_everything(source, publish, clock):
    source.list()
    publish()
    later(clock, 1)
    assert versions(source.list()) == ["1.0"]


def test_a_round_that_was_cut_short_goes_on_where_it_ended(at_standin, opened, publish, clock):
    names = [f"model-{number}" for number in range(4)]
    for name in names:
        publish(name)
    source = opened(packages=names, concurrency=1)
    at_standin.inject(POLL, expired_token(), after=2)
    with pytest.raises(Stalled):
        source.list()
    later(clock, 2)
    assert len(source.list().revisions) == 4
    asked_for = [call.asked.params["package"] for call in at_standin.asked(POLL)]
    assert asked_for == ["model-0", "model-1", "model-2", "model-2", "model-3"]


def test_digests_are_those_of_the_bytes(source, publish):
    publish()
    [revision] = source.list().revisions
    body = b"".join(source.fetch(revision))
    assert hashlib.sha256(body).hexdigest() == revision.sha256
