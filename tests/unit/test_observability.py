"""The dashboard and the alert rules that are shipped are about metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.version import Version
from prometheus_client.parser import text_string_to_metric_families

from controller.journal import Journal
from controller.model import Condition, Phase, Release, Transition
from controller.telemetry.metrics import Metrics

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "observability/grafana.json").read_text())
RULES = yaml.safe_load((ROOT / "observability/alerts.yaml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
RAY = {"ray_serve_deployment_processing_latency_ms"}
"""Histograms of Ray's own that the dashboard shows; `wheelway status --watch` reads the same."""
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not on PATH (Debian: package prometheus)"
)

UNIT_TEST = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'up{{job="wheelway"}}', values: '1x5 0x30'}}
      - {{series: 'wheelway_build_info', values: '1x40'}}
      - {{series: 'wheelway_ray_reachable', values: '1x5 0x30'}}
      - {{series: 'wheelway_last_pass_timestamp_seconds', values: '0+60x10 600x30'}}
      - {{series: 'wheelway_releases{{pipeline="iris",phase="Live"}}', values: '1x40'}}
      - {{series: 'wheelway_releases{{pipeline="iris",phase="Quarantined"}}', values: '1x40'}}
      - {{series: 'wheelway_releases{{pipeline="lost",phase="Staged"}}', values: '1x40'}}
      - {{series: 'wheelway_conditions{{pipeline="lost",reason="NoFreeCpus"}}', values: '1x40'}}
      - {{series: 'wheelway_conditions{{pipeline="iris",reason="Queued"}}', values: '1x40'}}
      - {{series: 'wheelway_conditions{{pipeline="iris",reason="WeightsRefused"}}', values: '1x40'}}
      - {{series: 'wheelway_weights_loading{{pipeline="iris"}}', values: '1x40'}}
    alert_rule_test:
      - eval_time: 1m
        alertname: WheelwayWeightsRefused
        exp_alerts: [{{exp_labels: {{severity: warning, pipeline: iris}}, {refused}}}]
      - {{eval_time: 14m, alertname: WheelwayWeightsLoading, exp_alerts: []}}
      - eval_time: 16m
        alertname: WheelwayWeightsLoading
        exp_alerts: [{{exp_labels: {{severity: warning, pipeline: iris}}, {loading}}}]
      - {{eval_time: 4m, alertname: WheelwayDown, exp_alerts: []}}
      - eval_time: 9m
        alertname: WheelwayDown
        exp_alerts: [{{exp_labels: {{severity: critical, job: wheelway}}, {down}}}]
      - {{eval_time: 4m, alertname: WheelwayRayUnreachable, exp_alerts: []}}
      - {{eval_time: 10m, alertname: WheelwayStuck, exp_alerts: []}}
      - eval_time: 16m
        alertname: WheelwayPipelineNotServed
        exp_alerts:
          - exp_labels: {{severity: critical, pipeline: lost}}
            {not_served}
      - eval_time: 16m
        alertname: WheelwayCondition
        exp_alerts:
          - exp_labels: {{severity: warning, pipeline: lost, reason: NoFreeCpus}}
            {condition}
