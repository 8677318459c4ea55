"""One overlay: a virtual environment of the base's interpreter with packages on top of the base.

It sees its own packages first and the base's after them. Its interpreter is a link to the base's
real one, so whoever runs it needs no more than to read this folder and the base.

Raise `LAYOUT` in `resolution` when an overlay is laid out otherwise.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from controller.cache import files
from controller.cache.environments.base import HOSTS, clean_environ
from controller.errors import Rejected, Transient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from packaging.utils import NormalizedName

    from controller.cache.environments.base import Base
    from controller.cache.environments.resolution import Lock
    from controller.cache.environments.uv import Uv

MARKER = "wheelway.lock"
"""Written last into an overlay: the lock it was built from, for people too."""

# Started without `site`, so that no .pth file or sitecustomize of a wheel is run; sys.path gets the
# same order by hand.
_CHECK = """
import importlib.metadata, importlib.util, json, site, sys
own, base, names = json.loads(sys.argv[1])
sys.path += own
for folder in base:
    site.addsitedir(folder)
installed = {}
for name in names:
    try:
        installed[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        installed[name] = None
specs = [(name, importlib.util.find_spec(name)) for name in ("ray", "wheelway")]
origins = {name: str(spec.origin) for name, spec in specs if spec}
print("\\n" + json.dumps({"installed": installed, "origins": origins}))
"""

# Its own interpreter, as `uv pip install --compile-bytecode` would start `site`. Tests are hardly
# ever imported. What is not on the disk when the power goes may be cut, and Python fails with byte
# code that is cut instead of compiling again; many at once share the file system's journal.
_COMPILE = """
import compileall, concurrent.futures, os, pathlib, re, sys
def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
for own in sys.argv[1:]:
    compileall.compile_dir(own, quiet=2, rx=re.compile("/tests?/"), workers=1)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(sync, pathlib.Path(own).rglob("__pycache__/*.pyc")))
