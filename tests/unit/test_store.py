"""The store on a real file system: what comes out is what was published, whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from packaging.tags import sys_tags

from controller.cache import owners
from controller.cache.wheels import trees
from controller.cache.wheels.inspection import inspect
from controller.cache.wheels.store import Store
from controller.config.settings import InspectionLimits
from controller.errors import Rejected, Stalled, Transient
from tests.support.wheels import make_wheel, revision_of, sha256

pytestmark = pytest.mark.unit

LIMITS = InspectionLimits()
LATER = time.time() + 3600.0


def chunks(wheel, size=100):
    body = wheel.read_bytes()
    return (body[at : at + size] for at in range(0, len(body), size))


def add(store, wheel):
    return store.add(revision_of(wheel), chunks(wheel), LIMITS)


def artifact_of(store, wheel):
    revision = revision_of(wheel)
    stored = add(store, wheel)
    tree = store.tree_path(revision.sha256)
    return inspect(stored, revision, LIMITS, tuple(sys_tags()), "3.11.7", tree)


def leftovers(store):
    return [path for path in (store.root / "incoming").rglob("*") if path.is_file()]


def modes(folder):
    return {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*")}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path / "published")


# -- wheels --------------------------------------------------------------------------------------


def test_what_was_added_is_found_by_its_digest_also_after_a_restart(store, wheel):
    stored = add(store, wheel)
    assert stored.name == wheel.name
    assert stored.read_bytes() == wheel.read_bytes()
    assert store.get(sha256(wheel)) == stored
    assert Store(store.root).get(sha256(wheel)) == stored
    assert not leftovers(store)


def test_bytes_already_there_are_not_fetched_again(store, wheel):
    stored = add(store, wheel)

    def never():
        pytest.fail("read from the source")
        yield b""

    assert store.add(revision_of(wheel), never(), LIMITS) == stored


def test_other_users_can_read_and_nobody_else_can_write_whatever_the_umask(tmp_path, wheel):
    before = os.umask(0o077)
    try:
        store = Store(tmp_path / "cache")
        artifact = artifact_of(store, wheel)
        store.tree(artifact)
    finally:
        os.umask(before)
    assert modes(store.root / "wheels") == {"0o755", "0o644"}
    assert modes(store.root / "trees") == {"0o755", "0o444"}  # replicas may be the same user's
    assert oct(store.root.stat().st_mode & 0o777) == "0o755"


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"x" + b[1:]])
def test_bytes_other_than_those_listed_are_refused_and_leave_nothing(store, wheel, change):
    revision = revision_of(wheel)
    with pytest.raises(Transient) as caught:
        store.add(revision, [change(wheel.read_bytes())], LIMITS)
    assert caught.value.reason == "DigestMismatch"
    assert store.get(revision.sha256) is None
    assert not leftovers(store)


def test_an_endless_source_is_read_no_further_than_what_was_listed(store, wheel):
    revision = revision_of(wheel)
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1000
            yield bytes(1000)

    with pytest.raises(Transient):
        store.add(revision, endless(), LIMITS)
    assert read <= revision.size + 1000


def test_a_wheel_listed_beyond_the_limit_is_not_read_at_all(store, wheel):
    limits = InspectionLimits(max_size=10)
    with pytest.raises(Rejected) as caught:
        store.add(revision_of(wheel), chunks(wheel), limits)
    assert caught.value.reason == "TooLarge"


def test_the_sources_own_error_passes_through_and_leaves_nothing(store, wheel):
    def breaking():
        yield wheel.read_bytes()[:50]
        raise Transient("SourceGone", "the connection was reset")

    with pytest.raises(Transient, match="reset"):
        store.add(revision_of(wheel), breaking(), LIMITS)
    assert not leftovers(store)


@pytest.mark.parametrize(
    "name", ["../../x.whl", "/etc/x.whl", ".x.whl", "x.zip", "a" * 300 + ".whl"]
)
def test_a_file_name_that_is_none_stays_out(store, wheel, name):
    with pytest.raises(Rejected) as caught:
        store.add(replace(revision_of(wheel), filename=name), chunks(wheel), LIMITS)
    assert caught.value.reason == "FilenameInvalid"


def test_a_digest_that_is_none_stays_out(store, wheel):
    with pytest.raises(Rejected) as caught:
        store.add(replace(revision_of(wheel), sha256="../" * 20), chunks(wheel), LIMITS)
    assert caught.value.reason == "DigestInvalid"


@pytest.mark.parametrize("restart", [False, True])
def test_a_wheel_that_changed_on_disk_is_dropped_and_can_be_fetched_again(store, wheel, restart):
    stored = add(store, wheel)
    body = bytearray(stored.read_bytes())
    body[40] ^= 1
    stored.write_bytes(body)
    store = Store(store.root) if restart else store
    assert store.get(sha256(wheel)) is None
    assert not stored.exists()
    assert add(store, wheel).read_bytes() == wheel.read_bytes()


def test_many_at_once_agree_on_one_file(store, wheel):
    other = Store(store.root)
    start = threading.Barrier(8)

    def fetch(number):
        start.wait(60)
        return add((store, other)[number % 2], wheel)

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(fetch, range(8)))
    assert len(paths) == 1
    assert sha256(paths.pop()) == sha256(wheel)
    assert not leftovers(store)


ADD_AND_STOP = """
import sys
from pathlib import Path
from controller.cache.wheels.store import Store
from controller.config.settings import InspectionLimits
from tests.support.wheels import revision_of

