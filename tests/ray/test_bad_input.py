"""Bad input, all of it at once: each item ends with its own reason, and nothing else is touched."""

from dataclasses import dataclass, field

import pytest

from controller.model import Phase
from tests.support.head import eventually
from tests.support.load import load_on
from tests.support.wheels import entry, link, make_wheel

pytestmark = pytest.mark.ray

GOOD = "/predict/good/1.0"

CONFIG = """
[rollout]
max_staging = 16
ready_deadline = {ready_deadline}

[environments]
offline = true
find_links = ["links"]

[serve.caps]
num_replicas = 3
"""


@dataclass(frozen=True)
class Bad:
    """A wheel with one fault, and what is to be said of it."""

    reason: str
    says: str
    """Found in the message, beside the name of what is bad."""
    how: dict = field(default_factory=dict)


def pids_at(site, route):
    [app] = [app for app in site.dashboard.applications() if app.release and app.route == route]
    return [replica.pid for replica in app.replicas]


@pytest.fixture(scope="module")
def daemon(folder):
    """A daemon with one release that is live, and stays so."""
    make_wheel(folder.folder / "links", "lib", "1.0")
    folder.configure(CONFIG.format(ready_deadline=900))
    with folder.daemon():
        folder.drop("good")
        folder.wait_for_phase(folder.wait_for(GOOD), Phase.LIVE)
        yield folder


@pytest.fixture
def site(daemon):
    """All the while its release keeps its process and fails no request."""
    live, pids = daemon.release_at(GOOD), pids_at(daemon, GOOD)
    with load_on(daemon.ingress + GOOD, clients=2, pause=0.02) as load:
        yield daemon
        answered = sum(load.answered.values())
        eventually(lambda: sum(load.answered.values()) > answered + 10)
    assert load.failures == []
    assert set(load.answered) == {live}
    assert pids_at(daemon, GOOD) == pids
    assert daemon.phases()[live] is Phase.LIVE


def expect(site, faults, deadline=450):
    """Each fault is quarantined for its own reason, in words that name it; nothing else is."""
    eventually(lambda: site.quarantines().keys() >= faults.keys(), deadline)
    found = site.quarantines()
    assert found.keys() <= FILES.keys() | STARTS.keys() | {"hanging", "silent"}
    assert {name: found[name].reason for name in faults} == {
        name: fault.reason for name, fault in faults.items()
    }
    for name, fault in faults.items():
        message = found[name].message
        assert fault.says in message, f"{name}: {message}"
        assert len(message) < 2000, name
        assert "Traceback" not in message, name


FILES = {
    "not-a-zip": Bad("NotAZip", "not_a_zip-1.0-py3-none-any.whl is not a zip file"),
    "cut-short": Bad("Truncated", "cut_short-1.0-py3-none-any.whl starts like a zip file"),
    "wrong-hash": Bad(
        "RecordInvalid", "wrong_hash/pipeline.py", {"wrong_hash": ["wrong_hash/pipeline.py"]}
    ),
    "escaping": Bad("PathEscape", "'../evil.py'", {"entries": [entry("../evil.py", "evil")]}),
    "absolute": Bad("PathEscape", "'/etc/evil'", {"entries": [entry("/etc/evil", "evil")]}),
    "linking": Bad(
        "SpecialEntry",
        "'linking/passwd' is a symlink",
        {"entries": [link("linking/passwd", "/etc/passwd")]},
    ),
    "bomb": Bad(
        "RatioTooHigh", "'bomb/zeros.bin' unpacks", {"files": {"bomb/zeros.bin": b"\0" * (8 << 20)}}
    ),
    "other-name": Bad("MetadataMismatch", "METADATA says 'else'", {"metadata": {"Name": "else"}}),
    "other-version": Bad(
        "MetadataMismatch", "METADATA says 'other-version' '2.0'", {"metadata": {"Version": "2.0"}}
    ),
    "elsewhere": Bad(
        "TagsIncompatible", "cp27-cp27m-win32", {"wheel": {"Tag": "cp27-cp27m-win32"}}
    ),
    "misspelt": Bad(
        "WishesInvalid",
        "misspelt/wheelway.toml:2: options.num_replica: unknown key",
        {"wheelway_toml": "[options]\nnum_replica = 2\n"},
    ),
    "greedy": Bad(
        "OptionAboveCap",
        "num_replicas = 30, the cap is 3",
        {"wheelway_toml": "[options]\nnum_replicas = 30\n"},
    ),
    "beyond-int32": Bad(
        "WishesInvalid",
        'options.num_replicas: must be "auto" or a number from 1 to 10000',
        {"wheelway_toml": "[options]\nnum_replicas = 2147483648\n"},
    ),
    "queueing": Bad(
        "WishesInvalid",
        "options.max_queued_requests",
        {"wheelway_toml": "[options]\nmax_queued_requests = 2147483548\n"},
    ),
    "unmet": Bad("RequirementsUnsatisfiable", "lib", {"requires": ["lib>=2"]}),
    "contradicting": Bad(
        "RequirementsUnsatisfiable", "lib==1.0", {"requires": ["lib==1.0", "lib<1"]}
    ),
    "other-ray": Bad("RequirementsUnsatisfiable", "ray<2", {"requires": ["ray<2"]}),
    "from-afar": Bad(
        "RequirementNotFromIndex",
        "https://example.org/lib.whl",
        {"requires": ["lib @ https://example.org/lib.whl"]},
    ),
    "of-none": Bad(
        "PartWithoutPipeline",
        "'elsewhere.risk' is a part of no pipeline of this wheel",
        {"parts": {"elsewhere.risk": "of_none.pipeline:Demo"}},
    ),
    "circular": Bad(
        "PartCircular",
        "the class of the pipeline itself",
        {"parts": {"circular.risk": "circular.pipeline:Demo"}},
    ),
    "greedy-part": Bad(
        "OptionAboveCap",
        "parts.risk.num_replicas = 30, the cap is 3",
        {
            "parts": {"greedy-part.risk": "greedy_part.pipeline:Risk"},
            "wheelway_toml": "[parts.risk.options]\nnum_replicas = 30\n",
        },
    ),
    "code-and-weights": Bad(
        "NotOnlyData",
        "`wheelway.weights` and in `wheelway.pipelines`",
        {"weights": {"good": "code_and_weights"}},
    ),
}


