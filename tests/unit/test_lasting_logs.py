"""A replica's log, whatever the pipeline does to `logging` and Ray to `print`."""

import json
import re

import pytest

from tests.support.forking import imported

pytestmark = pytest.mark.unit

BEGIN = """
import logging, logging.config, os, sys, time
from ray.serve._private import logging_utils
from ray.serve._private.common import ServeComponentType
from ray.serve.schema import LoggingConfig
from wheelway import host, inbound, logs

logs.FLUSH_EVERY = 0.05
folder, name = os.path.split(sys.argv[1])

def configure():  # as ray/serve/_private/replica.py does, tuned for throughput
    logging_utils.configure_component_logger(
        component_type=ServeComponentType.REPLICA, component_name="iris_Host", component_id="r1",
        logging_config=LoggingConfig(logs_dir=folder, enable_access_log=False), buffer_size=1000,
        max_bytes=1 << 20, backup_count=3,
    )

configure()
host._mend_print()
served = logging.getLogger("ray.serve")
logger = logs.logger_on(served, "ray.serve.wheelway.iris")
inbound.AT_HAND.set(inbound.Request(id="abc"))

def until(text):
    end = time.monotonic() + 90
    while text not in open(sys.argv[1]).read():
        assert time.monotonic() < end, open(sys.argv[1]).read()
        time.sleep(0.01)
"""
MENDED = """
end = time.monotonic() + 90
while served.disabled:
    assert time.monotonic() < end
    time.sleep(0.01)
"""
END = """
logger.info("hello %s", "there")
logger.getChild("part").warning("from a part")
logger.debug("too fine")
try:
    raise ValueError("needle")
except ValueError:
    logger.exception("request 1 failed")
served.info("printed")
until("printed")
"""
MUTING = {
    "nothing": "",
    "dictConfig": 'logging.config.dictConfig({"version": 1, "root": {"level": "ERROR"}})',
    "basicConfig": "logging.basicConfig(force=True, level=logging.CRITICAL)",
    "shutdown": "logging.shutdown()",
    "twice": 'for _ in "12": logging.config.dictConfig({"version": 1})',
}


@pytest.fixture(scope="module")
def run():
    """Runs programs where Ray is imported."""
    modules = ("ray.serve._private.logging_utils", "ray.serve.schema", "wheelway.host")
    with imported(*modules, RAY_SERVE_THROUGHPUT_OPTIMIZED="1") as run:
        yield run


@pytest.fixture
def said(run, tmp_path):
    """What is in the log after a program."""

    def log_of(code, status=0):
        log = tmp_path / "replica_iris_Host_r1.log"
        done = run(code, log)
        assert done.returncode == status, done.stderr
        return told(log.read_text())

    return log_of


def told(text):
    """Without the time and the replica, which Serve puts between level and request."""
    return re.sub(r"^([A-Z]+) \S+ \S+ iris_Host r1 ", r"\1 ", text, flags=re.MULTILINE)


@pytest.mark.parametrize("how", MUTING)
def test_no_configuration_of_logging_mutes_the_host_or_the_pipeline(said, how):
    text = said(f"{BEGIN}\n{MUTING[how]}\n{MENDED}\n{END}")
    lines = text.splitlines()
    assert "INFO abc -- hello there" in lines
    assert "WARNING abc -- from a part" in lines
    assert "ERROR abc -- request 1 failed" in lines
    assert "ValueError: needle" in lines
    assert "INFO abc -- printed" in lines
    assert "too fine" not in text


@pytest.mark.parametrize("how", ["dictConfig", "disable"])
def test_what_is_said_right_after_is_not_lost_either(said, how):
    muted = MUTING.get(how, "logging.disable(logging.CRITICAL)")
    code = f'{BEGIN}\n{muted}\nlogger.error("at once")\nuntil("at once")'
    assert "ERROR abc -- at once" in said(code)


def test_lines_keep_their_order_and_need_no_error_to_be_written(said):
    code = f'{BEGIN}\nserved.info("one")\nlogger.info("two")\nserved.info("three")\nuntil("three")'
    assert [line.rpartition(" ")[2] for line in said(code).splitlines()] == [
        "one",
        "two",
        "three",
    ]


