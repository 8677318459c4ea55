"""A throwaway machine with a real systemd, for the tests marked `system`.

Namespaces of its own (processes, mounts, network, cgroups, host name) over a copy-on-write view of
this machine's files, but for those of a wheelway on it: whatever happens inside is gone afterwards,
and nothing inside can reach what runs outside. The network is a loopback with one more address, so
Ray has its usual ports there. Needs root, util-linux, iproute2, Debian's systemd and a Python that
services can see; `python tests/support/systemd.py` says whether that is so here, by trying all but
the last step, and exits with 0 or 1. Only the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import shutil
import struct
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
WITHIN = Path(__file__).with_name("within.py")
"""What runs in the name spaces until systemd does."""
TOOLS = ("unshare", "nsenter", "mount", "umount", "pivot_root", "setpriv", "journalctl", "ip")
SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
"""Those that a service can see; one that a user installed for himself it cannot."""
OUTSIDE = "192.0.2.1"
"""An address of the machine that is not loopback (RFC 5737)."""
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
                    *(sys.executable, "-I", WITHIN, "boot", self._folder, *self.shared),
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
        """Where something inside listens: at a `local` address (127/8, ::1) or at one that others
        may reach (`all`), and the port.
        """
        found = set()
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self._pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                address, port = fields[1].split(":")
                if fields[3] == LISTENING:
                    scope = "local" if _address(address).is_loopback else "all"
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
            self._process.wait(60)
            self._process = None
        done = subprocess.run(
            ["unshare", "--mount", sys.executable, "-I", WITHIN, "sweep", self._folder],
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


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as /proc/net/tcp has it: words of 32 bits in the machine's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    found = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


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
    if system_python() is None:
        return "it needs a Python of the system, 3.11 or later, with which services can be run"
    folder = Path(tempfile.mkdtemp(prefix="machine-", dir="/var/tmp"))
    try:
        done = subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork"),
                *("--propagation", "private", sys.executable, "-I", WITHIN, "try", folder),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        sweep = ["unshare", "--mount", sys.executable, "-I", WITHIN, "sweep", folder]
        subprocess.run(sweep, stdin=subprocess.DEVNULL, timeout=60, check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    said = (done.stderr.strip().splitlines() or ["unshare failed"])[-1]
    return "" if done.returncode == 0 else f"the kernel does not permit it: {said}"


def system_python() -> str | None:
    """A Python that services can see, new enough for wheelway."""
    return next(filter(_new_enough, SYSTEM_PYTHONS), None)


def _new_enough(python: str) -> bool:
    asked = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        done = subprocess.run([python, "-c", asked], stdin=subprocess.DEVNULL, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _inside(path: Path) -> str:
    return "/" + str(path).split("/root/", 1)[1]


if __name__ == "__main__":
    why = obstacle()
    sys.stdout.write(f"{why or 'there can be a machine with a systemd here'}\n")
    sys.exit(1 if why else 0)
