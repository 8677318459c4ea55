"""What an index lists, and what is believed of it when it fails."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import parse_tag

from controller.config.sources import IndexSource as Options
from controller.errors import Stalled, Transient, WheelwayError
from controller.model import Availability
from controller.sources import open_source
from controller.sources.simple_index import pages
from controller.sources.simple_index.selection import Fit, select
from controller.sources.simple_index.source import IndexSource
from controller.sources.simple_index.web import Reply
from tests.support.simple_index import HTML, JSON, Canned, SimpleIndex, html_page
from tests.support.wheels import MULTIPLYING, make_wheel, sha256

pytestmark = pytest.mark.unit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """The machine's proxies are not for loopback."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def index():
    with SimpleIndex() as index:
        yield index


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def connect(clock):
    """Opens sources on an index, and closes them."""
    opened = []

    def connect(index, *packages, fit=None, **options):
        options = Options(type="index", url=index.url, packages=packages or ("demo",), **options)
        opened.append(IndexSource(options, fit=fit, clock=clock, wall_clock=lambda: 1.8e9))
        return opened[-1]

    yield connect
    for source in opened:
        source.close()


@pytest.fixture
def wheel(tmp_path):
    """Makes a wheel."""

    def make(name="demo", version="1.0", **how):
        return make_wheel(tmp_path / "made", name, version, **how)

    return make


def names(listing):
    return [revision.filename for revision in listing.revisions]


def reasons(refusals):
    return {item.subject: item.reason for item in refusals}


# -- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [JSON, HTML])
def test_a_page_in_either_form_lists_its_wheels_and_their_bytes_can_be_had(form, connect, wheel):
    made = wheel("My.Demo", "1.0+cu1")
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


def test_json_is_asked_for_first_and_html_is_taken(index, connect, wheel):
    index.publish(wheel())
    connect(index).list()
    assert index.asked[0].headers["accept"] == (
        "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
        "text/html;q=0.01"
    )


def test_an_unchanged_poll_costs_one_304_a_package(index, connect, wheel):
    for name in ("one", "two", "three"):
        index.publish(wheel(name))
    source = connect(index, "one", "two", "three")
    first = source.list()
    index.paths()
    assert source.list() is first
    assert sorted(index.paths()) == ["/simple/one/", "/simple/three/", "/simple/two/"]
    assert source.calls == {"ok": 3, "unchanged": 3}


def test_an_etag_that_no_header_can_hold_is_left_alone(index, connect, wheel):
    index.publish(wheel())
    page = index.page("demo")
    odd = {**page.headers, "ETag": '"\xe9"'}
    index.answer("/simple/demo/", Canned(page.body, headers=odd))
    source = connect(index)
    assert source.list() is source.list()
    assert all("if-none-match" not in asked.headers for asked in index.asked)


def test_an_index_without_etags_gives_the_same_listing_for_the_same_page(connect, wheel):
    with SimpleIndex(etags=False) as index:
        index.publish(wheel())
        source = connect(index)
        assert source.list() is source.list()
        assert source.calls == {"ok": 2}


def test_a_date_stands_in_for_an_etag_once_it_is_a_minute_old(index, connect, wheel):
    index.publish(wheel())
    page = index.page("demo").body
    dated = {"Content-Type": JSON, "Last-Modified": "Mon, 01 Jan 2035 00:00:00 GMT"}
    fresh = Canned(page, headers={**dated, "Date": "Mon, 01 Jan 2035 00:00:59 GMT"})
    old = Canned(page, headers={**dated, "Date": "Mon, 01 Jan 2035 00:01:00 GMT"})
    index.once("/simple/demo/", fresh, old, Canned(status=304))
    source = connect(index)
    assert source.list() is source.list()
    assert len(source.list().revisions) == 1
    sent = [asked.headers.get("if-modified-since") for asked in index.asked]
    assert sent == [None, None, dated["Last-Modified"]]


