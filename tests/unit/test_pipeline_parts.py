"""Parts of a pipeline that run in its own process: on a laptop, in tests, by option `inline`."""

import asyncio
import importlib
import logging
import threading
import warnings

import numpy as np
import pytest

from wheelway import Pipeline
from wheelway.contract import Release
from wheelway.entries import parts_in
from wheelway.execution import Runtime, context_of
from wheelway.failure import StartFailure
from wheelway.gates import Subject, check
from wheelway.inline import InlinePart, PartGroup, inline_parts
from wheelway.local import loaded, run
from wheelway.parts import PartFailed

pytestmark = pytest.mark.unit


class Risk(Pipeline):
    examples = ({"age": 3},)

    def infer(self, customer: dict[str, int]) -> float:
        return customer["age"] / 10


class Churn(Pipeline):
    async def infer(self, customer):
        await asyncio.sleep(0)
        return customer["age"] * 2


class Awaiting(Pipeline):
    def load(self, context):
        self.risk, self.churn = context.parts["risk"], context.parts["churn"]

    async def infer(self, customer):
        risk, churn = await asyncio.gather(self.risk(customer), self.churn(customer))
        return {"risk": risk, "churn": churn}


class InThreads(Awaiting):
    def infer(self, customer):
        risk, churn = self.risk(customer), self.churn(customer)
        return {"risk": risk.result(), "churn": churn.result(60)}


BOTH = {"risk": Risk, "churn": Churn}


@pytest.mark.parametrize("pipeline", [Awaiting, InThreads])
def test_parts_are_called_from_stages_of_both_kinds(pipeline):
    assert run(pipeline, {"age": 3}, parts=BOTH) == {"risk": 0.3, "churn": 6}


def test_a_stage_that_returns_a_call_answers_with_its_result():
    class Handing(Awaiting):
        def infer(self, customer):
            return self.risk(customer)

    class HandingOn(Awaiting):
        async def infer(self, customer):
            return self.risk(customer)

    assert run(Handing, {"age": 3}, parts=BOTH) == run(HandingOn, {"age": 3}, parts=BOTH) == 0.3


@pytest.mark.parametrize("pipeline", [Awaiting, InThreads])
def test_what_a_part_raises_reaches_the_caller_as_it_is(pipeline):
    class Failing(Pipeline):
        def infer(self, customer):
            raise ZeroDivisionError("no customers")

    with (
        loaded(pipeline, parts={"risk": Failing, "churn": Churn}) as ask,
        pytest.raises(ZeroDivisionError, match="no customers"),
    ):
        ask({"age": 3})


def cancelled():
    raise asyncio.CancelledError("its own")


class InThread(Pipeline):
    def infer(self, begun):
        return self.items() if begun else cancelled()

    def items(self):
        yield 1
        cancelled()


class OnLoop(Pipeline):
    async def infer(self, begun):
        return self.items() if begun else cancelled()

    async def items(self):
        yield 1
        cancelled()


@pytest.mark.parametrize("part", [InThread, OnLoop])
@pytest.mark.parametrize("begun", [0, 1])
def test_what_cancels_itself_in_a_part_fails_the_request_as_anything_it_raises(part, begun):
    class Asking(Pipeline):
        def load(self, context):
            self.part = context.parts["part"]

        async def infer(self, begun: int) -> list[int]:
            call = self.part(begun)
            return [item async for item in call] if begun else await call

    with pytest.raises(PartFailed, match="the part 'part' raised CancelledError: something that"):
        run(Asking, begun, parts={"part": part})


@pytest.mark.parametrize("sync", [True, False])
def test_two_calls_that_were_begun_run_at_the_same_time(sync):
    meeting = threading.Barrier(2)

    class Meets(Pipeline):
        def infer(self, request):
            return meeting.wait(60)

    class Both(Pipeline):
        def load(self, context):
            self.parts = context.parts

        if sync:

            def infer(self, request):
                calls = [self.parts[name](request) for name in ("a", "b")]
                return sum(call.result() for call in calls)

        else:

            async def infer(self, request):
                first, second = (self.parts[name](request) for name in ("a", "b"))
                return await first + await second

    assert run(Both, 0, parts={"a": Meets, "b": Meets}) == 1