wheel = Path(sys.argv[2])

def half():
    yield wheel.read_bytes()[:600]
    print("half", flush=True)
    sys.stdin.read()

Store(Path(sys.argv[1])).add(revision_of(wheel), half(), InspectionLimits())
"""


def test_a_kill_in_the_middle_leaves_no_artifact_and_the_next_opening_sweeps(store, wheel):
    with subprocess.Popen(
        [sys.executable, "-c", ADD_AND_STOP, store.root, wheel],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline() == b"half\n"
        during = Store(store.root)
        assert leftovers(store), "what a living process writes is not swept"
        child.send_signal(signal.SIGKILL)
    assert leftovers(store)
    assert during.get(sha256(wheel)) is None
    after = Store(store.root)
    assert not leftovers(store)
    assert add(after, wheel).read_bytes() == wheel.read_bytes()


FILL = """
import sys
from pathlib import Path
from controller.cache.wheels.store import Store
from controller.config.settings import InspectionLimits
from controller.errors import Waiting
from tests.support.wheels import make_wheel, revision_of

wheel = make_wheel(Path(sys.argv[1]), files={"demo/data": __import__("random").randbytes(300_000)})
store = Store(Path(sys.argv[2]))
try:
    with wheel.open("rb") as stream:  # chunks smaller than any buffer
        store.add(revision_of(wheel), iter(lambda: stream.read(999), b""), InspectionLimits())
except Waiting as waiting:
    print(waiting.reason, any(p.is_file() for p in (store.root / "incoming").rglob("*")))
