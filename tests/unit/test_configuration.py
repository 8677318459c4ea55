"""From a file's text to a configuration: whatever stands there is one, or a mistake."""

from __future__ import annotations

import faulthandler
import json
import tomllib
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner

from controller.cli import app
from controller.config.loading import DEPTH, parse
from controller.config.settings import (
    CodeArtifactSource,
    Config,
    DirectorySource,
    IndexSource,
    PipelinePolicy,
)
from controller.config.telemetry import SlackNotification, WebhookNotification
from controller.daemon.config_file import ConfigurationFile
from controller.errors import ConfigError

pytestmark = pytest.mark.unit

GOOD = """
[[sources]]
type = "directory"
path = "wheels"

[rollout]
interval = 5

[[pipelines]]
name = "iris"
settings = { threshold = 0.5 }
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "controller.toml"
    path.write_text(GOOD)
    return path


# -- whatever the edit ---------------------------------------------------------------------------

SECTIONS = {
    **{
        f"[{name}]": (field.annotation, "")
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    },
    '[[sources]]\ntype = "directory"': (DirectorySource, 'path = "wheels"'),
    '[[sources]]\ntype = "codeartifact"': (
        CodeArtifactSource,
        'domain = "acme"\nrepository = "pipelines"',
    ),
    '[[sources]]\ntype = "index"': (IndexSource, 'url = "http://a.example"\npackages = ["a"]'),
    '[[notifications]]\ntype = "webhook"': (WebhookNotification, 'url = "http://a.example"'),
    '[[notifications]]\ntype = "slack"': (SlackNotification, 'url = "http://a.example"'),
    "[[pipelines]]": (PipelinePolicy, 'name = "iris"'),
}
"""Every table, with what it needs at least."""

KEYS = [(table, name) for table, (model, _) in SECTIONS.items() for name in model.model_fields]

ODD = st.one_of(
    st.sampled_from(
        [
            *('"~nobody-here/x"', '["~nobody-here"]', '"a\\u0000b"', '["a\\u0000b"]', '"\\n"'),
            *("inf", "nan", "-inf", "1e308", "-1", "0", "9" * 400, "9" * 5000, "2026-01-01"),
            *('"http://["', '"http://a:99999"', '"file:///x"', '"["', '["*", "["]', "true"),
            *("[" * 2000 + "]" * 2000, "a.b.c = 1", "{}", "[[]]", '""', "'" + "x" * 5000 + "'"),
        ]
    ),
    st.text(max_size=30).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.text(max_size=30),
)


@given(st.sampled_from(KEYS), ODD)
def test_whatever_stands_at_a_key_is_a_configuration_or_a_mistake(tmp_path_factory, key, value):
    table, name = key
    least = "\n".join(
        line for line in SECTIONS[table][1].splitlines() if not line.startswith(f"{name} ")
    )
    assert_understood(f"{table}\n{least}\n{name} = {value}\n", tmp_path_factory.getbasetemp())


@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.text(max_size=12))
@example(0, 0, '_cli_parse_args = ["--help"]\n')
@example(0, 0, "_env_file = '/dev/null'\n__pydantic_self__ = 1\n")
@example(0, 0, f"{'a.' * 5000}a = 1\n")
@example(len(GOOD), 0, f"{'a.' * 5000}a = 1\n")
@example(len(GOOD), 0, f"x = {'[' * 5000}{']' * 5000}\n")
@example(len(GOOD), 0, f"x = {'9' * 5000}\n")
def test_whatever_is_done_to_a_file_leaves_a_configuration_or_a_mistake(
    tmp_path_factory, at, removed, added
):
    text = GOOD[:at] + added + GOOD[at + removed :]
    assert_understood(text, tmp_path_factory.getbasetemp())


def assert_understood(text, folder):
    try:
        config = parse(text, folder / "controller.toml")
    except ConfigError:
        return
    assert isinstance(config, Config)
    assert json.dumps([rule.settings for rule in config.pipelines])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[paths]\ncache = "~nobody-here/x"\n', ":2: paths.cache: ~nobody-here is the home of"),
        (
            '[[sources]]\ntype = "directory"\npath = "~nobody-here"\n',
            ":3: sources.0.path: ~nobody-here is",
        ),
        ('[ray]\ntoken_file = "a\\u0000b"\n', ":2: ray.token_file: a path cannot have a NUL"),
        ("_cli_parse_args = ['x']\n", ":1: _cli_parse_args: unknown key"),
        (f"[[pipelines]]\nname='x'\nsettings.{'a.' * DEPTH}a = 1\n", f"more than {DEPTH} deep"),
        (f"x = {'9' * 5000}\n", "cannot be read"),
    ],
)
def test_mistakes_that_are_no_types_have_their_place_too(tmp_path, text, said):
    with pytest.raises(ConfigError) as refused:
        parse(text, tmp_path / "controller.toml")
    assert said in refused.value.message


def test_a_bug_in_what_reads_it_leaves_the_last_good_one_in_force(file, monkeypatch, caplog):
    opened = ConfigurationFile(file)

    def buggy(text):
        raise KeyError("a bug")

    file.write_text(GOOD.replace("5", "6"))
    monkeypatch.setattr(
        "controller.config.loading.tomllib", SimpleNamespace(loads=buggy, **TOMLLIB)
    )
    assert not opened.edited(whole=True)
    assert opened.trouble.reason == "InternalError"
    assert "the last good configuration is in force" in opened.trouble.message
    assert "KeyError" in caplog.text
    assert opened.config.rollout.interval == 5


TOMLLIB = {"TOMLDecodeError": tomllib.TOMLDecodeError}


# -- the environment -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WHEELWAY_SOURCES", "[[", "WHEELWAY_SOURCES: what it sets is a table or an array, so"),
        ("WHEELWAY_RAY", "http://x", "WHEELWAY_RAY: what it sets is a table or an array"),
        ("WHEELWAY_ROLLOUT__INTERVAL", "soon", "WHEELWAY_ROLLOUT__INTERVAL: rollout.interval: "),
        ("wheelway_rollout__interval", "-1", "WHEELWAY_ROLLOUT__INTERVAL: rollout.interval: "),
        ("WHEELWAY_ROLLOUT", '{"interval": -1}', "WHEELWAY_ROLLOUT: rollout.interval: "),
        ("WHEELWAY_ROLLOUT", "5", "WHEELWAY_ROLLOUT: rollout: "),
        ("WHEELWAY_RAY__NOPE", "1", "WHEELWAY_RAY__NOPE: ray.nope: unknown key"),
        ("WHEELWAY_PATHS__STATE", "~nobody-here/x", "WHEELWAY_PATHS__STATE: paths.state: ~nobody-"),
        ("WHEELWAY_SOURCES", '[{"type": "x"}]', "WHEELWAY_SOURCES: sources.0.type: says which"),
        ("WHEELWAY_API__LISTEN", "0.0.0.0:1", "WHEELWAY_API__LISTEN: api.listen: "),
    ],
)
def test_a_wrong_variable_is_a_mistake_in_the_configuration_and_named(
    file, monkeypatch, variable, value, said
):
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(faulthandler, "enable", lambda: None)  # it wants a real stderr
    done = CliRunner().invoke(app, ["--config", str(file), "run"], prog_name="wheelway")
    assert done.exit_code == 78
    assert f"error: environment variable {said}" in done.stderr
    assert "mistake in wheelway" not in done.stderr


def test_a_proxy_that_cannot_be_used_is_a_mistake_in_the_configuration(file, monkeypatch):
    file.write_text(
        '[[notifications]]\ntype = "webhook"\nurl = "https://somewhere.example/"\n'
        '[paths]\nstate = "state"\ncache = "cache"\n'
    )
    monkeypatch.setenv("HTTPS_PROXY", "socks9://proxy")
    monkeypatch.setattr(faulthandler, "enable", lambda: None)  # it wants a real stderr
    done = CliRunner().invoke(app, ["--config", str(file), "run"], prog_name="wheelway")
    assert (done.exit_code, done.stdout) == (78, "")
    assert "environment variable HTTPS_PROXY" in done.stderr


def test_a_variable_that_is_right_leaves_the_files_mistakes_with_the_file(file, monkeypatch):
    monkeypatch.setenv("WHEELWAY_ROLLOUT", '{"max_staging": 2}')
    text = GOOD.replace("interval = 5", "interval = -5")
    with pytest.raises(ConfigError, match=r"controller\.toml:7: rollout\.interval"):
        parse(text, file)


@pytest.mark.parametrize("versions", [">=" + "9" * 5000, "==1." + "0." * 4000 + "1"])
def test_versions_that_cannot_be_compared_are_a_mistake(tmp_path, versions):
    with pytest.raises(ConfigError, match="write PEP 440 specifiers"):
        parse(f"{GOOD}versions = '{versions}'\n", tmp_path / "controller.toml")
