"""Golden files of what later versions must find again: the journal, names, files of the service."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from packaging.version import Version
from typer.testing import CliRunner

from controller.cli import app
from controller.config.settings import ActorOptions, Options
from controller.journal import Journal
from controller.model import Artifact, Environment, PipelineEntry, Release
from controller.serve.rendering import Renderer, restart_digest
from tests.support.golden import pretty, told

pytestmark = pytest.mark.unit

RELEASE = Release("iris", Version("1.4+cu12"), "a" * 64)
LIGHT, HEAVY = "in place", "restarts replicas: another name"


# -- the journal ---------------------------------------------------------------------------------


def test_the_journal_keeps_its_tables(golden, tmp_path):
    with Journal.open(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        made = connection.execute(
            "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
        ).fetchall()
        tables = {
            name: [
                f"{column} {kind}{' not null' * needed}{f' key {key}' * (key > 0)}"
                for _, column, kind, needed, _, key in connection.execute(
                    "SELECT * FROM pragma_table_info(?)", (name,)
                )
            ]
            for kind, name in made
            if kind == "table"
        }
    others = [f"{kind} {name}" for kind, name in made if kind != "table"]
    found = {"user_version": version, "application_id": application, "others": others}
    golden.check("made/journal.json", {**found, "tables": tables})


def test_what_a_daemon_wrote_is_in_its_journal(golden, scene):
    """A row of each table, as the next version finds it."""
    with closing(sqlite3.connect(scene.folder / "state/journal.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]
        found = {}
        for table in sorted(tables):
            rows = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
            text = [told(pretty(row), scene.names) for row in rows]
            found[table] = {"rows": len(rows), "first": json.loads(min(text)) if text else None}
    for table, column in {"config_texts": "text", "listings": "content"}.items():
        found[table]["first"][column] = found[table]["first"][column][:600]
    golden.check("made/journal-rows.json", found)


def test_the_config_that_is_sent_is_the_same_to_the_byte(golden, scene):
    golden.check("cli/render.yaml", scene.reports[-1].serve_config, scene.names)
    golden.check("made/put.json", scene.puts[-1], scene.names)


# -- names ---------------------------------------------------------------------------------------


def placed(options=None, settings=None, **more):
    artifact = Artifact(
        digest=RELEASE.digest,
        project="acme-iris",
        version=RELEASE.version,
        filename="acme_iris-1.4-py3-none-any.whl",
        size=1,
        wheel=Path("/cache/x.whl"),
        tree=Path(more.get("tree", "/cache/tree")),
        record_digest="b" * 64,
        requires=(),
        pipelines=(),
    )
    entry = PipelineEntry("iris", more.get("target", "acme.iris:Iris"), {}, {})
    environment = more.get("environment", Environment("c" * 64, "/envs/c/bin/python"))
    renderer = Renderer(wheelway=more.get("wheelway", "0.1.0"))
    options = options or Options(num_replicas=2, ray_actor_options=ActorOptions(num_cpus=0.5))
    return renderer.place(RELEASE, entry, artifact, environment, options, settings or {"limit": 3})


def other(value):
    """Another value in its place."""
    return [value] if value is None or isinstance(value, str | bool | int | float) else None


def test_an_application_keeps_its_name_and_what_gives_it_another(golden):
    """A name that changes restarts every replica of everybody who upgrades wheelway."""
    document = dict(placed().document)
    before, (deployment,) = restart_digest(document), document["deployments"]
    changed = {
        **{key: {**document, key: other(value)} for key, value in document.items()},
        **{
            f"deployments.{key}": {**document, "deployments": [{**deployment, key: other(value)}]}
            for key, value in deployment.items()
        },
        **{
            f"args.{key}": {**document, "args": {**document["args"], key: other(value)}}
            for key, value in document["args"].items()
        },
    }
    del changed["deployments"], changed["args"]
    effects = {
        what: LIGHT if restart_digest(edited) == before else HEAVY
        for what, edited in changed.items()
    }
    golden.check("made/application.json", {"document": document, "effects": effects})


@pytest.mark.parametrize(
    ("changed", "restarts"),
    [
        ({"options": Options(num_replicas=3, ray_actor_options=ActorOptions(num_cpus=0.5))}, False),
        ({"settings": {"limit": 4}}, False),
        ({"options": Options(num_replicas=2, ray_actor_options=ActorOptions(num_cpus=1))}, True),
        ({"environment": Environment("d" * 64, "/envs/d/bin/python")}, True),
        ({"target": "acme.iris:Other"}, True),
        ({"tree": "/elsewhere/tree"}, True),
        ({"wheelway": "0.1.1"}, True),
    ],
)
def test_another_name_is_for_what_restarts_replicas(changed, restarts):
    assert (placed(**changed).name != placed().name) is restarts


# -- the service ---------------------------------------------------------------------------------


def test_the_service_keeps_its_files(golden, tmp_path):
    command = tmp_path / "opt/bin/wheelway"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    root = tmp_path / "root"
    names = {str(tmp_path): "<folder>"}

    def run(*args):
        shown = CliRunner().invoke(app, ["systemd", *args], prog_name="wheelway")
        lines = sorted(line.rstrip() for line in shown.stdout.splitlines())
        return [f"$ wheelway systemd {' '.join(args)}", *lines, f"exit code {shown.exit_code}", ""]

    where = ["--prefix", str(tmp_path / "opt"), "--root", str(root), "--systemd-version", "254"]
    said = run("install", *where)
    files = sorted(f"/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file())
    said += ["files:", *files, "", *run("uninstall", "--root", str(root))]
    golden.check("made/service.txt", "\n".join(said), names)
