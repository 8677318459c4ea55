"""The main job, on real parts: a wheel dropped into a folder becomes a live route.

One daemon is at work all the while, as it is where it is used.
"""

import pytest

from controller.journal import Journal
from controller.model import Phase
from tests.support.head import eventually
from tests.support.load import load_on
from tests.support.service import on_socket

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


@pytest.fixture(scope="module")
def site(at_work):
    """The one of this file."""
    return at_work


def test_a_dropped_wheel_becomes_a_route_and_a_second_version_stands_beside_it(site):
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
    with Journal.read(site.folder / "state") as journal:
        [record] = [r for r in journal.releases("first") if str(r.subject) == release]
        configs = journal.configs(10)
    steps = [Phase.DISCOVERED, Phase.FETCHED, Phase.PREPARED, Phase.STAGED, Phase.READY, Phase.LIVE]
    times = [record.times[step] for step in steps]
    assert times == sorted(times)
    assert all(config.cause for config in configs)


def test_other_bytes_take_over_a_route_under_load_and_bad_ones_do_not_without_a_failed_request(
    site,
):
    route = "/predict/again/1.0"
    bad = SETTINGS_CODE.replace('context.settings["greeting"]', '1 / 0  # "greeting"')
    site.drop("again")
    old = site.wait_for(route)
    site.wait_for_phase(old, Phase.LIVE)
    with load_on(site.ingress + route) as load:
        site.drop("again", marker="other bytes")
        new = site.wait_for(route, other_than=old)
        site.wait_for_phase(new, Phase.LIVE)
        eventually(lambda: load.answered.get(new, 0) > 50)
        assert site.phases()[old] in {Phase.RETIRING, Phase.RETIRED}
        site.drop("again", code=bad)
        failure = site.quarantine("again")
        answered = load.answered[new]
        eventually(lambda: load.answered[new] > answered + 50)
    assert load.failures == []
    assert set(load.answered) == {old, new}
    assert (failure.stage, failure.reason) == ("stage", "LoadFailed")
    assert "ZeroDivisionError" in failure.message
    assert "division by zero" in failure.log_tail
    assert site.phases()[new] is Phase.LIVE


def test_edits_and_orders_change_a_pipeline_where_it_runs(site):
    route, tuned = "/predict/tuned/1.0", '[[pipelines]]\nname = "tuned"\n'
    site.drop("tuned", code=SETTINGS_CODE, wheelway_toml='[settings]\ngreeting = "hello"\n')
    site.wait_for(route)
    assert site.ask(route, {}).json() == {"greeting": "hello"}
    before = eventually(lambda: site.pids("tuned"))
    site.configure(tuned + 'settings = { greeting = "good day" }\n')
    eventually(lambda: site.ask(route, {}).json() == {"greeting": "good day"})
    assert site.pids("tuned") == before
    with on_socket(site.folder / "state" / "control.sock") as client:

        def order(what, **body):
            return client.post(f"/v1/{what}", json=body).raise_for_status().json()

        order("suspend", pipeline="tuned")
        site.configure(tuned + "active = false\n")
        for _ in range(2):  # an edit counts once it was read twice
            assert order("reconcile")["plan"]["changes"] == []
        assert site.ask(route, {}).json() == {"greeting": "good day"}
        order("resume", pipeline="tuned")
    eventually(lambda: site.ask(route, {}).status_code == 404)


def test_a_local_version_of_a_name_with_capitals_answers_as_typed_and_percent_encoded(site):
    site.drop("My_Model.X", "1.0.0.post1+cu1")
    route = "/predict/my-model-x/1.0.0.post1+cu1"
    site.wait_for(route)
    assert site.ask(route, [1]).json()["echo"] == [1]
    encoded = route.replace("+", "%2B")
    eventually(lambda: site.ask(encoded, [2]).status_code == 200)
    assert site.ask(encoded, [2]).json()["echo"] == [2]
