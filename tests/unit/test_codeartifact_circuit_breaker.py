"""What the `codeartifact` source makes of trouble with one package, and of open upstreams."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from controller.errors import Stalled, WheelwayError
from controller.journal.records import listing_of, listing_text
from controller.sources.codeartifact.upstreams import ROUNDS, SELDOM
from tests.support.acme import FILES, POLL, artifacts_of, asked, later, reasons, versions
from tests.support.codeartifact import (
    Fault,
    access_denied,
    expired_token,
    internal_error,
    throttled,
)

pytestmark = pytest.mark.unit


def again(listing):
    """As the journal gives it back."""
    return listing_of(listing_text(listing))


# -- packages in trouble -------------------------------------------------------------------------

REFUSED = Fault("ValidationException", "this version is beyond description")
OWN = {"refused": REFUSED, "failing": internal_error(), "denied": access_denied()}
REASONS = {"refused": "RequestRefused", "failing": "AwsFailed", "denied": "AccessDenied"}


@pytest.mark.parametrize("operation", [POLL, FILES])
@pytest.mark.parametrize("kind", OWN)
def test_a_package_in_trouble_stays_as_it_was_and_stops_no_other(
    at_standin, opened, publish, clock, kind, operation
):
    for name in ("acme-a", "acme-b"):
        publish(name)
    source = opened(packages=["acme-a", "acme-b"])
    source.list()
    at_standin.inject(operation, OWN[kind], package="acme-a", times=None)
    for version in ("2.0", "3.0"):
        for name in ("acme-a", "acme-b"):
            publish(name, version)
        later(clock)
        listing = source.list()
        assert versions(listing)[-1] == version
    assert versions(listing) == ["1.0", "1.0", "2.0", "3.0"]
    assert listing.unobserved == ("acme-a",)
    [note] = listing.notes
    assert (note.subject, note.reason, note.ok) == ("acme-a", REASONS[kind], False)
    assert "acme-a is taken to be as it was last seen" in note.message
    publish("acme-b", "4.0")
    for name in ("acme-a", "acme-b"):
        assert source._hint(name)
    assert versions(source.list())[-1] == "4.0", "events are heeded as well"
    at_standin.heal()
    later(clock)
    listing = source.list()
    assert len(listing.revisions) == 7
    assert (listing.unobserved, listing.notes) == ((), ())


def test_denied_access_to_a_package_names_it(at_standin, opened, publish, clock):
    for name in ("acme-a", "acme-b"):
        publish(name)
    at_standin.inject(POLL, access_denied(), package="acme-a")
    [note] = opened(packages=["acme-a", "acme-b"]).list().notes
    assert "package/acme/pipelines/pypi//acme-a" in note.message


@pytest.mark.parametrize("kind", OWN)
def test_a_package_in_trouble_keeps_what_it_had_across_a_restart(
    at_standin, opened, publish, clock, kind
):
    for name in ("acme-a", "acme-b"):
        publish(name)
    at_first = artifacts_of(opened(packages=["acme-*"]), clock=clock)
    at_first.poll()
    before = {name: again(listing) for name, listing in at_first.listings().items()}
    at_standin.inject(POLL, OWN[kind], package="acme-a", times=None)
    publish("acme-b", "2.0")
    restarted = opened(packages=["acme-*"], before=before["codeartifact"])
    artifacts = artifacts_of(restarted, clock=clock, before=before)
    for _ in range(2):
        artifacts.poll()
        [listing] = artifacts.listings().values()
        found = [(one.project, str(one.version)) for one in listing.revisions]
        assert sorted(found) == [("acme-a", "1.0"), ("acme-b", "1.0"), ("acme-b", "2.0")]
        assert listing.unobserved == ("acme-a",)
        later(clock)
    assert [one.reason for one in artifacts.conditions()] == [REASONS[kind]]


@pytest.mark.parametrize("kind", OWN)
def test_when_no_package_can_be_looked_at_the_source_cannot(
    at_standin, opened, publish, clock, kind
):
    for name in ("acme-a", "acme-b"):
        publish(name)
    source = opened(packages=["acme-a", "acme-b"])
    source.list()
    at_standin.inject(POLL, OWN[kind], times=None)
    for _ in range(2):
        later(clock)
        with pytest.raises(WheelwayError) as caught:
            source.list()
        assert caught.value.reason == REASONS[kind]


def test_a_service_that_fails_is_not_asked_about_every_package(at_standin, opened, publish, clock):
    names = [f"model-{number:02}" for number in range(12)]
    for name in names:
        publish(name)
    source = opened(packages=names, concurrency=1)
    source.list()
    at_standin.inject(POLL, REFUSED, times=None)
    for rounds in (1, 2, 3):
        later(clock)
        with pytest.raises(Stalled):
            source.list()
        assert asked(at_standin, POLL) == 12 + 3 * rounds
    at_standin.heal()
    later(clock)
    assert source.list().notes == ()


def test_many_packages_in_trouble_side_by_side_do_not_stop_the_others_for_long(
    at_standin, opened, publish, clock
):
    names = [f"model-{number:02}" for number in range(12)]
    for name in names:
        publish(name)
    source = opened(packages=names, concurrency=1)
    for name in names[:5]:
        at_standin.inject(POLL, REFUSED, package=name, times=None)
    with pytest.raises(Stalled):
        source.list()
    for _ in range(2):
        later(clock)
        listing = source.list()
        assert listing.unobserved == tuple(names[:5])
        assert len(listing.revisions) == 7


def test_what_was_learnt_of_a_package_before_its_trouble_is_not_asked_again(
    at_standin, opened, publish, clock
):
    for version in ("1.0", "1.1", "1.2"):
        publish(version=version)
    publish("other")
    source = opened(packages=["demo", "other"])
    at_standin.inject(FILES, Fault(), package="demo", times=2)
    at_standin.inject(FILES, REFUSED, package="demo", times=3)
    for looks in range(3):
        assert versions(source.list()) == ["1.0"]
        assert source.calls[FILES] == 4 + looks
        later(clock)
    assert versions(source.list()) == ["1.0", "1.1", "1.2", "1.0"]
    assert source.calls[FILES] == 7


def test_a_package_in_trouble_that_is_gone_is_believed_to_be_once_it_was_looked_at(
    at_standin, opened, publish, clock
):
    for name in ("acme-a", "acme-b"):
        publish(name)
    source = opened(packages=["acme-*"])
    at_standin.inject(POLL, access_denied(), package="acme-a", times=2)
    assert source.list().unobserved == ("acme-a",)
    at_standin.shelf.delete("acme-a")
    later(clock)
    assert source.list().unobserved == ("acme-a",)
    later(clock)
    listing = source.list()
    assert (listing.unobserved, listing.notes) == ((), ())


# -- whether upstreams are open -----------------------------------------------------------------


@pytest.mark.parametrize("packages", [["demo"], ["d*"]])
def test_a_package_that_may_be_completed_from_upstream_is_a_warning_until_that_is_blocked(
    at_standin, opened, publish, packages, clock
):
    publish()
    at_standin.shelf.restrict("demo", upstream="ALLOW")
    source = opened(packages=packages)
    [note] = source.list().notes
    assert (note.subject, note.reason, note.ok) == ("demo", "UpstreamAllowed", False)
    assert "upstream=BLOCK" in note.message
    at_standin.shelf.restrict("demo", upstream="BLOCK")
    later(clock, ROUNDS * 30)
    assert source.list().notes == ()


def test_a_named_package_that_is_opened_later_is_noticed_within_the_hour(
    source, at_standin, publish, clock
):
    publish()
    assert source.list().notes == ()
    at_standin.shelf.restrict("demo", upstream="ALLOW")
    later(clock, SELDOM - 1)
    assert source.list().notes == ()
    later(clock, 1)
    assert reasons(source.list().notes) == {"demo": "UpstreamAllowed"}
    assert asked(at_standin, "DescribePackage") == 2


def test_questions_about_upstreams_are_spread_over_the_hour(at_standin, opened, publish, clock):
    names = [f"model-{number}" for number in range(4)]
    for name in names:
        publish(name)
    # One is drawn for each version, one for each question.
    drawn = chain([0, 0.0, 0, 0.25, 0, 0.5, 0, 0.75], repeat(0.0))
    source = opened(packages=names, concurrency=1, jitter=lambda: next(drawn))
    source.list()
    counts = []
    for share in (0.62, 0.125, 0.125, 0.125, 0.125):
        later(clock, SELDOM * share)
        source.list()
        counts.append(asked(at_standin, "DescribePackage"))
    assert counts == [4, 5, 6, 7, 8]


TROUBLES = {
    "denied": (access_denied(), 1),
    "throttled": (throttled(), 3),
    "failing": (internal_error(), 3),
    "refused": (Fault("ValidationException", "no such parameter"), 1),
}


@pytest.mark.parametrize(("fault", "calls"), TROUBLES.values(), ids=TROUBLES)
def test_not_being_told_restrictions_is_told_and_stops_nothing(
    source, at_standin, publish, clock, fault, calls
):
    at_standin.inject("DescribePackage", fault, times=None)
    for version in ("1.0", "2.0"):
        publish(version=version)
        later(clock)
        listing = source.list()
    assert versions(listing) == ["1.0", "2.0"]
    assert listing.unobserved == ()
    [note] = listing.notes
    assert (note.subject, note.reason, note.ok) == ("codeartifact", "UpstreamUnknown", True)
    assert "DescribePackage" in note.message
    assert asked(at_standin, "DescribePackage") == calls, "and its retries, but not at each poll"
    at_standin.heal()
    later(clock, ROUNDS * 30)
    assert source.list().notes == ()


def test_what_was_told_of_restrictions_stays_while_nothing_newer_is(
    source, at_standin, publish, clock
):
    publish()
    at_standin.shelf.restrict("demo", upstream="ALLOW")
    source.list()
    at_standin.inject("DescribePackage", access_denied())
    later(clock, ROUNDS * 30)
    assert {note.reason for note in source.list().notes} == {"UpstreamAllowed", "UpstreamUnknown"}


def test_credentials_that_end_while_restrictions_are_asked_for_are_the_sources_trouble(
    source, at_standin, publish
):
    publish()
    at_standin.inject("DescribePackage", expired_token())
    with pytest.raises(Stalled) as caught:
        source.list()
    assert caught.value.reason == "CredentialsExpired"
