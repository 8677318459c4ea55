"""The daemon beside a paper head, while its configuration is edited."""

from __future__ import annotations

import json
import logging
import threading

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.daemon import loop as module
from controller.daemon.loop import Daemon
from controller.journal import Journal
from controller.model import Phase
from tests.support.head import eventually
from tests.support.site import BUSY, IDLE

pytestmark = pytest.mark.unit

ROUTE = "/predict/demo/1.0"


def reload(site, *more):
    args = ["--config", str(site.config), "config", "reload", *more]
    return CliRunner().invoke(app, args, prog_name="wheelway")


def source(site, folder):
    (site.folder / folder).mkdir(exist_ok=True)
    return f'[[sources]]\ntype = "directory"\nname = "{folder}"\npath = "{folder}"\n'


def test_a_broken_edit_is_a_condition_and_the_last_good_one_stays_in_force(site):
    with site.daemon():
        site.configure(BUSY + "[policy]\nunlisted = 'sometimes'\n")
        [condition] = eventually(lambda: site.conditions("ConfigInvalid"))
        assert "policy.unlisted" in condition.message
        site.drop("demo")
        site.wait_for(ROUTE)
        assert site.conditions("ConfigInvalid")
        site.configure(BUSY)
        eventually(lambda: not site.conditions("ConfigInvalid"))


def test_no_edit_ends_the_daemon_not_even_by_a_bug(site, monkeypatch):
    def buggy(self, config):
        raise RuntimeError("a bug")

    monkeypatch.setattr(module.Telemetry, "renew", buggy)
    edits = [
        ('[environments]\nfind_links = ["~nobody-here/x"]\n', "ConfigInvalid", "find_links"),
        (f"[[pipelines]]\nname = 'x'\nsettings.{'a.' * 5000}a = 1\n", "ConfigInvalid", "nested"),
        ("[log]\nlevel = 'debug'\n", "InternalError", "a bug"),
    ]
    with site.daemon():
        for number, (wrong, reason, said) in enumerate(edits):
            site.configure(BUSY + wrong)
            [condition] = eventually(
                lambda reason=reason, said=said: [
                    found for found in site.conditions(reason) if said in found.message
                ]
            )
            assert condition.subject == "config"
            site.drop(f"demo{number}")
            site.wait_for(f"/predict/demo{number}/1.0")


def test_an_edit_that_a_bug_keeps_out_is_told_until_it_is_in_force(site, monkeypatch):
    def buggy(*_, **__):
        raise RuntimeError("a bug")

    def passes(count):
        seen = len(site.reports)
        eventually(lambda: len(site.reports) > seen + count)

    with site.daemon() as daemon:
        monkeypatch.setattr(module, "assemble", buggy)
        site.configure(BUSY.replace("0.2", "0.3"))
        eventually(lambda: site.conditions("InternalError"))
        passes(5)
        assert site.conditions("InternalError")
        refused = reload(site, "--json")
        assert json.loads(refused.stdout)["reason"] == "InternalError"
        passes(3)
        assert site.conditions("InternalError")
        monkeypatch.undo()
        assert reload(site).stdout == "The configuration is in force.\n"
        eventually(lambda: not site.conditions("InternalError"))
        assert daemon.config.rollout.interval == 0.3


def test_a_good_edit_takes_effect_and_can_be_undone(site):
    site.drop("demo")
    with site.daemon():
        release = site.wait_for(ROUTE)
        site.configure(BUSY + "[policy]\nunlisted = 'inactive'\n")
        site.wait_for_phase(release, Phase.RETIRED)
        assert site.release_at(ROUTE) == ""
        site.configure(BUSY)
        assert site.wait_for(ROUTE) == release


def test_what_cannot_be_put_together_is_tried_again_while_the_old_parts_go_on(site, inquisitive):
    blocked = site.folder / "blocked"
    blocked.write_text("a file where a folder should be")
    with site.daemon():
        good = site.basics
        site.basics = good.replace('cache = "cache"', 'cache = "blocked/cache"')
        site.configure(BUSY)
        [condition] = eventually(lambda: site.conditions("CacheUnusable"))
        assert condition.subject == "config"
        assert "goes on with the configuration before" in condition.message
        site.drop("demo")
        site.wait_for(ROUTE)
        blocked.unlink()
        eventually(lambda: not site.conditions("CacheUnusable"))
        site.drop("other")
        site.wait_for("/predict/other/1.0")
        assert list((blocked / "cache").rglob("other*.whl"))


def test_an_edit_that_could_not_be_put_together_can_be_undone(site):
    with site.daemon():
        site.configure(BUSY + "[environments]\nindex_url = 'https://a.example/'\n")
        good = site.basics
        site.basics = good.replace("[ray]", "[ray]\nca_file = 'no-such-file.pem'")
        site.configure(BUSY)
        eventually(lambda: site.conditions("CertificateUnreadable"))
        site.basics = good
        site.configure(BUSY)
        eventually(lambda: not site.conditions("CertificateUnreadable"))


def test_a_source_that_left_the_configuration_is_forgotten_and_so_is_what_it_brought(site):
    more = source(site, "more")
    site.configure(BUSY + more)
    site.drop("demo")
    with site.daemon():
        kept = site.wait_for(ROUTE)
        site.drop("other").rename(site.folder / "more" / "other-1.0-py3-none-any.whl")
        gone = site.wait_for("/predict/other/1.0")
        site.configure(BUSY)
        site.wait_for_phase(gone, Phase.RETIRED)
        with Journal.read(site.folder / "state") as journal:
            assert list(journal.listings()) == ["directory"]
        assert site.release_at(ROUTE) == kept


