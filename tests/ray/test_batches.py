"""Requests that come at once, answered together: over HTTP, HAProxy and Serve."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.model import Phase
from tests.support.head import eventually
from tests.support.site import BUSY

pytestmark = pytest.mark.ray

COUNTING = """
import time
from wheelway import Pipeline, Refused

class Demo(Pipeline):
    examples = (1, 2)

    def pre_process(self, number: int) -> int:
        if number == 13:
            raise Refused(422, "Unlucky", "another number, please")
        return number

    def infer_batch(self, numbers: list[int]) -> list[tuple[int, int, int] | Exception]:
        if 500 in numbers:
            raise RuntimeError("the whole batch")
        time.sleep(60 if 60 in numbers else 0.3)
        size = len(numbers)
        return [ValueError("odd") if n == 7 else (n, size, id(self)) for n in numbers]

    def post_process(self, result: tuple[int, int, int]) -> tuple[int, int, int]:
        return result
"""
BOTH = """
from wheelway import Pipeline

class Demo(Pipeline):
    def infer(self, request):
        return request

    def infer_batch(self, requests):
        return requests
"""
GENERATOR = """
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def infer_batch(self, requests: list[int]):
        return (request for request in requests)
"""
TOGETHER = """
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def infer_batch(self, requests: list[int]):
        [request] = requests
        return requests
"""
TOML = "[options]\nrequest_timeout = 8\nmax_batch_size = 16\nthreads = 2\n"
POLICY = '[[pipelines]]\nname = "counting"\noptions = {{ {} }}\n'


def test_batches_form_are_bounded_and_fail_alone(site):
    route = "/predict/counting/1.0"
    with site.daemon(), ThreadPoolExecutor(40) as threads:
        site.configure(BUSY)
        site.drop("counting", code=COUNTING, wheelway_toml=TOML)
        site.drop("both", code=BOTH)
        site.drop("lazy", code=GENERATOR)
        site.drop("single", code=TOGETHER)
        release = site.wait_for(route)
        site.wait_for_phase(release, Phase.LIVE)

        def ask(*numbers):
            return list(threads.map(lambda number: site.ask(route, number), numbers))

        (alone,) = ask(1)
        assert alone.json()[:2] == [1, 1]
        told = [answer.json() for answer in ask(*range(100, 140))]
        assert [number for number, _, _ in told] == list(range(100, 140))
        sizes = {size for _, size, _ in told}
        assert max(sizes) > 8
        assert max(sizes) <= 16
        metadata = site.client.get(f"{site.ingress}{route}").json()["batches"]
        assert metadata["requests"] == 41
        assert metadata["count"] < 20

        # Who is wrong, is so alone.
        odd, unlucky, no_number, *good = ask(7, 13, "x", *range(100, 115))
        assert (odd.status_code, odd.json()["reason"]) == (500, "PipelineFailed")
        assert (unlucky.status_code, unlucky.json()["reason"]) == (422, "Unlucky")
        assert (no_number.status_code, no_number.json()["reason"]) == (422, "InputInvalid")
        assert {answer.status_code for answer in good} == {200}
        answers = ask(500, *range(100, 130))
        failed = [answer for answer in answers if answer.status_code == 500]
        assert answers[0] in failed
        assert len(failed) <= 16
        assert len({answer.json()["instance"] for answer in failed}) == len(failed)

        # A batch that hangs is 504, and the next one runs beside it.
        hung = threads.submit(ask, 60)
        late = hung.result(60)[0]
        assert (late.status_code, late.json()["reason"]) == (504, "TimedOut")
        assert ask(1)[0].status_code == 200

        # The operator's word holds without a restart.
        before = site.pids("counting")
        site.configure(BUSY + POLICY.format('max_batch_size = 3, batch_wait_timeout = "200ms"'))

        def bounded():
            return max(answer.json()[1] for answer in ask(*range(100, 120))) == 3

        eventually(bounded)
        assert ask(1)[0].json() == [1, 1, told[0][2]], "the same instance"
        assert site.pids("counting") == before
        assert site.release_at(route) == release

        reasons = {name: site.quarantine(name) for name in ("both", "lazy", "single")}
        assert reasons["both"].reason == "AmbiguousPipeline"
        assert reasons["lazy"].reason == "ExampleResultInvalid"
        assert "returned a generator instead of a list" in reasons["lazy"].message
        assert reasons["single"].reason == "ExampleFailed"
        assert "in a batch of 2" in reasons["single"].message
