"""The main job, on real parts: a wheel dropped into a folder becomes a live route."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from controller.model import Phase
from tests.support.head import eventually
from tests.support.load import load_on

pytestmark = pytest.mark.ray

SETTINGS_CODE = """
from wheelway import Pipeline

class Demo(Pipeline):
    def load(self, context):
        self.greeting = context.settings["greeting"]

    def reconfigure(self, settings):
        self.greeting = settings["greeting"]

    async def infer(self, request):
        return {"greeting": self.greeting}
"""


def test_a_dropped_wheel_becomes_a_route_and_a_second_version_stands_beside_it(site):
    with site.daemon():
        site.drop("first", "1.0")
        release = site.wait_for("/predict/first/1.0")
        answer = site.ask("/predict/first/1.0", {"x": 1})
        assert answer.json() == {"pipeline": "first", "version": "1.0", "echo": {"x": 1}}
        site.wait_for_phase(release, Phase.LIVE)
        before = site.pids("first")
        site.drop("first", "2.0")
        site.wait_for("/predict/first/2.0")
        assert site.release_at("/predict/first/1.0") == release
        assert before < site.pids("first")


def test_the_journal_tells_every_step_with_its_time(site):
    from controller.journal import Journal

    with site.daemon():
        site.drop("story")
        release = site.wait_for("/predict/story/1.0")
        site.wait_for_phase(release, Phase.LIVE)
    with Journal.read(site.folder / "state") as journal:
        [record] = journal.releases("story")
        steps = [Phase.DISCOVERED, Phase.FETCHED, Phase.PREPARED, Phase.STAGED, Phase.READY]
        times = [record.times[step] for step in [*steps, Phase.LIVE]]
        assert times == sorted(times)
        configs = journal.configs(10)
        assert all(config.cause for config in configs)
        assert "first" not in journal.config(configs[-1].digest)


def test_republished_bytes_take_over_a_route_under_load_without_a_failed_request(site):
    route = "/predict/again/1.0"
    with site.daemon():
        site.drop("again")
        old = site.wait_for(route)
        site.wait_for_phase(old, Phase.LIVE)
        with load_on(site.ingress + route) as load:
            site.drop("again", marker="other bytes")
            new = site.wait_for(route, other_than=old)
            site.wait_for_phase(new, Phase.LIVE)
            eventually(lambda: load.answered.get(new, 0) > 50)
    assert load.failures == []
    assert set(load.answered) == {old, new}
    assert site.phases()[old] in {Phase.RETIRING, Phase.RETIRED}


def test_a_bad_release_over_a_good_one_under_load_costs_no_request(site):
    route = "/predict/guarded/1.0"
    bad = SETTINGS_CODE.replace('context.settings["greeting"]', '1 / 0  # "greeting"')
    with site.daemon():
        site.drop("guarded")
        good = site.wait_for(route)
        site.wait_for_phase(good, Phase.LIVE)
        with load_on(site.ingress + route) as load:
            site.drop("guarded", code=bad)
            failure = site.quarantine("guarded")
            answered = load.answered[good]
            eventually(lambda: load.answered[good] > answered + 50)
    assert load.failures == []
    assert set(load.answered) == {good}
    assert (failure.stage, failure.reason) == ("stage", "LoadFailed")
    assert "ZeroDivisionError" in failure.message
    assert "division by zero" in failure.log_tail
    assert site.phases()[good] is Phase.LIVE


def test_a_file_that_is_no_wheel_in_place_of_a_good_one_changes_nothing(site):
    with site.daemon():
        wheel = site.drop("broken")
        good = site.wait_for("/predict/broken/1.0")
        site.wait_for_phase(good, Phase.LIVE)
        applied = site.sent()
        wheel.write_bytes(b"this is not a zip")
        assert site.quarantine("broken").reason == "NotAZip"
        site.drop("broken-other")
        site.wait_for("/predict/broken-other/1.0")
        assert site.release_at("/predict/broken/1.0") == good
    assert site.sent() > applied


def test_a_policy_edit_retires_a_version_while_the_daemon_runs(site):
    with site.daemon():
        site.drop("ruled", "1.0")
        site.drop("ruled", "2.0")
        old = site.wait_for("/predict/ruled/1.0")
        new = site.wait_for("/predict/ruled/2.0")
        site.wait_for_phase(old, Phase.LIVE)
        site.wait_for_phase(new, Phase.LIVE)
        site.configure('[[pipelines]]\nname = "ruled"\nversions = ">=2"\n')
        eventually(lambda: site.phases()[old] in {Phase.RETIRING, Phase.RETIRED})
        eventually(lambda: site.release_at("/predict/ruled/1.0") == "")
        assert site.release_at("/predict/ruled/2.0") == new


def test_a_broken_edit_is_reported_and_the_last_good_configuration_stays(site):
    from controller.journal import Journal

    with site.daemon():
        site.drop("steady")
        live = site.wait_for("/predict/steady/1.0")
        site.configure('[[pipelines]]\nname = "steady"\nactve = false\n')

        def complaint():
            with Journal.read(site.folder / "state") as journal:
                return [c for c, _ in journal.conditions() if c.reason == "ConfigInvalid"]

        [condition] = eventually(complaint)
        assert "controller.toml:" in condition.message
        assert "actve" in condition.message
        assert site.release_at("/predict/steady/1.0") == live
        site.configure("")
        eventually(lambda: not complaint())


def test_changed_settings_reach_the_pipeline_without_a_new_process(site):
    def settings(greeting):
        return f'[[pipelines]]\nname = "tuned"\nsettings = {{ greeting = "{greeting}" }}\n'

    route = "/predict/tuned/1.0"
    site.configure(settings("hello"))
    with site.daemon():
        site.drop("tuned", code=SETTINGS_CODE)
        site.wait_for(route)
        assert site.ask(route, {}).json() == {"greeting": "hello"}
        before = eventually(lambda: site.pids("tuned"))
        site.configure(settings("good day"))
        eventually(lambda: site.ask(route, {}).json() == {"greeting": "good day"})
        assert site.pids("tuned") == before


IMPERATIVE = """
import ray
from ray import serve

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Imperative:
    async def __call__(self, request):
        return "imperative"