def test_a_new_version_a_new_file_and_a_withdrawn_one_are_seen_at_the_next_look(
    index, connect, wheel
):
    first, second = wheel(), wheel(version="2.0")
    index.publish(first)
    source = connect(index)
    assert names(source.list()) == [first.name]
    index.publish(second)
    assert names(source.list()) == [first.name, second.name]
    index.withdraw("demo", first.name)
    listing = source.list()
    assert names(listing) == [second.name]
    assert listing.unobserved == ()


def test_other_bytes_under_the_same_name_are_another_digest(index, connect, wheel):
    index.publish(wheel())
    source = connect(index)
    [before] = source.list().revisions
    index.publish(wheel(marker="other"))
    [after] = source.list().revisions
    assert before.filename == after.filename
    assert before.sha256 != after.sha256


def test_links_are_relative_to_the_pages_own_address_or_its_base(connect, wheel):
    made = wheel(version="1.0+cu1")
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


def test_a_key_that_is_not_used_may_be_wrong(index, connect, wheel):
    index.publish(wheel(), **{"upload-time": "yesterday", "gpg-sig": "maybe", "yanked": ""})
    assert len(connect(index).list().revisions) == 1


@pytest.mark.filterwarnings("ignore::pypi_simple.errors.UnexpectedRepoVersionWarning")
def test_a_newer_minor_version_is_read_and_a_newer_major_one_is_not(index, connect, wheel):
    index.publish(wheel())
    page = json.loads(index.page("demo").body)
    index.answer("/simple/demo/", page_of(page | {"meta": {"api-version": "1.99"}}))
    source = connect(index)
    assert len(source.list().revisions) == 1
    index.answer("/simple/demo/", page_of(page | {"meta": {"api-version": "2.0"}}))
    with pytest.raises(Stalled, match=r"version 2\.0") as caught:
        source.list()
    assert caught.value.reason == "PageUnsupported"


def page_of(document, kind=JSON):
    return Canned(json.dumps(document).encode(), headers={"Content-Type": kind})


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


# -- selection -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "yanked", "note"),
    [
        (JSON, "breaks", "yanked: breaks"),
        (JSON, True, "yanked"),
        (HTML, "breaks", "yanked: breaks"),
        (HTML, "", "yanked"),
    ],
)
def test_a_yanked_file_keeps_running_and_is_not_newly_elected(form, yanked, note, connect, wheel):
    with SimpleIndex(form=form) as index:
        index.publish(wheel(), yanked=yanked)
        index.publish(wheel(version="0.9"))
        older, newer = connect(index).list().revisions
        assert (older.availability, older.note) == (Availability.SELECTABLE, "")
        assert (newer.availability, newer.note) == (Availability.RETAINED, note)


def test_of_a_quarantined_project_nothing_is_newly_elected(index, connect, wheel):
    index.publish(wheel())
    page = json.loads(index.page("demo").body)
    index.answer("/simple/demo/", page_of(page | {"project-status": {"status": "quarantined"}}))
    [revision] = connect(index).list().revisions
    assert revision.availability is Availability.RETAINED
    assert "quarantined" in revision.note


@pytest.mark.parametrize("form", [JSON, HTML])
def test_a_version_for_another_python_is_told_of_only_while_nothing_newer_fits(
    form, connect, wheel
):
    with SimpleIndex(form=form) as index:
        for version, wanted in {"1.0": "<3.9", "2.0": ">=3.9", "3.0": ">=3.14"}.items():
            index.publish(wheel(version=version), **{"requires-python": wanted})
        source = connect(index, fit=Fit(python="3.11.7+"))
        listing = source.list()
        assert names(listing) == ["demo-2.0-py3-none-any.whl"]
        assert reasons(listing.pending) == {"demo-3.0-py3-none-any.whl": "RequiresPython"}
        assert "3.11.7" in listing.pending[0].message
        index.publish(wheel(version="4.0"), **{"requires-python": "nonsense"})
        assert source.list().pending == ()
        index.publish(wheel(version="5.0"), **{"requires-python": f">={'9' * 5000}"})
        assert "demo-5.0-py3-none-any.whl" in names(source.list())


