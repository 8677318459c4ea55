"""Parts as operators meet them, on a real head: told, failing, dying, moved inline."""

import json
import os
import signal
import subprocess

import pytest

from controller.model import Phase
from controller.planning.deaths import OFTEN
from tests.support.head import eventually
from tests.support.site import BUSY, WHEELWAY

pytestmark = pytest.mark.ray

SCORECARD = """
from wheelway import Pipeline

class Risk(Pipeline):
    examples = (1,)

    def load(self, context):
        context.logger.warning("risk is loaded")
        {load}

    def infer(self, request: int) -> int:
        if request == 13:
            import os
            os._exit(1)
        return request * 2

class Churn(Pipeline):
    examples = (1,)

    def infer(self, request: int) -> int:
        return request + 1

class Card(Pipeline):
    examples = (1,)

    def load(self, context):
        self.risk, self.churn = context.parts["risk"], context.parts["churn"]

    async def infer(self, request: int) -> dict:
        risk, churn = self.risk(request), self.churn(request)
        return {{"risk": await risk, "churn": await churn}}
"""
MADE = {
    "pipelines": {"card": "card.pipeline:Card", "plain": "card.pipeline:Churn"},
    "parts": {"card.risk": "card.pipeline:Risk", "card.churn": "card.pipeline:Churn"},
    "wheelway_toml": "[parts.risk.options]\nnum_replicas = 2\n",
}
ROUTE = "/predict/card/1.0"


def told(site, *command):
    done = subprocess.run(
        [WHEELWAY, "--config", site.config, *command], check=True, capture_output=True, text=True
    )
    return done.stdout


def parts(site):
    """Of card 1.0, as status has them."""
    releases = json.loads(told(site, "status", "--json"))["releases"]
    [card] = [r for r in releases if (r["pipeline"], r["version"]) == ("card", "1.0")]
    return {part["name"]: part for part in card["parts"]}


def counts(site):
    return {name: (p["state"], p["running"], p["wanted"]) for name, p in parts(site).items()}


def deployments(site):
    answer = site.client.get(f"{site.dashboard_url}/api/serve/applications/").json()
    return {
        name: app["deployments"]
        for name, app in answer["applications"].items()
        if name.startswith("card-1.0") and app["status"] == "RUNNING"
    }


REPLACED = (
    "a replica of the part 'risk' ended, or did not answer Serve's health checks; Serve starts "
    "another; meanwhile 1 other goes on"
)


def test_parts_are_told_and_fail_with_their_release_alone(site, tmp_path):
    site.configure(BUSY)
    held = tmp_path / "held"  # as long as this is there, no part starts
    load = f"import os, time\n        while os.path.exists({str(held)!r}): time.sleep(0.05)"
    with site.daemon():
        site.drop("card", code=SCORECARD.format(load=load), **MADE)
        release = site.wait_for(ROUTE)
        site.wait_for_phase(release, Phase.LIVE)
        assert site.ask(ROUTE, 5).json() == {"risk": 10, "churn": 6}
        both = {"risk": ("HEALTHY", 2, 2), "churn": ("HEALTHY", 1, 1)}
        eventually(lambda: counts(site) == both)
        [(name, found)] = deployments(site).items()
        assert set(found) == {"Host", "risk", "churn"}
        [app] = [app for app in site.dashboard.applications() if app.name == name]
        assert len(app.replicas) == 1
        sent = site.sent()
        assert "part risk: HEALTHY, 2 of 2 replicas" in told(site, "explain", "card", "1.0")
        assert "risk is loaded" in told(site, "logs", "card", "1.0")
        assert site.sent() == sent, "what Serve reports of it is what was sent"

        # One that cannot load fails its release, and what serves goes on.
        load = 'raise ValueError("no model")'
        site.drop("card", "2.0", code=SCORECARD.format(load=load), **MADE)
        failed = site.quarantine("card")
        assert (failed.stage, failed.reason) == ("stage", "LoadFailed")
        assert failed.message.startswith("the part 'risk': ")
        assert "no model" in failed.message
        assert "ValueError" in failed.log_tail
        plain = site.wait_for("/predict/plain/2.0")
        site.wait_for_phase(plain, Phase.LIVE)
        assert site.release_at(ROUTE) == release

        # A process of a part that dies comes back, and is missed meanwhile.
        for _ in range(OFTEN):
            assert not site.conditions("RepeatedDeaths")
            running = eventually(lambda: deployments(site).get(name))["risk"]["replicas"]
            [victim] = [r for r in running if r["state"] == "RUNNING"][:1]
            held.touch()
            os.kill(victim["pid"], signal.SIGKILL)
            eventually(lambda: counts(site)["risk"][1] < 2)
            eventually(lambda: [c.message for c in site.conditions("Unhealthy")] == [REPLACED])
            held.unlink()
            eventually(lambda: counts(site) == both)
        [often] = eventually(lambda: site.conditions("RepeatedDeaths"))
        assert often.message.startswith("replicas of the part 'risk' died")
        assert site.phases()[release] is Phase.LIVE
        assert site.ask(ROUTE, 5).json() == {"risk": 10, "churn": 6}

        # More replicas are no new application; inline is one.
        more = "[[pipelines]]\nname = 'card'\nkeep = 1\n[pipelines.parts.churn]\nnum_replicas = 2\n"
        site.configure(BUSY + more)
        eventually(lambda: counts(site)["churn"] == ("HEALTHY", 2, 2))
        assert list(deployments(site)) == [name]
        site.basics = site.basics.replace("[serve.defaults]", "[serve.defaults]\ninline = true")
        site.configure(BUSY)
        eventually(lambda: counts(site).get("risk") == ("", 0, None), 180)
        eventually(lambda: [set(d) for d in deployments(site).values()] == [{"Host"}], 180)
        assert site.ask(ROUTE, 5).json() == {"risk": 10, "churn": 6}
