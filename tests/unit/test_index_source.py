"""What is believed of an index that lacks packages, fails or throttles."""

from __future__ import annotations

from contextlib import suppress

import pytest
from packaging.tags import parse_tag

from controller.config.sources import IndexSource as Options
from controller.errors import Stalled, Transient, WheelwayError
from controller.sources import open_source
from tests.support.acme import reasons
from tests.support.simple_index import HTML, JSON, Canned, SimpleIndex, names, page_of

pytestmark = pytest.mark.unit


# -- packages that are not there -------------------------------------------------------------------


def test_a_package_that_does_not_exist_yet_is_a_note(index, connect, built):
    index.publish(built())
    listing = connect(index, "demo", "later").list()
    assert names(listing) == ["demo-1.0-py3-none-any.whl"]
    assert reasons(listing.notes) == {"later": "PackageMissing"}
    assert listing.unobserved == ()


def test_a_package_that_went_beside_others_is_absent(index, connect, built):
    index.publish(built())
    index.publish(built("other"))
    source = connect(index, "demo", "other")
    assert len(source.list().revisions) == 2
    index.answer("/simple/demo/", Canned(status=410))
    listing = source.list()
    assert names(listing) == ["other-1.0-py3-none-any.whl"]
    assert listing.unobserved == ()


def test_when_nothing_is_there_at_all_nothing_is_believed_to_be_gone(index, connect, built):
    for name in ("demo", "other"):
        index.publish(built(name))
    source = connect(index, "demo", "other")
    before = source.list()
    for name in ("demo", "other"):
        index.answer(f"/simple/{name}/", Canned(status=404))
    listing = source.list()
    assert listing.revisions == before.revisions
    assert listing.unobserved == ("demo", "other")
    assert reasons(listing.notes) == {"demo": "PackageMissing", "other": "PackageMissing"}


def test_an_empty_page_is_observed_if_it_says_that_it_is_one(index, connect, built):
    made = built()
    index.publish(made)
    source = connect(index)
    source.list()
    index.withdraw("demo", made.name)
    listing = source.list()
    assert listing.revisions == ()
    assert listing.unobserved == ()
    assert reasons(listing.pending) == {"demo": "PackageMissing"}


# -- packages that fail ----------------------------------------------------------------------------


def test_one_failing_package_keeps_what_it_listed_and_costs_the_others_nothing(
    index, connect, built
):
    index.publish(built())
    index.publish(built("other"))
    source = connect(index, "demo", "other")
    source.list()
    index.answer("/simple/demo/", Canned(status=500))
    index.publish(built("other", "2.0"))
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


def test_a_package_that_fails_from_the_start_is_not_absent(index, connect, built):
    index.publish(built())
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
def test_a_page_that_cannot_be_believed_changes_nothing(canned, index, connect, built):
    index.publish(built())
    index.publish(built("other"))
    source = connect(index, "demo", "other")
    before = source.list()
    index.answer("/simple/demo/", canned)
    listing = source.list()
    assert listing.revisions == before.revisions
    assert listing.unobserved == ("demo",)
    assert set(reasons(listing.notes).values()) <= {"PageInvalid", "BodyIncomplete"}
    assert len(listing.notes) == 1


def test_an_html_page_without_length_is_believed_when_it_is_whole(connect, built):
    with SimpleIndex(form=HTML) as index:
        index.publish(built())
        page = index.page("demo").body
        canned = Canned(page, headers={"Content-Type": "text/html"}, length=False)
        index.answer("/simple/demo/", canned)
        assert len(connect(index).list().revisions) == 1


def test_when_every_package_fails_the_source_does(index, connect, built):
    for name in ("demo", "other"):
        index.publish(built(name))
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


def test_the_trouble_of_many_packages_is_told_as_one(index, connect, built):
    index.publish(built())
    packages = [f"p{number}" for number in range(20)]
    source = connect(index, "demo", *packages)
    for name in packages:
        index.publish(built(name))
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
    asked, wait, index, connect, built, clock
):
    index.publish(built())
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
    index, connect, built, clock
):
    packages = [f"p{number:02}" for number in range(30)]
    for name in packages:
        index.publish(built(name))
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
    index, connect, built
):
    bad, good = [f"a{number}" for number in range(8)], ["b", "c", "d"]
    for name in bad:
        index.answer(f"/simple/{name}/", Canned(status=500))
    for name in good:
        index.publish(built(name))
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


# -- globs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [JSON, HTML])
def test_a_glob_takes_what_matches_of_the_indexs_own_list(form, connect, built):
    with SimpleIndex(form=form) as index:
        for name in ("acme-one", "acme-two", "other"):
            index.publish(built(name))
        source = connect(index, "acme-*")
        assert [r.project for r in source.list().revisions] == ["acme-one", "acme-two"]
        index.publish(built("acme-three"))
        assert len(source.list().revisions) == 3
        index.paths()
        source.list()
        assert len(index.paths()) == 4
        assert source.calls["unchanged"] >= 4


def test_a_package_that_left_the_indexs_list_is_absent(index, connect, built):
    for name in ("acme-one", "acme-two"):
        index.publish(built(name))
    source = connect(index, "acme-*")
    source.list()
    del index.files["acme-one"]
    listing = source.list()
    assert [r.project for r in listing.revisions] == ["acme-two"]
    assert listing.unobserved == ()


def test_a_list_that_cannot_be_read_again_leaves_the_names_as_they_were(index, connect, built):
    index.publish(built("acme-one"))
    source = connect(index, "acme-*")
    source.list()
    index.answer("/simple/", Canned(SIGN_IN, headers={"Content-Type": "application/json"}))
    index.publish(built("acme-one", "2.0"))
    listing = source.list()
    assert len(listing.revisions) == 2
    assert reasons(listing.notes) == {"index": "PageInvalid"}


@pytest.mark.parametrize("status", [403, 404, 500])
@pytest.mark.parametrize("hidden", [["acme-one"], ["acme-one", "acme-two"]])
def test_nothing_is_believed_to_be_gone_while_the_list_cannot_be_read(
    status, hidden, index, connect, built
):
    for name in ("acme-one", "acme-two"):
        index.publish(built(name))
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


# -- opening ---------------------------------------------------------------------------------------


def test_an_index_is_opened_from_its_section_with_what_the_interpreter_takes(index, built):
    index.publish(built(tag="cp27-cp27m-win32"))
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