def test_every_wheel_that_fits_is_listed_and_those_for_other_platforms_are_not(
    index, connect, wheel
):
    fit = Fit(frozenset(parse_tag("cp311-cp311-linux_x86_64") | parse_tag("py3-none-any")))
    for tag in ("cp311-cp311-linux_x86_64", "py3-none-any", "cp312-cp312-win_amd64"):
        index.publish(wheel(tag=tag))
    index.publish(wheel(version="2.0", tag="cp311-cp311-win_amd64"))
    source = connect(index, fit=fit)
    listing = source.list()
    assert names(listing) == [
        "demo-1.0-cp311-cp311-linux_x86_64.whl",
        "demo-1.0-py3-none-any.whl",
    ]
    assert reasons(listing.pending) == {"demo-2.0-cp311-cp311-win_amd64.whl": "TagsIncompatible"}


def test_a_version_whose_wheel_has_not_arrived_is_waited_for(index, connect, wheel, tmp_path):
    index.publish(wheel())
    for version in ("0.9", "2.0"):
        sdist = tmp_path / f"demo-{version}.tar.gz"
        sdist.write_bytes(b"source")
        index.publish(sdist)
    source = connect(index)
    assert reasons(source.list().pending) == {"demo==2.0": "WheelNotArrived"}
    index.publish(wheel(version="2.0"))
    listing = source.list()
    assert len(listing.revisions) == 2
    assert listing.pending == ()


def test_files_that_are_no_wheels_of_the_package_are_refused_by_name(index, connect, wheel):
    index.publish(wheel())
    index.publish(wheel("other"), project="demo")
    index.publish(wheel(filename="demo-latest.whl"), project="demo")
    many = ".".join(f"py{number}" for number in range(400))
    bomb = {"filename": f"demo-1.0-{many}-{many}-{many}.whl"}
    index.publish(wheel(version="3.0"), project="demo", **bomb)
    short = f"demo-1.0-{MULTIPLYING}.whl"
    index.publish(wheel(version="5.0"), project="demo", filename=short)
    index.publish(wheel(version="6.0"), project="demo", filename="demo-6.0-py3-none-any.WHL")
    index.publish(wheel(version="4.0"), project="demo", filename="demo-\a-py3-none-any.whl")
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


# -- hashes --------------------------------------------------------------------------------------


def test_an_index_without_sha_256_is_told_of_once_a_package_and_nothing_counts_as_absent(
    index, connect, wheel
):
    index.publish(wheel(), hashes={"md5": "0" * 32})
    index.publish(wheel(version="2.0"), hashes={})
    listing = connect(index).list()
    assert listing.revisions == ()
    assert reasons(listing.refused) == {"demo": "HashMissing"}
    assert "require_hashes" in listing.refused[0].message
    assert listing.unobserved == ("demo",)


def test_single_files_without_sha_256_are_refused_beside_the_others(index, connect, wheel):
    index.publish(wheel())
    index.publish(wheel(version="2.0"), hashes={"sha256": "not one"})
    listing = connect(index).list()
    assert names(listing) == ["demo-1.0-py3-none-any.whl"]
    assert reasons(listing.refused) == {"demo-2.0-py3-none-any.whl": "HashMissing"}
    assert listing.unobserved == ()


def test_missing_hashes_are_computed_once_if_that_is_allowed(index, connect, wheel):
    made = wheel()
    index.publish(made, hashes={}, size=None)
    source = connect(index, require_hashes=False)
    [revision] = source.list().revisions
    assert (revision.sha256, revision.size) == (sha256(made), made.stat().st_size)
    assert b"".join(source.fetch(revision)) == made.read_bytes()
    index.paths()
    assert source.list().revisions == (revision,)
    assert index.paths() == ["/simple/demo/"]


