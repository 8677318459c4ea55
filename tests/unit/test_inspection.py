"""Every gate with a real wheel that is broken in just that way."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import replace
from importlib.metadata import requires, version

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag, sys_tags
from packaging.version import Version

from controller.cache.wheels.inspection import inspect
from controller.config.settings import InspectionLimits
from controller.errors import NoRelease, Rejected
from tests.support.wheels import entry, link, make_wheel, revision_of, sha256

pytestmark = pytest.mark.unit

LIMITS = InspectionLimits()


TAGS = tuple(sys_tags())


def look(wheel, revision=None, limits=LIMITS, tags=TAGS, python="3.11.7"):
    tree = wheel.with_name("tree")
    return inspect(wheel, revision or revision_of(wheel), limits, tags, python, tree)


def reason_of(wheel, **how):
    with pytest.raises(Rejected) as caught:
        look(wheel, **how)
    assert len(caught.value.message) > 40, "a reason without an explanation helps nobody"
    return caught.value.reason


def refusal_of(wheel, **how):
    """Of a file that no release comes of: the reason, and whether its name is at fault."""
    with pytest.raises(NoRelease) as caught:
        look(wheel, **how)
    return caught.value.reason, caught.value.by_name


def test_a_sound_wheel_tells_what_it_is_and_carries(tmp_path):
    wheel = make_wheel(
        tmp_path,
        "Acme_Iris",
        "1.0+cu1",
        pipelines={"Big.Iris": "Acme_Iris.pipeline:Big", "iris": "Acme_Iris.pipeline:Iris.Inner"},
        requires=["numpy>=1.26", "scipy ; python_version > '3'"],
        wheelway_toml="[options]\nnum_replicas = 2\n",
    )
    revision = revision_of(wheel)
    found = look(wheel, revision)
    assert (found.project, found.version) == ("acme-iris", Version("1.0+cu1"))
    assert found.requires == ("numpy>=1.26", "scipy ; python_version > '3'")
    assert [(p.name, p.target, p.options) for p in found.pipelines] == [
        ("big-iris", "Acme_Iris.pipeline:Big", {"num_replicas": 2}),
        ("iris", "Acme_Iris.pipeline:Iris.Inner", {"num_replicas": 2}),
    ]
    with zipfile.ZipFile(wheel) as archive:
        archive.extract("Acme_Iris-1.0+cu1.dist-info/RECORD", tmp_path)
    assert found.record_digest == sha256(tmp_path / "Acme_Iris-1.0+cu1.dist-info/RECORD")
    assert (found.digest, found.size) == (revision.sha256, revision.size)


def test_wishes_at_the_top_of_a_wheel_are_told_where_they_belong_not_that_they_shadow(tmp_path):
    files = {"wheelway.toml": "[settings]\nx = 1\n", "ray.toml": "", "wheelway.libs/x.so": b""}
    (pipeline,) = look(make_wheel(tmp_path, files=files)).pipelines
    assert pipeline.refusal.reason == "WishesInvalid"
    assert "move it to demo/wheelway.toml" in pipeline.refusal.message


def test_the_file_name_that_was_listed_counts_not_the_one_in_the_cache(tmp_path):
    wheel = make_wheel(tmp_path)
    revision = revision_of(wheel)
    assert look(wheel.rename(tmp_path / "other-9-py3-none-any.whl"), revision).project == "demo"


ANY = "py3-none-any"
HUGE = "9" * 5000
"""A number that Python does not convert."""
BOMB = "-".join(".".join(f"{part}{n}" for n in range(100)) for part in ("py", "abi", "os"))
"""A compressed tag set of 1.5 kB that stands for a million tags."""


def renamed(other):
    """An entry that readers of the Unicode path extra field (Python 3.12) call `other`."""
    info, body = entry("demo/plain.py")
    crc, name = zlib.crc32(info.filename.encode()), other.encode()
    info.extra = struct.pack("<HHBI", 0x7075, 5 + len(name), 1, crc) + name
    return info, body


PIPELINES = b"[wheelway.pipelines]\n"

BROKEN = {
    "wrong hash in RECORD": ("RecordInvalid", {"wrong_hash": ["demo/pipeline.py"]}),
    "file that RECORD does not list": ("RecordInvalid", {"unlisted": {"demo/more.py": ""}}),
    "file that only RECORD lists": ("RecordInvalid", {"listed_only": ["demo/gone.py"]}),
    "RECORD missing": ("RecordInvalid", {"without": ["demo-1.0.dist-info/RECORD"]}),
    "RECORD not CSV": ("RecordInvalid", {"record": "demo/__init__.py,sha256\n"}),
    "RECORD not UTF-8": ("RecordInvalid", {"record": b"\xff\xfe,,\n"}),
    "parent in a path": ("PathEscape", {"entries": [entry("demo/../../evil.py")]}),
    "absolute path": ("PathEscape", {"entries": [entry("/etc/evil")]}),
    "backslash in a path": ("PathEscape", {"entries": [entry("demo\\..\\evil.py")]}),
    "drive in a path": ("PathEscape", {"entries": [entry("C:/evil.py")]}),
    "line feed in a path": ("PathEscape", {"entries": [entry("demo/a\nb.py")]}),
    "a second name in an extra field": ("PathEscape", {"entries": [renamed("../../evil.py")]}),
    "symlink": ("SpecialEntry", {"entries": [link("demo/link.py", "/etc/passwd")]}),
    "device": ("SpecialEntry", {"entries": [entry("demo/null", mode=0o020666)]}),
    "folder posing as a file": ("SpecialEntry", {"entries": [entry("demo/x", mode=0o040755)]}),
    "path too long": ("PathTooLong", {"files": {"demo/" + "a/" * 150 + "x.py": ""}}),
    "segment too long": ("PathTooLong", {"files": {"demo/" + "é" * 130 + ".py": ""}}),
    "one name twice": ("DuplicateEntry", {"entries": [entry("demo/pipeline.py", "pass")]}),
    "names apart by case": ("DuplicateEntry", {"files": {"demo/Pipeline.py": ""}}),
    "file and folder of one name": ("DuplicateEntry", {"files": {"demo/__init__.py/x": ""}}),
    "bomb": ("RatioTooHigh", {"files": {"demo/zeros.bin": bytes(4 << 20)}}),
    "endless METADATA": ("TooLarge", {"metadata": {"Summary": "x" * (3 << 20)}, "compression": 0}),
    "LZMA": ("CompressionUnsupported", {"compression": zipfile.ZIP_LZMA}),
    "another name in METADATA": ("MetadataMismatch", {"metadata": {"Name": "other"}}),
    "another version in METADATA": ("MetadataMismatch", {"metadata": {"Version": "2.0"}}),
    "no version in METADATA": ("MetadataMismatch", {"metadata": {"Version": ""}}),
    "another dist-info name": ("MetadataMismatch", {"dist_info": "other-1.0.dist-info"}),
    "another dist-info version": ("MetadataMismatch", {"dist_info": "demo-2.0.dist-info"}),
    "two dist-info folders": ("MetadataMismatch", {"files": {"x-1.dist-info/METADATA": ""}}),
    "renamed file": ("MetadataMismatch", {"filename": "demo-3.0-py3-none-any.whl"}),
    "METADATA missing": ("MetadataInvalid", {"without": ["demo-1.0.dist-info/METADATA"]}),
    "entry_points.txt not UTF-8": (
        "MetadataInvalid",
        {"entry_points": PIPELINES + b"demo = \xff\n"},
    ),
    "more requirements than anybody has": (
        "MetadataInvalid",
        {"requires": [f"lib{n}" for n in range(1001)]},
    ),
    "requirement malformed": ("MetadataInvalid", {"requires": ["numpy >>> 1"]}),
    "a required version of thousands of digits": ("MetadataInvalid", {"requires": [f"x>={HUGE}"]}),
    "a marker of thousands of digits": (
        "MetadataInvalid",
        {"requires": [f"x; python_version >= '{HUGE}'"]},
    ),
    "a marker too deep to read": (
        "MetadataInvalid",
        {"requires": [f"x; {'(' * 400}python_version > '3'{')' * 400}"]},
    ),
    "a requirement without end": ("MetadataInvalid", {"requires": ["x>=" + "1." * 9999 + "1"]}),
    "Requires-Python of thousands of digits": ("MetadataInvalid", {"requires_python": f">={HUGE}"}),
    "Requires-Python malformed": ("MetadataInvalid", {"requires_python": "three"}),
    "Requires-Python too new": ("RequiresPython", {"requires_python": ">=3.99"}),
    "WHEEL missing": ("MetadataInvalid", {"without": ["demo-1.0.dist-info/WHEEL"]}),
    "format of the future": ("WheelVersionUnsupported", {"wheel": {"Wheel-Version": "2.0"}}),
    "tags of another platform": ("TagsIncompatible", {"tag": "cp27-cp27m-win32"}),
    "other tags inside than outside": ("TagsIncompatible", {"wheel": {"Tag": "cp27-cp27m-win32"}}),
    "tags that multiply": ("MetadataInvalid", {"wheel": {"Tag": BOMB}}),
    "tags without end": ("MetadataInvalid", {"wheel": {"Tag": "\nTag: ".join([ANY] * 600)}}),
    "no tag in a Tag line": ("MetadataInvalid", {"wheel": {"Tag": "py3"}}),
    "no entry_points.txt": ("NotAPipelineWheel", {"entry_points": ""}),
    "no entry point in the group": ("NotAPipelineWheel", {"pipelines": {}}),
    "no dist-info folder": ("NotAPipelineWheel", {"dist_info": "demo"}),
    "entry point without attribute": ("EntryPointInvalid", {"pipelines": {"demo": "demo.x"}}),
    "entry point of a keyword": ("EntryPointInvalid", {"pipelines": {"demo": "demo.class:X"}}),
    "entry point with extras": ("EntryPointInvalid", {"pipelines": {"demo": "demo.x:X [gpu]"}}),
    "entry point name not a name": ("EntryPointInvalid", {"pipelines": {"../x": "demo.x:X"}}),
    "more pipelines than anybody means": (
        "TooManyPipelines",
        {"pipelines": {f"p{n}": "demo.pipeline:Demo" for n in range(101)}},
    ),
    "one pipeline twice": ("EntryPointInvalid", {"pipelines": {"A.b": "d.x:X", "a_b": "d.x:Y"}}),
    "a comment that replicas cannot read": (
        "EntryPointInvalid",
        {"entry_points": PIPELINES + b"demo = demo.pipeline:Demo\n; made by hand\n"},
    ),
    "a value that goes on in the next line": (
        "EntryPointInvalid",
        {"entry_points": PIPELINES + b"demo = demo.pipeline\n  :Demo\n"},
    ),
    "backslashes in RECORD": (
        "RecordInvalid",
        {"files": {"demo/more.py": ""}, "edit_record": lambda text: text.replace("o/m", "o\\m")},
    ),
    "entry_points.txt not INI": ("EntryPointInvalid", {"entry_points": b"demo = x\n" + PIPELINES}),
    "wheelway inside": ("ShadowsRuntime", {"files": {"wheelway/__init__.py": ""}}),
    "ray inside": ("ShadowsRuntime", {"files": {"ray.py": ""}}),
    "purelib folder": ("DataFolder", {"files": {"demo-1.0.data/purelib/demo/x.py": ""}}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_wheel_is_rejected_with_its_reason(tmp_path, case):
    reason, knobs = BROKEN[case]
    wheel = make_wheel(tmp_path, **knobs)
    assert reason_of(wheel) == reason


@pytest.mark.parametrize(
    "knobs",
    [
        {"files": {"ray.py": ""}},
        {"files": {"demo/Pipeline.py": ""}},
        {"entries": [link("demo/link.py", "/etc/passwd")]},
        {"without": ["demo-1.0.dist-info/RECORD"]},
        {"requires_python": ">=3.99"},
        {"wheel": {"Tag": "cp27-cp27m-win32"}},
        {"files": {"demo-1.0.data/purelib/demo/x.py": ""}},
        {"entry_points": b"[console_scripts]\ndemo = \xff\n"},
    ],
)
def test_a_library_is_no_pipelines_wheel_whatever_else_would_be_wrong_with_it(tmp_path, knobs):
    wheel = make_wheel(tmp_path, **{"entry_points": "", **knobs})
    assert refusal_of(wheel) == ("NotAPipelineWheel", False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("demo-1.0-py3-none-any (1).whl", "FilenameInvalid"),
        (f"demo-1.0-{'0' * 230}-py3-none-any.whl", "FilenameInvalid"),
        ("demo-1.0-cp27-cp27m-win32.whl", "TagsIncompatible"),
        ("demo-3.0-py3-none-any.whl", "MetadataMismatch"),
        ("other-1.0-py3-none-any.whl", "MetadataMismatch"),
    ],
)
def test_what_a_name_is_wrong_about_says_nothing_against_the_bytes(tmp_path, name, reason):
    wheel = make_wheel(tmp_path)
    good = revision_of(wheel)
    named = name.split("-")
    revision = replace(good, filename=name, project=named[0], version=Version(named[1]))
    assert refusal_of(wheel, revision=revision) == (reason, True)
    assert look(wheel, good).project == "demo"


@pytest.mark.parametrize("without_bounds", ["0.7.0", "1.0.1"])
def test_no_installer_that_reads_files_whole_or_skips_some_is_allowed(without_bounds):
    [allowed] = {
        wanted.specifier
        for wanted in map(Requirement, requires("wheelway"))
        if wanted.name == "installer"
    }
    assert not allowed.contains(without_bounds)
    assert allowed.contains(version("installer"))


def test_no_more_lines_of_a_record_are_read_than_there_are_files(tmp_path):
    wheel = make_wheel(tmp_path, edit_record=lambda text: text + "nowhere.py,,\n" * 20_000)
    with pytest.raises(Rejected) as caught:
        look(wheel)
    assert caught.value.reason == "RecordInvalid"
    assert "'nowhere.py' is listed and not in the wheel;" in caught.value.message


def test_only_the_signatures_in_the_dist_info_folder_go_unlisted(tmp_path):
    beside = make_wheel(tmp_path, unlisted={"demo-1.0.dist-information/RECORD.jws": ""})
    assert reason_of(beside) == "RecordInvalid"


def test_a_wheel_has_one_version_whatever_its_file_is_called(tmp_path):
    wheel = make_wheel(tmp_path)
    revision = revision_of(wheel.rename(tmp_path / "demo-1.0.0-py3-none-any.whl"))
    assert str(revision.version) == "1.0.0"
    assert str(look(tmp_path / revision.filename, revision).version) == "1.0"


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("max_files", 3, "TooManyFiles"),
        ("max_unpacked_size", 100, "TooLarge"),
        ("max_path_length", 20, "PathTooLong"),
        ("max_pipelines", 1, "TooManyPipelines"),
    ],
)
def test_each_limit_is_the_operators(tmp_path, limit, value, reason):
    wheel = make_wheel(tmp_path, pipelines={"a": "demo.pipeline:A", "b": "demo.pipeline:B"})
    assert look(wheel).project == "demo"
    assert reason_of(wheel, limits=InspectionLimits(**{limit: value})) == reason


def test_a_huge_directory_is_refused_before_it_is_read(tmp_path):
    wheel = make_wheel(tmp_path, files={f"demo/{n}.txt": "" for n in range(300)})
    assert reason_of(wheel, limits=InspectionLimits(max_files=1, max_path_length=1)) == (
        "TooManyFiles"
    )


def test_what_is_no_zip_is_told_apart_from_one_that_was_cut_off(tmp_path):
    wheel = make_wheel(tmp_path)
    revision, body = revision_of(wheel), wheel.read_bytes()
    wheel.write_bytes(body[: len(body) // 2])
    assert reason_of(wheel, revision=revision) == "Truncated"
    wheel.write_bytes(b"<html>not found</html>")
    assert reason_of(wheel, revision=revision) == "NotAZip"
    wheel.write_bytes(b"")
    assert reason_of(wheel, revision=revision) == "NotAZip"


def test_an_encrypted_entry_is_rejected(tmp_path):
    wheel = make_wheel(tmp_path)
    body = bytearray(wheel.read_bytes())
    at = body.index(b"PK\x01\x02")
    body[at + 8] |= 1
    wheel.write_bytes(body)
    assert reason_of(wheel) == "EncryptedEntry"


def test_an_entry_that_holds_more_than_it_declares_is_never_read_beyond_that(tmp_path):
    """The bomb that lies: four mebibytes of zeros behind a declared size of ten bytes."""
    wheel = make_wheel(tmp_path, files={"demo/zeros.bin": bytes(4 << 20)})
    body = bytearray(wheel.read_bytes())
    at = body.rindex(b"demo/zeros.bin") - 46  # its header in the central directory
    while body[at : at + 4] != b"PK\x01\x02":
        at = body.rindex(b"demo/zeros.bin", 0, at + 46) - 46
    body[at + 24 : at + 28] = struct.pack("<I", 10)
    wheel.write_bytes(body)
    assert reason_of(wheel) == "RecordInvalid"


def test_metadata_that_is_not_utf_8_is_rejected(tmp_path):
    path = "demo-1.0.dist-info/METADATA"
    wheel = make_wheel(tmp_path, without=[path], entries=[entry(path, b"Name: d\xe9mo\n")])
    assert reason_of(wheel) == "MetadataInvalid"


def test_the_message_names_the_tags_on_both_sides(tmp_path):
    wheel = make_wheel(tmp_path, tag="cp39-cp39-win_amd64")
    with pytest.raises(Rejected) as caught:
        look(wheel, tags=[Tag("cp311", "cp311", "linux_x86_64"), Tag("py3", "none", "any")])
    assert "cp39-cp39-win_amd64" in caught.value.message
    assert "cp311-cp311-linux_x86_64, py3-none-any" in caught.value.message


def test_files_beside_the_packages_do_no_harm(tmp_path):
    wheel = make_wheel(tmp_path, files={"demo/data.bin": b"\x00", "demo/deep.pth": "x"})
    assert look(wheel).notes == ()


@pytest.mark.parametrize(
    "path", ["demo-1.0.data/scripts/run", "demo-1.0.data/data/etc/demo.toml", "demo-nspkg.pth"]
)
def test_what_only_an_installer_gives_effect_to_is_told(tmp_path, path):
    [note] = look(make_wheel(tmp_path, files={path: "x"})).notes
    assert note.startswith(f"{path}: only an installer")


def test_a_fault_in_another_group_of_entry_points_is_told_under_its_own_name(tmp_path):
    text = PIPELINES.decode() + "demo = demo.pipeline:Demo\n[console_scripts]\n"
    wheel = make_wheel(tmp_path, entry_points=f"{text}go = demo.x:main\ngo = demo.y:main\n")
    assert look(wheel).notes == ("entry_points.txt, group `console_scripts`: 'go' is there twice",)
    wheel = make_wheel(tmp_path, entry_points=f"{text}# fine\ngo = demo.x:main\nrun = a b\n")
    [note] = look(wheel).notes
    assert note.startswith("entry_points.txt, group `console_scripts`: 'run' = 'a b' names no obj")
    wheel = make_wheel(tmp_path, entry_points=f"{text}; by hand\n")
    with pytest.raises(Rejected, match=r"line 4, '; by hand', is no .*comment begins with `#`"):
        look(wheel)