def test_load_may_call_parts_and_a_pipeline_of_one_part_needs_no_others():
    class Calling(Pipeline):
        def load(self, context):
            self.seven = context.parts["risk"]({"age": 70}).result()

        def infer(self, request):
            return self.seven

    assert run(Calling, None, parts={"risk": Risk}) == 7


def test_a_part_that_does_not_exist_is_told_with_those_that_do():
    class Mistaken(Pipeline):
        def load(self, context):
            context.parts["rsk"]

        def infer(self, request):
            return None

    with pytest.raises(StartFailure, match="has no part 'rsk', it has 'churn', 'risk'") as told:
        run(Mistaken, None, parts=BOTH)
    assert told.value.reason == "LoadFailed"
    none = r"'rsk', it has none; a part is an entry point .* by `parts=\{'rsk': Class\}`"
    with pytest.raises(StartFailure, match=none):
        run(Mistaken, None)


def test_a_part_has_no_parts_and_says_so():
    class Deep(Pipeline):
        def load(self, context):
            assert len(context.parts) == 0
            context.parts["risk"]

        def infer(self, request):
            return None

    with pytest.raises(StartFailure, match=r"the part 'deep': .* which is a part itself and has"):
        run(Awaiting, None, parts={"deep": Deep})


@pytest.mark.parametrize(
    ("example", "reason"), [({"age": 0}, "ZeroDivisionError"), ({"age": "x"}, "does not match")]
)
def test_examples_of_a_part_are_run_and_a_failure_names_it(example, reason):
    class Picky(Pipeline):
        examples = (example,)

        def infer(self, customer: dict[str, int]) -> float:
            return 1 / customer["age"]

    with pytest.raises(
        StartFailure, match=f"^wheelway-failure.*the part 'risk': .*{reason}"
    ) as told:
        run(Awaiting, None, parts={"risk": Picky, "churn": Churn})
    assert told.value.reason == "ExampleFailed"


def test_arrays_and_any_other_value_pass_without_a_schema():
    class Doubles(Pipeline):
        examples = (np.ones(2),)

        def infer(self, values: np.ndarray) -> np.ndarray:
            values *= 2
            return values

    class Sums(Pipeline):
        def load(self, context):
            self.doubles = context.parts["doubles"]

        async def infer(self, request: list[float]) -> float:
            values = np.array(request)
            return float((await self.doubles(values)).sum() + values.sum())

    assert run(Sums, [1.0, 2.0], parts={"doubles": Doubles}) == 9.0  # the caller's is untouched


def test_what_could_not_be_sent_to_another_process_is_refused_on_the_laptop_as_well():
    class Locks(Pipeline):
        def load(self, context):
            self.risk = context.parts["risk"]

        async def infer(self, request):
            return await self.risk(threading.Lock())

    with (
        loaded(Locks, parts={"risk": Risk}) as ask,
        pytest.raises(TypeError, match="the request to the part 'risk' cannot be sent between"),
    ):
        ask(None)


def test_a_call_that_was_not_awaited_or_would_hold_the_loop_is_told_so():
    class Forgetful(Awaiting):
        async def infer(self, how):
            call = self.risk({"age": 1})
            return call.result() if how == "holds" else str(call)

    with loaded(Forgetful, parts=BOTH) as ask:
        with pytest.raises(RuntimeError, match=r"hold the event loop.*await the call instead"):
            ask("holds")
        assert ask("forgets") == "<a call of the part 'risk' that was not awaited>"


def test_a_call_ends_with_its_request():
    begun, ended = threading.Event(), threading.Event()

    class Waits(Pipeline):
        async def infer(self, request):
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

    class Leaves(Pipeline):
        def load(self, context):
            self.waits = context.parts["waits"]

        def infer(self, request):
            self.waits(request)
            assert begun.wait(60)
            return "left"

    with loaded(Leaves, parts={"waits": Waits}) as ask:
        assert ask(None) == "left"
        ask(None)
        assert ended.wait(60)