"""


def test_a_full_disk_is_waited_for_and_left_clean(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=128k none "$1" && exec "$2" -c "$3" "$4" "$1/cache"'
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    done = subprocess.run(
        [*mount, script, "sh", disk, sys.executable, FILL, tmp_path / "published"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "DiskFull False\n", done.stderr


# -- trees ---------------------------------------------------------------------------------------


def test_a_tree_holds_the_wheels_files_and_nothing_else(store, tmp_path):
    wheel = make_wheel(tmp_path, files={"demo/data.bin": b"\x00\x01"})
    tree = store.tree(artifact_of(store, wheel))
    assert (tree / "demo/data.bin").read_bytes() == b"\x00\x01"
    assert {path.name for path in tree.iterdir()} == {"demo", "demo-1.0.dist-info"}
    assert not list(tree.rglob("*.pyc"))


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("damage", ["missing", "emptied", "record"])
def test_a_damaged_tree_is_unpacked_again(store, wheel, damage, restart):
    artifact = artifact_of(store, wheel)
    tree = store.tree(artifact)
    code, record = tree / "demo/pipeline.py", tree / "demo-1.0.dist-info/RECORD"
    expected = code.read_bytes()
    if damage == "missing":
        code.unlink()
    elif damage == "emptied":
        code.write_bytes(b"")
    else:
        record.write_bytes(record.read_bytes() + b"x,,\n")
    store = Store(store.root) if restart else store
    assert store.tree(artifact) == tree
    assert code.read_bytes() == expected
    assert sha256(record) == artifact.record_digest


def test_a_sound_tree_is_used_as_it_is_with_what_python_wrote_beside(store, wheel):
    artifact = artifact_of(store, wheel)
    tree = store.tree(artifact)
    (tree / "demo/__pycache__").mkdir()
    inode = tree.stat().st_ino
    assert Store(store.root).tree(artifact).stat().st_ino == inode


@pytest.mark.parametrize("restart", [False, True])
def test_bytes_changed_at_the_same_size_are_noticed(store, wheel, restart):
    artifact = artifact_of(store, wheel)
    code = store.tree(artifact) / "demo/pipeline.py"
    expected = code.read_bytes()
    code.write_bytes(expected.replace(b"echo", b"evil"))
    store = Store(store.root) if restart else store
    assert not store.is_whole(artifact)
    store.tree(artifact)
    assert code.read_bytes() == expected


def test_a_module_that_was_not_published_does_not_stay_in_a_tree(store, wheel):
    artifact = artifact_of(store, wheel)
    stranger = store.tree(artifact) / "demo/generated.py"
    stranger.write_text("X = 1\n")
    assert not store.is_whole(artifact)
    store.tree(artifact)
    assert not stranger.exists()
    assert store.is_whole(artifact)


def test_a_sound_tree_is_hashed_once_unless_somebody_doubts_it(store, wheel, monkeypatch):
    hashed = []
    matches = trees.matches
    monkeypatch.setattr(trees, "matches", lambda *of: hashed.append(of) or matches(*of))
    artifact = artifact_of(store, wheel)
    store.tree(artifact)
    hashed.clear()
    assert store.is_whole(artifact)
    assert not hashed
    assert store.is_whole(artifact, afresh=True)
    assert len(hashed) == 1


def test_a_tree_whose_wheel_is_gone_asks_for_it(store, wheel):
    artifact = artifact_of(store, wheel)
    artifact.wheel.unlink()
    with pytest.raises(Transient) as caught:
        store.tree(artifact)
    assert caught.value.reason == "WheelMissing"


def test_many_that_unpack_at_once_agree_on_one_tree(store, wheel):
    artifact = artifact_of(store, wheel)
    with ThreadPoolExecutor(6) as pool:
        trees = set(pool.map(lambda _: store.tree(artifact), range(12)))
    assert trees == {artifact.tree}
    assert not leftovers(store)


# -- upkeep --------------------------------------------------------------------------------------


def test_pruning_frees_all_that_is_not_kept_and_nothing_else(store, tmp_path):
    kept = artifact_of(store, make_wheel(tmp_path, version="1.0"))
    gone = artifact_of(store, make_wheel(tmp_path, version="2.0"))
    for artifact in (kept, gone):
        store.tree(artifact)
    beside = store.root / "environments"
    beside.mkdir()
    assert store.prune({kept.digest}, before=time.time() - 60) == 0
    freed = store.prune({kept.digest}, before=LATER)
    assert freed > gone.size
    assert (kept.wheel.exists(), kept.tree.exists()) == (True, True)
    assert (gone.wheel.exists(), gone.tree.exists()) == (False, False)
    assert store.get(gone.digest) is None
    assert beside.exists()
    assert store.prune({kept.digest}, before=LATER) == 0


def test_nobody_waits_while_what_was_pruned_is_deleted(store, wheel, tmp_path, monkeypatch):
    gone, free = artifact_of(store, wheel), []

    def deleted(folder, **_):
        with owners.locked(store.root, timeout=0.1):
            free.append(folder)

    monkeypatch.setattr("controller.cache.wheels.store.shutil.rmtree", deleted)
    store.prune(set(), before=LATER)
    assert [folder.name.split(".")[0] for folder in free] == [gone.digest]


def test_a_cache_of_a_newer_layout_is_refused_with_the_cure(store):
    (store.root / "GENERATION").write_text("2\n")
    with pytest.raises(Stalled, match=r"upgrade wheelway.*paths\.cache") as caught:
        Store(store.root)
    assert caught.value.reason == "CacheNewer"


def test_a_cache_that_cannot_be_made_is_stalled_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Stalled, match="file/cache") as caught:
        Store(tmp_path / "file" / "cache")
    assert caught.value.reason == "CacheUnusable"


def test_a_cache_deleted_under_a_running_store_fills_again(store, wheel):
    add(store, wheel)
    shutil.rmtree(store.root)
    assert store.get(sha256(wheel)) is None
    assert add(store, wheel).exists()