def test_a_file_without_hash_is_asked_about_again_when_the_page_changed(index, connect, wheel):
    made = wheel()
    index.publish(made, hashes={})
    path = f"/files/{made.name}"
    tagged = Canned(made.read_bytes(), headers={"ETag": '"a"'})
    index.answer(path, tagged)
    source = connect(index, require_hashes=False)
    first = source.list().revisions
    index.once(path, Canned(status=304))
    index.publish(wheel(version="2.0"))
    assert source.list().revisions[:1] == first
    assert index.asked[-1].headers["if-none-match"] == '"a"'
    other = wheel(marker="other")
    index.answer(path, Canned(other.read_bytes(), headers={"ETag": '"b"'}))
    index.publish(wheel(version="3.0"))
    assert source.list().revisions[0].sha256 == sha256(other)


def test_a_file_that_turns_out_to_be_another_at_the_fetch_is_read_again(index, connect, wheel):
    made = wheel()
    index.publish(made, hashes={})
    source = connect(index, require_hashes=False)
    [revision] = source.list().revisions
    other = wheel(marker="other")
    index.answer(f"/files/{made.name}", Canned(other.read_bytes()))
    with pytest.raises(Transient) as caught:
        b"".join(source.fetch(revision))
    assert caught.value.reason == "FileChanged"
    [again] = source.list().revisions
    assert again.sha256 == sha256(other)
    assert b"".join(source.fetch(again)) == other.read_bytes()


def test_reading_for_hashes_ends_with_its_time_and_goes_on_at_the_next_look(
    index, connect, wheel, clock, monkeypatch
):
    monkeypatch.setattr("controller.sources.simple_index.hashes.BUDGET", 0.0)
    index.publish(wheel(), hashes={})
    source = connect(index, require_hashes=False)
    listing = source.list()
    assert listing.revisions == ()
    assert reasons(listing.pending) == {"demo-1.0-py3-none-any.whl": "HashPending"}
    monkeypatch.setattr("controller.sources.simple_index.hashes.BUDGET", 60.0)
    assert len(source.list().revisions) == 1


def test_a_file_that_cannot_be_read_for_its_hash_is_told_of_by_name(index, connect, wheel):
    made = wheel()
    index.publish(made, hashes={})
    index.once(f"/files/{made.name}", Canned(status=500))
    source = connect(index, require_hashes=False)
    assert reasons(source.list().pending) == {made.name: "IndexFailed"}
    assert names(source.list()) == [made.name]


# -- packages that are not there -----------------------------------------------------------------


def test_a_package_that_does_not_exist_yet_is_a_note(index, connect, wheel):
    index.publish(wheel())
    listing = connect(index, "demo", "later").list()
    assert names(listing) == ["demo-1.0-py3-none-any.whl"]
    assert reasons(listing.notes) == {"later": "PackageMissing"}
    assert listing.unobserved == ()


def test_a_package_that_went_beside_others_is_absent(index, connect, wheel):
    index.publish(wheel())
    index.publish(wheel("other"))
    source = connect(index, "demo", "other")
    assert len(source.list().revisions) == 2
    index.answer("/simple/demo/", Canned(status=410))
    listing = source.list()
    assert names(listing) == ["other-1.0-py3-none-any.whl"]
    assert listing.unobserved == ()


def test_when_nothing_is_there_at_all_nothing_is_believed_to_be_gone(index, connect, wheel):
    for name in ("demo", "other"):
        index.publish(wheel(name))
    source = connect(index, "demo", "other")
    before = source.list()
    for name in ("demo", "other"):
        index.answer(f"/simple/{name}/", Canned(status=404))
    listing = source.list()
    assert listing.revisions == before.revisions
    assert listing.unobserved == ("demo", "other")
    assert reasons(listing.notes) == {"demo": "PackageMissing", "other": "PackageMissing"}


def test_an_empty_page_is_observed_if_it_says_that_it_is_one(index, connect, wheel):
    made = wheel()
    index.publish(made)
    source = connect(index)
    source.list()
    index.withdraw("demo", made.name)
    listing = source.list()
    assert listing.revisions == ()
    assert listing.unobserved == ()
    assert reasons(listing.pending) == {"demo": "PackageMissing"}


# -- packages that fail --------------------------------------------------------------------------


