"""Golden files of what is told by other ways: reasons, log fields, notifications, metrics."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections import Counter
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.config.telemetry import SlackNotification, WebhookNotification
from controller.errors import Rejected
from controller.journal import Journal
from controller.logs import KINDS, JsonLines, ToJournal, about, tell
from controller.model import Event, Phase
from controller.reconcile.jobs import Counts, Outcome
from controller.reconcile.reconciler import Report
from controller.telemetry.metrics import Metrics
from controller.telemetry.notifications import Notifications
from tests.support.canned import canned
from tests.support.journald import Journald

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
REASON = re.compile(r"[A-Z]+[a-z][A-Za-z]*")
FIELD = re.compile(r"\{[a-z_.]+(![rs])?\}")
"""Of a message that `str.format` fills in."""
OF_THE_PLACE = {"CODE_FILE", "CODE_FUNC", "CODE_LINE", "LOGGER", "THREAD_NAME"}
"""Fields whose values are those of the code that logs."""
Function = ast.FunctionDef | ast.AsyncFunctionDef
Calls = dict[str, list[tuple[ast.Call, Function | None]]]
"""By the name of what is called: the calls, each with the function that it is in."""
OCCASIONS = {"live", "quarantined", "retired", "stalled", "condition", "resolved"}


# -- reasons -------------------------------------------------------------------------------------


def constants(trees: list[ast.Module]) -> dict[str, str]:
    """Names that stand for one text, wherever they are assigned."""
    found = {}
    for tree in trees:
        for node in tree.body:
            targets = {ast.Assign: "targets", ast.AnnAssign: "target"}.get(type(node))
            if targets is None or not isinstance(node.value, ast.Constant):
                continue
            named = getattr(node, targets)
            for target in named if isinstance(named, list) else [named]:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    found[target.id] = node.value.value
    return found


def template(node: ast.expr, given: Mapping[str, str] = MappingProxyType({})) -> str | None:
    """A message as it is written, `{}` where something is put in that is not `given` by name; None
    for one made elsewhere.
    """
    if isinstance(node, ast.Constant):
        return FIELD.sub("{}", node.value) if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value
            if isinstance(part, ast.Constant)
            else given.get(ast.unparse(part.value), "{}")
            for part in node.values
        )
    return None


def together(node: ast.AST) -> list[list[ast.expr]]:
    """What belongs together: the arguments of a call, the parts of a tuple, a row of a table."""
    if isinstance(node, ast.Call):
        return [[*node.args, *(keyword.value for keyword in node.keywords)]]
    if isinstance(node, ast.Tuple):
        return [node.elts]
    if isinstance(node, ast.Dict):
        return [[key, value] for key, value in zip(node.keys, node.values, strict=True) if key]
    return []


def inside(
    node: ast.AST, function: Function | None = None
) -> Iterator[tuple[ast.AST, Function | None]]:
    """All that is below, each with the function that it is in."""
    for child in ast.iter_child_nodes(node):
        yield child, function
        yield from inside(child, child if isinstance(child, Function) else function)


def spelled(node: ast.expr, known: Mapping[str, str]) -> ast.expr:
    """The text that a constant's name stands for; anything else as it is."""
    name = node.id if isinstance(node, ast.Name) else ""
    return ast.Constant(known[name]) if name in known else node


def written(node: ast.expr, function: Function | None) -> ast.expr:
    """A text as it is written: there, or where the function last gave it the name."""
    if not isinstance(node, ast.Name) or function is None:
        return node
    before = [
        given
        for given in ast.walk(function)
        if isinstance(given, ast.Assign)
        and given.lineno < node.lineno
        and ast.unparse(given.targets[0]) == node.id
    ]
    return max(before, key=lambda given: given.lineno).value if before else node


def is_message(node: ast.expr) -> bool:
    """Whether it is a text of several words."""
    return " " in (template(node) or "")


def completed(node: ast.expr, function: Function | None, calls: Calls) -> set[str]:
    """A message, with the parts that the callers of its function put in."""
    found = set()
    for call, caller in calls.get(function.name if function else "", ()):
        names = [argument.arg for argument in function.args.args if argument.arg != "self"]
        texts = [written(part, caller) for part in call.args]
        given = zip(names, texts, strict=False)
        found.add(
            template(node, {name: template(text) for name, text in given if is_message(text)})
        )
    return found or {template(node)}


def spoken() -> dict[str, set[str]]:
    """By reason: the messages that are given with it, in calls, pairs and tables."""
    files = [*(ROOT / "controller").rglob("*.py"), *(ROOT / "wheelway").rglob("*.py")]
    trees = [ast.parse(file.read_text()) for file in sorted(files)]
    known = constants(trees)
    found: dict[str, set[str]] = {}
    for nodes in (list(inside(tree)) for tree in trees):
        calls: Calls = {}
        for node, function in nodes:
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).removeprefix("self.")
                calls.setdefault(called, []).append((node, function))
        classes = {  # of libraries: their names look as reasons do
            name.name
            for node, _ in nodes
            if isinstance(node, ast.ImportFrom) and not str(node.module).startswith("controller")
            for name in node.names
        }
        for node, function in nodes:
            for group in together(node):
                parts = [spelled(part, known) for part in group]
                words = [template(part) or "" for part in parts]
                reasons = [word for word in words if REASON.fullmatch(word) and word not in classes]
                named = (written(part, function) for part in parts)
                messages = [*filter(is_message, parts)] or [*filter(is_message, named)]
                if len(reasons) == 1 and len(messages) == 1:
                    said = completed(messages[0], function, calls)
                    found.setdefault(reasons[0], set()).update(said)
    return found


