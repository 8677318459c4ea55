"""The configuration file while the daemon runs: edits that are whole and good, and all others."""

from __future__ import annotations

import pytest

from controller.daemon.config_file import ConfigurationFile
from controller.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "controller.toml"
    path.write_text("[rollout]\ninterval = 1\n")
    return path


def test_a_file_that_cannot_be_used_at_the_start_is_an_error(tmp_path):
    path = tmp_path / "controller.toml"
    with pytest.raises(ConfigError, match="cannot be read"):
        ConfigurationFile(path)
    path.write_text("[rollout]\nintervall = 1\n")
    with pytest.raises(ConfigError, match=r"controller\.toml:2: rollout\.intervall: unknown key"):
        ConfigurationFile(path)


def test_an_edit_counts_when_the_file_looks_the_same_twice(file):
    opened = ConfigurationFile(file)
    assert not opened.edited()
    assert not opened.settling
    for half in ("[rollout]\n", "[rollout]\ninterval", "[rollout]\ninterval = 2"):
        file.write_text(half)  # the first and the last of them are whole by accident
        assert not opened.edited()
        assert opened.settling
        assert (opened.config.rollout.interval, opened.trouble) == (1, None)
    file.write_text("[rollout]\ninterval = 20\n")
    assert [opened.edited(), opened.edited(), opened.edited()] == [False, True, False]
    assert opened.config.rollout.interval == 20
    assert not opened.settling


def test_a_broken_edit_is_reported_until_it_is_mended_or_undone(file):
    opened, good = ConfigurationFile(file), file.read_text()
    for mended, changed in ((good, False), ("[rollout]\ninterval = 2\n", True)):
        file.write_text("[rollout]\ninterval = 0\n")
        assert [opened.edited(), opened.edited()] == [False, False]
        assert (opened.trouble.subject, opened.trouble.reason) == ("config", "ConfigInvalid")
        assert f"{file}:2: rollout.interval" in opened.trouble.message
        assert opened.config.rollout.interval == 1
        file.write_text(mended)
        assert [opened.edited(), opened.edited()] == [False, changed]
        assert opened.trouble is None


def test_a_file_that_went_away_is_reported_until_it_is_back(file):
    opened, good = ConfigurationFile(file), file.read_text()
    file.unlink()
    assert not opened.edited()
    assert opened.trouble.reason == "ConfigUnreadable"
    file.write_text(good)
    assert not opened.edited()
    assert opened.trouble is None


def test_an_edit_that_means_the_same_changes_nothing(file):
    opened = ConfigurationFile(file)
    file.write_text("# slowly\n" + file.read_text())
    assert [opened.edited(), opened.edited()] == [False, False]
    assert opened.trouble is None


def test_an_edit_of_a_type_counts_though_python_takes_the_values_for_the_same(file):
    opened, rule = ConfigurationFile(file), '[[pipelines]]\nname = "demo"\nsettings = {{n = {}}}\n'
    for value in ("0", "false", "0.0"):
        file.write_text(rule.format(value))
        assert [opened.edited(), opened.edited(), opened.edited()] == [False, True, False]


def test_an_edit_that_meets_a_bug_is_a_condition_as_long_as_it_stays(file, monkeypatch):
    opened, before = ConfigurationFile(file), file.read_text()

    def buggy(text, path):
        raise RuntimeError("a bug")

    monkeypatch.setattr("controller.config.loading.parse", buggy)
    file.write_text(before + "max_staging = 2\n")
    for _ in range(4):
        assert not opened.edited()
    assert opened.trouble.reason == "InternalError"
    assert opened.config.rollout.interval == 1
    monkeypatch.undo()
    file.write_text(before + "max_staging = 3\n")
    assert [opened.edited(), opened.edited()] == [False, True]
    assert opened.trouble is None


def test_another_folder_for_the_journal_needs_a_restart(file):
    opened = ConfigurationFile(file)
    file.write_text('[paths]\nstate = "elsewhere"\n')
    assert [opened.edited(), opened.edited()] == [False, True]
    assert opened.trouble.reason == "RestartNeeded"
