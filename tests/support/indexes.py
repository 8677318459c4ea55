"""Real package indexes, each a process of its own on a free port: pypiserver and devpi-server.

Both start empty, take uploads from `twine` as anybody's would, and end by their own handle.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.support.head import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USER, PASSWORD = "alice", "a secret word"
_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class RealIndex:
    """A running index."""

    url: str
    """The simple root."""
    upload_url: str

    def upload(self, *wheels: Path) -> None:
        """`twine upload`, as a publisher does it."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "twine", "upload", "--non-interactive"),
                *("--disable-progress-bar", "--repository-url", self.upload_url, *map(str, wheels)),
            ],
            env={
                **os.environ,
                "TWINE_USERNAME": USER,
                "TWINE_PASSWORD": PASSWORD,
                "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def pypiserver(folder: Path, *options: str) -> Iterator[RealIndex]:
    """pypiserver over `folder/packages`; without options anybody may do anything."""
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    port = free_port()
    access = () if "-a" in options else ("-P", ".", "-a", ".")
    command = [
        *(str(_BIN / "pypi-server"), "run", "-i", "127.0.0.1", "-p", str(port)),
        *("--disable-fallback", "--health-endpoint", "/up"),
        *(*access, *options, str(packages)),
    ]
    with _running(command, folder / "pypiserver.log", f"http://127.0.0.1:{port}/up"):
        yield RealIndex(f"http://127.0.0.1:{port}/simple", f"http://127.0.0.1:{port}/")


@contextmanager
def devpi(folder: Path) -> Iterator[RealIndex]:
    """devpi-server with one index of one user, without a mirror of anything."""
    server, port = folder / "devpi", free_port()
    init = [_BIN / "devpi-init", "--serverdir", server, "--no-root-pypi", "--root-passwd", PASSWORD]
    log = (folder / "devpi-init.log").open("wb")
    with log:
        subprocess.run(init, stdout=log, stderr=log, timeout=120, check=True)
    origin = f"http://127.0.0.1:{port}"
    command = [
        *(str(_BIN / "devpi-server"), "--serverdir", str(server)),
        *("--host", "127.0.0.1", "--port", str(port), "--threads", "4"),
        # Its secret needs no stretching here, which takes seconds.
        *("--argon2-memory-cost", "64", "--argon2-parallelism", "1", "--argon2-time-cost", "1"),
    ]
    with _running(command, folder / "devpi.log", f"{origin}/+api"):
        with httpx.Client(base_url=origin, timeout=60) as client:
            made = client.put(f"/{USER}", json={"password": PASSWORD})
            assert made.is_success, made.text
            login = client.post("/+login", json={"user": USER, "password": PASSWORD}).json()
            proof = base64.b64encode(f"{USER}:{login['result']['password']}".encode()).decode()
            made = client.put(
                f"/{USER}/dev",
                json={"type": "stage", "bases": [], "volatile": True},
                headers={"X-Devpi-Auth": proof},
            )
            assert made.is_success, made.text
        yield RealIndex(f"{origin}/{USER}/dev/+simple", f"{origin}/{USER}/dev/")


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: Sequence[str], log: Path, sign: str) -> Iterator[None]:
    """A server that answers at `sign`, and is gone afterwards."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        ) as process,
    ):
        try:

            def up() -> bool:
                assert process.poll() is None, log.read_text()
                try:
                    return httpx.get(sign, timeout=5).is_success
                except httpx.TransportError:
                    return False

            eventually(up, 120)
            yield
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
