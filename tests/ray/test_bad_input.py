"""Bad input, all of it at once: each item ends with its own reason, and nothing else is touched."""

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from controller.journal import Journal
from controller.model import Phase
from tests.support.head import eventually
from tests.support.load import load_on
from tests.support.wheels import entry, link, make_wheel

pytestmark = pytest.mark.ray

GOOD = "/predict/good/1.0"

STAGING = """
[rollout]
max_staging = 16
ready_deadline = {ready_deadline}
"""

STRICT = """
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


def phases_of(site, pipeline):
    with Journal.read(site.folder / "state") as journal:
        return [record.phase for record in journal.releases(pipeline)]


def pids_at(site, route):
    [app] = [app for app in site.dashboard.applications() if app.release and app.route == route]
    return [replica.pid for replica in app.replicas]


@contextmanager
def one_good_release(site):
    """A release that is live all the while, keeps its process and fails no request."""
    with site.daemon():
        site.drop("good")
        live = site.wait_for(GOOD)
        site.wait_for_phase(live, Phase.LIVE)
        pids = pids_at(site, GOOD)
        with load_on(site.ingress + GOOD, clients=2, pause=0.02) as load:
            yield
            answered = sum(load.answered.values())
            eventually(lambda: sum(load.answered.values()) > answered + 10)
        assert load.failures == []
        assert set(load.answered) == {live}
        assert pids_at(site, GOOD) == pids
        assert site.phases()[live] is Phase.LIVE


def expect(site, faults, deadline=450):
    """Each fault is quarantined for its own reason, in words that name it; nothing else is."""
    eventually(lambda: site.quarantines().keys() >= faults.keys(), deadline)
    found = site.quarantines()
    assert {name: item.reason for name, item in found.items()} == {
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
}


def test_every_bad_file_is_refused_with_its_reason_beside_a_release_that_serves(site):
    make_wheel(site.folder / "links", "lib", "1.0")
    site.configure(STAGING.format(ready_deadline=900) + STRICT)
    with one_good_release(site):
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


def test_names_and_links_that_a_folder_should_not_hold_are_refused_one_by_one(site):
    outside = make_wheel(site.folder / "outside", "linked")
    with one_good_release(site):
        (site.wheels / "good-latest.whl").write_bytes(b"whatever")
        (site.wheels / outside.name).symlink_to(outside)
        (site.wheels / "dangling-1.0-py3-none-any.whl").symlink_to(site.wheels / "nowhere")
        (site.wheels / "nested").mkdir()
        shutil.copy(make_wheel(site.folder / "made", "nested"), site.wheels / "nested")
        [good] = site.wheels.glob("good-1.0*")
        shutil.copy(good, site.wheels / good.name.replace("1.0", "1.1"))  # sound, wrongly named
        [name] = eventually(lambda: site.conditions("FilenameInvalid"))
        [leading_out] = eventually(lambda: site.conditions("SymlinkOutside"))
        [dangling] = eventually(lambda: site.conditions("Unreadable"))
        assert name.message.startswith("good-latest.whl is no wheel's file name")
        assert leading_out.message.startswith(f"{outside.name} is a symlink that leads out of")
        assert dangling.message.startswith("dangling-1.0-py3-none-any.whl is a symlink to nothing")
        site.drop("pointless", entry_points="")
        site.drop("elsewhere", tag="cp27-cp27m-win32")
        [misnamed] = eventually(lambda: site.conditions("MetadataMismatch"))
        [pointless] = eventually(lambda: site.conditions("NotAPipelineWheel"))
        [elsewhere] = eventually(lambda: site.conditions("TagsIncompatible"))
        assert misnamed.subject == good.name.replace("1.0", "1.1")
        assert "`wheelway.pipelines`" in pointless.message
        assert "cp27-cp27m-win32" in elsewhere.message
        assert site.quarantines() == {}


def test_of_two_projects_that_carry_a_pipeline_the_first_keeps_it_whatever_the_version(site):
    with one_good_release(site):
        for version in ("1.0", "2.0"):
            site.drop("usurper", version, pipelines={"good": "usurper.pipeline:Demo"})
        conflicts = eventually(lambda: (c := site.conditions("Conflict")) and c[1:] and c)
        for version, conflict in zip(("1.0", "2.0"), conflicts, strict=True):
            assert conflict.subject.startswith(f"good@{version}+")
            assert "the name good belongs to good" in conflict.message
            assert '`project = "usurper"`' in conflict.message


STARTS = {
    "unimportable": Bad(
        "ImportFailed", "No module named 'not_there'", {"code": "import not_there"}
    ),
    "stranger": Bad(
        "NotAPipeline",
        "name a subclass of wheelway.Pipeline",
        {"code": "class Demo:\n    def infer(self, request):\n        return 1"},
    ),
    "abstract": Bad(
        "AbstractPipeline",
        "does not define infer",
        {"code": "from wheelway import Pipeline\nclass Demo(Pipeline):\n    pass"},
    ),
}
LOADS = {
    "raising": Bad("LoadFailed", "KeyError: 'weights'", {"load": "{}['weights']"}),
    "exiting": Bad("LoadExited", "left by sys.exit()", {"load": "import sys; sys.exit(0)"}),
    "dying": Bad("ReplicaDied", "os._exit", {"load": "import os; os._exit(3)"}),
    "hungry": Bad(
        "OutOfMemory",
        "raise `max_memory`",
        {
            "load": "self.weights = [bytearray(16 << 20) for _ in range(64)]",
            "wheelway_toml": f"[options]\nmax_memory = {256 << 20}\n",
        },
    ),
    "failing": Bad(
        "ExampleFailed",
        "example 2 of 2",
        {"load": "pass", "infer": "1 / request", "body": "examples = (1, 0)"},
    ),
    "violating": Bad(
        "ExampleResultInvalid",
        "violates the declared result type",
        {"load": "pass", "infer": "'many'", "body": "examples = (1,)", "returns": " -> int"},
    ),
}
HANGING = Bad(
    "StartTimeout",
    "load hangs or takes longer than rollout.ready_deadline",
    {"load": "import threading; threading.Event().wait()"},
)
LOADING = """
from wheelway import Pipeline

