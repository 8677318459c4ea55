"""Parts of a pipeline as deployments of their own: called, refused, killed, drained."""

import os
import signal
import threading

import pytest

from controller.model import Phase
from tests.support.head import eventually

pytestmark = pytest.mark.ray

CODE = """
import asyncio, os, time
import numpy as np
import wheelway
from wheelway import Pipeline, Refused

class Risk(Pipeline):
    examples = (np.zeros(3),)

    def load(self, context):
        self.context = context

    def reconfigure(self, settings):
        if settings["by"] == "much":
            raise ValueError("not much")

    def infer(self, what):
        if isinstance(what, (np.ndarray, bytes)):
            return what * 2
        if what == "pid":
            return os.getpid()
        if what == "refuse":
            raise Refused(409, "NotNow", "later")
        if what == "fail":
            self.fail()
        if what == "told":
            found = wheelway.request()
            self.context.logger.warning("told in the part")
            return [found.id, found.headers["x-tenant"], self.context.settings["by"]]
        if what.startswith("wait"):
            open(what[5:], "w").close()
            time.sleep(120)  # it is killed meanwhile
        return what

    def fail(self):
        raise ValueError("of the part")

class Churn(Pipeline):
    async def infer(self, most):
        if most == "made":
            yield self.made
            return
        if isinstance(most, bytes):
            for self.made in range(1, 401):
                yield "x" * 2**20
            return
        try:
            for number in range(most):
                await asyncio.sleep(0.01)
                yield number
        finally:
            self.logger.warning("churn was closed")

    def load(self, context):
        self.logger, self.made = context.logger, 0

class Demo(Pipeline):
    examples = ("pid",)

    def load(self, context):
        self.parts = context.parts
        self.pid = context.parts["risk"]("pid").result()  # waits until there is one

    async def infer(self, what: str):
        risk = self.parts["risk"]
        if what == "pid":
            return [os.getpid(), await risk(what)]
        if what == "array":
            large = await risk(np.ones(1_000_000))
            return [float(large.sum()), len(await risk(b"x" * 3_000_000))]
        if what == "catch":
            try:
                return await risk("fail")
            except ValueError as error:
                return f"caught {error}"
        if what == "stream":
            return [number async for number in self.parts["churn"](100)]
        if what == "many":
            return len(await asyncio.gather(*(risk("one") for _ in range(1500))))
        if what == "made":
            return [number async for number in self.parts["churn"](what)]
        if what == "flood":
            return self.parts["churn"](b"x" * 3_000_000)
        if what == "streams":
            return self.parts["churn"](10_000)
        if what.startswith("later"):
            await asyncio.sleep(float(what[5:]))
            return [await risk("late"), VERSION]
        return await risk(what)
"""
TOML = "[options]\ngraceful_shutdown_timeout = 40\n[settings]\nby = 2\n"
PARTS = {"risk": "Risk", "churn": "Churn"}


def drop(site, name, code=CODE, version="1.0", marker="", **how):
    """A wheel of one pipeline with two parts."""
    module = f"{name.replace('-', '_')}.pipeline"
    return site.drop(
        name,
        version,
        code=code.replace("VERSION", repr(marker)),
        parts={f"{name}.{part}": f"{module}:{kind}" for part, kind in PARTS.items()},
        **{"wheelway_toml": TOML, **how},
    )


def deployments(site, name, status="RUNNING"):
    """Of the pipeline's applications in that status, as the dashboard tells of them."""
    told = site.client.get(f"{site.dashboard_url}/api/serve/applications/").json()
    return [
        application["deployments"]
        for key, application in told["applications"].items()
        if key.startswith(f"{name}-") and application["status"] == status
    ]


def live(site, name):
    site.wait_for_phase(site.wait_for(f"/predict/{name}/1.0"), Phase.LIVE)


