"""A daemon that is killed at some instant of an upgrade, and what the next one makes of it.

What kills mean for requests is shown on a real head (`tests/ray/test_crashes.py`).
"""

from __future__ import annotations

import pytest

from controller.model import Phase
from controller.serve.dashboard import Dashboard
from tests.support.head import eventually
from tests.support.site import Site
from tests.support.wheels import make_wheel, sha256

pytestmark = pytest.mark.unit

ROUTE = "/predict/demo/1.0"
ROLLOUT = ("stage", "promote", "retire")
"""The configs of an upgrade that nothing interrupts."""


class Killed(BaseException):
    """The process ends here."""


def killed(moment, number):
    """Sends configs, and is killed before that one arrives or before its answer is heard."""
    sends, sent = Dashboard.put, []

    def put(self, config):
        sent.append(config)
        if len(sent) != number or moment == "after":
            sends(self, config)
        if len(sent) == number:
            raise Killed

    return put


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("config", ROLLOUT)
def test_a_daemon_killed_around_a_config_goes_on_where_it_was(
    work, paper_head, monkeypatch, moment, config
):
    work.drop()
    work.settle()
    sent = len(paper_head.puts)
    wheel = work.drop(marker="other bytes")
    with monkeypatch.context() as patched:
        patched.setattr(Dashboard, "put", killed(moment, ROLLOUT.index(config) + 1))
        with pytest.raises(Killed):
            work.settle()
    work.restart()
    work.settle()
    assert all(ROUTE in put.values() for put in paper_head.sent()[sent:])
    assert len(paper_head.puts) - sent <= len(ROLLOUT) + 1
    assert list(paper_head.routes().values()) == [ROUTE]
    [live] = [r for r in work.journal.releases("demo") if r.phase is Phase.LIVE]
    assert live.subject.digest == sha256(wheel)
    assert work.journal.quarantines() == []


@pytest.mark.parametrize("passes", range(1, 6))
def test_a_daemon_killed_between_two_passes_goes_on_where_it_was(work, paper_head, passes):
    work.drop()
    work.settle()
    sent = len(paper_head.puts)
    wheel = work.drop(marker="other bytes")
    for _ in range(passes):
        work.pass_(after=5.0)
    work.restart()
    work.settle()
    assert all(ROUTE in put.values() for put in paper_head.sent()[sent:])
    assert len(paper_head.puts) - sent <= len(ROLLOUT) + 1
    [live] = [r for r in work.journal.releases("demo") if r.phase is Phase.LIVE]
    assert live.subject.digest == sha256(wheel)


def test_a_daemon_killed_while_an_environment_is_built_builds_it_anew(tmp_path, paper_head):
    site = Site(tmp_path, paper_head)
    site.configure('[environments]\noffline = true\nfind_links = ["links"]\n')
    long_to_compile = "x = [1, 2, 3]\n" * 200_000  # so that there is time to see it being built
    make_wheel(tmp_path / "links", "lib", files={"lib/data.py": long_to_compile})
    environments = tmp_path / "cache" / "environments"
    with site.process() as process:
        site.drop("demo", requires=["lib"])
        eventually(lambda: list(environments.glob(".*/**/environment")))
        process.kill()
        process.wait(60)
    with site.process():
        site.wait_for_phase(site.wait_for(ROUTE), Phase.LIVE)
    site.close()
    assert list(environments.glob("*/**/lib/pipeline.py"))