def test_an_edit_says_what_was_made_anew_for_it_and_keeps_the_rest(site, caplog):
    caplog.set_level(logging.INFO)
    site.configure(BUSY + source(site, "beside"))
    site.drop("demo")
    with site.daemon():
        release = site.wait_for(ROUTE)
        site.configure(BUSY + source(site, "beside") + "poll_interval = 7\n")
        eventually(lambda: "made anew: source beside; all else goes on" in caplog.text)
        site.configure(BUSY + source(site, "more"))
        eventually(lambda: "made anew: source more; all else goes on" in caplog.text)
        make = site.drop("other")
        make.rename(site.folder / "more" / make.name)
        site.wait_for("/predict/other/1.0")  # it is watched, or polled
        assert site.release_at(ROUTE) == release


def test_what_is_live_stays_so_untouched_while_parts_are_made_anew(site, paper_head, caplog):
    caplog.set_level(logging.INFO)
    edits = {
        "source directory": ("poll_interval = 1", "poll_interval = 2"),
        "inspection": ("[ray]", "[inspection]\nmax_files = 999\n[ray]"),
        "environments": ("[ray]", "[environments]\ntimeout = 60\n[ray]"),
        "pruning": ('cache = "cache"', 'cache = "cache"\nretention = 60'),
    }
    site.drop("demo")
    with site.daemon():
        site.wait_for_phase(site.wait_for(ROUTE), Phase.LIVE)
        sent = len(paper_head.puts)
        for number, (made, edit) in enumerate(edits.items()):
            site.basics = site.basics.replace(*edit)
            site.configure(BUSY)
            eventually(lambda made=made: f"made anew: {made}" in caplog.text)
            site.drop(f"other{number}")
            site.wait_for_phase(site.wait_for(f"/predict/other{number}/1.0"), Phase.LIVE)
    before, *after = paper_head.sent()[sent - 1 :]
    assert all(before.items() <= put.items() for put in after)


def test_what_is_live_moves_to_another_cache_without_losing_its_route(site, paper_head):
    site.drop("demo")
    with site.daemon():
        release = site.wait_for(ROUTE)
        site.wait_for_phase(release, Phase.LIVE)
        sent = len(paper_head.puts)
        site.basics = site.basics.replace('cache = "cache"', 'cache = "larger"')
        site.configure(BUSY)
        larger = str(site.folder / "larger")

        def moved():
            last = paper_head.puts[-1]["applications"]
            return [larger in json.dumps(application) for application in last] == [True]

        eventually(moved)
        assert site.release_at(ROUTE) == release
    for put in paper_head.sent()[sent:]:
        assert ROUTE in put.values()


@pytest.mark.parametrize("change", ["kind", "place"])
def test_what_another_source_listed_under_the_same_name_is_not_believed(site, tmp_path, change):
    site.drop("demo")
    with site.daemon():
        site.wait_for_phase(site.wait_for(ROUTE), Phase.LIVE)
    other = {
        "kind": 'type = "index"\nurl = "http://127.0.0.1:9/simple"\npackages = ["demo"]',
        "place": 'type = "directory"\npath = "nowhere"',
    }[change]
    site.basics = (
        f"[[sources]]\n{other}\nname = 'directory'\n{site.basics[site.basics.index('[ray]') :]}"
    )
    site.configure(BUSY)
    with site.daemon():
        eventually(
            lambda: site.conditions("IndexUnreachable") or site.conditions("DirectoryMissing")
        )
        with Journal.read(tmp_path / "state") as journal:
            assert journal.listings() == {}
        # Nobody knows yet what this one lists, so nothing is missing.
        assert site.release_at(ROUTE)


def test_a_reload_says_whether_the_configuration_is_in_force(site):
    site.configure(IDLE)
    with site.daemon() as daemon:
        done = reload(site)
        assert (done.exit_code, done.stdout) == (0, "The configuration is in force.\n")
        site.configure(IDLE.replace("300", "200"))
        assert json.loads(reload(site, "--json").stdout) == {
            "in_force": True,
            "reason": "",
            "message": "",
        }
        assert daemon.config.rollout.interval == 200
        site.configure(IDLE.replace("300", "-1"))
        refused = reload(site, "--json")
        assert refused.exit_code == 78
        assert json.loads(refused.stdout)["reason"] == "ConfigInvalid"
        site.configure(IDLE + "[environments]\nindex = 'nowhere'\n")
        refused = reload(site)
        assert refused.exit_code == 78
        assert "the last good configuration is in force" in refused.stderr
        assert daemon.config.rollout.interval == 200


def test_a_reload_that_is_not_taken_up_in_time_is_no_success(site, monkeypatch):
    entered, stuck = threading.Event(), threading.Event()

    def hang(self, run):
        entered.set()
        stuck.wait(60)
        return original(self, run)

    original = Daemon._pass
    site.configure(IDLE)
    with site.daemon() as daemon:
        monkeypatch.setattr(Daemon, "_pass", hang)
        daemon.poll()
        assert entered.wait(60)
        args = ["--config", str(site.config), "config", "reload", "--timeout", "0.1"]
        late = CliRunner().invoke(app, args, prog_name="wheelway")
        monkeypatch.undo()
        stuck.set()
    assert late.exit_code == 69
    assert "has not taken up its configuration within 0.1 s" in late.stderr


def test_a_refused_edit_is_logged_once(site, caplog):
    site.configure(BUSY)
    with site.daemon() as daemon, caplog.at_level(logging.INFO):
        site.configure(BUSY.replace("0.2", "-2"))
        daemon.reload()
        eventually(lambda: site.conditions("ConfigInvalid"))
        passed = len(site.reports)
        eventually(lambda: len(site.reports) > passed + 2)
        said = [r.getMessage() for r in caplog.records if "rollout.interval" in r.getMessage()]
        assert len(said) == 1