def test_one_failing_package_keeps_what_it_listed_and_costs_the_others_nothing(
    index, connect, wheel
):
    index.publish(wheel())
    index.publish(wheel("other"))
    source = connect(index, "demo", "other")
    source.list()
    index.answer("/simple/demo/", Canned(status=500))
    index.publish(wheel("other", "2.0"))
    listing = source.list()
    assert names(listing) == [
        "demo-1.0-py3-none-any.whl",
        "other-1.0-py3-none-any.whl",
        "other-2.0-py3-none-any.whl",
    ]
    assert listing.unobserved == ("demo",)
    assert reasons(listing.notes) == {"demo": "IndexFailed"}
    index.answer("/simple/demo/", None)
    listing = source.list()
    assert (listing.unobserved, listing.notes) == ((), ())


def test_a_package_that_fails_from_the_start_is_not_absent(index, connect, wheel):
    index.publish(wheel())
    index.answer("/simple/other/", Canned(status=403))
    listing = connect(index, "demo", "other").list()
    assert names(listing) == ["demo-1.0-py3-none-any.whl"]
    assert listing.unobserved == ("other",)
    assert reasons(listing.notes) == {"other": "IndexForbidden"}


SIGN_IN = b'<html><body><h1>Sign in</h1><a href="/help">Help</a></body></html>'
BROKEN = {
    "not JSON": Canned(b"{", headers={"Content-Type": JSON}),
    "another shape": page_of({"files": "none"}),
    "a file without name": page_of(
        {"meta": {"api-version": "1.0"}, "name": "demo", "files": [{"url": "x"}]}
    ),
    "another package": page_of({"meta": {"api-version": "1.0"}, "name": "other", "files": []}),
    "nested beyond reason": Canned(b"[" * 200_000, headers={"Content-Type": JSON}),
    "a sign-in page": Canned(SIGN_IN, headers={"Content-Type": "text/html"}),
    "no page at all": Canned(b"hello", headers={"Content-Type": "text/plain"}),
    "nothing said of its kind": Canned(b"hello"),
    "not what gzip makes": Canned(
        b"hello", headers={"Content-Type": JSON, "Content-Encoding": "gzip"}
    ),
    "cut with a length": Canned(b"<html>" * 9, headers={"Content-Type": "text/html"}, cut=20),
    "cut without a length": Canned(
        b'<html><a href="demo-2.0-py3-none-any.whl">demo-2.0-py3-none-any.whl</a>',
        headers={"Content-Type": "text/html"},
        length=False,
    ),
}


@pytest.mark.parametrize("canned", BROKEN.values(), ids=BROKEN.keys())
def test_a_page_that_cannot_be_believed_changes_nothing(canned, index, connect, wheel):
    index.publish(wheel())
    index.publish(wheel("other"))
    source = connect(index, "demo", "other")
    before = source.list()
    index.answer("/simple/demo/", canned)
    listing = source.list()
    assert listing.revisions == before.revisions
    assert listing.unobserved == ("demo",)
    assert set(reasons(listing.notes).values()) <= {"PageInvalid", "BodyIncomplete"}
    assert len(listing.notes) == 1


def test_an_html_page_without_length_is_believed_when_it_is_whole(connect, wheel):
    with SimpleIndex(form=HTML) as index:
        index.publish(wheel())
        page = index.page("demo").body
        canned = Canned(page, headers={"Content-Type": "text/html"}, length=False)
        index.answer("/simple/demo/", canned)
        assert len(connect(index).list().revisions) == 1


def test_when_every_package_fails_the_source_does(index, connect, wheel):
    for name in ("demo", "other"):
        index.publish(wheel(name))
        index.answer(f"/simple/{name}/", Canned(status=502))
    with pytest.raises(Transient, match="502") as caught:
        connect(index, "demo", "other").list()
    assert caught.value.reason == "IndexFailed"