RENEWED = """
served.info("before it")
configure()
served.info("after it")
"""
CLOSED = 'logging.config.dictConfig({"version": 1})'


@pytest.mark.parametrize("closed", ["", CLOSED])
def test_handlers_that_serve_makes_anew_lose_nothing_and_are_written_out_in_time(said, closed):
    code = f"""{BEGIN}
{RENEWED}
{closed}
{MENDED}
print("printed", "later")
until("printed later")
logger.info("by the logger")
until("by the logger")
"""
    lines = said(code).splitlines()
    told = ["before it", "after it", "printed later", "by the logger"]
    # Closing is the later ones' first, so that their lines may come before.
    assert sorted(lines) == sorted(f"INFO abc -- {line}" for line in told)


@pytest.mark.parametrize(
    "say",
    [
        'print("last words", flush=True)',
        'served.disabled = True\nprint("last words", flush=True)',
        'sys.stdout.write("last words\\n")\nsys.stdout.flush()',
        'logging.basicConfig(force=True)\nlogging.getLogger("lib").warning("last words")',
    ],
)
def test_what_is_flushed_is_written_before_the_process_ends(said, say):
    text = said(f"{BEGIN}\nconfigure()\n{say}\nos._exit(5)", status=5)
    [line] = text.splitlines()
    assert line.startswith("INFO abc -- ")
    assert line.endswith("last words")


PRINTING = """
import builtins, io, json, logging, sys, traceback
from ray.serve._private import logging_utils
from wheelway import host

builtins.print = logging_utils.redirected_print
host._mend_print()
host._mend_print()
said = []
class Kept(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logger = logging.getLogger("ray.serve")
logger.handlers, logger.level = [Kept()], logging.INFO
buffer, trace = io.StringIO(), io.StringIO()
print("a", "b", file=buffer)
print("c", file=buffer, end="|")
print("d", 1, sep="-", file=buffer, flush=True)
try:
    raise ValueError("x")
except ValueError as error:
    traceback.print_exc(file=trace)
    formatted = logging.Formatter().formatException(sys.exc_info())
print("to", "stdout", sep=None)
print("to", file=sys.stderr)
assert logging_utils.redirected_print is builtins.print
sys.__stdout__.write(json.dumps([buffer.getvalue(), trace.getvalue(), formatted, said]))
"""


def test_what_is_printed_into_a_file_and_tracebacks_are_text(run):
    done = run(PRINTING)
    assert done.returncode == 0, done.stderr
    buffer, trace, formatted, logged = json.loads(done.stdout)
    assert buffer == "a b\nc|d-1\n"
    for text in (trace, formatted):
        assert text.startswith("Traceback (most recent call last):\n  File")
        assert text.rstrip().endswith("ValueError: x")
    assert logged == ["to stdout", "to"]


REPLICAS = """
import builtins, io, json, logging.config, sys
from types import SimpleNamespace
import ray
from ray import serve
from ray.serve._private import logging_utils
from wheelway import host

of_release = {
    "release": {"pipeline": "iris", "version": "1.0", "digest": "0" * 64},
    "target": "iris:Iris",
    "tree": "/nowhere",
    "record_digest": "",
}
serve.get_replica_context = lambda: SimpleNamespace(
    app_name="iris-1.0-0000", replica_tag="a"
)
ray.get_gpu_ids = lambda: json.loads(sys.argv[1])
replaced = logging_utils.redirected_print
printed = []
for kind, args in ((host.EncodedRoutesHost, {"ingress_url": "http://x"}), (host.Host, of_release)):
    builtins.print = logging_utils.redirected_print = replaced
    made, buffer = kind(args), io.StringIO()
    print("a", "b", file=buffer)
    printed.append(buffer.getvalue())
logging.config.dictConfig({"version": 1})
replica = made._replica
said = printed, replica._logger.disabled, replica._arguments.accelerated
sys.__stdout__.write(json.dumps(said))
"""


@pytest.mark.parametrize("gpus", [[], [0]])
def test_a_replica_sees_to_its_prints_and_its_logger_and_knows_whether_it_has_a_gpu(run, gpus):
    done = run(REPLICAS, json.dumps(gpus))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["a b\n", "a b\n"], False, bool(gpus)]
