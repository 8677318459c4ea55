"""Releases as a renderer places them, with the shipped templates or an operator's."""

from __future__ import annotations

from pathlib import Path

from packaging.version import Version

from controller.config.settings import Options
from controller.model import Artifact, Environment, PartEntry, PipelineEntry, Release
from controller.serve.templates import shipped

BASE = Environment("", None)
PLAIN = Options()
INGRESS = "http://127.0.0.1:8000"


def release(version="1.0", digest="a", pipeline="iris"):
    return Release(pipeline, Version(version), digest * 64)


def place(
    renderer,
    *,
    of=None,
    environment=BASE,
    options=PLAIN,
    settings=(),
    tree="/cache/tree",
    parts=(),
):
    of = of or release()
    artifact = Artifact(
        digest=of.digest,
        project="acme-iris",
        version=of.version,
        filename=f"acme_iris-{of.version}-py3-none-any.whl",
        size=1,
        wheel=Path("/cache/x.whl"),
        tree=Path(tree),
        record_digest="b" * 64,
        requires=(),
        pipelines=(),
    )
    named = tuple(PartEntry(name, f"acme.iris:{name.title()}") for name in sorted(dict(parts)))
    entry = PipelineEntry(of.pipeline, "acme.iris:Iris", {}, {}, None, named)
    return renderer.place(of, entry, artifact, environment, options, dict(settings), dict(parts))


def edited(folder, name, old, new):
    text = (shipped() / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