def test_an_index_that_is_down_is_not_asked_for_every_package(index, connect):
    packages = [f"p{number}" for number in range(50)]
    for name in packages:
        index.answer(f"/simple/{name}/", Canned(status=503))
    with pytest.raises(Transient):
        connect(index, *packages).list()
    assert len(index.paths()) < 12


def test_the_trouble_of_many_packages_is_told_as_one(index, connect, wheel):
    index.publish(wheel())
    packages = [f"p{number}" for number in range(20)]
    source = connect(index, "demo", *packages)
    for name in packages:
        index.publish(wheel(name))
    source.list()
    for name in packages:
        index.answer(f"/simple/{name}/", Canned(b"<html>", headers={"Content-Type": "text/html"}))
    listing = source.list()
    [note] = listing.notes
    assert (note.subject, note.reason) == ("index", "PageInvalid")
    assert "20 packages" in note.message
    assert len(listing.unobserved) == 20


@pytest.mark.parametrize(
    ("asked", "wait"),
    [("7", 7.0), ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0), ("999999999", 3600.0), ("soon", None)],
)
def test_a_throttled_index_is_left_alone_for_as_long_as_it_asks(
    asked, wait, index, connect, wheel, clock
):
    index.publish(wheel())
    source = connect(index)
    index.once("/simple/demo/", Canned(status=429, headers={"Retry-After": asked}))
    with pytest.raises(Transient) as caught:
        source.list()
    assert (caught.value.reason, caught.value.retry_after) == ("IndexThrottled", wait)
    index.paths()
    if wait is not None:
        clock.now += wait - 1
        with pytest.raises(Transient) as caught:
            source.list()
        assert caught.value.retry_after == pytest.approx(1)
        assert index.paths() == []
        clock.now += 1
    assert len(source.list().revisions) == 1


def test_after_a_throttled_page_no_other_is_asked_for_and_those_come_first_next_time(
    index, connect, wheel, clock
):
    packages = [f"p{number:02}" for number in range(30)]
    for name in packages:
        index.publish(wheel(name))
    source = connect(index, *packages)
    throttled = Canned(status=429, headers={"Retry-After": "5"})
    for name in packages[8:]:
        index.once(f"/simple/{name}/", throttled)
    listing = source.list()
    asked = set(index.paths())
    assert len(asked) < len(packages)
    assert len(listing.revisions) + len(listing.unobserved) == len(packages)
    unseen = {f"/simple/{name}/" for name in listing.unobserved}
    clock.now += 5
    for name in packages:
        index._next[f"/simple/{name}/"].clear()
    assert len(source.list().revisions) == len(packages)
    first = index.paths()[: len(unseen)]
    # A few are asked for at the same time, so the order is that of the beginnings.
    assert len(unseen.intersection(first)) >= len(unseen) - 4