class Demo(Pipeline):
    {body}
    def load(self, context):
        {load}

    def infer(self, request){returns}:
        return {infer}
"""


def drop_loading(site, name, load, *, infer="request", body="", returns="", **how):
    code = LOADING.format(load=load, infer=infer, body=body, returns=returns)
    site.drop(name, code=code, **how)


@pytest.mark.timeout(600)
def test_every_release_that_cannot_start_is_quarantined_while_another_serves(site):
    site.configure(STAGING.format(ready_deadline=900))
    with one_good_release(site):
        drop_loading(site, "hanging", **HANGING.how)
        for name, fault in STARTS.items():
            site.drop(name, **fault.how)
        for name, fault in LOADS.items():
            drop_loading(site, name, **fault.how)
        expect(site, STARTS | LOADS)
        raising = site.quarantines()["raising"]
        assert raising.stage == "stage"
        assert "pipeline.py" in raising.log_tail
        assert site.phases()[str(raising.release)] is Phase.QUARANTINED
        # The one that hangs is still given its time; it gets none any more.
        site.configure(STAGING.format(ready_deadline=1))
        expect(site, STARTS | LOADS | {"hanging": HANGING})
        eventually(
            lambda: (
                {app.name for app in site.dashboard.applications() if app.release}
                == {app.name for app in site.dashboard.applications() if app.route == GOOD}
            )
        )


BROKEN = {
    "application.yaml.j2": "name: {{ name | json }}\nimport_path: {{ nonsense | json }}\n",
    "serve.yaml.j2": "http_options: {}\napplications: {% for %}\n",
}
"""Each in its second line."""


def test_a_broken_template_keeps_the_last_good_config_in_force_until_it_is_mended(site):
    site.basics = site.basics.replace('state = "state"', 'state = "state"\ntemplates = "templates"')
    site.configure("")
    templates = site.folder / "templates"
    templates.mkdir()
    with one_good_release(site):
        for number, (name, text) in enumerate(BROKEN.items(), 1):
            later, applied = f"later{number}", site.sent()
            half = templates / f".{name}"  # a file that is being written is broken otherwise
            half.write_text(text)
            half.rename(templates / name)
            site.drop(later)
            complaints = eventually(lambda: site.conditions("TemplateInvalid"))
            told = f"{templates / name}:2: "
            assert all(told in item.message for item in complaints), complaints
            [phase] = eventually(lambda pipeline=later: phases_of(site, pipeline))
            assert phase in {Phase.FETCHED, Phase.PREPARED}
            assert site.sent() == applied
            assert site.release_at(f"/predict/{later}/1.0") == ""
            (templates / name).unlink()
            site.wait_for(f"/predict/{later}/1.0")
            eventually(lambda: not site.conditions("TemplateInvalid"))
        assert site.quarantines() == {}