"""


def python(folder: Path) -> Path:
    """Its interpreter."""
    return folder / "bin" / "python"


def build(
    folder: Path, lock: Lock, base: Base, uv: Uv, until: float, *, past_cache: bool = False
) -> None:
    """Make the overlay in a folder that does not exist yet.

    Args:
        folder: where; its siblings are used for files of its own.
        lock: what to install.
        base: what it goes on top of.
        uv: does it.
        until: when it must be done, by uv's clock.
        past_cache: fetch anew and leave uv's cache alone.

    Raises:
        NoSolution: something locked is not to be had.
        WheelwayError: what `Uv.run` raises.
    """
    uv.run(
        *("venv", "--quiet", "--no-project", "--relocatable", "--python", base.python, folder),
        until=until,
    )
    for site_packages in _site_packages(folder):
        _see_base(site_packages, base)
    requirements = folder.with_name("requirements.txt")
    requirements.write_text(lock.text, encoding="utf-8")
    uv.run(
        *("pip", "install", "--python", python(folder), "--no-deps", "--require-hashes"),
        *(("--no-cache",) if past_cache else ("--link-mode", "hardlink")),
        *("-r", requirements),
        *uv.candidates(),
        until=until,
    )


def check(folder: Path, lock: Lock, base: Base, uv: Uv, until: float, *, what: str) -> None:
    """Run its interpreter once: it must see its own versions, and the base's Ray and wheelway.

    Nothing is imported: nothing of a wheel runs outside a replica, importing Ray takes longer than
    all the rest, and a replica that cannot import tells so when it is staged. `what` is the
    artifact, for messages.

    Raises:
        Rejected: `EnvironmentUnusable`.
        Transient: `EnvironmentTimeout`, `EnvironmentInterrupted`.
    """
    hosts = [base.distributions[name] for name in HOSTS if name in base.distributions]
    expected = {host.name: host.version for host in hosts} | dict(lock.versions)
    own = [str(path) for path in _site_packages(folder)]
    where = [own, [str(path) for path in base.site_packages], list(expected)]
    try:
        done = subprocess.run(
            [python(folder), "-I", "-S", "-c", _CHECK, json.dumps(where)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=clean_environ(uv.environ),
            stdin=subprocess.DEVNULL,
            timeout=max(until - uv.clock(), 0.0),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise uv.too_slow() from error
    if done.returncode < 0:
        raise Transient(
            "EnvironmentInterrupted",
            f"the new environment of {what} was ended by signal {-done.returncode} when it was "
            "first run; it is tried again",
        )
    if problem := _problem(done, expected, base.importable, folder):
        raise Rejected(
            "EnvironmentUnusable",
            f"with what {what} requires installed, {problem}; see which of "
            f"{', '.join(lock.versions)} does that and require another version",
            log_tail=done.stderr[-4000:],
        )


def compile_sources(folder: Path, uv: Uv, until: float) -> None:
    """Compile the modules, or each replica that starts would do it anew, for it may not write here.
    What cannot be compiled fails where it is imported.

    Raises:
        Transient: `EnvironmentTimeout`, `UvInterrupted`.
    """
    with subprocess.Popen(
        [python(folder), "-I", "-S", "-c", _COMPILE, *_site_packages(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env=clean_environ(uv.environ),
        umask=0o022,  # Ray's user must be able to read it
    ) as process:
        try:
            uv.outcome(process, until)
        except BaseException:
            process.kill()
            raise


def complete(folder: Path, lock: Lock) -> None:
    """Mark it as complete, durably."""
    files.write(folder / MARKER, lock.text)
    for inside in (*_site_packages(folder), python(folder).parent, folder):
        files.sync_folder(inside)


def is_usable(folder: Path) -> bool:
    """Whether it was completed and its interpreter is still there."""
    return (folder / MARKER).is_file() and os.access(python(folder), os.X_OK)


def is_intact(folder: Path) -> bool:
    """Whether no file is shorter than RECORD lists it: a power cut leaves files empty or cut."""
    records = [(own, r) for own in _site_packages(folder) for r in own.glob("*.dist-info/RECORD")]
    return bool(records) and all(_has_its_files(own, record) for own, record in records)


def _site_packages(folder: Path) -> list[Path]:
    return list(folder.glob("lib/python*/site-packages"))


def _see_base(site_packages: Path, base: Base) -> None:
    """Let an environment see the base's packages after its own.

    `addsitedir` and not bare paths: .pth files of the base (editable installs) count as well. The
    file's name sorts last, so that nothing of the environment's own comes after the base.
    https://docs.python.org/3/library/site.html
    """
    calls = "".join(f"; site.addsitedir({str(path)!a})" for path in base.site_packages)
    pth = site_packages / "zz-wheelway-base.pth"
    pth.write_text(f"import site{calls}\n", encoding="ascii")


def _has_its_files(site_packages: Path, record: Path) -> bool:
    try:
        with record.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        return bool(rows) and all(
            _size(os.path.join(site_packages, row[0])) >= int(row[2])  # noqa: PTH118 - 4 x as fast
            for row in rows
            if len(row) == 3 and row[2].isdigit()
        )
    # No UTF-8, a NUL in a path, `²` or thousands of digits for a size: nobody has written that.
    except (OSError, ValueError, csv.Error):
        return False


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - thousands of files, and Path is slow
    except OSError:
        return -1


def _problem(
    done: subprocess.CompletedProcess[str],
    expected: Mapping[NormalizedName, Version],
    importable: AbstractSet[str],
    folder: Path,
) -> str:
    """What is wrong with an environment, by its first run; empty when nothing is."""
    if done.returncode != 0:
        return f"Python ended with {done.returncode}"
    try:
        answer = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        return "Python did not say what it has"
    for name in sorted(importable):
        origin = answer["origins"].get(name)
        if origin is None:
            return f"{name} can no longer be imported"
        if folder in Path(origin).parents:
            return f"another {name} would be imported, one that a requirement brings"
    for name, version in expected.items():
        seen = answer["installed"][name]
        if seen is None or Version(seen) != version:
            return f"{name} is seen as {seen} instead of {version}"
    return ""