def test_a_refused_password_is_not_tried_for_every_package(index, connect, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    packages = [f"p{number}" for number in range(50)]
    for name in packages:
        index.answer(f"/simple/{name}/", Canned(status=401))
    source = connect(index, *packages, username="alice", password_file=secret)
    with pytest.raises(Stalled) as caught:
        source.list()
    assert caught.value.reason == "IndexUnauthorized"
    assert "alice" in caught.value.message
    assert str(secret) in caught.value.message
    assert "hunter2" not in caught.value.message
    assert len(index.paths()) <= 8


def test_packages_that_never_answer_do_not_keep_others_from_being_asked_about(
    index, connect, wheel
):
    bad, good = [f"a{number}" for number in range(8)], ["b", "c", "d"]
    for name in bad:
        index.answer(f"/simple/{name}/", Canned(status=500))
    for name in good:
        index.publish(wheel(name))
    source = connect(index, *bad, *good)
    seen = set()
    for _ in range(4):
        with suppress(Transient):
            seen |= {revision.project for revision in source.list().revisions}
    assert seen == set(good)


def test_a_password_that_is_answered_with_forbidden_is_not_tried_for_every_package(index, connect):
    packages = [f"p{number}" for number in range(50)]
    for name in packages:
        index.answer(f"/simple/{name}/", Canned(status=403))
    with pytest.raises(Stalled):
        connect(index, *packages).list()
    assert len(index.paths()) <= 8


# -- globs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [JSON, HTML])
def test_a_glob_takes_what_matches_of_the_indexs_own_list(form, connect, wheel):
    with SimpleIndex(form=form) as index:
        for name in ("acme-one", "acme-two", "other"):
            index.publish(wheel(name))
        source = connect(index, "acme-*")
        assert [r.project for r in source.list().revisions] == ["acme-one", "acme-two"]
        index.publish(wheel("acme-three"))
        assert len(source.list().revisions) == 3
        index.paths()
        source.list()
        assert len(index.paths()) == 4
        assert source.calls["unchanged"] >= 4


def test_a_package_that_left_the_indexs_list_is_absent(index, connect, wheel):
    for name in ("acme-one", "acme-two"):
        index.publish(wheel(name))
    source = connect(index, "acme-*")
    source.list()
    del index.files["acme-one"]
    listing = source.list()
    assert [r.project for r in listing.revisions] == ["acme-two"]
    assert listing.unobserved == ()


def test_a_list_that_cannot_be_read_again_leaves_the_names_as_they_were(index, connect, wheel):
    index.publish(wheel("acme-one"))
    source = connect(index, "acme-*")
    source.list()
    index.answer("/simple/", Canned(SIGN_IN, headers={"Content-Type": "application/json"}))
    index.publish(wheel("acme-one", "2.0"))
    listing = source.list()
    assert len(listing.revisions) == 2
    assert reasons(listing.notes) == {"index": "PageInvalid"}


@pytest.mark.parametrize("status", [403, 404, 500])
@pytest.mark.parametrize("hidden", [["acme-one"], ["acme-one", "acme-two"]])
def test_nothing_is_believed_to_be_gone_while_the_list_cannot_be_read(
    status, hidden, index, connect, wheel
):
    for name in ("acme-one", "acme-two"):
        index.publish(wheel(name))
    source = connect(index, "acme-*")
    before = source.list()
    index.answer("/simple/", Canned(status=status))
    for name in hidden:
        index.answer(f"/simple/{name}/", Canned(status=404))
    listing = source.list()
    assert listing.revisions == before.revisions
    assert listing.unobserved == tuple(hidden)
    index.answer("/simple/", None)
    listing = source.list()
    assert [r.project for r in listing.revisions] == [*{"acme-one", "acme-two"} - {*hidden}]
    assert listing.unobserved == ()


@pytest.mark.parametrize(
    ("canned", "reason"),
    [
        (Canned(status=404), "IndexUnexpected"),
        (Canned(b"<html></html>", headers={"Content-Type": "text/html"}), "PageInvalid"),
    ],
)
def test_a_glob_without_a_list_lists_nothing(canned, reason, index, connect):
    index.answer("/simple/", canned)
    with pytest.raises(WheelwayError) as caught:
        connect(index, "acme-*", "named").list()
    assert caught.value.reason == reason


def test_names_on_the_list_that_are_none_lead_nowhere(index, connect):
    named = [{"name": "acme-../../x"}, {"name": "acme-one\n"}]
    index.answer("/simple/", page_of({"meta": {"api-version": "1.0"}, "projects": named}))
    assert connect(index, "acme-*").list().revisions == ()
    assert index.paths() == ["/simple/"]


# -- opening -------------------------------------------------------------------------------------


def test_an_index_is_opened_from_its_section_with_what_the_interpreter_takes(index, wheel):
    index.publish(wheel(tag="cp27-cp27m-win32"))
    options = Options(type="index", url=index.url, packages=["demo"], poll_interval=7)
    tags = list(parse_tag("py3-none-any"))
    source = open_source(options, tags=tags, python_version="3.11.7")
    assert (source.name, source.poll_interval, source.watch_note) == ("index", 7, "")
    source.watch(lambda: None)
    assert [item.reason for item in source.list().pending] == ["TagsIncompatible"]
    source.close()
    source.close()
    with pytest.raises(Transient, match="closed"):
        source.list()
