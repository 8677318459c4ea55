"""Ray's schema in a process of its own: its answers, its end, and what becomes of its faults."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from rich.console import Console

from controller.cli.progress import LASTS, Progress
from controller.errors import Waiting
from controller.model import Phase
from controller.serve import schema_process
from controller.serve.outline import Schema
from controller.serve.schema import Asker, SchemaError
from controller.serve.schema_process import SchemaProcess
from tests.support.head import eventually
from tests.support.passes import reasons, routes

pytestmark = pytest.mark.unit

GOOD = {"name": "a", "import_path": "a:b", "args": {"half": "\ud800", "n": 1.0}}
BAD = {**GOOD, "deployments": [{"name": "x", "num_replicas": 0}]}


def is_there(process):
    return Path(f"/proc/{process}").exists()


@pytest.fixture(scope="module")
def real():
    with closing(SchemaProcess(start_wait=60.0)) as asker:
        yield asker


# -- as it should be -----------------------------------------------------------------------------


def test_it_answers_as_this_process_would(real):
    real.expect()
    asked = [("application", GOOD), ("application", BAD), ("taken", BAD), ("envelope", {})]
    asked.append(("taken_together", {"applications": [GOOD, GOOD]}))
    for question, document in asked:
        answers = []
        for asker in (real, Asker()):
            try:
                answers.append(asker.ask(question, document))
            except SchemaError as error:
                answers.append((error.path, error.message))
        assert answers[0] == answers[1]


def test_signals_for_the_daemons_whole_group_do_not_end_it(real):
    real.ask("application", GOOD)
    before = real.pid
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(before, number)
    assert real.ask("application", GOOD)
    assert real.pid == before


def without_ray(idle):
    """The process itself, which takes everything."""
    program = (
        "from controller.serve import schema, schema_process\n"
        "schema.preload = schema.QUESTIONS['application'] = lambda *_: None\n"
        f"schema_process.main({idle})\n"
    )
    return (sys.executable, "-P", "-c", program)


def test_when_it_was_killed_the_next_question_goes_to_another():
    with closing(SchemaProcess(without_ray(60), start_wait=60.0)) as asker:
        for _ in range(2):
            assert asker.ask("application", GOOD) is None
            killed = asker.pid
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: not is_there(killed))  # noqa: B023 - called here


def test_it_ends_by_itself_and_nothing_is_left_of_it():
    with closing(SchemaProcess(without_ray(0.01))) as asker:
        asker.expect()
        process = asker.pid
        eventually(lambda: not is_there(process))


def test_a_question_that_crosses_its_end_goes_to_another():
    program = READY.replace("while True:", "for _ in range(2):").replace(
        "    print", "    _ or print"
    )
    with closing(fake(program)) as asker:
        seen = set()
        for _ in range(3):
            assert asker.ask("application", GOOD)["name"] == "a"
            seen.add(asker.pid)
        assert len(seen) == 3


def test_it_ends_with_a_daemon_that_is_killed():
    program = (
        "import os, signal\n"
        "from controller.serve.schema_process import SchemaProcess\n"
        f"asker = SchemaProcess({without_ray(60)!r}, start_wait=60.0)\n"
        "asker.ask('application', {})\n"
        "print(asker.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    eventually(lambda: not is_there(int(done.stdout)))


# -- as it should not be -------------------------------------------------------------------------

READY = """
import json, pickle, sys
print("ready", flush=True)
while True:
    question, document = pickle.load(sys.stdin.buffer)
    print(json.dumps({"answer": document}), flush=True)
"""
FLOOD = """
import pickle, sys
print("ready", flush=True)
pickle.load(sys.stdin.buffer)
while True:
    print("x" * 65536, end="")
