"""The service's files: laid down, brought up to date, taken away; and what systemd says of them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from controller.cli import app
from controller.cli.program import ExitCode
from controller.config.loading import load
from controller.config.settings import Config
from controller.errors import Stalled
from controller.installation import units
from controller.installation.units import (
    CONFIGURATION,
    RECORD,
    UNITS,
    Target,
    Verb,
    install,
    uninstall,
)

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
ETC = Path("/etc/systemd/system")
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def target(tmp_path):
    """A machine that has the command where the units will look for it."""
    prefix = tmp_path / "opt"
    command = prefix / "bin/wheelway"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    return Target(tmp_path / "root", prefix, 252)


def files(target):
    return {
        Path("/", path.relative_to(target.root)): path.read_text()
        for path in target.root.rglob("*")
        if path.is_file()
    }


def verbs(changes):
    return {Path(change.path).name: change.verb for change in changes}


# -- laying down and taking away -----------------------------------------------------------------


def test_what_was_laid_down_is_removed_and_nothing_else(target):
    own = target.at(Path("/etc/systemd/system/other.service"))
    own.parent.mkdir(parents=True)
    own.write_text("[Service]\n")
    install(target)
    assert {ETC / unit for unit in UNITS} | {CONFIGURATION, RECORD} <= set(files(target))
    uninstall(target)
    assert files(target) == {Path("/etc/systemd/system/other.service"): "[Service]\n"}
    assert not target.at(Path("/etc/wheelway")).exists()
    assert not target.at(Path("/etc/sysusers.d")).exists()


def test_a_dry_run_says_the_same_and_does_nothing(target):
    planned = install(target, dry_run=True)
    assert not target.root.exists()
    assert install(target) == planned
    before = files(target)
    assert uninstall(target, dry_run=True) == uninstall(target)
    assert before
    assert files(target) == {}


def test_a_second_time_nothing_changes(target):
    install(target)
    before = files(target)
    assert set(verbs(install(target)).values()) == {Verb.UNCHANGED}
    assert files(target) == before


def test_units_start_the_command_where_it_is(target):
    install(target)
    for unit in UNITS:
        text = files(target)[ETC / unit]
        assert f"ExecStart={target.prefix}/bin/wheelway " in text
        assert "/opt/wheelway" not in text


def test_an_upgrade_replaces_what_was_not_edited_and_keeps_what_was(target):
    install(target)
    unit, other = (target.at(ETC / name) for name in UNITS)
    unit.write_text(unit.read_text() + "# mine\n")
    moved = Target(target.root, Path("/srv/wheelway"), 252)
    told = verbs(install(moved))
    assert told["wheelway.service"] is Verb.KEPT
    assert told["wheelway-ray-head.service"] is Verb.UPDATED
    assert unit.read_text().endswith("# mine\n")
    assert "/srv/wheelway/bin/" in other.read_text()
    assert verbs(uninstall(moved))["wheelway.service"] is Verb.KEPT
    assert set(files(target)) == {ETC / "wheelway.service"}


def test_the_daemon_may_read_its_configuration_whatever_the_umask_of_who_installs(target):
    before = os.umask(0o077)
    try:
        install(target)
    finally:
        os.umask(before)
    for path in target.at(Path("/etc")).rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_what_could_not_be_removed_is_not_forgotten(target, monkeypatch):
    install(target)
    unlink = Path.unlink

    def refused(path, **options):  # whoever runs this, root included
        if path.name in UNITS:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        with pytest.raises(Stalled) as stalled:
            uninstall(target)
    assert stalled.value.reason == "FileUnwritable"
    assert {UNITS[0], UNITS[1]} <= {path.name for path in files(target)}
    assert verbs(uninstall(target))[UNITS[0]] is Verb.REMOVED
    assert files(target) == {}


def test_a_configuration_is_never_overwritten_nor_removed_once_it_is_somebodys(target):
    install(target)
    configuration = target.at(CONFIGURATION)
    configuration.write_text("[rollout]\ninterval = 9\n")
    assert verbs(install(target))["controller.toml"] is Verb.KEPT
    uninstall(target)
    assert files(target) == {CONFIGURATION: "[rollout]\ninterval = 9\n"}
    assert verbs(install(target))["controller.toml"] is Verb.KEPT


def test_a_newer_systemd_gets_more_and_an_older_one_loses_it(target):
    newer = Target(target.root, target.prefix, 254)
    install(newer)
    dropin = ETC / "wheelway.service.d/10-systemd-254.conf"
    assert "Type=notify-reload" in files(target)[dropin]
    assert "RestartSteps=" in files(target)[dropin]
    assert verbs(install(target))[dropin.name] is Verb.REMOVED
    assert dropin not in files(target)


@pytest.mark.parametrize("link", ["multi-user.target.wants", None])
def test_a_unit_that_is_enabled_or_runs_is_not_pulled_away(target, link):
    install(target)
    if link:
        at = target.at(ETC / link / "wheelway.service")
    else:
        at = target.at(Path("/run/systemd/units/invocation:wheelway.service"))
    at.parent.mkdir(parents=True)
    at.symlink_to("anything")
    before = set(files(target))
    with pytest.raises(Stalled, match="systemctl disable") as stalled:
        uninstall(target)
    assert stalled.value.reason == "StillEnabled"
    assert set(files(target)) == before
    at.unlink()
    uninstall(target)
    assert files(target) == {}


def test_nothing_is_removed_where_nothing_is_recorded(target):
    with pytest.raises(Stalled) as stalled:
        uninstall(target)
    assert stalled.value.reason == "NotInstalled"


@pytest.mark.parametrize("record", ["", "[]", '{"files": []}', '{"files": {}, "folders": 1}'])
def test_a_record_that_says_nothing_is_no_licence_to_remove(target, record):
    install(target)
    target.at(RECORD).write_text(record)
    with pytest.raises(Stalled) as stalled:
        uninstall(target)
    assert stalled.value.reason == "RecordUnreadable"
    assert ETC / "wheelway.service" in files(target)


def test_a_prefix_that_the_units_could_not_see_is_refused(tmp_path):
    with pytest.raises(Stalled, match="/opt/wheelway") as stalled:
        install(Target(Path("/"), Path("/home/me/.venv"), 252), dry_run=True)
    assert stalled.value.reason == "PrefixHidden"


def test_a_prefix_that_cannot_stand_in_a_unit_is_refused(tmp_path):
    with pytest.raises(Stalled) as stalled:
        install(Target(tmp_path, Path("/opt/my wheelway%"), 252))
    assert stalled.value.reason == "PrefixUnusable"
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_did_and_what_comes_next(target, capsys):
    arguments = ["systemd", "install", "--root", str(target.root), "--prefix", "/opt/wheelway"]
    with pytest.raises(SystemExit) as left:
        app(arguments)
    told = capsys.readouterr().out
    assert left.value.code == 0
    assert "wrote " in told
    assert "/etc/systemd/system/wheelway.service" in told
    assert told.splitlines()[-1].startswith("Next: systemctl --root=")
    with pytest.raises(SystemExit) as left:
        app(["systemd", "uninstall", "--root", str(target.root)])
    assert left.value.code == 0
    assert "removed " in capsys.readouterr().out
    assert files(target) == {}


# -- what is laid down ---------------------------------------------------------------------------


@needs_analyze
@pytest.mark.parametrize("systemd", [252, 254])
def test_systemd_finds_nothing_wrong_with_the_units(target, systemd):
    if systemd > units.systemd_version():
        pytest.skip(f"the drop-ins are for systemd {systemd}, here is an older one")
    install(Target(target.root, target.prefix, systemd))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *[target.at(ETC / unit) for unit in UNITS]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_analyze
def test_the_daemon_is_exposed_no_more_than_it_must(target):
    install(target)
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager"),
            target.at(ETC / "wheelway.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = re.search(r"exposure level for wheelway.service: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= 1.5
    assert done.returncode == 0


def test_a_mistake_of_the_operators_restarts_nothing():
    unit = (ROOT / "systemd/wheelway.service").read_text()
    [codes] = re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
    assert {int(code) for code in codes.split()} >= {ExitCode.USAGE, ExitCode.CONFIG}
    assert ExitCode.BUG not in {int(code) for code in codes.split()}


def test_every_setting_of_a_unit_has_its_reason():
    bare = []
    for unit in UNITS:
        explained = False
        service = (ROOT / "systemd" / unit).read_text().split("[Service]")[1].split("[Install]")[0]
        for line in service.splitlines():
            if line.startswith("#"):
                explained = not line.startswith("# --")
            elif "=" not in line:
                explained = False
            elif not explained:
                bare.append(f"{unit}: {line}")
    assert bare == []


def test_the_first_configuration_is_right_and_what_it_shows_are_the_defaults(tmp_path):
    path = tmp_path / "controller.toml"
    text = (ROOT / "systemd/controller.toml").read_text()
    path.write_text(text)
    first = load(path)
    assert [str(source.where) for source in first.sources] == ["/srv/wheels"]
    assert first.model_copy(update={"sources": ()}) == Config()
    # Everything that is commented out can be taken in by removing the sign.
    path.write_text(re.sub(r"^# (\[|\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert load(path).pipelines


def test_the_folder_that_is_watched_is_the_one_that_is_made(tmp_path):
    made = (ROOT / "systemd/tmpfiles.d/wheelway.conf").read_text()
    assert re.search(r"^d /srv/wheels ", made, re.MULTILINE)


# -- the wheel -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The distribution as it is published."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [
            *(Path(sys.executable).with_name("uv"), "build", "--quiet", "--wheel"),
            *("--no-build-isolation", "--python", sys.executable, "--out-dir", folder, ROOT),
        ],
        check=True,
        timeout=120,
    )
    return next(folder.glob("wheelway-*.whl"))


def test_the_wheel_has_every_file_that_the_checkout_has(built):
    with zipfile.ZipFile(built) as wheel:
        inside = set(wheel.namelist())
        mode = wheel.getinfo("controller/rayhead/haproxy-on-loopback").external_attr >> 16
    for name in ("templates", "systemd"):
        for path in (ROOT / name).rglob("*"):
            if path.is_file():
                assert f"controller/data/{path.relative_to(ROOT)}" in inside
    assert mode & 0o111 == 0o111


def test_an_installed_wheel_needs_no_checkout(built, tmp_path):
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(tmp_path / "site")
    asked = (
        "from controller.shipped import folder; from controller.serve.templates import shipped;"
        "print(folder('systemd')); print(shipped())"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    data = tmp_path / "site/controller/data"
    assert done.stdout.split() == [str(data / "systemd"), str(data / "templates")]
    assert (data / "templates/serve.yaml.j2").is_file()


def test_uninstalling_says_which_drop_ins_stay(target, capsys):
    install(target)
    added = target.at(ETC / "wheelway.service.d" / "override.conf")
    added.parent.mkdir(exist_ok=True)
    added.write_text("[Service]\n")
    with pytest.raises(SystemExit):
        app(["systemd", "uninstall", "--root", str(target.root)])
    assert f"Drop-ins that were added to the units stay: {added}\n" in capsys.readouterr().out
    assert added.exists()
