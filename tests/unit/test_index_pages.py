"""What a page of an index says, and which of its files are listed."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import parse_tag

from controller.errors import Stalled, Transient, WheelwayError
from controller.model import Availability
from controller.sources.simple_index import pages
from controller.sources.simple_index.selection import Fit, select
from controller.sources.simple_index.web import Reply
from tests.support.acme import reasons
from tests.support.simple_index import HTML, JSON, Canned, SimpleIndex, html_page, names, page_of
from tests.support.wheels import MULTIPLYING, sha256

pytestmark = pytest.mark.unit


# -- pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [JSON, HTML])
def test_a_page_in_either_form_lists_its_wheels_and_their_bytes_can_be_had(form, connect, built):
    made = built("My.Demo", "1.0+cu1")
    with SimpleIndex(form=form) as index:
        index.publish(made, project="my-demo")
        source = connect(index, "My_Demo")
        [revision] = source.list().revisions
        assert (revision.source, revision.project) == ("index", "my-demo")
        assert str(revision.version) == "1.0+cu1"
        assert revision.filename == made.name
        assert revision.sha256 == sha256(made)
        assert revision.size == (made.stat().st_size if form == JSON else None)
        assert revision.availability is Availability.SELECTABLE
        assert b"".join(source.fetch(revision)) == made.read_bytes()
        assert index.asked[-1].headers["accept-encoding"] == "identity"


def test_json_is_asked_for_first_and_html_is_taken(index, connect, built):
    index.publish(built())
    connect(index).list()
    assert index.asked[0].headers["accept"] == (
        "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
        "text/html;q=0.01"
    )


def test_an_unchanged_poll_costs_one_304_a_package(index, connect, built):
    for name in ("one", "two", "three"):
        index.publish(built(name))
    source = connect(index, "one", "two", "three")
    first = source.list()
    index.paths()
    assert source.list() == first
    assert sorted(index.paths()) == ["/simple/one/", "/simple/three/", "/simple/two/"]
    assert source.calls == {"ok": 3, "unchanged": 3}


def test_an_etag_that_no_header_can_hold_is_left_alone(index, connect, built):
    index.publish(built())
    page = index.page("demo")
    odd = {**page.headers, "ETag": '"\xe9"'}
    index.answer("/simple/demo/", Canned(page.body, headers=odd))
    source = connect(index)
    assert source.list() == source.list()
    assert all("if-none-match" not in asked.headers for asked in index.asked)


def test_an_index_without_etags_gives_the_same_listing_for_the_same_page(connect, built):
    with SimpleIndex(etags=False) as index:
        index.publish(built())
        source = connect(index)
        assert source.list() == source.list()
        assert source.calls == {"ok": 2}


def test_a_date_stands_in_for_an_etag_once_it_is_a_minute_old(index, connect, built):
    index.publish(built())
    page = index.page("demo").body
    dated = {"Content-Type": JSON, "Last-Modified": "Mon, 01 Jan 2035 00:00:00 GMT"}
    fresh = Canned(page, headers={**dated, "Date": "Mon, 01 Jan 2035 00:00:59 GMT"})
    old = Canned(page, headers={**dated, "Date": "Mon, 01 Jan 2035 00:01:00 GMT"})
    index.once("/simple/demo/", fresh, old, Canned(status=304))
    source = connect(index)
    assert source.list() == source.list()
    assert len(source.list().revisions) == 1
    sent = [asked.headers.get("if-modified-since") for asked in index.asked]
    assert sent == [None, None, dated["Last-Modified"]]


def test_a_new_version_a_new_file_and_a_withdrawn_one_are_seen_at_the_next_look(
    index, connect, built
):
    first, second = built(), built(version="2.0")
    index.publish(first)
    source = connect(index)
    assert names(source.list()) == [first.name]
    index.publish(second)
    assert names(source.list()) == [first.name, second.name]
    index.withdraw("demo", first.name)
    listing = source.list()
    assert names(listing) == [second.name]
    assert listing.unobserved == ()


def test_other_bytes_under_the_same_name_are_another_digest(index, connect, built):
    index.publish(built())
    source = connect(index)
    [before] = source.list().revisions
    index.publish(built(marker="other"))
    [after] = source.list().revisions
    assert before.filename == after.filename
    assert before.sha256 != after.sha256


def test_links_are_relative_to_the_pages_own_address_or_its_base(connect, built):
    made = built(version="1.0+cu1")
    quoted = made.name.replace("+", "%2B")
    with SimpleIndex(form=HTML) as index:
        index.publish(made)
        file = index.files["demo"][made.name]
        page = html_page([{**file, "url": quoted}], '<base href="/files/">').encode()
        index.answer("/simple/demo/", Canned(page, headers={"Content-Type": "text/html"}))
        source = connect(index)
        [revision] = source.list().revisions
        assert revision.locator == f"{index.origin}/files/{quoted}"
        assert b"".join(source.fetch(revision)) == made.read_bytes()


def test_a_key_that_is_not_used_may_be_wrong(index, connect, built):
    index.publish(built(), **{"upload-time": "yesterday", "gpg-sig": "maybe", "yanked": ""})
    assert len(connect(index).list().revisions) == 1


@pytest.mark.filterwarnings("ignore::pypi_simple.errors.UnexpectedRepoVersionWarning")
def test_a_newer_minor_version_is_read_and_a_newer_major_one_is_not(index, connect, built):
    index.publish(built())
    page = json.loads(index.page("demo").body)
    index.answer("/simple/demo/", page_of(page | {"meta": {"api-version": "1.99"}}))
    source = connect(index)
    assert len(source.list().revisions) == 1
    index.answer("/simple/demo/", page_of(page | {"meta": {"api-version": "2.0"}}))
    with pytest.raises(Stalled, match=r"version 2\.0") as caught:
        source.list()
    assert caught.value.reason == "PageUnsupported"


PAGES = {
    JSON: json.dumps(
        {
            "meta": {"api-version": "1.1"},
            "name": "demo",
            "files": [{"filename": "demo-1.0-py3-none-any.whl", "url": "x", "hashes": {}}],
        }
    ).encode(),
    HTML: html_page([{"filename": "demo-1.0-py3-none-any.whl", "url": "x"}]).encode(),
}
SCRAPS = [
    b"<",
    b">",
    b'"',
    b"[",
    b"{",
    b"null",
    b"<!",
    b"<![",
    b"&#x110000;",
    b"\xff",
    b"//[",
    b"-",
]


@pytest.mark.parametrize("form", [JSON, HTML])
@given(data=st.data())
def test_a_page_is_read_or_refused_whatever_it_holds(form, data):
    page = PAGES[form]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(page)))
        end = start + data.draw(st.sampled_from([0, 1, 5, 30]))
        page = page[:start] + data.draw(st.sampled_from([b"", *SCRAPS])) + page[end:]
    reply = Reply(200, "https://index.example.com/simple/demo/", {"content-type": form}, page)
    with suppress(WheelwayError):
        select("index", "demo", pages.project(reply, "demo"), Fit(python="3.11.7"), None)
    with suppress(WheelwayError):
        pages.projects(reply)


# -- selection -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "yanked", "note"),
    [
        (JSON, "breaks", "yanked: breaks"),
        (JSON, True, "yanked"),
        (HTML, "breaks", "yanked: breaks"),
        (HTML, "", "yanked"),
    ],
)
def test_a_yanked_file_keeps_running_and_is_not_newly_elected(form, yanked, note, connect, built):
    with SimpleIndex(form=form) as index:
        index.publish(built(), yanked=yanked)
        index.publish(built(version="0.9"))
        older, newer = connect(index).list().revisions
        assert (older.availability, older.note) == (Availability.SELECTABLE, "")
        assert (newer.availability, newer.note) == (Availability.RETAINED, note)


def test_of_a_quarantined_project_nothing_is_newly_elected(index, connect, built):
    index.publish(built())
    page = json.loads(index.page("demo").body)
    index.answer("/simple/demo/", page_of(page | {"project-status": {"status": "quarantined"}}))
    [revision] = connect(index).list().revisions
    assert revision.availability is Availability.RETAINED
    assert "quarantined" in revision.note


@pytest.mark.parametrize("form", [JSON, HTML])
def test_a_version_for_another_python_is_told_of_only_while_nothing_newer_fits(
    form, connect, built
):
    with SimpleIndex(form=form) as index:
        for version, wanted in {"1.0": "<3.9", "2.0": ">=3.9", "3.0": ">=3.14"}.items():
            index.publish(built(version=version), **{"requires-python": wanted})
        source = connect(index, fit=Fit(python="3.11.7+"))
        listing = source.list()
        assert names(listing) == ["demo-2.0-py3-none-any.whl"]
        assert reasons(listing.pending) == {"demo-3.0-py3-none-any.whl": "RequiresPython"}
        assert "3.11.7" in listing.pending[0].message
        index.publish(built(version="4.0"), **{"requires-python": "nonsense"})
        assert source.list().pending == ()
        index.publish(built(version="5.0"), **{"requires-python": f">={'9' * 5000}"})
        assert "demo-5.0-py3-none-any.whl" in names(source.list())


def test_every_wheel_that_fits_is_listed_and_those_for_other_platforms_are_not(
    index, connect, built
):
    fit = Fit(frozenset(parse_tag("cp311-cp311-linux_x86_64") | parse_tag("py3-none-any")))
    for tag in ("cp311-cp311-linux_x86_64", "py3-none-any", "cp312-cp312-win_amd64"):
        index.publish(built(tag=tag))
    index.publish(built(version="2.0", tag="cp311-cp311-win_amd64"))
    source = connect(index, fit=fit)
    listing = source.list()
    assert names(listing) == [
        "demo-1.0-cp311-cp311-linux_x86_64.whl",
        "demo-1.0-py3-none-any.whl",
    ]
    assert reasons(listing.pending) == {"demo-2.0-cp311-cp311-win_amd64.whl": "TagsIncompatible"}


def test_a_version_whose_wheel_has_not_arrived_is_waited_for(index, connect, built, tmp_path):
    index.publish(built())
    for version in ("0.9", "2.0"):
        sdist = tmp_path / f"demo-{version}.tar.gz"
        sdist.write_bytes(b"source")
        index.publish(sdist)
    source = connect(index)
    assert reasons(source.list().pending) == {"demo==2.0": "WheelNotArrived"}
    index.publish(built(version="2.0"))
    listing = source.list()
    assert len(listing.revisions) == 2
    assert listing.pending == ()


def test_files_that_are_no_wheels_of_the_package_are_refused_by_name(index, connect, built):
    index.publish(built())
    index.publish(built("other"), project="demo")
    index.publish(built(filename="demo-latest.whl"), project="demo")
    many = ".".join(f"py{number}" for number in range(400))
    bomb = {"filename": f"demo-1.0-{many}-{many}-{many}.whl"}
    index.publish(built(version="3.0"), project="demo", **bomb)
    short = f"demo-1.0-{MULTIPLYING}.whl"
    index.publish(built(version="5.0"), project="demo", filename=short)
    index.publish(built(version="6.0"), project="demo", filename="demo-6.0-py3-none-any.WHL")
    index.publish(built(version="4.0"), project="demo", filename="demo-\a-py3-none-any.whl")
    listing = connect(index).list()
    assert names(listing) == ["demo-1.0-py3-none-any.whl"]
    assert set(reasons(listing.refused)) == {
        "other-1.0-py3-none-any.whl",
        "demo-latest.whl",
        bomb["filename"][:255],
        short,
        "demo-6.0-py3-none-any.WHL",
        "demo-\\x07-py3-none-any.whl",
    }
    assert set(reasons(listing.refused).values()) == {"FilenameInvalid"}


# -- hashes ----------------------------------------------------------------------------------------


def test_an_index_without_sha_256_is_told_of_once_a_package_and_nothing_counts_as_absent(
    index, connect, built
):
    index.publish(built(), hashes={"md5": "0" * 32})
    index.publish(built(version="2.0"), hashes={})
    listing = connect(index).list()
    assert listing.revisions == ()
    assert reasons(listing.refused) == {"demo": "HashMissing"}
    assert "require_hashes" in listing.refused[0].message
    assert listing.unobserved == ("demo",)


def test_single_files_without_sha_256_are_refused_beside_the_others(index, connect, built):
    index.publish(built())
    index.publish(built(version="2.0"), hashes={"sha256": "not one"})
    listing = connect(index).list()
    assert names(listing) == ["demo-1.0-py3-none-any.whl"]
    assert reasons(listing.refused) == {"demo-2.0-py3-none-any.whl": "HashMissing"}
    assert listing.unobserved == ()


def test_missing_hashes_are_computed_once_if_that_is_allowed(index, connect, built):
    made = built()
    index.publish(made, hashes={}, size=None)
    source = connect(index, require_hashes=False)
    [revision] = source.list().revisions
    assert (revision.sha256, revision.size) == (sha256(made), made.stat().st_size)
    assert b"".join(source.fetch(revision)) == made.read_bytes()
    index.paths()
    assert source.list().revisions == (revision,)
    assert index.paths() == ["/simple/demo/"]


def test_a_file_without_hash_is_asked_about_again_when_the_page_changed(index, connect, built):
    made = built()
    index.publish(made, hashes={})
    path = f"/files/{made.name}"
    tagged = Canned(made.read_bytes(), headers={"ETag": '"a"'})
    index.answer(path, tagged)
    source = connect(index, require_hashes=False)
    first = source.list().revisions
    index.once(path, Canned(status=304))
    index.publish(built(version="2.0"))
    assert source.list().revisions[:1] == first
    assert index.asked[-1].headers["if-none-match"] == '"a"'
    other = built(marker="other")
    index.answer(path, Canned(other.read_bytes(), headers={"ETag": '"b"'}))
    index.publish(built(version="3.0"))
    assert source.list().revisions[0].sha256 == sha256(other)


def test_a_file_that_turns_out_to_be_another_at_the_fetch_is_read_again(index, connect, built):
    made = built()
    index.publish(made, hashes={})
    source = connect(index, require_hashes=False)
    [revision] = source.list().revisions
    other = built(marker="other")
    index.answer(f"/files/{made.name}", Canned(other.read_bytes()))
    with pytest.raises(Transient) as caught:
        b"".join(source.fetch(revision))
    assert caught.value.reason == "FileChanged"
    [again] = source.list().revisions
    assert again.sha256 == sha256(other)
    assert b"".join(source.fetch(again)) == other.read_bytes()


def test_reading_for_hashes_ends_with_its_time_and_goes_on_at_the_next_look(
    index, connect, built, clock, monkeypatch
):
    monkeypatch.setattr("controller.sources.simple_index.hashes.BUDGET", 0.0)
    index.publish(built(), hashes={})
    source = connect(index, require_hashes=False)
    listing = source.list()
    assert listing.revisions == ()
    assert reasons(listing.pending) == {"demo-1.0-py3-none-any.whl": "HashPending"}
    monkeypatch.setattr("controller.sources.simple_index.hashes.BUDGET", 60.0)
    assert len(source.list().revisions) == 1


def test_a_file_that_cannot_be_read_for_its_hash_is_told_of_by_name(index, connect, built):
    made = built()
    index.publish(made, hashes={})
    index.once(f"/files/{made.name}", Canned(status=500))
    source = connect(index, require_hashes=False)
    assert reasons(source.list().pending) == {made.name: "IndexFailed"}
    assert names(source.list()) == [made.name]
