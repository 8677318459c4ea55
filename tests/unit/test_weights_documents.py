"""How an application's document names weights, and when that is another application."""

from pathlib import Path

import pytest

from controller.config.settings import Options, PartOptions
from controller.errors import TemplateError
from controller.model import Artifact, Environment, PartEntry, PipelineEntry
from controller.planning.weights import NONE, Choice, falls_back_to_none, in_document
from controller.serve.rendering import Renderer
from controller.shipped import folder
from tests.support.world import release
from tests.unit.test_weights_choice import weights

pytestmark = pytest.mark.unit

OLD, NEW = weights("2026.1", "1"), weights("2026.2", "2")


def placed(choice=NONE, *, templates=None, parts=(), inline=None, deadline=300.0, **options):
    of = release()
    artifact = Artifact(
        digest=of.digest,
        project="iris",
        version=of.version,
        filename="iris-1.0-py3-none-any.whl",
        size=1,
        wheel=Path("/cache/x.whl"),
        tree=Path("/cache/tree"),
        record_digest="b" * 64,
        requires=(),
        pipelines=(),
    )
    entries = tuple(PartEntry(name, f"iris:{name}") for name in parts)
    entry = PipelineEntry("iris", "iris:Iris", {}, {}, parts=entries)
    return Renderer(templates, wheelway="0.1.0").place(
        *(of, entry, artifact, Environment("", None), Options(**options), {}),
        {name: PartOptions(inline=inline) for name in parts},
        choice,
        deadline,
    )


def said(placement):
    return placement.document["deployments"][0]["user_config"]


def test_a_pipeline_without_weights_is_told_nothing_of_them():
    assert said(placed()).keys() == {"settings", "limits"}
    assert "weights" not in placed().document["args"]


def test_new_weights_restart_nothing():
    before, after = placed(Choice(OLD)), placed(Choice(NEW, OLD))
    assert placed().name == before.name == after.name
    assert said(after)["weights"] == NEW.document
    assert said(after)["former_weights"] == OLD.document
    assert in_document(after.document) == NEW


def test_what_has_served_without_falls_back_to_that():
    assert "former_weights" not in said(placed(Choice(NEW)))
    back = placed(Choice(NEW, without=True))
    assert said(back)["former_weights"] is None
    assert falls_back_to_none(back.document)


def test_replicas_know_how_long_new_weights_may_take():
    assert said(placed(Choice(NEW), deadline=20.0))["weights_deadline"] == 20.0


@pytest.mark.parametrize("way", [{"weights_swap": "restart"}, {"parts": ["risk"]}], ids=str)
def test_by_restart_they_are_another_application(way):
    before, after = placed(Choice(OLD), **way), placed(Choice(NEW, OLD), **way)
    assert before.name != after.name
    assert said(after).keys() == said(placed()).keys()
    assert in_document(after.document) == NEW
    assert "weights" not in placed(**way).document["args"]


def test_parts_that_run_inline_change_with_their_pipeline_in_place():
    before, after = (placed(Choice(one), parts=["risk"], inline=True) for one in (OLD, NEW))
    assert before.name == after.name
    assert said(after)["weights"] == NEW.document


def test_a_template_of_before_is_found_out_as_soon_as_there_are_weights(tmp_path):
    shipped = (folder("templates") / "application.yaml.j2").read_text()
    start = shipped.index('{% if weights is not none and weights_swap != "restart" %}')
    old = shipped[:start] + shipped[shipped.index("    limits:") :]
    (tmp_path / "application.yaml.j2").write_text(old)
    assert placed(templates=tmp_path).name == placed().name
    with pytest.raises(TemplateError, match="must stay as the shipped template has them"):
        placed(Choice(NEW), templates=tmp_path)
