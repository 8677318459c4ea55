"""What polls of the `codeartifact` source cost, and what they believe of what changes."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from packaging.tags import Tag

from controller.errors import Stalled
from controller.journal.records import listing_of, listing_text
from controller.model import Availability, Listing
from controller.sources.codeartifact.upstreams import SELDOM
from tests.support.acme import FILES, POLL, asked, later, versions
from tests.support.codeartifact import Fault, expired_token
from tests.support.wheels import make_wheel, revision_of

pytestmark = pytest.mark.unit


# -- what a poll costs -----------------------------------------------------------------------------


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
        assert source.list() == first
        assert {**before, POLL: count * (polls + 1)} == source.calls
    clock.now = began + SELDOM
    assert source.list() == first
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


# -- across a restart ------------------------------------------------------------------------------


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
def test_another_interpreter_or_repository_remembers_nothing(at_standin, opened, publish, other):
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


# -- pages that change while they are read ---------------------------------------------------------


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


# -- hints and rounds ------------------------------------------------------------------------------


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
