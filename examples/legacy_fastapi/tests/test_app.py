"""What the application does today; it runs in the checkout's own environment."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

HERE = Path(__file__).parents[1]
ASKED = {
    "churn": (
        {"tenure_months": 5, "monthly_charge": 70, "support_calls": 4},
        {"probability": 0.8914, "leaves": True},
    ),
    "delivery": ([[10, 2], [3, 0.5]], [41.4, 27.75]),
    "sentiment": ({"text": "Great shop, never late"}, {"mood": "pleased", "score": 3}),
}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """The application in a folder of its own."""
    shutil.copytree(HERE, tmp_path, dirs_exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port)]
    with (
        subprocess.Popen(command, cwd=tmp_path) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        try:
            eventually(lambda: answers(client))
            yield client
        finally:
            process.terminate()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/models").is_success
    except httpx.TransportError:
        return False


def eventually(look: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not look():
        assert time.monotonic() < end
        time.sleep(0.05)


def edit(folder: Path, name: str, entry: dict[str, object]) -> None:
    file = folder / "models.yaml"
    config = yaml.safe_load(file.read_text())
    config["models"].setdefault(name, {}).update(entry)
    file.write_text(yaml.safe_dump(config))


def test_the_models_that_the_file_has_active_answer(client: httpx.Client, tmp_path: Path) -> None:
    for name, (payload, answer) in ASKED.items():
        response = client.post(f"/predict/{name}", json=payload)
        assert (response.status_code, response.json()) == (200, answer)
    edit(tmp_path, "returns", {"class": "returns_model:Model", "version": 1, "active": True})
    edit(tmp_path, "churn", {"active": False})
    eventually(lambda: "churn" not in client.get("/models").json())
    assert client.post("/predict/churn", json={}).status_code == 404
    assert set(client.get("/models").json()) == {"delivery", "sentiment"}
    assert client.post("/predict/delivery", json=[[1, 1]]).status_code == 200