def test_new_settings_reach_parts_and_one_that_refuses_them_leaves_the_former_in_force():
    class Scaled(Pipeline):
        def load(self, context):
            self.by = context.settings["by"]

        def infer(self, request):
            return request * self.by

        def reconfigure(self, settings):
            if settings["by"] > self.most:
                raise ValueError(f"at most {self.most}")
            self.by = settings["by"]

        most = 100

    class Careful(Scaled):
        most = 10

    class Pair(Pipeline):
        def load(self, context):
            self.parts = context.parts

        async def infer(self, request):
            return [await self.parts["careful"](request), await self.parts["bold"](request)]

    with loaded(Pair, settings={"by": 2}, parts={"bold": Scaled, "careful": Careful}) as ask:
        assert ask(1) == [2, 2]
        assert ask.reconfigure({"by": 5}) == ""
        assert ask(1) == [5, 5]
        assert "the part 'careful': ValueError: at most 10" in ask.reconfigure({"by": 50})
        assert ask(1) == [5, 5]


def test_files_and_log_are_the_parts_own(caplog):
    class Telling(Pipeline):
        def load(self, context):
            context.logger.warning("here")
            assert context.files.is_dir()

        def infer(self, request):
            return request

    with loaded(Awaiting, parts={"risk": Telling, "churn": Churn}):
        assert any(record.name.endswith("awaiting.risk") for record in caplog.records)


def test_parts_of_a_tree_and_of_an_installed_project_are_found_by_entry_points(
    tmp_path, monkeypatch
):
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[wheelway.pipelines]\nScore_Card = acme_scores:Score\nother = acme_scores:Other\n"
        "[wheelway.parts]\nscore-card.risk = acme_scores:Risk\nother.rest = acme_scores:Risk\n"
    )
    (tmp_path / "acme_scores.py").write_text(
        "from wheelway import Pipeline\n"
        "class Risk(Pipeline):\n"
        "    examples = (4,)\n"
        "    def infer(self, request): return request + 1\n"
        "class Score(Pipeline):\n"
        "    def load(self, context): self.risk = context.parts['risk']\n"
        "    async def infer(self, request): return await self.risk(request)\n"
    )
    assert parts_in(tmp_path, "score-card") == {"risk": "acme_scores:Risk"}
    monkeypatch.syspath_prepend(tmp_path)
    score = importlib.import_module("acme_scores").Score
    assert run(score, 1) == 2
    monkeypatch.setattr("wheelway.memory.limit", lambda _, **_more: None)
    gates = []
    subject = Subject("acme_scores:Score", Release("score-card", "1.0", "0" * 64), {})
    assert asyncio.run(check(subject, gates.append))
    assert gates[1].detail["parts"] == ["risk"]
    assert gates[4].detail["parts"] == {"risk": 1}


def test_the_result_of_a_part_that_is_handed_on_reaches_post_process():
    class Rounds(Awaiting):
        def infer(self, customer):
            return self.risk(customer)

        def post_process(self, risk):
            return round(risk)

    class RoundsOnLoop(Rounds):
        async def infer(self, customer):
            return self.risk(customer)

    for pipeline in (Rounds, RoundsOnLoop):
        assert run(pipeline, {"age": 30}, parts=BOTH) == 3


async def _isolated(pipeline, parts):
    release = Release("pair", "1.0", "0" * 64)
    context = context_of(pipeline, release, {}, logging.getLogger("pair"))
    found = {name: InlinePart(part) for name, part in parts.items()}
    group = PartGroup(inline_parts(found, release, {}, context.logger))
    runtime = await Runtime.started(pipeline, context, isolated=True, parts=group)
    try:
        return await runtime.answer(b'{"age": 3}')
    finally:
        await runtime.unload()


def test_a_pipeline_on_a_loop_of_its_own_calls_its_parts_as_before():
    assert asyncio.run(_isolated(Awaiting, BOTH)) == b'{"risk":0.3,"churn":6}'


def test_a_call_that_ends_before_it_began_leaves_nothing_behind():
    class Hasty(Awaiting):
        async def infer(self, customer):
            self.churn(customer)
            return 1

    with loaded(Hasty, parts=BOTH) as ask, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [ask({"age": 3}) for _ in range(50)] == [1] * 50
