"""The whole product against a stand-in of AWS CodeArtifact: `twine upload` a wheel, see its route.

    make demo-codeartifact

Starts the stand-in (tests/support/codeartifact), a Ray head unless one runs, and the daemon with
that one source; then publishes as a user would. Nothing leaves this machine and nothing stays on
it: one Ctrl-C ends all, and its files go as well.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING

from controller.cli.progress import Progress
from controller.config.telemetry import LogOptions
from controller.daemon.all_in_one import serve
from controller.errors import WheelwayError
from controller.logs import begin
from tests.support.codeartifact import StandIn
from tests.support.publishing import twine_upload

if TYPE_CHECKING:
    from controller.reconcile.report import Report

CPUS = 16
"""Logical ones, so that nothing that is published here waits for a place."""


class Demo:
    """Shows every pass, and publishes after the first.

    Args:
        standin: to publish to.
        wheel: what.
        progress: says what happens.
    """

    def __init__(self, standin: StandIn, wheel: Path, progress: Progress) -> None:
        self._standin = standin
        self._wheel = wheel
        self._progress = progress
        self.publication = Thread(target=self._publish, name="twine")

    def __call__(self, report: Report) -> None:
        self._progress(report)
        if self.publication.ident is None:
            self.publication.start()

    def _publish(self) -> None:
        self._progress.say(f"twine upload {self._wheel.name}")
        done = twine_upload(self._standin, self._wheel)
        if done.returncode:
            self._progress.say(f"twine failed: {done.stdout}{done.stderr}")


def configuration(standin: StandIn, folder: Path, port: int, dashboard_port: int) -> str:
    address, quoted = standin.address, json.dumps
    return f"""\
[[sources]]
type = "codeartifact"
domain = {quoted(address.domain)}
domain_owner = {quoted(address.owner)}
repository = {quoted(address.repository)}
region = {quoted(address.region)}
endpoint_url = {quoted(standin.url)}
poll_interval = 1

[ray]
dashboard_url = "http://127.0.0.1:{dashboard_port}"
ingress_url = "http://127.0.0.1:{port}"

[paths]
cache = {quoted(str(folder / "cache"))}
state = {quoted(str(folder / "state"))}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demos.codeartifact")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--port", type=int, default=8000, help="of the routes")
    parser.add_argument("--dashboard-port", type=int, default=8265, help="of Ray's dashboard")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="wheelway-demo-") as name, StandIn() as standin:
        folder = Path(name)
        os.environ |= standin.environment | {"NO_PROXY": "127.0.0.1"}  # where boto3 looks first
        os.environ.pop("AWS_PROFILE", None)  # boto3 would insist on it
        config, exports = folder / "controller.toml", folder / "publish.env"
        config.write_text(configuration(standin, folder, given.port, given.dashboard_port))
        exports.write_text(standin.exports())
        begin(LogOptions(format="text"), level=logging.CRITICAL)  # the progress tells the same
        command = f".venv/bin/wheelway --config {config}"
        progress = Progress(f"http://127.0.0.1:{given.port}", command=command)
        progress.say(f"a stand-in of CodeArtifact answers at {standin.url}")
        demo = Demo(standin, given.wheel, progress)
        invitation = (
            "Ctrl-C ends everything started here; until then, in another terminal:\n"
            f"  make a wheel   .venv/bin/wheelway new mine && .venv/bin/uv build --wheel mine\n"
            f"  publish it     ( . {exports} && .venv/bin/twine upload mine/dist/*.whl )\n"
            f"  look           {command} status"
        )
        try:
            return serve(
                config,
                invitation,
                say=progress.say,
                watcher=demo,
                failed=progress.failed,
                num_cpus=CPUS,
            )
        except WheelwayError as error:
            progress.say(error.message)
            return 1
        except KeyboardInterrupt:  # while the head was starting
            return 130
        finally:
            if demo.publication.ident is not None:
                demo.publication.join()


if __name__ == "__main__":
    sys.exit(main())
