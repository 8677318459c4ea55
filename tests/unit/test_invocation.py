"""Which configuration a command uses, where that says its daemon is, and what the shell offers."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.cli.invocation import Whereabouts, whereabouts
from controller.cli.program import ExitCode, global_first
from controller.cli.serving import _command
from controller.config.loading import load
from tests.support.command import Command

pytestmark = pytest.mark.unit


@pytest.fixture
def wheelway(tmp_path):
    return Command(tmp_path)


@pytest.fixture
def filled(wheelway):
    wheelway.fill()
    return wheelway


def test_without_a_configuration_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["status"], env={"WHEELWAY_CONFIG": None})
    if Path("/etc/wheelway/controller.toml").exists():
        pytest.skip("this machine has a configuration of its own")
    assert result.exit_code == ExitCode.CONFIG
    assert "--config" in result.stderr
    assert "wheelway up" in result.stderr


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """A configuration that another user left in a folder above, and a folder below it."""
    if Path("/etc/wheelway/controller.toml").exists():
        pytest.skip("this machine has a configuration of its own")
    found = tmp_path / ".wheelway/controller.toml"
    found.parent.mkdir()
    found.write_text('[ray]\npython = "evil"\n')
    below = tmp_path / "mine"
    below.mkdir()
    monkeypatch.chdir(below)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return found


def belongs_to_a_stranger(path, monkeypatch):
    if os.geteuid() == 0:
        os.chown(path, 4242, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)


@pytest.mark.parametrize("which", ["folder", "file", "link"])
def test_a_configuration_that_another_user_left_above_is_not_used(strangers, monkeypatch, which):
    if which == "link":
        strangers.rename(strangers.with_name("elsewhere.toml"))
        strangers.symlink_to("elsewhere.toml")
    belongs_to_a_stranger(strangers.parent if which == "folder" else strangers, monkeypatch)
    for command in (["config", "check"], ["plan"], ["status"]):
        result = CliRunner().invoke(app, command, env={"WHEELWAY_CONFIG": None})
        assert result.exit_code == ExitCode.CONFIG, result.output
        assert "not to you, so it is not used" in result.stderr
        assert f"--config {strangers}" in result.stderr
    named = CliRunner().invoke(app, ["config", "check", str(strangers)])
    assert "not to you" not in named.stderr


def test_a_configuration_of_ones_own_above_is_used(strangers, monkeypatch):
    result = CliRunner().invoke(app, ["config", "check"], env={"WHEELWAY_CONFIG": None})
    assert f"{strangers} is right" in "".join(result.stdout.splitlines())


def test_up_does_not_go_on_where_another_user_left_a_state(strangers, monkeypatch):
    monkeypatch.chdir(strangers.parent.parent)
    belongs_to_a_stranger(strangers.parent, monkeypatch)
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == ExitCode.CONFIG
    assert "not to you" in result.stderr
    assert strangers.read_text() == '[ray]\npython = "evil"\n'


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        (["run", "--config", "x"], ["--config", "x", "run"]),
        (["run", "--config=x", "--debug"], ["--config=x", "--debug", "run"]),
        (["config", "check", "--config", "x", "y"], ["--config", "x", "config", "check", "y"]),
        (["explain", "--", "--config", "x"], ["explain", "--", "--config", "x"]),
        (["run", "--config"], ["--config"]),
        ([], []),
    ],
)
def test_the_configuration_may_be_named_after_the_command_too(given, understood):
    assert global_first(given) == understood


def test_a_command_takes_the_configuration_from_after_it(filled):
    after = CliRunner().invoke(app, ["status", "--json", "--config", str(filled.config)])
    assert after.exit_code == 0
    assert json.loads(after.stdout)["releases"]
    nothing = CliRunner().invoke(app, ["status", "--config"])
    assert nothing.exit_code == ExitCode.USAGE
    assert "--config" in nothing.stderr


@pytest.mark.parametrize(
    "more", ["", "[paths]\n", '[paths]\nstate = "s"\n', '[api]\nsocket = "/run/x.sock"\n']
)
def test_where_the_daemon_is_is_read_as_the_whole_configuration_says_it(tmp_path, more):
    file = tmp_path / "controller.toml"
    file.write_text(f"[policy]\n{more}")
    config = load(file)
    found = whereabouts(file)
    assert found == Whereabouts(config.paths.state, config.api.path(config.paths.state))


@pytest.mark.parametrize(
    "text", ["x = = 1", "paths = 1", '[paths]\nstate = "~/s"', "[api]\nsocket = 1"]
)
def test_what_is_said_otherwise_is_left_to_the_whole_reading(tmp_path, text, monkeypatch):
    file = tmp_path / "controller.toml"
    file.write_text(text)
    assert whereabouts(file) is None
    file.write_text("")
    monkeypatch.setenv("WHEELWAY_PATHS__STATE", "/elsewhere")
    assert whereabouts(file) is None


@pytest.mark.parametrize("mistake", ["keep = = 2", "[rollout]\nnope = 1"])
def test_a_mistake_in_the_configuration_does_not_hide_the_journal(filled, mistake):
    filled.config.write_text(f"{filled.config.read_text()}\n{mistake}\n")
    result = filled("status")
    assert result.exit_code == 0
    assert "iris" in result.stdout
    assert result.stderr.count("warning: ") == 1
    assert f"{filled.config}:" in result.stderr


def test_what_up_left_is_found_from_a_folder_below(filled, tmp_path, monkeypatch):
    beside = tmp_path / ".wheelway" / "controller.toml"
    beside.parent.mkdir()
    beside.write_text(f'[paths]\nstate = "{filled.state}"\n')
    below = tmp_path / "project" / "src"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    result = CliRunner().invoke(app, ["status"], prog_name="wheelway")
    assert result.exit_code == 0, result.stderr
    assert "iris" in result.stdout


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Where a service would have its configuration."""
    system = tmp_path / "etc" / "controller.toml"
    system.parent.mkdir()
    monkeypatch.setattr("controller.cli.invocation.SYSTEM", system)
    monkeypatch.delenv("WHEELWAY_CONFIG", raising=False)
    monkeypatch.setattr(sys, "argv", ["wheelway", "up"])
    return system


