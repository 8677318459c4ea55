"""Several sources list the same file, and not all of them send it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from controller.config.settings import DirectorySource as Options
from controller.errors import Transient
from controller.model import Phase
from controller.reconcile.mismatches import MOST
from controller.sources.directory.source import DirectorySource
from tests.support.passes import reasons

pytestmark = pytest.mark.unit


class Mirror(DirectorySource):
    """Lists what is in a folder; what it sends is up to `send`, if that is set."""

    def __init__(self, work, name):
        super().__init__(Options(type="directory", name=name, path=work.wheels))
        self.asked = 0
        self.send = None

    def fetch(self, revision):
        self.asked += 1
        return super().fetch(revision) if self.send is None else self.send(revision)


def lie(revision):
    return iter([b"x" * (revision.size or 1)])


def fail(revision):
    raise Transient("AssetMissing", f"{revision.filename} cannot be downloaded")


@pytest.fixture
def list_from(work):
    """Has the wheels listed by mirrors of these names, the preferred one first."""
    with ExitStack() as opened:
        mirrors = {}

        def renew(*names):
            for name in names:
                if name not in mirrors:
                    mirrors[name] = Mirror(work, name)
                    opened.callback(mirrors[name].close)
            artifacts = work.artifacts
            sources = [mirrors[name] for name in names]
            artifacts.renew(sources, artifacts._means, remembered={}, refusals=artifacts.refusals)
            artifacts.request_poll(*names)
            return sources

        yield renew


@pytest.mark.parametrize("send", [lie, fail])
def test_what_one_source_does_not_send_is_had_from_another(work, list_from, send):
    preferred, other = list_from("preferred", "other")
    preferred.send = send
    work.drop()
    report = work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert work.journal.quarantines() == []
    assert (preferred.asked, other.asked) == (1, 1)
    told = {"preferred": "WrongBytes"} if send is lie else {}
    assert reasons(report) == told
    if told:
        [condition] = [c for c in report.conditions if c.reason == "WrongBytes"]
        assert "other" in condition.message
        assert "demo-1.0-py3-none-any.whl" in condition.message


def test_one_that_sends_what_it_lists_is_asked_alone(work, list_from):
    preferred, other = list_from("preferred", "other")
    work.drop()
    work.settle()
    assert (preferred.asked, other.asked) == (1, 0)


def test_what_no_source_sends_is_quarantined_until_another_one_lists_it(work, list_from):
    liars = list_from("one", "two")
    for liar in liars:
        liar.send = lie
    wheel = work.drop()
    while not work.journal.quarantines():
        work.pass_(after=5.0)
    report = work.settle()
    [quarantine] = work.journal.quarantines()
    assert quarantine.reason == "WrongBytes"
    assert [liar.asked for liar in liars] == [MOST, MOST]
    assert "WrongBytes" not in reasons(report).values(), "the quarantine tells of it"
    work.settle()
    assert [liar.asked for liar in liars] == [MOST, MOST]
    list_from("one", "two", "honest")
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert work.journal.quarantines() == []
    assert [liar.asked for liar in liars] == [MOST, MOST]
    work.remove(wheel)
    work.artifacts.request_poll("one", "two", "honest")
    assert "WrongBytes" not in reasons(work.settle()).values()


def test_what_is_gone_from_the_cache_is_had_again_from_whom_it_can_be_had(work, list_from):
    preferred, other = list_from("preferred", "other")
    work.drop()
    work.settle()
    preferred.send = lie
    [revision] = [r for r in work.artifacts.listed().projects["demo"] if r.source == "preferred"]
    artifact = work.artifacts.known(revision)
    artifact.wheel.unlink()
    (artifact.tree / "demo" / "__init__.py").unlink()
    work.settle()
    for _ in range(40):
        work.pass_(after=5.0)
    assert artifact.wheel.exists()
    assert other.asked == 1