def test_parts_are_deployments_that_are_called_killed_and_drained(at_work, tmp_path):
    site, route = at_work, "/predict/scores/1.0"
    drop(site, "scores", marker="first")
    live(site, "scores")

    def ask(what, **headers):
        return site.client.post(f"{site.ingress}{route}", json=what, headers=headers)

    (running,) = eventually(lambda: deployments(site, "scores"))
    assert set(running) == {"Host", "risk", "churn"}
    host, part = ask("pid").json()
    assert host != part
    assert ask("array").json() == [2_000_000.0, 6_000_000]
    refused = ask("refuse")
    assert (refused.status_code, refused.json()["reason"]) == (409, "NotNow")
    assert ask("catch").json() == "caught of the part"
    assert ask("told", **{"x-tenant": "acme", "x-request-id": "id-7"}).json() == ["id-7", "acme", 2]
    assert ask("stream").json() == list(range(100))

    with site.client.stream("POST", f"{site.ingress}{route}", json="streams") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(3)] == ["0", "1", "2"]

    def held():
        with site.client.stream("POST", f"{site.ingress}{route}", json="flood") as answer:
            lines = answer.iter_lines()
            assert next(lines)
            made = [0, 1]
            eventually(lambda: made.append(ask("made").json()[0]) or len(set(made[-20:])) == 1)
            assert sum(1 for _ in lines) == 399
        return 1 <= made[-1] < 100

    # A client that does not read holds the part back, also one that was asked with much; but not
    # where HAProxy's checks found no replica up, and the request went by Serve's own proxy.
    eventually(held)
    # Settings that a part refuses are told where those of its pipeline would be.
    site.configure('[[pipelines]]\nname = "scores"\nsettings = { by = "much" }\n')
    said = eventually(
        lambda: site.client.get(f"{site.ingress}{route}").json().get("settings_error")
    )
    assert said == "the part 'risk': ValueError: not much"
    site.configure("")
    eventually(lambda: "settings_error" not in site.client.get(f"{site.ingress}{route}").json())
    assert ask("many").json() == 1500  # more than Serve sends there at the same time
    failed = ask("fail", **{"x-request-id": "id-8"})
    assert (failed.status_code, failed.json()["reason"]) == (500, "PipelineFailed")

    # A replica that dies takes the requests along that it works on, and no others.
    answers, begun = [], tmp_path / "begun"
    waiting = threading.Thread(target=lambda: answers.append(ask(f"wait {begun}")))
    waiting.start()
    eventually(begun.exists)
    os.kill(part, signal.SIGKILL)
    waiting.join()
    assert (answers[0].status_code, answers[0].json()["reason"]) == (503, "PartUnavailable")
    assert ask("pid").json() == [host, other := ask("pid").json()[1]]
    assert other != part

    # Other bytes on the same route: what still works on the former ones may call their parts.
    late = [threading.Thread(target=lambda s=s: answers.append(ask(f"later{s}"))) for s in (12, 20)]
    for thread in late:
        thread.start()
    drop(site, "scores", marker="second")
    eventually(lambda: ask("later0").json() == ["late", "second"])
    for thread in late:
        thread.join()
    assert [answer.text for answer in answers[1:]] == ['["late","first"]'] * 2
    eventually(lambda: len(deployments(site, "scores", "DELETING")) == 0)


def test_a_part_that_fails_fails_its_release_alone_and_is_named(at_work):
    failing = CODE.replace("self.context = context", "raise RuntimeError('no model')")
    drop(at_work, "broken-scores", code=failing)
    drop(at_work, "sound-scores")
    found = at_work.quarantine("broken-scores")
    assert found.reason == "LoadFailed"
    assert "the part 'risk': `load` of broken_scores.pipeline:Risk failed" in found.message
    assert "no model" in found.message
    live(at_work, "sound-scores")


def test_parts_run_in_the_pipelines_own_replica_by_option(at_work):
    drop(at_work, "inline-scores", wheelway_toml="[options]\ninline = true\n" + TOML[10:])
    live(at_work, "inline-scores")
    (running,) = eventually(lambda: deployments(at_work, "inline-scores"))
    assert set(running) == {"Host"}

    def ask(what):
        return at_work.ask("/predict/inline-scores/1.0", what).json()

    host, part = ask("pid")
    assert host == part
    assert ask("catch") == "caught of the part"
    assert ask("stream") == list(range(100))
