"""What Ray's schema took once need not be asked again, and what might be judged otherwise is."""

from __future__ import annotations

import json
from importlib.metadata import PathDistribution

import pytest

from controller.serve import accepted, schema
from controller.serve.accepted import Accepted
from controller.serve.outline import Schema
from tests.support.imports import imported_by
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit

DOCUMENT = {
    "name": "iris",
    "import_path": "wheelway.host:build",
    "route_prefix": None,
    "args": {"threshold": 0.5, "größe": [1, 1.0, True, None]},
    "deployments": [{"name": "release", "num_replicas": 2}],
}


@pytest.fixture
def asked(monkeypatch):
    """What Ray's schema was asked, which answers as ever."""
    seen = []
    for name, real in schema.QUESTIONS.items():

        def ask(document, name=name, real=real):
            seen.append(name)
            return real(document)

        monkeypatch.setitem(schema.QUESTIONS, name, ask)
    return seen


@pytest.fixture
def file(tmp_path):
    return tmp_path / "accepted.json"


def asks(file, *documents):
    """Each of the documents in one process, then the end of it."""
    remembers = Schema(kept=Accepted(file))
    answers = [remembers.application(document) for document in documents]
    remembers.save()
    return answers


def with_period(seconds):
    """A document that differs in what Ray looks at."""
    release = {"name": "release", "num_replicas": 2, "health_check_period_s": seconds}
    return {**DOCUMENT, "deployments": [release]}


def test_a_preview_of_what_was_previewed_before_says_the_same_without_importing_ray(
    paper_head, tmp_path
):
    config = tmp_path / "controller.toml"
    config.write_text(
        '[[sources]]\ntype = "directory"\npath = "wheels"\n[environments]\noffline = true\n'
        f'[ray]\ndashboard_url = "{paper_head.dashboard_url}"\n'
        f'ingress_url = "{paper_head.ingress_url}"\n[paths]\nstate = "state"\ncache = "cache"\n'
    )
    make_wheel(tmp_path / "wheels", "demo", "1.0")
    first, again = tmp_path / "first.yaml", tmp_path / "again.yaml"
    assert "ray.serve.schema" in imported_by(config, f"render --output {first}")[0]
    make_wheel(tmp_path / "wheels", "demo", "2.0")  # alike, but for what Ray does not look at
    assert "ray" not in imported_by(config, f"render --output {again}")[0]
    before, now = first.read_text(), again.read_text()
    assert before.partition("http_options")[0] in now  # all of the application
    assert "demo-2.0" in now
    make_wheel(tmp_path / "wheels", "demo", "3.0", wheelway_toml="[options]\nnum_replicas = 2\n")
    assert "ray.serve.schema" in imported_by(config, f"render --output {again}")[0]
    assert "demo-3.0" in again.read_text()


def test_what_is_remembered_is_what_ray_said(file, asked):
    said = schema.application(DOCUMENT)
    assert asks(file, DOCUMENT, DOCUMENT) == [said, said]
    assert asks(file, DOCUMENT) == [said]
    assert asked == ["application"]


def test_what_ray_refuses_is_refused_each_time(file, asked):
    for _ in range(2):
        with pytest.raises(schema.SchemaError, match="num_replicas"):
            asks(file, {**DOCUMENT, "deployments": [{"name": "release", "num_replicas": -1}]})
    assert len(asked) == 2


@pytest.mark.parametrize("other", [1, 1.0, 2], ids=["integer", "float", "more"])
def test_what_differs_in_anything_is_asked_about(file, asked, other):
    asks(file, with_period(True))
    assert asks(file, with_period(other))[0] == schema.application(with_period(other))
    assert asked == ["application"] * 2


@pytest.mark.parametrize(
    "more",
    [
        {"runtime_env": {1: "a key that JSON has only as text"}},
        {"runtime_env": {"x": float("inf")}},
        {
            "deployments": [
                {"name": "release", "request_router_config": {"request_router_kwargs": {}}}
            ]
        },
    ],
    ids=["key", "infinity", "names-code"],
)
def test_what_may_be_judged_otherwise_next_time_is_not_remembered(file, monkeypatch, more):
    seen = []
    monkeypatch.setitem(schema.QUESTIONS, "application", lambda asked: seen.append(asked) or asked)
    for _ in range(2):
        assert asks(file, DOCUMENT | more) == [DOCUMENT | more]
    assert len(seen) == 2


def test_another_ray_another_environment_another_way_to_ask_are_asked_afresh(
    file, asked, monkeypatch
):
    def change_ray():
        real = PathDistribution.read_text
        monkeypatch.setattr(
            PathDistribution,
            "read_text",
            lambda self, name: f"{real(self, name)}\nray/new.py,sha256=x,1",
        )

    def change_environment():
        monkeypatch.setenv("RAY_SERVE_ANYTHING", "1")

    def change_python():
        monkeypatch.setattr(accepted.sys, "version", "3.99")

    asks(file, DOCUMENT)
    for change in (change_ray, change_environment, change_python):
        asked.clear()
        change()
        asks(file, DOCUMENT)
        asks(file, DOCUMENT)
        assert asked == ["application"]


def test_a_ray_that_cannot_be_told_from_another_is_always_asked(file, asked, monkeypatch):
    monkeypatch.setattr(PathDistribution, "read_text", lambda _self, _name: None)
    asks(file, DOCUMENT)
    asks(file, DOCUMENT)
    assert len(asked) == 2
    assert not file.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"judge": "x"}', "[" * 10_000, "\udcff"])
def test_a_damaged_file_costs_an_import_and_is_made_again(file, asked, text):
    file.write_bytes(text.encode(errors="surrogateescape"))
    asks(file, DOCUMENT)
    asks(file, DOCUMENT)
    assert asked == ["application"]


def test_a_folder_that_takes_nothing_costs_an_import(tmp_path, asked):
    missing = tmp_path / "none" / "accepted.json"
    assert asks(missing, DOCUMENT) == asks(missing, DOCUMENT)
    assert len(asked) == 2


def test_what_was_not_asked_for_any_more_is_dropped_with_the_next_that_is_new(file):
    asks(file, DOCUMENT, *map(with_period, (1.0, 2.0, 3.0)))
    asks(file, DOCUMENT)
    assert len(json.loads(file.read_text())["taken"]) == 4
    asks(file, DOCUMENT, with_period(4.0))
    assert len(json.loads(file.read_text())["taken"]) == 2
    assert list(file.parent.iterdir()) == [file]
