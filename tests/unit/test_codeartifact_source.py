"""What the `codeartifact` source makes of a repository, by boto3's own wire to the stand-in."""

from __future__ import annotations

import pytest
from packaging.tags import Tag
from packaging.version import Version

from controller.errors import Transient
from controller.model import Availability
from tests.support.acme import FILES, asked, later, reasons, versions
from tests.support.codeartifact import Fault
from tests.support.wheels import make_wheel, sha256

pytestmark = pytest.mark.unit


# -- wheels ----------------------------------------------------------------------------------------


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


# -- states ----------------------------------------------------------------------------------------


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
def test_each_state_has_its_availability_and_says_so(
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


# -- where it came from ----------------------------------------------------------------------------


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


# -- packages --------------------------------------------------------------------------------------


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