def test_lines_to_copy_name_the_configuration_wherever_a_plain_call_finds_another(
    installed, tmp_path, monkeypatch
):
    beside = tmp_path / "here" / ".wheelway" / "controller.toml"
    beside.parent.mkdir(parents=True)
    beside.touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("controller.cli.serving.shutil.which", lambda _: "/usr/bin/wheelway")
    own = Path(".wheelway/controller.toml")
    assert _command(own) == "wheelway"
    assert _command(Path("state/controller.toml")).endswith("--config state/controller.toml")
    installed.touch()  # now a service is installed as well
    assert _command(own) == "wheelway --config .wheelway/controller.toml"
    installed.unlink()
    other = tmp_path / "other.toml"
    other.touch()
    monkeypatch.setenv("WHEELWAY_CONFIG", str(other))
    assert _command(own) == "wheelway --config .wheelway/controller.toml"
    monkeypatch.setenv("WHEELWAY_CONFIG", str(beside))
    assert _command(own) == "wheelway"


def _completed(wheelway, line):
    """What bash would offer at the end of a command line."""
    words = ["wheelway", "--config", str(wheelway.config), *line.split(" ")]
    environ = {
        "_WHEELWAY_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = CliRunner().invoke(app, [], prog_name="wheelway", env=environ)
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_commands_options_pipelines_and_versions(filled):
    assert _completed(filled, "sta") == ["status"]
    assert "--watch" in _completed(filled, "status --")
    assert _completed(filled, "explain ") == ["acme-iris", "greeter", "iris"]
    assert _completed(filled, "history gr") == ["greeter"]
    assert _completed(filled, "explain iris ") == ["2.0", "1.0", "0.9"]


def test_without_a_journal_the_shell_is_offered_nothing_and_told_nothing(wheelway):
    assert _completed(wheelway, "explain ") == []


def test_config_check_says_what_was_understood(wheelway):
    wheelway.configure('[[pipelines]]\nname = "iris"\nversions = ">=1"\nkeep = 3\n')
    result = wheelway("config", "check")
    assert result.exit_code == 0
    assert str(wheelway.root / "wheels") in result.stdout
    assert "iris: the newest 3 of >=1" in result.stdout


def test_config_check_names_file_line_and_key_of_each_mistake(wheelway):
    wheelway.configure("[rollout]\nmax_stagin = 3\nworkers = 0\n")
    result = wheelway("config", "check")
    assert result.exit_code == ExitCode.CONFIG
    assert f"{wheelway.config}:8: rollout.max_stagin: unknown key" in result.stderr
    assert f"{wheelway.config}:9: rollout.workers: " in result.stderr
    assert result.stdout == ""
    other_command = wheelway("status")
    assert other_command.exit_code == ExitCode.CONFIG
    assert "rollout.max_stagin" in other_command.stderr
    as_json = json.loads(wheelway("config", "check", "--json").stdout)
    assert not as_json["ok"]
    assert len(as_json["mistakes"]) == 2


def test_config_check_finds_a_template_that_cannot_be_used(wheelway):
    folder = wheelway.root / "templates"
    folder.mkdir()
    (folder / "application.yaml.j2").write_text("name: {{ name | json }}\nargs: {{ nothing }}\n")
    wheelway.configure('templates = "templates"\n')
    result = wheelway("config", "check")
    assert result.exit_code == ExitCode.CONFIG
    assert "application.yaml.j2:2" in result.stderr


def test_the_schema_lists_every_key_with_type_default_and_meaning(wheelway):
    text = wheelway("config", "check", "--schema").stdout
    assert "[[sources]]" in text
    assert "[serve.defaults]" in text
    assert '  interval  (number > 0 | "30s", default 5.0)\n      Seconds between two passes' in text
    schema = wheelway.json("config", "check", "--schema")
    assert schema["properties"].keys() >= {"sources", "ray", "pipelines", "rollout"}
    for model in schema["$defs"].values():
        for key in model["properties"]:
            assert f"  {key}  (" in text or f".{key}]" in text