"""
BROKEN = {
    "cannot import": ("raise SystemExit('no module ray')", "ended with status 1: no module ray"),
    "is killed": ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
    "hangs at once": ("import time; time.sleep(600)", "said nothing for 1 s"),
    "hangs when asked": ("import time; print('ready', flush=True); time.sleep(600)", "nothing for"),
    "is not there": (None, "could not be started"),
    "says nonsense": ("print('ready', flush=True); print('nonsense', flush=True); input()", "nons"),
    "says too much": (FLOOD, "answered more than"),
    "fails when asked": ("print('ready', flush=True); input(); 1 / 0", "ZeroDivisionError"),
}


def fake(program, **how):
    """A process that runs something else."""
    command = [sys.executable, "-c", program] if program else ["/nowhere/python"]
    limits = {"start": 30.0, "start_wait": 30.0, "answer": 30.0, **how}
    return SchemaProcess(command, jitter=lambda: 0.0, **limits)


@pytest.mark.parametrize("case", BROKEN)
def test_whatever_it_does_is_waiting_and_ends_it(case):
    program, said = BROKEN[case]
    hangs = {"start": 1.0} if case == "hangs at once" else {}
    hangs |= {"answer": 1.0} if case == "hangs when asked" else {}
    with closing(fake(program, **hangs)) as asker:
        asker.expect()
        with pytest.raises(Waiting, match=said) as caught:
            asker.ask("application", {"long": "\n" * 2**20})
        assert caught.value.reason == "SchemaUnavailable"
        assert asker.pid is None


def test_what_cannot_start_is_left_alone_for_a_while(clock, tmp_path):
    count = tmp_path / "count"
    program = f"open({str(count)!r}, 'a').write('x'); raise SystemExit('no room')"
    with closing(fake(program, clock=clock)) as asker:
        for _ in range(3):
            for document in (GOOD, BAD):
                with pytest.raises(Waiting, match="no room"):
                    asker.ask("application", document)
            asker.expect()
        assert count.read_text() == "x"
        clock.now += 1.0
        with pytest.raises(Waiting):
            asker.ask("application", GOOD)
        assert count.read_text() == "xx"


def test_a_question_that_breaks_it_keeps_no_other_from_being_answered(clock):
    program = READY.replace(
        "    print", "    document.get('poison') and sys.exit('bad')\n    print"
    )
    with closing(fake(program, clock=clock)) as asker:
        for _ in range(3):
            with pytest.raises(Waiting, match="bad"):
                asker.ask("application", {"poison": 1})
            assert asker.ask("application", GOOD)["name"] == "a"
            survivor = asker.pid
        with pytest.raises(Waiting):
            asker.ask("application", {"poison": 1})
        assert asker.pid == survivor


def answered(asker):
    """The answer, once there is one."""
    with suppress(Waiting):
        return asker.ask("application", GOOD)


def test_one_that_starts_slowly_is_waited_for_by_nobody_and_answers_once_it_is_there(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = f"open({str(gate)!r}).read()\n{READY}"
    with closing(fake(program, start_wait=0.0)) as asker:
        for _ in range(3):
            with pytest.raises(Waiting, match="still starts; it has 30 s") as caught:
                asker.ask("application", GOOD)
            assert caught.value.reason == "SchemaStarting"
        first = asker.pid
        gate.write_text("")
        assert eventually(lambda: answered(asker))["name"] == "a"
        assert asker.pid == first


def test_one_that_does_not_start_beside_the_passes_is_left_alone_for_a_while(clock, tmp_path):
    count = tmp_path / "count"
    program = f"open({str(count)!r}, 'a').write('x'); raise SystemExit('no room')"
    with closing(fake(program, start_wait=0.0, clock=clock)) as asker:
        for tries in (1, 2, 3):
            asker.expect()
            process = asker.pid
            eventually(lambda: not is_there(process))  # noqa: B023 - called here
            for _ in range(3):
                with pytest.raises(Waiting, match="no room"):
                    asker.ask("application", GOOD)
                asker.expect()
            assert count.read_text() == "x" * tries
            clock.now += 60.0


def test_of_questions_that_broke_it_few_are_remembered(clock, monkeypatch, tmp_path):
    monkeypatch.setattr(schema_process, "REMEMBERED", 4)
    count = tmp_path / "count"
    died = f"document.get('poison') and (open({str(count)!r}, 'a').write('x'), sys.exit('bad'))"
    program = READY.replace("    print", f"    {died}\n    print")
    with closing(fake(program, clock=clock)) as asker:
        for poison, asked in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (5, 5), (1, 6)):
            with pytest.raises(Waiting, match="bad"):
                asker.ask("application", {"poison": poison})
            assert count.read_text() == "x" * asked


# -- what a pass makes of it ---------------------------------------------------------------------


class Moody(Asker):
    """Does not answer while it is told not to."""

    well = True

    def ask(self, question, document):
        if not self.well:
            raise Waiting("SchemaUnavailable", "the process for that hangs")
        return super().ask(question, document)


def test_while_it_starts_slowly_nobody_is_alarmed_and_then_all_goes_on(
    at_work, paper_head, tmp_path
):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = (
        f"import runpy, sys; open({str(gate)!r}).read(); sys.argv = ['', '60']; "
        f"runpy.run_module({schema_process.__name__!r}, run_name='__main__')"
    )
    command = [sys.executable, "-P", "-c", program]
    with closing(SchemaProcess(command, start_wait=0.0)) as asker:
        work = at_work(schema=Schema(asker))
        printed = io.StringIO()
        out = Console(file=printed, width=500)
        progress = Progress("http://127.0.0.1:1", out=out, get=lambda _: None, clock=work.clock)
        work.drop()
        for _ in range(4):
            progress(report := work.pass_(after=LASTS))
        assert set(reasons(report).values()) == {"SchemaStarting"}
        shown = printed.getvalue()
        assert "fetched, verified" in shown
        assert "Schema" not in shown
        gate.write_text("")
        eventually(lambda: answered(asker))
        work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}


def test_without_answers_what_is_new_waits_and_what_serves_goes_on(at_work, paper_head):
    asker = Moody()
    work = at_work(schema=Schema(asker))
    work.drop(version="1.0")
    work.settle()
    sent = len(paper_head.puts)
    asker.well = False
    work.drop(version="2.0")  # as the one before: nobody need be asked
    work.drop("other", wheelway_toml="[options]\nnum_replicas = 2\n")
    for _ in range(4):
        report = work.pass_(after=2.0)
    other = next(s for s in reasons(report) if s.startswith("other@1.0"))
    assert reasons(report)[other] == "SchemaUnavailable"
    assert not report.quarantines
    work.settle()
    assert work.phases()["demo-2.0"] is Phase.LIVE
    assert work.phases()["other-1.0"] is Phase.FETCHED
    asker.well = True
    report = work.settle()
    assert work.phases()["other-1.0"] is Phase.LIVE
    assert reasons(report) == {}
    assert len(paper_head.puts) == sent + 4


def test_after_a_restart_without_answers_nothing_changes_on_the_cluster(at_work, paper_head):
    asker = Moody()
    work = at_work(schema=Schema(asker))
    work.drop(version="1.0+cpu")
    work.settle()
    sent = routes(paper_head)
    assert any("wheelway-encoded" in name for name in sent[-1])
    asker.well = False
    work._schema = Schema(asker)
    work.restart()
    for _ in range(5):
        report = work.pass_(after=5.0)
        assert not report.sent
        assert not report.quarantines
    assert reasons(report)["serve config"] == "SchemaUnavailable"
    asker.well = True
    assert reasons(work.settle()) == {}
    assert routes(paper_head) == sent


def test_a_config_that_nobody_can_check_is_not_sent_nor_recorded(at_work, paper_head):
    asker = Moody()
    work = at_work(schema=Schema(asker))
    answered = asker.ask
    asker.ask = lambda question, document: (
        Moody.ask(asker, question, document) if question != "taken" else refused()
    )

    def refused():
        raise Waiting("SchemaUnavailable", "the process for that hangs")

    work.drop()
    for _ in range(4):
        report = work.pass_(after=2.0)
    assert reasons(report)["serve config"] == "SchemaUnavailable"
    assert (report.tried, work.outcomes(), paper_head.puts) == (False, [], [])
    asker.ask = answered
    work.settle()
    assert work.outcomes() == ["Applied", "Applied"]
