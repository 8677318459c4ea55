"""What a throwaway machine does in its name spaces until its systemd runs, see systemd.py.

A program of its own, without anything but the standard library: `try FOLDER` goes all but the last
step, `boot FOLDER SHARED...` becomes the systemd, `sweep FOLDER` tidies up after one.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

INIT = "/usr/lib/systemd/systemd"
OUTSIDE = "192.0.2.1"
"""As in systemd.py, which cannot be imported from here."""
MASKED = (
    *("systemd-udevd", "systemd-sysctl", "systemd-modules-load", "systemd-binfmt"),
    *("systemd-remount-fs", "systemd-logind", "systemd-networkd", "systemd-resolved"),
    *("systemd-timesyncd", "systemd-random-seed", "systemd-pstore", "systemd-tmpfiles-clean"),
    *("systemd-tmpfiles-setup-dev", "console-getty", "getty@tty1"),
)
"""What would look after a kernel, a clock or consoles: those are not this machine's."""
HIDDEN = (
    *("etc", "etc/credstore", "etc/systemd/system", "etc/sysusers.d", "etc/tmpfiles.d", "opt"),
    *("var/cache", "var/lib", "var/log"),
)
"""Where the machine has nothing of a wheelway that runs outside: it is installed there anew."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def prepare(folder: Path, shared: Sequence[Path]) -> Path:
    """Mount the machine's root; returns it."""
    top = folder / "top"
    top.mkdir()
    _mount("tmpfs", "tmpfs", top, "mode=755")
    for name in ("upper", "work", "root", "groups"):
        (top / name).mkdir()
    _join_group(top / "groups", folder.name)
    root = top / "root"
    for place in HIDDEN:
        for found in Path("/", place).glob("wheelway*"):
            _hide(found, top / "upper")
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


def _hide(path: Path, upper: Path) -> None:
    """Have what is outside be nowhere inside: docs.kernel.org/filesystems/overlayfs, whiteouts."""
    for parent in reversed(path.parents[:-1]):
        inside = upper / parent.relative_to("/")
        if not inside.exists():
            inside.mkdir()
            shutil.copystat(parent, inside)
            os.chown(inside, parent.stat().st_uid, parent.stat().st_gid)
    os.mknod(upper / path.relative_to("/"), stat.S_IFCHR, os.makedev(0, 0))


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


def _add_interface() -> None:
    """Have an address that is not loopback, where the kernel has dummy interfaces."""
    made = subprocess.run(
        ["ip", "link", "add", "outside", "type", "dummy"], stdin=subprocess.DEVNULL, check=False
    )
    device = "outside" if made.returncode == 0 else "lo"  # any address of either is the machine's
    _run("ip", "address", "add", f"{OUTSIDE}/32", "dev", device)
    _run("ip", "link", "set", device, "up")


def boot(folder: Path, shared: Sequence[Path]) -> None:
    """Become the systemd of a machine."""
    root = prepare(folder, shared)
    _add_interface()
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


def main(arguments: Sequence[str]) -> None:
    """One of the steps."""
    match arguments:
        case ["try", folder]:
            prepare(Path(folder), [])
            _add_interface()
            _run("unshare", "--cgroup", "true")
        case ["boot", folder, *shared]:
            boot(Path(folder), [Path(path) for path in shared])
        case ["sweep", folder]:
            sweep(Path(folder))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for who halts it
    main(sys.argv[1:])