def test_every_reason_comes_with_the_same_words(golden):
    found = spoken()
    assert len(found) > 100
    golden.check("told/reasons.json", {reason: sorted(said) for reason, said in found.items()})


# -- the log -------------------------------------------------------------------------------------


@pytest.fixture
def lines(tmp_path, caplog):
    """Logs one thing; gives it as journald has it and as JSON."""
    there = Journald(tmp_path / "journald")
    handler = ToJournal(otherwise=logging.NullHandler(), path=there.path)
    log = logging.getLogger("golden")
    log.addHandler(handler)
    caplog.set_level(logging.DEBUG, "golden")

    def logged(say):
        say(log)
        fields = {k: v for k, v in there.receive().items() if k not in OF_THE_PLACE}
        line = json.loads(JsonLines().format(caplog.records[-1]))
        del line["at"], line["logger"]
        return {"journald": fields, "json": line}

    yield logged
    log.removeHandler(handler)
    handler.close()
    there.close()


def test_what_happens_is_logged_with_its_fields(golden, scene, lines):
    first: dict[str, Event] = {}
    for event in scene.events:
        what = event.fields.get("phase") or event.fields.get("condition") or event.reason
        first.setdefault(str(what), event)
    found = {
        what: lines(lambda log, event=event: tell(log, event)) for what, event in first.items()
    }
    assert {phase.value for phase in Phase} - found.keys() == {"Superseded"}
    golden.check("told/log.json", found, scene.names)


def test_every_kind_of_line_keeps_its_message_id(golden, lines):
    golden.check("told/kinds.json", dict(KINDS))
    said = lines(lambda log: log.warning("it is %s", "so", extra=about("PassFailed", REASON="X")))
    golden.check("told/log-kind.json", said)


# -- notifications -------------------------------------------------------------------------------


def test_what_receivers_hear(golden, scene, tmp_path):
    with canned() as server, Journal.read(scene.folder / "state") as journal:
        for path in ("/hook", "/slack"):
            server.says(path, "ok")
        sections = (
            WebhookNotification(
                type="webhook", name="w", url=f"{server.url}/hook", hold=0, events=OCCASIONS
            ),
            SlackNotification(
                type="slack", name="s", url=f"{server.url}/slack", hold=0, events=OCCASIONS
            ),
        )
        now = iter(range(1_000_000, 2_000_000, 10))
        notifications = Notifications(
            sections,
            journal,
            sources=["Bad Name.whl"],  # stands for a source: its condition is told as one's
            clock=lambda: 1_000_000.0,
            monotonic=lambda: float(next(now)),
            host="ray-head-1",
        )
        for report in scene.reports:
            notifications.observe(report)
        notifications.close(20)
        heard: dict[str, list[dict]] = {"/hook": [], "/slack": []}
        for _, path, _, body in server.asked:
            heard[path].append(json.loads(body))
    order = [document["event"] for document in heard["/hook"]]
    assert set(order) == OCCASIONS
    first = {event: order.index(event) for event in sorted(OCCASIONS)}
    for path, name in {"/hook": "webhook", "/slack": "slack"}.items():
        documents = {event: heard[path][at] for event, at in first.items()}
        golden.check(f"told/{name}.json", documents, scene.names)
    golden.check("told/notified.json", dict(Counter(order)))


# -- metrics -------------------------------------------------------------------------------------


class Part(SimpleNamespace):
    """One is told from another as the real ones are."""

    __hash__ = object.__hash__


def assembly_of(scene):
    """Parts that counted one of everything."""
    counts = Counts({("fetch", "Transient"): 1}, {"fetch": 1})
    measured = Outcome(value={"wheels": 5, "trees": 7})
    return SimpleNamespace(
        jobs=Part(counts=lambda: counts, again=lambda *_: None, outcome=lambda _: measured),
        artifacts=SimpleNamespace(sources={"wheels": Part(calls={"ok": 1})}, published_at={}),
        reconciler=SimpleNamespace(config=scene.config),
    )


def test_metrics_keep_their_names_types_and_labels(golden, scene):
    with Journal.read(scene.folder / "state") as journal:
        metrics = Metrics(journal, version="0.1.0", cache=scene.folder, clock=lambda: scene.now)
        refused = Report("", 1.0, tried=True, retried=True, error=Rejected("ConfigRefused", "no"))
        for report in (*scene.reports, refused):
            sent = {("ops", "sent"): 1}
            metrics.observe(report, assembly_of(scene), duration=0.1, notifications=sent)
        page = metrics.render().decode()
    found = {
        family.name: {
            "type": family.type,
            "help": family.documentation,
            "labels": sorted({label for sample in family.samples for label in sample.labels}),
            "samples": sorted({sample.name for sample in family.samples}),
        }
        for family in text_string_to_metric_families(page)
        if family.name.startswith("wheelway_")
    }
    golden.check("told/metrics.json", found)
    shown = ("wheelway_releases", "wheelway_conditions", "wheelway_passes_total", "wheelway_errors")
    values = [line for line in page.splitlines() if line.startswith(shown)]
    golden.check("told/metrics.txt", "\n".join([*values, ""]))
