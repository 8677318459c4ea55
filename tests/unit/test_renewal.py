"""An edit of the configuration renews the parts whose section changed, and no others."""

from __future__ import annotations

import time

import pytest

from controller.config.settings import Config
from controller.errors import Stalled, Transient
from controller.journal import Journal
from controller.reconcile import assembly as module
from controller.reconcile.assembly import assemble
from tests.support.head import eventually
from tests.support.passes import reasons, routes

pytestmark = pytest.mark.unit


def nobody():
    """Wakes nobody."""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "wheels").mkdir()
    return Config(
        sources=[{"type": "directory", "name": "wheels", "path": tmp_path / "wheels"}],
        paths={"cache": tmp_path / "cache", "state": tmp_path / "state"},
    )


@pytest.fixture
def journal(config):
    with Journal.open(config.paths.state) as made:
        yield made


@pytest.fixture
def parts(config, journal):
    made = assemble(config, journal, wake=nobody)
    yield made
    made.close()


def renewed(before, config, journal, **more):
    return assemble(config, journal, wake=nobody, before=before, **more)


def edited(config, section, **keys):
    return config.model_copy(update={section: getattr(config, section).model_copy(update=keys)})


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("rollout", {"max_staging": 9, "interval": 7.0, "probe_deadline": 9.0}),
        ("policy", {"unlisted": "inactive"}),
        ("journal", {"keep_for": 1.0}),
        ("serve", {"proxy_location": "EveryNode"}),
        ("log", {}),
    ],
)
def test_what_only_decides_otherwise_leaves_all_parts_as_they_are(
    parts, config, journal, section, keys
):
    other = edited(config, section, **keys)
    assert renewed(parts, other, journal).parts.besides(parts.parts) == []
    assert parts.reconciler.config is other


def test_all_parts_wait_by_a_clock_that_nobody_can_turn(config, journal, monkeypatch):
    turned, wall = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: wall() + turned[0])
    made = assemble(edited(config, "ray", dashboard_url="http://127.0.0.1:9"), journal, wake=nobody)
    made.reconciler.run_pass()
    assert made.reconciler.backing_off()
    turned[0] = -3600.0
    eventually(lambda: not made.reconciler.backing_off())
    made.close()


def test_another_dashboard_leaves_the_sources_and_their_jobs(parts, config, journal):
    after = renewed(parts, edited(config, "ray", timeout=3.0), journal)
    assert (after.artifacts, after.jobs) == (parts.artifacts, parts.jobs)
    assert after.reconciler is not parts.reconciler
    assert after.dashboard is not parts.dashboard
    parts.close(keep=after)
    after.jobs.ensure(("fetch", "x"), nobody)  # its threads go on
    after.close()


def test_what_cannot_be_put_together_leaves_the_parts_before(parts, config, journal, tmp_path):
    bad = edited(config, "ray", ca_file=tmp_path / "none.pem")
    with pytest.raises(Stalled):
        renewed(parts, bad, journal)
    assert parts.reconciler.config is config
    parts.jobs.ensure(("fetch", "x"), nobody)


def test_an_interpreter_is_asked_only_when_it_may_be_another(parts, config, journal, monkeypatch):
    monkeypatch.setattr(module, "detect", lambda _: pytest.fail("asked"))
    renewed(parts, edited(config, "rollout", interval=2.0), journal)
    renewed(parts, edited(config, "ray", timeout=3.0), journal).close(keep=parts)


# -- while it works ------------------------------------------------------------------------------


def with_rule(work, **rule):
    work.reconciler.renew(Config(**{**dict(work.config), "pipelines": [{"name": "demo", **rule}]}))


def test_another_keep_looks_into_no_wheel_again_and_renders_nothing_anew(work, paper_head):
    for version in ("1.0", "2.0"):
        work.drop(version=version)
    work.settle()
    received, rendered = list(work.received), work.reconciler._gatherer._placed.made
    with_rule(work, keep=1)
    work.settle()
    assert routes(paper_head)[-1] == {"demo-2.0": "/predict/demo/2.0"}
    assert (work.received, work.reconciler._gatherer._placed.made) == (received, rendered)


def test_other_settings_render_what_they_are_for(work, paper_head):
    work.drop()
    work.drop("other")
    work.settle()
    rendered = work.reconciler._gatherer._placed.made
    with_rule(work, settings={"threshold": 0.7})
    work.settle()
    assert work.reconciler._gatherer._placed.made == rendered + 1
    [demo] = [a for a in paper_head.puts[-1]["applications"] if a["name"].startswith("demo")]
    assert demo["deployments"][0]["user_config"]["settings"] == {"threshold": 0.7}


def test_an_edit_restarts_no_backoff(work, paper_head):
    paper_head.fails(500, retry_after="40")
    assert work.pass_().error is not None
    looks = paper_head.looks()
    with_rule(work, keep=1)
    assert isinstance(work.pass_(after=20.0).error, Transient | None)
    assert paper_head.looks() == looks


def test_a_refused_config_waits_on_after_an_edit_that_does_not_change_it(work, paper_head):
    work.drop()
    paper_head.refusal = "not now"
    work.pass_()
    for _ in range(6):
        report = work.pass_(after=1.0)
    sent = len(paper_head.puts)
    with_rule(work, keep=3)
    report = work.pass_(after=0.1)
    assert (len(paper_head.puts), reasons(report)["serve config"]) == (sent, "ConfigRefused")


def with_serve(work, **serve):
    work.reconciler.renew(Config(**{**dict(work.config), "serve": serve}))


def test_other_options_of_serve_are_in_the_config_though_no_application_changes(work, paper_head):
    work.drop()
    work.settle()
    with_serve(work, proxy_location="EveryNode", http_options={"request_timeout_s": 77})
    assert "request_timeout_s: 77" in work.pass_(after=1.0).serve_config
    with_serve(work, proxy_location="EveryNode", http_options={"request_timeout_s": 77.0})
    assert "request_timeout_s: 77.0" in work.pass_(after=1.0).serve_config
    with_serve(work, http_options={"request_timeout_s": 7})
    paper_head.forgets()  # whatever is sent next is sent with them
    work.pass_(after=1.0)
    work.pass_(after=30.0)
    assert paper_head.puts[-1]["http_options"]["request_timeout_s"] == 7
    assert paper_head.puts[-1]["proxy_location"] == "HeadOnly"


def test_a_config_that_was_refused_for_what_all_share_is_sent_as_edited(work, paper_head):
    work.drop()
    with_serve(work, http_options={"request_timeout_s": 11})
    paper_head.refusal = "http_options are not accepted here"
    work.pass_()
    assert reasons(work.pass_(after=1.0))["serve config"] == "ConfigRefused"
    paper_head.refusal = ""
    with_serve(work, http_options={"request_timeout_s": 77})
    assert work.pass_(after=0.1).sent
    assert paper_head.puts[-1]["http_options"]["request_timeout_s"] == 77


@pytest.mark.parametrize("values", [(0, False, 0.0), (1, True, 1.0), ([{"n": 1}], [{"n": True}])])
def test_a_setting_of_another_type_is_sent_though_python_takes_it_for_the_same(
    work, paper_head, values
):
    work.drop()
    work.settle()
    for value in values:
        with_rule(work, settings={"flag": value})
        work.settle()
        [demo] = paper_head.puts[-1]["applications"]
        [host] = demo["deployments"]
        assert repr(host["user_config"]["settings"]) == repr({"flag": value})
    assert len(paper_head.puts) == 2 + len(values)
