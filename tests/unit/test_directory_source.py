"""The directory source, on real folders with real wheels and the system's own file events."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
import threading
import time
import zipfile
from io import FileIO

import pytest
from watchdog.observers import Observer

from controller.config import settings
from controller.errors import Stalled, Transient
from controller.sources import open_source
from controller.sources.directory import source as directory
from controller.sources.directory.source import DirectorySource, ends_like_a_zip
from tests.support.wheels import MULTIPLYING, make_wheel, sha256

pytestmark = pytest.mark.unit

DEADLINE = 60.0


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "wheels"
    made.mkdir()
    return made


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def source(folder, clock):
    made = DirectorySource(settings.DirectorySource(type="directory", path=folder), clock=clock)
    yield made
    made.close()


def listed(source):
    return [(revision.filename, revision.sha256) for revision in source.list().revisions]


def reasons(refusals):
    return [(refusal.subject, refusal.reason) for refusal in refusals]


def test_a_wheel_moved_in_is_listed_at_once_with_its_digest(source, folder):
    wheel = make_wheel(folder, "Acme.Demo", "1.0")
    (revision,) = source.list().revisions
    assert (revision.project, str(revision.version)) == ("acme-demo", "1.0")
    assert (revision.sha256, revision.size) == (sha256(wheel), wheel.stat().st_size)
    assert b"".join(source.fetch(revision)) == wheel.read_bytes()


def test_a_wheel_that_is_being_copied_is_pending_until_the_rest_is_there(source, folder, tmp_path):
    original = make_wheel(tmp_path / "built", files={"demo/weights.bin": os.urandom(100_000)})
    content = original.read_bytes()
    with (folder / original.name).open("wb") as copy:
        copy.write(content[: len(content) // 2])
        copy.flush()
        listing = source.list()
        assert listing.revisions == ()
        assert reasons(listing.pending) == [(original.name, "StillCopying")]
        copy.write(content[len(content) // 2 :])
    assert listed(source) == [(original.name, sha256(original))]


def test_a_copy_that_goes_on_is_never_taken_for_settled(source, folder, clock):
    with (folder / "demo-1.0-py3-none-any.whl").open("wb") as copy:
        for _ in range(5):
            copy.write(b"not yet a zip archive")
            copy.flush()
            assert len(source.list().pending) == 1
            clock.now += 60


def test_a_wheel_that_is_written_over_is_read_only_once_it_has_settled(
    source, folder, clock, tmp_path
):
    old = make_wheel(folder, files={"demo/more.py": "x = 1\n"})
    new = make_wheel(tmp_path, files={"demo/more.py": "x = 2\n"}).read_bytes()
    assert listed(source) == [(old.name, sha256(old))]
    with old.open("r+b") as file:  # in place: its end looks finished all the time
        file.write(new[: len(new) // 2])
        file.flush()
        listing = source.list()
        assert listing.revisions == ()
        assert "written over" in listing.pending[0].message
        file.write(new[len(new) // 2 :])
    assert listed(source) == []
    clock.now += 60
    assert listed(source) == [(old.name, sha256(old))]
    assert old.read_bytes() == new


def test_a_truncated_wheel_is_listed_once_it_has_settled(source, folder, clock):
    wheel = make_wheel(folder)
    os.truncate(wheel, wheel.stat().st_size - 10)
    assert listed(source) == []
    clock.now += 1.9
    assert listed(source) == []
    clock.now += 0.2
    assert listed(source) == [(wheel.name, sha256(wheel))]
    assert listed(source) == [(wheel.name, sha256(wheel))]


@pytest.mark.parametrize("in_place", [True, False])
def test_other_bytes_of_the_same_size_under_the_same_name_are_another_digest(
    source, folder, clock, in_place
):
    wheel = make_wheel(folder, marker="a", compression=zipfile.ZIP_STORED)
    before, size = listed(source), wheel.stat().st_size
    other = make_wheel(folder.parent, marker="b", compression=zipfile.ZIP_STORED)
    assert other.stat().st_size == size
    if in_place:
        wheel.write_bytes(other.read_bytes())
        assert listed(source) == []  # its end was finished all the time
        clock.now += 60
    else:
        other.replace(wheel)
    assert listed(source) == [(wheel.name, sha256(wheel))] != before


def test_a_wheel_that_lies_there_for_long_is_not_opened_again(folder, clock, monkeypatch):
    later = DirectorySource(
        settings.DirectorySource(type="directory", path=folder),
        clock=clock,
        wall_clock=lambda: time.time() + 3600,
    )
    wheel = make_wheel(folder)
    assert listed(later) == [(wheel.name, sha256(wheel))]
    monkeypatch.setattr(directory, "opened", lambda path: pytest.fail(f"{path} was opened"))
    assert listed(later) == [(wheel.name, sha256(wheel))]


def test_a_link_that_leads_out_is_refused_and_one_inside_is_followed(source, folder, tmp_path):
    outside = make_wheel(tmp_path / "elsewhere", "outer")
    (folder / outside.name).symlink_to(outside)
    inside = make_wheel(folder / "sub", "inner")
    (folder / inside.name).symlink_to(inside)
    (folder / "dangling-1.0-py3-none-any.whl").symlink_to(folder / "nothing")
    listing = source.list()
    assert [revision.filename for revision in listing.revisions] == [inside.name]
    assert reasons(listing.refused) == [
        ("dangling-1.0-py3-none-any.whl", "Unreadable"),
        (outside.name, "SymlinkOutside"),
    ]


def test_only_wheels_directly_in_the_folder_are_seen(source, folder):
    make_wheel(folder / "nested")
    make_wheel(folder, filename=".hidden-1.0-py3-none-any.whl")
    (folder / "README.txt").write_text("wheels go here")
    (folder / "folder-1.0-py3-none-any.whl").mkdir()
    os.mkfifo(folder / "pipe-1.0-py3-none-any.whl")
    listing = source.list()
    assert (listing.revisions, listing.refused, listing.pending) == ((), (), ())


def test_a_file_name_that_no_build_writes_is_refused_without_harm_to_others(source, folder):
    make_wheel(folder, "good")
    make_wheel(folder, filename="bad.whl")
    make_wheel(folder, filename="bad-1.0-py3-none-a\nny.whl")
    make_wheel(folder, filename=f"bad-1.0-{MULTIPLYING}.whl")
    make_wheel(folder, filename="BAD-1.0-py3-none-any.WHL")
    os.close(os.open(os.fsencode(folder) + b"/b\xff-1-py3-none-any.whl", os.O_CREAT))
    listing = source.list()
    assert [revision.project for revision in listing.revisions] == ["good"]
    assert {refusal.reason for refusal in listing.refused} == {"FilenameInvalid"}
    assert len(listing.refused) == 5
    [shouted] = [r.message for r in listing.refused if r.subject.endswith(".WHL")]
    assert "must be '.whl'" in shouted
    assert all(refusal.subject.isprintable() for refusal in listing.refused)


def test_two_files_of_the_same_version_are_both_listed_in_a_fixed_order(source, folder):
    names = [make_wheel(folder, tag=tag).name for tag in ("py3-none-any", "py2.py3-none-any")] + [
        make_wheel(folder, filename="demo-1.0-1-py3-none-any.whl").name
    ]
    assert [name for name, _ in listed(source)] == sorted(names)


def test_a_file_that_went_or_changed_is_not_fetched(source, folder):
    wheel = make_wheel(folder, marker="a")
    (revision,) = source.list().revisions
    make_wheel(folder, marker="b")
    with pytest.raises(Transient) as changed:
        list(source.fetch(revision))
    assert changed.value.reason == "FileChanged"
    wheel.unlink()
    with pytest.raises(Transient) as gone:
        list(source.fetch(revision))
    assert gone.value.reason == "FileChanged"


def test_a_file_that_changes_while_it_is_fetched_is_told(source, folder):
    wheel = make_wheel(
        folder, files={"demo/weights.bin": os.urandom(3 << 20)}, compression=zipfile.ZIP_STORED
    )
    (revision,) = source.list().revisions
    chunks = source.fetch(revision)
    assert len(next(chunks)) == 1 << 20
    with wheel.open("r+b") as file:
        file.write(b"??")
    with pytest.raises(Transient):
        list(chunks)


def test_a_source_made_anew_fetches_what_its_predecessor_listed(source, folder):
    wheel = make_wheel(folder)
    (revision,) = source.list().revisions
    fresh = open_source(settings.DirectorySource(type="directory", path=folder))
    assert hashlib.sha256(b"".join(fresh.fetch(revision))).hexdigest() == sha256(wheel)


def test_a_missing_folder_stalls_with_the_cure(source, folder):
    folder.rmdir()
    with pytest.raises(Stalled, match="create it or correct `path`") as stalled:
        source.list()
    assert stalled.value.reason == "DirectoryMissing"


@pytest.mark.parametrize("comment", [b"", b"a comment", b"with PK\x05\x06 in it, and more of it"])
@pytest.mark.parametrize("zip64", [False, True])
def test_every_proper_prefix_of_an_archive_is_unfinished(tmp_path, comment, zip64):
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b" * 50)
        archive.comment = comment
    content = with_zip64_records(path.read_bytes()) if zip64 else path.read_bytes()
    path.write_bytes(content)
    is_read = b"PK" not in comment  # else zipfile takes that for the end, and reads no such wheel
    if is_read:
        with zipfile.ZipFile(path) as archive:
            assert archive.read("a") == b"b" * 50
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        with FileIO(str(path)) as file:
            assert ends_like_a_zip(file, length) == (is_read and length == len(content))


def with_zip64_records(content):
    """The same archive as if its sizes needed ZIP64 (APPNOTE 4.3.14, 4.3.15)."""
    end = content.index(b"PK\x05\x06")
    count, length, offset = struct.unpack_from("<H2L", content, end + 10)
    record = struct.pack(
        "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, offset
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    overflown = content[end : end + 8] + b"\xff" * 12 + content[end + 20 :]
    return content[:end] + record + locator + overflown


# -- watching ------------------------------------------------------------------------------------


@pytest.fixture
def woken(source):
    wakes = threading.Event()
    source.watch(wakes.set)
    return wakes


def test_a_wheel_that_is_moved_in_copied_or_removed_wakes(source, folder, woken, tmp_path):
    wheel = make_wheel(tmp_path / "built")
    there, copy = folder / wheel.name, folder / "demo-1.1-py3-none-any.whl"
    for change in (
        lambda: wheel.rename(there),
        lambda: shutil.copyfile(there, copy),
        copy.unlink,
    ):
        quiet(woken)
        change()
        assert woken.wait(DEADLINE)
    assert listed(source) == [(there.name, sha256(there))]


def test_listing_and_fetching_do_not_wake(source, folder, woken):
    make_wheel(folder)
    assert woken.wait(DEADLINE)
    quiet(woken)
    (revision,) = source.list().revisions
    assert b"".join(source.fetch(revision))
    assert not woken.wait(0.3)


def test_a_folder_that_is_deleted_and_made_again_wakes_again(source, folder, woken):
    shutil.rmtree(folder)
    assert woken.wait(DEADLINE)
    with pytest.raises(Stalled):
        source.list()
    assert "create it" in source.watch_note
    folder.mkdir()
    assert source.list().revisions == ()
    assert source.watch_note == ""
    woken.clear()
    wheel = make_wheel(folder)
    assert woken.wait(DEADLINE)
    assert listed(source) == [(wheel.name, sha256(wheel))]


def test_a_folder_replaced_by_another_is_taken_up_at_the_next_listing(source, folder, woken):
    folder.rename(folder.with_name("former"))
    folder.mkdir()
    source.list()
    woken.clear()
    make_wheel(folder)
    assert woken.wait(DEADLINE)


def test_a_folder_reached_through_a_link_is_watched(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    linked = open_source(settings.DirectorySource(type="directory", path=link))
    woken = threading.Event()
    linked.watch(woken.set)
    try:
        make_wheel(folder)
        assert woken.wait(DEADLINE)
        assert len(linked.list().revisions) == 1
    finally:
        linked.close()


def test_a_folder_that_cannot_be_watched_is_polled_and_says_so(folder):
    limits = iter([OSError(errno.ENOSPC, "inotify watch limit reached")])

    def observer():
        for error in limits:
            raise error
        return Observer()

    source = DirectorySource(
        settings.DirectorySource(type="directory", path=folder), observer=observer
    )
    woken = threading.Event()
    source.watch(woken.set)
    assert "fs.inotify.max_user_watches" in source.watch_note
    wheel = make_wheel(folder)
    assert listed(source) == [(wheel.name, sha256(wheel))]
    assert source.watch_note == "", "the listing tried again, successfully"
    source.close()


def test_closing_leaves_no_thread_behind(folder):
    before = set(threading.enumerate())
    source = open_source(settings.DirectorySource(type="directory", path=folder))
    source.watch(lambda: None)
    assert set(threading.enumerate()) - before
    source.close()
    source.close()
    assert set(threading.enumerate()) <= before


def quiet(woken):
    """Return once the events of what was done so far have all been told."""
    end = time.monotonic() + DEADLINE
    woken.clear()
    while woken.wait(0.3):
        assert time.monotonic() < end
        woken.clear()
