"""Wheels are unpacked while they are inspected: read once, and only what is right is kept."""

from __future__ import annotations

import random
import zipfile
from types import SimpleNamespace

import pytest
from packaging.tags import sys_tags

from controller.cache import files
from controller.cache.wheels import contents
from controller.cache.wheels.inspection import inspect
from controller.cache.wheels.store import Store
from controller.config.settings import InspectionLimits
from controller.errors import Rejected, Transient, Waiting
from controller.reconcile.assembly import _receive
from tests.support.wheels import make_wheel, revision_of
from wheelway import loading

pytestmark = pytest.mark.unit

LIMITS = InspectionLimits()
LARGE = random.Random(1).randbytes((2 << 20) + 17)
"""More than one piece of reading, and no whole number of them."""
COMPRESSIONS = pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def received(store, wheel, *, before=lambda _: None, after=lambda _: None):
    """Receive a wheel as the daemon does; the store's file may be written to around its reading."""
    revision = revision_of(wheel)
    stored = store.add(revision, [wheel.read_bytes()], LIMITS)
    tree = store.tree_path(revision.sha256)
    with store.unpacking(revision) as into:
        before(stored)
        artifact = inspect(stored, revision, LIMITS, tuple(sys_tags()), "3.11.7", tree, into)
        after(stored)
        store.tree(artifact, into)
    return artifact


def left(store):
    return [path for path in (store.root / "incoming").rglob("*") if path.is_file()]


@COMPRESSIONS
def test_a_tree_made_at_inspection_is_that_of_the_wheel(store, tmp_path, how):
    wheel = make_wheel(tmp_path, files={"demo/a/large.bin": LARGE, "demo/b": b""}, compression=how)
    artifact = received(store, wheel)
    with zipfile.ZipFile(wheel) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    tree = artifact.tree
    found = {
        str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()
    }
    assert found == inside
    assert {oct(path.stat().st_mode & 0o777) for path in tree.rglob("*")} == {"0o755", "0o444"}
    assert Store(store.root).is_whole(artifact)
    assert not left(store)


def test_what_was_hashed_on_its_way_is_not_read_again(store, tmp_path, monkeypatch):
    wheel = make_wheel(tmp_path, files={"demo/large.bin": LARGE})
    hashed = []
    monkeypatch.setattr(loading, "_hash", lambda path, _: hashed.append(path))
    monkeypatch.setattr("controller.cache.wheels.store._sha256", hashed.append)
    artifact = received(store, wheel)
    assert store.is_whole(artifact)
    assert store.get(artifact.digest) == artifact.wheel
    assert not hashed


def test_a_wheel_that_changed_in_the_cache_is_read_again_and_dropped(store, tmp_path):
    artifact = received(store, make_wheel(tmp_path))
    body = bytearray(artifact.wheel.read_bytes())
    body[len(body) // 2] ^= 1
    artifact.wheel.write_bytes(body)
    assert store.get(artifact.digest) is None


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_wheel_that_changed_after_it_was_hashed_is_not_published(
    store, tmp_path, restored, restarted
):
    wheel = make_wheel(tmp_path / "a", marker="published")
    body, other = wheel.read_bytes(), make_wheel(tmp_path / "b", marker="another").read_bytes()
    if restarted:
        store.add(revision_of(wheel), [body], LIMITS)
        store = Store(store.root)
    with pytest.raises(Transient) as caught:
        received(
            store,
            wheel,
            before=lambda stored: stored.write_bytes(other),
            after=lambda stored: restored and stored.write_bytes(body),
        )
    assert caught.value.reason == ("CacheUnusable" if restored else "WheelMissing")
    assert not store.tree_path(revision_of(wheel).sha256).exists()
    assert not left(store)
    tree = received(store, wheel).tree
    assert "published" in (tree / "demo/pipeline.py").read_text()


def test_a_wheel_that_is_damaged_in_the_cache_before_it_is_read_is_not_refused(tmp_path):
    wheel = make_wheel(tmp_path)

    class Damaging(Store):
        def add(self, *of):
            stored = super().add(*of)
            stored.write_bytes(b"damaged")
            return stored

    store = Damaging(tmp_path / "cache")
    source = SimpleNamespace(fetch=lambda _: [wheel.read_bytes()])
    base = SimpleNamespace(tags=tuple(sys_tags()), version="3.11.7")
    with pytest.raises(Transient) as caught:
        _receive(store, base, LIMITS, source, revision_of(wheel))
    assert caught.value.reason == "WheelMissing"


@COMPRESSIONS
def test_a_file_unlike_its_record_leaves_no_tree(store, tmp_path, how):
    wheel = make_wheel(
        tmp_path, files={"demo/large.bin": LARGE}, wrong_hash=["demo/large.bin"], compression=how
    )
    with pytest.raises(Rejected, match=r"large\.bin didn't match RECORD") as caught:
        received(store, wheel)
    assert caught.value.reason == "RecordInvalid"
    assert not store.tree_path(revision_of(wheel).sha256).exists()
    assert not left(store)


def test_a_stored_file_that_says_to_be_longer_than_the_wheel_is_damaged(store, tmp_path):
    wheel = make_wheel(tmp_path, files={"demo/large.bin": LARGE}, compression=zipfile.ZIP_STORED)
    body = wheel.read_bytes()
    size = len(LARGE).to_bytes(4, "little")
    assert body.count(size * 2) == 2  # in the local header and in the directory
    wheel.write_bytes(body.replace(size * 2, (len(body) * 2).to_bytes(4, "little") * 2))
    with pytest.raises(Rejected) as caught:
        received(store, wheel)
    assert caught.value.reason in {"ZipDamaged", "RecordInvalid"}
    assert not left(store)


def test_without_room_for_a_wheel_and_its_tree_nothing_is_asked_of_the_source(
    store, tmp_path, monkeypatch
):
    wheel = make_wheel(tmp_path, files={"demo/large.bin": LARGE})
    usage = type("Usage", (), {"free": wheel.stat().st_size * 3 // 2})
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)

    def never():
        pytest.fail("read from the source")
        yield b""

    with pytest.raises(Waiting, match=r"it needs 5 MiB, which are not free") as caught:
        store.add(revision_of(wheel), never(), LIMITS)
    assert caught.value.reason == "DiskFull"


def test_a_disk_that_fills_up_while_a_wheel_is_unpacked_is_waited_for(store, tmp_path, monkeypatch):
    wheel = make_wheel(tmp_path, files={"demo/large.bin": LARGE})

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("controller.cache.wheels.trees.read", full)
        with pytest.raises(Waiting) as caught:
            received(store, wheel)
    assert caught.value.reason == "DiskFull"
    assert not left(store)
    assert received(store, wheel).tree.is_dir()


def test_a_file_that_is_not_compressed_is_read_in_pieces(tmp_path):
    wheel = make_wheel(tmp_path, files={"demo/large.bin": LARGE}, compression=zipfile.ZIP_STORED)
    pieces = []

    class Sink:
        def write(self, piece):
            pieces.append(bytes(piece[:1000]))
            return len(pieces[-1])

    with zipfile.ZipFile(wheel) as archive:
        content = contents.read(archive, archive.getinfo("demo/large.bin"), "sha256", Sink())
    assert content.size == len(LARGE)
    assert b"".join(pieces) == LARGE  # a device that takes less than it was given gets the rest
