"""A throwaway machine with a real systemd, for the tests marked `system`.

Namespaces of its own (processes, mounts, network, cgroups, host name) over a copy-on-write view of
this machine's files: whatever happens inside is gone afterwards, and nothing inside can reach what
runs outside. The network is a loopback, so Ray has its usual ports there. Needs root, util-linux
and Debian's systemd; `python tests/support/systemd.py` says whether that is so here, by trying all
but the last step, and exits with 0 or 1. Only the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INIT = Path("/usr/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "mount", "umount", "pivot_root", "setpriv", "journalctl")
MASKED = (
    *("systemd-udevd", "systemd-sysctl", "systemd-modules-load", "systemd-binfmt"),
    *("systemd-remount-fs", "systemd-logind", "systemd-networkd", "systemd-resolved"),
    *("systemd-timesyncd", "systemd-random-seed", "systemd-pstore", "systemd-tmpfiles-clean"),
    *("systemd-tmpfiles-setup-dev", "console-getty", "getty@tty1"),
)
"""What would look after a kernel, a clock or consoles: those are not this machine's."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
BOOT_DEADLINE = 60.0
CLONE_NEWNET = 0x40000000  # linux/sched.h
LISTENING = "0A"  # TCP_LISTEN, include/net/tcp_states.h


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to a request inside; status 0 for nothing."""

    status: int
    headers: dict[str, str]
    body: str


class Machine:
    """One machine, from `boot` to `halt`. A context manager that halts it."""

    def __init__(self, *, shared: Sequence[Path] = ()) -> None:
        """`shared` folders are seen inside as they are outside, and written through."""
        self.shared = shared
        self._folder = Path(tempfile.mkdtemp(prefix="machine-", dir="/var/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        # Of its threads one goes into the machine's network, and stays there.
        self._visitor = ThreadPoolExecutor(1, initializer=self._enter_network)

    def boot(self) -> None:
        """Start it and wait until systemd has reached its target."""
        log = (self._folder / "log").open("wb")
        with log:
            self._process = subprocess.Popen(
                [
                    # However this process ends, the machine ends with it.
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork"),
                    *("--kill-child", "--propagation", "private"),
                    *(sys.executable, "-I", __file__, "boot", self._folder, *self.shared),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._until(lambda: self._find_init() and self._state() in {"running", "degraded"})

    def run(
        self, *command: str | Path, check: bool = True, network: bool = False, user: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; with `network`, in the network outside."""
        spaces = ["-m", "-p", "-u", "-i", *([] if network else ["-n"])]
        who = ["runuser", "-u", user, "--"] if user else []
        kept = ("PATH", "LANG", "HOME", "UV_", "PIP_", "SSL_", "HTTP", "http", "no_proxy")
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), *spaces, "--root", "--wd", *who, *map(str, command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
            check=False,
            env={name: value for name, value in os.environ.items() if name.startswith(kept)},
        )
        if check and done.returncode != 0:
            said = f"{done.stdout}{done.stderr}"
            raise AssertionError(f"{command} ended with {done.returncode}:\n{said}")
        return done

    def ask(self, url: str, body: str | None = None, timeout: float = 20) -> Answer:
        """GET a URL inside, or POST a JSON text to it."""
        return self._visitor.submit(_ask, url, body, timeout).result()

    def listening(self) -> set[tuple[str, int]]:
        """Where something inside listens: `local` or `all` addresses, and the port."""
        found = set()
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self._pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                address, port = fields[1].split(":")
                if fields[3] == LISTENING:
                    scope = "all" if set(address) == {"0"} else "local"
                    found.add((scope, int(port, 16)))
        return found

    def path(self, inside: str | Path) -> Path:
        """A path of the machine as this process sees it."""
        return Path(f"/proc/{self._pid}/root") / str(inside).lstrip("/")

    def put(self, file: Path, inside: str) -> None:
        """Copy a file in under a hidden name, and rename it."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.part")
        shutil.copyfile(file, aside)
        aside.replace(target)

    def write(self, inside: str, text: str) -> None:
        """Write a file, at once and whole."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.part")
        aside.write_text(text)
        aside.chmod(0o644)
        aside.replace(target)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").stdout.strip()

    def journal(self, unit: str, *options: str) -> str:
        """What a unit logged, without dates."""
        return self.run("journalctl", "-u", unit, "-o", "cat", "--no-pager", *options).stdout

    def processes(self, unit: str) -> set[int]:
        """The processes in a unit's cgroup, by their ids inside."""
        group = self.show(unit, "ControlGroup")
        if not group:
            return set()
        found: set[int] = set()
        for procs in self.path(f"/sys/fs/cgroup{group}").rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                # Read inside: the ids are those of the reader's name space.
                found |= {int(pid) for pid in self.run("cat", _inside(procs)).stdout.split()}
        return found

    def halt(self) -> None:
        """End every process of it, and free what it used."""
        if not self._folder.exists():
            return
        self._visitor.shutdown()
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None
        done = subprocess.run(
            ["unshare", "--mount", sys.executable, "-I", __file__, "sweep", self._folder],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        shutil.rmtree(self._folder, ignore_errors=True)
        assert done.returncode == 0, done.stderr

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.halt()

    def _enter_network(self) -> None:
        with Path(f"/proc/{self._pid}/ns/net").open("rb") as space:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(space.fileno(), CLONE_NEWNET) != 0:  # of this thread alone: setns(2)
                raise OSError(ctypes.get_errno(), "setns")

    def _find_init(self) -> bool:
        """Whether the first process inside is systemd by now."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError):
            self._pid = int((children.read_text().split() or ["0"])[0])
            return Path(f"/proc/{self._pid}/exe").readlink().name == "systemd"
        return False

    def _state(self) -> str:
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()

    def _until(self, look: Callable[[], object]) -> None:
        end = time.monotonic() + BOOT_DEADLINE
        while not look():
            assert self._process is not None
            ended = self._process.poll() is not None
            if ended or time.monotonic() > end:
                said = (self._folder / "log").read_text(errors="replace")[-3000:]
                self.halt()
                raise AssertionError(f"the machine did not boot:\n{said}")
            time.sleep(0.05)


def _ask(url: str, body: str | None, timeout: float) -> Answer:
    data = None if body is None else body.encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as got:
            return Answer(got.status, dict(got.headers), got.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read().decode(errors="replace"))
    except OSError as error:
        return Answer(0, {}, str(error))


def obstacle() -> str:
    """Why there can be no machine here; empty when there can."""
    if os.geteuid() != 0:
        return "it needs root"
    if not INIT.exists():
        return f"it needs a systemd at {INIT}"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"it needs {', '.join(missing)}"
    folder = Path(tempfile.mkdtemp(prefix="machine-", dir="/var/tmp"))
    try:
        done = subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork"),
                *("--propagation", "private", sys.executable, "-I", __file__, "try", folder),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        sweep = ["unshare", "--mount", sys.executable, "-I", __file__, "sweep", folder]
        subprocess.run(sweep, stdin=subprocess.DEVNULL, timeout=60, check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    said = (done.stderr.strip().splitlines() or ["unshare failed"])[-1]
    return "" if done.returncode == 0 else f"the kernel does not permit it: {said}"


def _inside(path: Path) -> str:
    return "/" + str(path).split("/root/", 1)[1]


# -- inside the name spaces, before systemd ------------------------------------------------------


def prepare(folder: Path, shared: Sequence[Path]) -> Path:
    """Mount the machine's root; returns it."""
    top = folder / "top"
    top.mkdir()
    _mount("tmpfs", "tmpfs", top, "mode=755")
    for name in ("upper", "work", "root", "groups"):
        (top / name).mkdir()
    _join_group(top / "groups", folder.name)
    root = top / "root"
    layers = f"lowerdir=/,upperdir={top}/upper,workdir={top}/work"
    _mount("overlay", "overlay", root, layers)
    _make_devices(root / "dev")
    _mount("proc", "proc", root / "proc")
    _mount("sysfs", "sysfs", root / "sys")
    _mount("tmpfs", "tmpfs", root / "run", "mode=755")
    _mount("tmpfs", "tmpfs", root / "tmp", "mode=1777")
    for path in shared:
        inside = root / path.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", path, inside)
    units = root / "run/systemd/system"
    units.mkdir(parents=True)
    for name in MASKED:
        (units / f"{name}.service").symlink_to("/dev/null")
    # Whatever this machine starts by itself is not wanted there.
    for name in ("multi-user.target.wants", "sockets.target.wants", "timers.target.wants"):
        shutil.rmtree(root / "etc/systemd/system" / name, ignore_errors=True)
    (root / "etc/machine-id").write_text("")  # made anew
    (root / "etc/hostname").write_text("machine\n")
    return root


def _join_group(groups: Path, name: str) -> None:
    """A cgroup of the machine's own, which is the root of what is seen inside."""
    _mount("cgroup2", "cgroup2", groups)
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    here = next(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    own = groups / here.lstrip("/") / name
    own.mkdir()
    (own / "cgroup.procs").write_text("0")


def _make_devices(dev: Path) -> None:
    _mount("tmpfs", "tmpfs", dev, "mode=755")
    for name in DEVICES:
        real = Path("/dev", name).stat()
        os.mknod(dev / name, stat.S_IFCHR | 0o666, real.st_rdev)
        (dev / name).chmod(0o666)
    for name in ("shm", "pts", "mqueue"):
        (dev / name).mkdir()
    _mount("tmpfs", "tmpfs", dev / "shm", "mode=1777")
    _mount("devpts", "devpts", dev / "pts", "newinstance,ptmxmode=0666,mode=620")
    (dev / "ptmx").symlink_to("pts/ptmx")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (dev / name).symlink_to(f"/proc/self/fd{target}")


def _mount(kind: str, source: str, target: Path, options: str = "") -> None:
    _run("mount", "-t", kind, *(["-o", options] if options else []), source, target)


def _run(*command: str | Path) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def boot(folder: Path, shared: Sequence[Path]) -> None:
    """Become the systemd of a machine."""
    root = prepare(folder, shared)
    start = (
        "mount -t cgroup2 cgroup2 sys/fs/cgroup && mkdir -p run/outside && "
        "pivot_root . run/outside && umount -l /run/outside && rmdir /run/outside && "
        f"exec env -i container=machine PATH=/usr/sbin:/usr/bin:/sbin:/bin {INIT} --system "
        "--unit=multi-user.target --log-target=journal --show-status=no"
    )
    os.chdir(root)
    os.execvp("unshare", ["unshare", "--cgroup", "sh", "-c", start])


def sweep(folder: Path) -> None:
    """Remove the cgroups that an ended machine left."""
    groups = folder / "swept"
    groups.mkdir()
    _mount("cgroup2", "cgroup2", groups)
    found = [path for path in groups.rglob(folder.name) if path.is_dir()]
    for own in found:
        below = sorted((p for p in own.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts))
        for path in [*below, own]:
            _remove(path)
    _run("umount", "-l", groups)


def _remove(group: Path) -> None:
    """A cgroup whose last process is about to be gone."""
    end = time.monotonic() + 20
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def main(arguments: Sequence[str]) -> int:
    """The steps that happen in name spaces of their own, and the question whether they can."""
    match arguments:
        case []:
            why = obstacle()
            sys.stdout.write(f"{why or 'there can be a machine with a systemd here'}\n")
            return 1 if why else 0
        case ["try", folder]:
            prepare(Path(folder), [])
            _run("unshare", "--cgroup", "true")
        case ["boot", folder, *shared]:
            boot(Path(folder), [Path(path) for path in shared])
        case ["sweep", folder]:
            sweep(Path(folder))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for who halts it
    sys.exit(main(sys.argv[1:]))