def test_every_bad_file_is_refused_with_its_reason_beside_a_release_that_serves(site):
    applied = site.sent()
    for name, fault in FILES.items():
        if name == "not-a-zip":
            (site.wheels / "not_a_zip-1.0-py3-none-any.whl").write_bytes(b"words, no archive")
        elif name == "cut-short":
            whole = make_wheel(site.folder / "made", "cut-short").read_bytes()
            (site.wheels / "cut_short-1.0-py3-none-any.whl").write_bytes(whole[:-40])
        else:
            site.drop(name, **fault.how)
    expect(site, FILES)
    assert {app.release.pipeline for app in site.dashboard.applications() if app.release} == {
        "good"
    }
    assert site.sent() == applied  # nothing of it ever reached Ray
    assert not (site.folder / "evil.py").exists()


LOADING = """
from collections.abc import Iterator

from wheelway import Pipeline

class Demo(Pipeline):
    {body}
    def load(self, context):
        {load}

    def infer(self, request):
        return {infer}
"""


def loading(load, *, infer="request", body=""):
    """The code of a pipeline that loads so."""
    return LOADING.format(load=load, infer=infer, body=body)


LATE = """examples = (1,)
    def post_process(self, result) -> Iterator[int]:
        yield 1
        yield "two"
"""
SILENT = """examples = (1,)
    def post_process(self, result) -> Iterator[int]:
        import threading
        threading.Event().wait()
        yield 1
"""
STARTS = {
    "unimportable": Bad(
        "ImportFailed", "No module named 'not_there'", {"code": "import not_there"}
    ),
    "raising": Bad("LoadFailed", "KeyError: 'weights'", {"code": loading("{}['weights']")}),
    "exiting": Bad(
        "LoadExited", "left by sys.exit()", {"code": loading("import sys; sys.exit(0)")}
    ),
    "dying": Bad("ReplicaDied", "os._exit", {"code": loading("import os; os._exit(3)")}),
    "hungry": Bad(
        "OutOfMemory",
        "raise `max_memory`",
        {
            "code": loading("self.weights = [bytearray(16 << 20) for _ in range(64)]"),
            "wheelway_toml": f"[options]\nmax_memory = {256 << 20}\n",
        },
    ),
    "failing": Bad(
        "ExampleFailed",
        "example 2 of 2",
        {"code": loading("pass", infer="1 / request", body="examples = (1, 0)")},
    ),
    "two-ways": Bad(
        "AmbiguousPipeline",
        "defines both `infer` and `infer_batch`",
        {"code": loading("pass", body="def infer_batch(self, requests): return requests")},
    ),
    "late": Bad(
        "ExampleResultInvalid",
        "item 2 of a stream",
        {"code": loading("pass", body=LATE)},
    ),
    "no-part": Bad(
        "NotAPipeline",
        "the part 'risk': no_part.pipeline:Risk is no pipeline",
        {
            "parts": {"no-part.risk": "no_part.pipeline:Risk"},
            "code": loading("pass") + "class Risk: pass\n",
        },
    ),
}
"""One of each way to end; what else a start can fail of is shown in the tests of the host."""
HANGING = Bad(
    "StartTimeout",
    "load hangs or takes longer than rollout.ready_deadline",
    {"code": loading("import threading; threading.Event().wait()")},
)


def test_every_release_that_cannot_start_is_quarantined_while_another_serves(site):
    loads = site.folder / "loads"
    silent = Bad(
        "ExampleTimeout",
        "had no result within 61 s",
        {
            "code": loading(f"open({str(loads)!r}, 'a').write('x')", body=SILENT),
            "wheelway_toml": "[options]\nrequest_timeout = 1\n",
        },
    )
    starts = STARTS | {"silent": silent}
    for name, fault in (starts | {"hanging": HANGING}).items():
        site.drop(name, **fault.how)
    expect(site, starts)
    assert len(loads.read_text()) < 3  # the first replica's failure decided
    raising = site.quarantines()["raising"]
    assert raising.stage == "stage"
    assert "pipeline.py" in raising.log_tail
    assert site.phases()[str(raising.subject)] is Phase.QUARANTINED
    # The one that hangs is still given its time; it gets none any more.
    site.configure(CONFIG.format(ready_deadline=1))
    expect(site, starts | {"hanging": HANGING})
    eventually(
        lambda: (
            {app.name for app in site.dashboard.applications() if app.release}
            == {app.name for app in site.dashboard.applications() if app.route == GOOD}
        )
    )
