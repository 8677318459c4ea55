"""The operator's templates over the shipped ones: what they may do, and where they are broken."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest

from controller.config.settings import ServeOptions
from controller.errors import TemplateError
from controller.serve.rendering import APPLICATION, CONFIG, Renderer
from controller.serve.templates import shipped
from tests.support.rendered import INGRESS, edited, place, release

pytestmark = pytest.mark.unit


@pytest.fixture
def renderer():
    return Renderer(wheelway="0.1.0")


@pytest.fixture
def operators(tmp_path):
    """A renderer with a folder of the operator's own, and the folder."""
    folder = tmp_path / "templates"
    folder.mkdir()
    return Renderer(folder, wheelway="0.1.0"), folder


def test_a_file_of_the_same_name_replaces_a_template_and_is_noticed_while_running(operators):
    renderer, folder = operators
    before, fingerprint = place(renderer), renderer.fingerprint()
    edited(folder, APPLICATION, "max_surge_percent: 100", "max_surge_percent: 50")
    lightweight = place(renderer)
    assert lightweight.document["deployments"][0]["max_surge_percent"] == 50
    assert lightweight.name == before.name
    assert renderer.fingerprint() != fingerprint
    edited(folder, APPLICATION, "runtime_env: {}\n", 'runtime_env: {env_vars: {"A": "b"}}\n')
    assert place(renderer).name != before.name
    (folder / APPLICATION).unlink()
    assert place(renderer) == before
    assert renderer.fingerprint() == fingerprint


def test_a_missing_folder_of_the_operators_is_an_empty_one(tmp_path, renderer):
    assert place(Renderer(tmp_path / "none", wheelway="0.1.0")) == place(renderer)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{{ tree | json }}", "{{ tre | json }}", "'tre' is undefined"),
        ("{{ tree | json }}", "{{ tree | json }", "unexpected '}'"),
        ("{{ tree | json }}", "{{ tree | jsn }}", "No filter named 'jsn'"),
        ("{{ tree | json }}", "{{ tree + 1 }}", "TypeError"),
        ("{{ tree | json }}", "{{ ''.__class__.__mro__ }}", "unsafe"),
        ("  threads: {{", " threads: {{", "is not YAML"),
        ("max_surge_percent: 100", "max_surge_percent: 500", "less than or equal to 100"),
        ("max_surge_percent: 100", "max_surge: 100", "does not know this key"),
        ("wheelway.host:build", "other.host:build", "must stay"),
    ],
)
def test_a_broken_template_is_named_with_file_and_line(operators, old, new, said):
    renderer, folder = operators
    edited(folder, APPLICATION, old, new)
    with pytest.raises(TemplateError) as caught:
        place(renderer)
    found = re.fullmatch(r"(.*\.j2):(\d+): (.*)", caught.value.message, re.DOTALL)
    path, line, rest = found.groups()
    assert Path(path) == folder / APPLICATION
    assert said in rest
    text = (folder / APPLICATION).read_text().splitlines()
    wanted = "release:" if said == "must stay" else new
    assert wanted in text[int(line) - 1]


def test_a_config_template_must_not_touch_the_applications(operators):
    renderer, folder = operators
    edited(folder, CONFIG, "applications: {{ applications | json }}", "applications: []")
    with pytest.raises(TemplateError, match=r"serve\.yaml\.j2:\d+: must emit `applications`"):
        renderer.serve_config([place(renderer).document], ServeOptions(), INGRESS)


def test_an_included_file_of_the_operators_is_where_its_errors_are(operators):
    renderer, folder = operators
    shutil.copy(shipped() / CONFIG, folder / CONFIG)
    with (folder / CONFIG).open("a") as file:
        file.write('{% include "grpc.yaml.j2" %}\n')
    with pytest.raises(TemplateError, match=r"grpc\.yaml\.j2: there is no such template"):
        renderer.serve_config([], ServeOptions(), INGRESS)
    (folder / "grpc.yaml.j2").write_text("grpc_options:\n  port: {{ grcp_port }}\n")
    with pytest.raises(TemplateError, match=r"grpc\.yaml\.j2:2: 'grcp_port' is undefined"):
        renderer.serve_config([], ServeOptions(), INGRESS)
    (folder / "grpc.yaml.j2").write_text("grpc_options:\n  port: 9001\n")
    assert renderer.serve_config([], ServeOptions(), INGRESS)["grpc_options"] == {"port": 9001}


def test_a_template_may_look_into_the_applications_and_write_each_by_itself(operators):
    renderer, folder = operators
    documents = [place(renderer, of=release(version)).document for version in ("1.0", "1.1")]
    documents.append({"name": "theirs", "import_path": "x.y:z", "args": {"odd": math.inf}})
    loop = (
        "applications:\n{% for one in applications if one.name %}- {{ one | json }}\n{% endfor %}"
    )
    edited(folder, CONFIG, "applications: {{ applications | json }}", loop)
    assert renderer.serve_config(documents, ServeOptions(), INGRESS)["applications"] == documents


def test_a_template_that_makes_a_number_too_large_is_not_the_releases_fault(operators):
    renderer, folder = operators
    edited(folder, APPLICATION, "requests + 100)", "requests + 2147483648)")
    with pytest.raises(TemplateError, match="Ray cannot convert it: Value out of range"):
        place(renderer)


@pytest.mark.parametrize(
    "line", ["  record_digest: {{ record_digest | json }}\n", "  tree: {{ tree | json }}\n"]
)
def test_a_template_without_what_every_replica_needs_is_refused_before_it_harms(operators, line):
    renderer, folder = operators
    edited(folder, APPLICATION, line, "")
    with pytest.raises(TemplateError, match=r"args\.\w+ must stay"):
        place(renderer)
