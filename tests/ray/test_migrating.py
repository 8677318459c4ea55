"""The page on the way over from FastAPI, followed as by a person who copies it line by line."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from controller.rayhead.ports import claim_block
from tests.support.head import eventually

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/migrating-from-fastapi.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CUSTOMER = {"tenure_months": 2, "monthly_charge": 90, "support_calls": 1}
ANSWER = {"probability": 0.7699, "leaves": True}


@dataclass
class Reader:
    """Who follows the page, with what it cannot know: where the checkout is, and free ports."""

    folder: Path
    words: dict[str, str]
    """What stands on the page, and what it is here."""
    more: dict[str, str]
    """What a command gets besides that stays in its terminal."""
    terminals: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def here(self, text):
        for word, meant in self.words.items():
            text = text.replace(word, meant)
        return text

    def write(self, name, text):
        """A file that is new, or shown as it is."""
        file = self.folder / name
        assert not file.exists() or file.read_text() == text, f"{name} is another on the page"
        file.write_text(text)

    def patch(self, text):
        command = ["patch", "-p1", "--fuzz=0"]
        subprocess.run(command, cwd=self.folder, input=text.encode(), check=True)

    def run(self, text):
        """A command that ends: its exit code and what it printed."""
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )
        if text.endswith("cd shop\n"):
            self.folder /= "shop"
        return done.returncode, done.stdout.replace("\r", ""), done.stderr

    def open(self, text):
        """A command in a terminal of its own, in place of the one before of that name."""
        name = text.split()[0]
        self.close(name)
        command = ["bash", "-c", f"exec {text.strip()} {self.more.get(name, '')}"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.terminals[name] = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log
            )

    def awaits(self, text, said):
        """What the page says that a command in a terminal prints while it runs."""
        log = self.folder / f"{text.split()[0]}.log"
        assert eventually(lambda: said in log.read_text()), log.read_text()

    def close(self, name):
        if process := self.terminals.pop(name, None):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                process.kill()


class Clients:
    """They ask the application for churn all the time."""

    def __init__(self, url):
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.answers = []
        self._thread.start()

    def _ask(self):
        with httpx.Client(timeout=30) as client:
            while not self._over.is_set():
                answer = client.post(self._url, json=CUSTOMER)
                release = answer.headers.get("x-wheelway-release", "").partition("+")[0]
                self.answers.append((answer.status_code, answer.text, release))
                time.sleep(0.01)

    def stop(self):
        self._over.set()
        self._thread.join(60)


@pytest.fixture
def reader(head, site, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    dashboard_port = head.dashboard_url.rpartition(":")[2]
    claim, first = claim_block()
    with claim:
        reader = Reader(
            tmp_path,
            {
                "PATH/TO/wheelway": str(ROOT),
                ":8000/": f":{head.ports.ingress}/",
                ":8080/": f":{first + 1}/",
                "--port 8080": f"--port {first + 1}",
            },
            {"wheelway": f"--port {head.ports.ingress} --dashboard-port {dashboard_port}"},
        )
        yield reader
        for name in list(reader.terminals):
            reader.close(name)


def steps():
    """Kind, what follows it on its line, text, and what it has to print, of each block."""
    blocks = [found.groups() for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]
    for (kind, about, text), (after, _, printed) in zip(
        blocks, [*blocks[1:], ("", "", "")], strict=True
    ):
        if kind != "text":
            yield kind, about, text, printed if after == "text" else None


def test_every_step_of_the_page_does_what_it_says_and_no_client_notices(reader):
    clients = None
    application = reader.here("http://127.0.0.1:8080/")
    for kind, about, text, printed in steps():
        here = reader.here(text)
        if kind == "python":
            reader.write(about, here)
        elif kind == "diff":
            reader.patch(here)
        elif about == "background":
            if clients:
                clients.stop()
            reader.open(here)
            if printed:
                reader.awaits(here, printed.strip())
        else:
            if "models.yaml" in text and clients is None:
                eventually(lambda: answers(f"{application}models"))
                clients = Clients(f"{application}predict/churn")
                former = (reader.folder / "models.yaml").read_text()
            took(reader, here, printed, soon=about == "soon")
            if printed and "churn@0.1.0" in printed:
                there_and_back(reader, former, clients)
    assert len(clients.answers) > 100
    failed = [one for one in clients.answers if one[0] != 200 or json.loads(one[1]) != ANSWER]
    assert failed == []
    assert {release for *_, release in clients.answers} == {"", "churn@0.1.0", "churn@0.2.0"}
    assert not (reader.folder / "app/registry.py").exists()


def took(reader, text, printed, *, soon):
    """A command ended well, and printed what the page says; `soon` is within a while."""
    wanted = None if printed is None else re.escape(printed.strip()).replace(r"\.\.\.", ".*")
    seen = []

    def well():
        code, out, err = reader.run(text)
        seen[:] = [code, out, err]
        return code == 0 and (wanted is None or re.fullmatch(wanted, out.strip()))

    try:
        assert well() or (soon and eventually(well))
    except AssertionError:
        logs = [log.read_text()[-2000:] for log in reader.folder.glob("*.log")]
        pytest.fail("\n".join([text, *map(str, seen), *logs]))


def there_and_back(reader, former, clients):
    """The former line serves the model as before, the new one moves it again."""
    file = reader.folder / "models.yaml"
    moved = file.read_text()
    for content, release in ((former, ""), (moved, "churn@0.1.0")):
        file.with_suffix(".new").write_text(content)
        file.with_suffix(".new").replace(file)
        eventually(lambda release=release: clients.answers[-1][-1] == release)


def answers(url):
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False