"""


def promtool(*arguments, text=None):
    done = subprocess.run(
        [PROMTOOL, *arguments], check=False, capture_output=True, text=True, input=text
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def metrics(tmp_path):
    with Journal.open(tmp_path / "state") as journal:
        release = Release("iris", Version("1.0"), "ab" * 32)
        journal.record(Transition(release, Phase.LIVE, "AnswersAtRoute", "so"), 1.0)
        journal.set_conditions([Condition(str(release), "Unhealthy", "it dies")], 1.0)
        yield Metrics(journal, version="9.9", cache=tmp_path)


def families(metrics):
    """Every metric there is, with the labels it may have."""
    found = {}
    for family in metrics.registry.collect():
        labels = getattr(family, "_labelnames", ())
        found[family.name] = {*labels, *(name for s in family.samples for name in s.labels)}
    for collector in set(metrics.registry._collector_to_names):
        if names := getattr(collector, "_labelnames", None):
            found[collector._name] = found.get(collector._name, set()) | set(names)
    return found


def names_of(found):
    """Names of the series: a counter has `_total`, a histogram three."""
    endings = ("", "_total", "_bucket", "_sum", "_count", "_info")
    return {name + ending for name in found for ending in endings}


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions():
    yield from (target["expr"] for panel in panels() for target in panel["targets"])
    yield from (rule["expr"] for rule in ALERTS)
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


def used(expression):
    return set(re.findall(r"\b(?:wheelway|process|ray)_[a-z_0-9]+", expression))


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_every_metric_and_label_that_is_used_exists(metrics, expression):
    there = families(metrics)
    known = names_of(there) | names_of(RAY)
    assert used(expression) <= known
    assert used(expression) or expression.startswith("up{")
    labels = set().union(*there.values()) | {"application", "instance", "job", "le"}
    grouped = re.findall(r"by \(([^)]+)\)", expression)
    asked = {label.strip() for group in grouped for label in group.split(",")}
    asked |= set(re.findall(r"[{,](\w+)(?:=~|!~|!=|=)\"", expression))
    assert asked <= labels


def test_every_metric_is_shown_on_the_dashboard_or_alerted_on(metrics):
    shown = set().union(*map(used, expressions()))
    ours = {name for name in families(metrics) if name.startswith("wheelway_")}
    assert {name for name in ours if not any(said.startswith(name) for said in shown)} == set()


def test_every_metric_is_described_in_the_docs(metrics):
    text = (ROOT / "docs/operating.md").read_text()
    ours = {name for name in families(metrics) if name.startswith("wheelway_")}
    assert {name for name in ours if f"`{name}" not in text} == set()


def test_panels_have_a_place_of_their_own_and_a_title():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert all(panel["title"] for panel in DASHBOARD["panels"])


def test_the_dashboard_is_bound_to_no_data_source():
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}


def test_alerts_say_what_to_do_and_no_numbers_that_change():
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        said = rule["annotations"]
        assert said["summary"].strip().endswith(".")
        assert said["description"].strip()
        assert "$value" not in json.dumps(said)


def test_both_are_in_the_wheel():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    assert included["observability"] == "controller/data/observability"


def test_weights_that_fail_or_load_for_long_are_alerted_on(tmp_path):
    release = Release("iris", Version("1.0"), "ab" * 32)
    with Journal.open(tmp_path / "state") as journal:
        journal.record(Transition(release, Phase.LIVE, "AnswersAtRoute", "so"), 1.0)
        loading = Condition(str(release), "WeightsLoading", "replicas load", ok=True)
        journal.set_conditions([loading, Condition(str(release), "WeightsRefused", "bad")], 1.0)
        seen = Metrics(journal, version="9.9", cache=tmp_path).render().decode()
    assert 'wheelway_weights_loading{pipeline="iris"} 1.0' in seen
    assert 'wheelway_conditions{pipeline="iris",reason="WeightsRefused"} 1.0' in seen
    rules = {rule["alert"]: rule for rule in ALERTS}
    assert "WeightsRefused" in rules["WheelwayWeightsRefused"]["expr"]
    slow = rules["WheelwayWeightsLoading"]
    assert (used(slow["expr"]), slow["for"]) == ({"wheelway_weights_loading"}, "15m")


@needs_promtool
def test_promtool_accepts_the_rules_and_they_fire_when_they_should(tmp_path):
    path = ROOT / "observability/alerts.yaml"
    promtool("check", "rules", path)

    def said(alert, **labels):
        annotations = next(rule for rule in ALERTS if rule["alert"] == alert)["annotations"]
        text = json.dumps(annotations)
        text = re.sub(r"\s*\{\{- if.*?\}\}(.*?)\{\{ end \}\}", r"\1", text)
        for name, value in labels.items():
            text = text.replace("{{ $labels.%s }}" % name, value)  # noqa: UP031 - braces
        return f"exp_annotations: {text}"

    test = tmp_path / "alerts_test.yaml"
    test.write_text(
        UNIT_TEST.format(
            rules=path,
            down=said("WheelwayDown"),
            refused=said("WheelwayWeightsRefused", pipeline="iris"),
            loading=said("WheelwayWeightsLoading", pipeline="iris"),
            not_served=said("WheelwayPipelineNotServed", pipeline="lost"),
            condition=said("WheelwayCondition", pipeline="lost", reason="NoFreeCpus"),
        )
    )
    promtool("test", "rules", test)


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_metrics(metrics):
    promtool("check", "metrics", text=metrics.render().decode())


def test_the_exposition_can_be_read_back(metrics):
    names = {f.name for f in text_string_to_metric_families(metrics.render().decode())}
    assert {"wheelway_releases", "wheelway_conditions", "wheelway_passes"} <= names