ray.init(log_to_driver=False, namespace="theirs")
serve.run(Imperative.bind(), name="their-imperative", route_prefix="/imperative")
print("running", flush=True)
input()
serve.delete("their-imperative")
"""


@contextmanager
def imperative_application(head):
    """Somebody's own program with `serve.run`, beside ours."""
    with subprocess.Popen(
        [sys.executable, "-c", IMPERATIVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **head.driver_environment},
    ) as program:
        assert any(line == "running\n" for line in program.stdout)
        yield
        program.stdin.write("\n")
        program.stdin.close()
        assert program.wait(60) == 0


def test_applications_that_are_not_ours_stay_untouched(site, head):
    theirs = {
        "name": "their-declarative",
        "route_prefix": "/theirs",
        "import_path": "wheelway.host:build_encoded_routes",
        "args": {"ingress_url": site.ingress, "wheelway": "test"},
        "deployments": [{"name": "EncodedRoutes", "ray_actor_options": {"num_cpus": 0}}],
    }
    http = {"host": "127.0.0.1", "port": head.ports.ingress}
    site.dashboard.put({"http_options": http, "applications": [theirs]})

    def theirs_now():
        return {
            app.name: (app.document, [replica.pid for replica in app.replicas])
            for app in site.dashboard.applications()
            if app.name.startswith("their-") and app.status == "RUNNING"
        }

    def both():
        now = theirs_now()
        return now if len(now) == 2 else None

    with imperative_application(head):
        before = eventually(both)
        assert before["their-imperative"][0] is None  # Serve has no document of it
        with site.daemon():
            site.drop("ours")
            site.wait_for("/predict/ours/1.0")
            site.drop("ours", "2.0")
            site.wait_for("/predict/ours/2.0")
        assert eventually(both) == before


def test_a_start_over_an_already_correct_cluster_sends_nothing(site):
    with site.daemon():
        site.drop("cold", "1.0")
        site.drop("cold", "2.0")
        for version in ("1.0", "2.0"):
            site.wait_for_phase(site.wait_for(f"/predict/cold/{version}"), Phase.LIVE)
        eventually(lambda: site.reports[-1].plan and not site.reports[-1].plan.changes)
    applied, pids, seen = site.sent(), site.pids("cold"), len(site.reports)
    with site.daemon():
        eventually(lambda: len(site.reports) > seen + 5)
        eventually(lambda: len([r for r in site.reports[seen:] if r.sentence == "2 live"]) > 3)
    assert site.sent() == applied
    assert site.pids("cold") == pids


def test_a_lost_journal_costs_nothing_that_serves(site):
    with site.daemon():
        site.drop("amnesia")
        live = site.wait_for("/predict/amnesia/1.0")
        site.wait_for_phase(live, Phase.LIVE)
    pids = site.pids("amnesia")
    for file in (site.folder / "state").glob("journal.sqlite*"):
        file.unlink()
    seen = len(site.reports)
    with site.daemon():
        site.wait_for_phase(live, Phase.LIVE)
        eventually(lambda: len(site.reports) > seen + 5)
    assert site.sent() == 0
    assert site.pids("amnesia") == pids


def test_a_local_version_answers_as_typed_and_percent_encoded(site):
    with site.daemon():
        site.drop("local", "1.0+cu1")
        site.wait_for("/predict/local/1.0+cu1")
        assert site.ask("/predict/local/1.0+cu1", [1]).json()["echo"] == [1]
        eventually(lambda: site.ask("/predict/local/1.0%2Bcu1", [2]).status_code == 200)
        assert site.ask("/predict/local/1.0%2Bcu1", [2]).json()["echo"] == [2]


def test_names_are_normalised_and_versions_are_taken_as_pep_440_means_them(site):
    with site.daemon():
        site.drop("My_Model.X", "1.0.0.post1")
        site.drop("My_Model.X", "2.0rc1")
        site.wait_for("/predict/my-model-x/1.0.0.post1")
        assert site.release_at("/predict/my-model-x/2.0rc1") == ""
