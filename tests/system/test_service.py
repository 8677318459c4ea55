"""The service on a real systemd, in the order in which an operator meets it.

The tests share one machine and build on each other: install, first wheel, look, orders, upgrade,
roll back, break, mend, remove, as docs/operating.md tells it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.support.head import eventually
from tests.support.systemd import OUTSIDE
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

PREFIX = "/opt/wheelway"
WHEELWAY = f"{PREFIX}/bin/wheelway"
CONFIG = "/etc/wheelway/controller.toml"
VARIABLES = "/etc/wheelway/ray-head.env"
INGRESS = "http://127.0.0.1:8000"
ROUTE = f"{INGRESS}/predict/demo/1.0"
SECOND = f"{INGRESS}/predict/demo/2.0"
SOCKET = "/var/lib/wheelway/control.sock"
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
STATE = {"/var/lib/wheelway", "/var/lib/wheelway-ray", "/var/cache/wheelway", "/var/log/wheelway"}
IMPATIENT = "[Service]\nWatchdogSec=10\nTimeoutAbortSec=1\n"
QUICK = """\
# So long a retired replica is kept for proxies to forget it; 30 s otherwise.
RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S=8
# Otherwise Ray starts a process for each logical CPU beforehand.
RAY_prestart_worker_first_driver=0
"""
"""An operator's variables for the Ray head."""
LITTLE = "[options.ray_actor_options]\nnum_cpus = 0.1\n"
"""Several versions fit on a small machine."""


@pytest.fixture(scope="module")
def there_before(machine):
    """What is called wheelway before anything of it is installed: what this computer has itself."""
    return called_wheelway(machine)


@pytest.fixture(scope="module")
def installed(machine, there_before):
    """The units lie there; what `install` said came next has been done, but for the start."""
    told = machine.run(WHEELWAY, "systemd", "install").stdout
    following = told.splitlines()[-1].removeprefix("Next: ")
    prepare, _, start = following.rpartition(" && ")
    assert start == "systemctl enable --now wheelway-ray-head wheelway"
    machine.run("sh", "-c", prepare)
    machine.run("useradd", "--groups", "wheelway-admin", "ada")
    return machine


@pytest.fixture(scope="module")
def daemon(installed):
    """The daemon runs; Ray does not yet."""
    installed.write(VARIABLES, QUICK)
    installed.run("systemctl", "enable", "--now", "wheelway")
    return installed


@pytest.fixture(scope="module")
def serving(daemon, tmp_path_factory):
    """Ray runs too, and a wheel was dropped and answers."""
    daemon.run("systemctl", "enable", "--now", "wheelway-ray-head")
    publish(daemon, make_wheel(tmp_path_factory.mktemp("made"), wheelway_toml=LITTLE))
    eventually(lambda: daemon.ask(ROUTE).status == 200, 180)
    # Live is said after it was seen to answer.
    eventually(lambda: [r["phase"] for r in status(daemon)["releases"]] == ["Live"])
    return daemon


def publish(machine, wheel):
    machine.put(wheel, f"/srv/wheels/{wheel.name}")


def called_wheelway(machine):
    """What is called so where a service has files. Temporary ones may be anybody's here,
    whose files the machine sees below its own.
    """
    found = machine.run(
        *("find", "/etc", "/run", "/usr/lib", "/usr/local", "/var", "-iname", "*wheelway*"),
        *("-not", "-path", "/var/log/journal/*", "-not", "-path", "/var/tmp/*"),
    )
    return set(found.stdout.splitlines())


def connect(machine, user, socket=SOCKET):
    """What comes of connecting to a socket as a user: the error's name, or nothing."""
    done = machine.run(f"{PREFIX}/bin/python", "-Ic", CONNECT, socket, user=user, check=False)
    return re.match(r"\w*", (done.stderr.splitlines() or [""])[-1])[0]


def restart(machine):
    """Restart the daemon, and wait until it knows what serves."""
    machine.run("systemctl", "restart", "wheelway")
    eventually(lambda: " live" in machine.show("wheelway", "StatusText"))


def status(machine):
    return json.loads(machine.run(WHEELWAY, "status", "--json", check=False).stdout or "{}")


def reached(machine, port):
    """Whether something takes connections at the machine's outside address."""
    code = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
    return not machine.run(
        *(f"{PREFIX}/bin/python", "-Ic", code, OUTSIDE, str(port)), check=False
    ).returncode


def main_pid(machine, unit="wheelway"):
    return int(machine.show(unit, "MainPID"))


def recovered(machine, before):
    """Whether another daemon runs, and is ready."""
    ready = machine.show("wheelway", "ActiveState") == "active"
    return ready and main_pid(machine) not in {0, before}


def test_the_daemon_starts_and_stays_up_when_ray_is_not_there_yet(daemon):
    assert daemon.show("wheelway", "ActiveState") == "active"
    assert daemon.show("wheelway", "StatusText").startswith("waiting for Ray")
    assert daemon.show("wheelway", "User") == "wheelway"


@pytest.mark.parametrize("command", ["status", "history", "explain demo", "pin demo 1.0"])
def test_whoever_is_in_no_group_is_told_which_one_it_takes(daemon, command):
    refused = daemon.run(WHEELWAY, *command.split(), user="nobody", check=False)
    assert refused.returncode == 77, refused.stderr
    assert "members of the group wheelway-admin" in refused.stderr


def test_a_dropped_wheel_answers_at_its_route(serving):
    answer = serving.ask(ROUTE, json.dumps({"x": 1}))
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["echo"] == {"x": 1}
    eventually(lambda: "1 live" in serving.show("wheelway", "StatusText"))


def test_serve_status_and_wheelway_status_agree(serving):
    ours = {release["placement"] for release in status(serving)["releases"]}
    theirs = yaml.safe_load(serving.run(f"{PREFIX}/bin/serve", "status").stdout)["applications"]
    assert {name for name, app in theirs.items() if app["status"] == "RUNNING"} >= ours
    assert len(ours) == 1


def test_what_an_operator_sets_for_ray_is_set_there(serving):
    environment = serving.run(
        "cat", f"/proc/{main_pid(serving, 'wheelway-ray-head')}/environ"
    ).stdout
    assert set(QUICK.splitlines()[1::2]) <= set(environment.split("\0"))


def test_only_the_routes_listen_where_others_may_reach_them(serving):
    public = {port for scope, port in serving.listening() if scope == "all"}
    assert ("local", 8000) in serving.listening()
    assert ("local", 8404) in serving.listening()
    assert not public & {6379, 8000, 8265, 8404, 9101, 10001, 52365}
    assert serving.ask(f"http://{OUTSIDE}:8000/").status == 0
    # That this would be noticed: Ray leaves no choice about its gRPC ports.
    assert any(reached(serving, port) for port in public)


def test_ray_reads_the_cache_and_cannot_write_it_and_others_cannot_see_it(serving):
    cache = "/var/cache/wheelway"
    serving.run("ls", f"{cache}/wheels", user="wheelway-ray")
    assert serving.run("touch", f"{cache}/new", user="wheelway-ray", check=False).returncode
    assert serving.run("ls", cache, user="nobody", check=False).returncode
    files = serving.run("find", cache, "!", "-perm", "-g=r", "!", "-type", "l").stdout.split()
    # uv's own cache, locks and what is being made are nobody's business; what replicas run from is
    # all readable.
    run_from = re.compile(rf"{cache}/(trees|environments)/(?!\.)")
    assert list(filter(run_from.match, files)) == []


def test_an_admin_gives_orders_and_a_pipeline_cannot_with_or_without_the_units_sandbox(serving):
    assert "wheelway" in serving.run("id", "-nG", "wheelway-ray").stdout.split()
    assert connect(serving, "wheelway-ray") == "PermissionError"
    assert connect(serving, "nobody") == "PermissionError"
    assert connect(serving, "ada") == ""
    for folder in ("/var/lib/wheelway", "/var/log/wheelway"):
        seen = ("nsenter", "-t", str(main_pid(serving, "wheelway-ray-head")), "-m", "ls", "-A")
        assert serving.run(*seen, folder).stdout == ""  # in the unit, even to root
        assert serving.run("ls", folder, user="wheelway-ray", check=False).returncode
        serving.run("ls", folder, user="ada")
    journal = "/var/lib/wheelway/journal.sqlite"
    assert serving.run("cat", journal, user="wheelway-ray", check=False).returncode
    assert serving.run("stat", "-c", "%G", journal).stdout == "wheelway-admin\n"
    assert serving.run(WHEELWAY, "reconcile", user="wheelway-ray", check=False).returncode
    serving.run(WHEELWAY, "reconcile", user="ada")


def test_the_socket_can_be_given_to_a_group_of_the_operators_own(serving):
    serving.run("groupadd", "operators")
    serving.run("useradd", "--groups", "operators", "grace")
    text, other = serving.path(CONFIG).read_text(), "/run/wheelway/control.sock"
    folder = "/etc/tmpfiles.d/operators.conf"
    dropin = "/etc/systemd/system/wheelway.service.d/operators.conf"
    serving.write(folder, "d /run/wheelway 2750 wheelway operators -\n")
    serving.write(dropin, "[Service]\nReadWritePaths=/run/wheelway\n")
    serving.write(CONFIG, f'{text}\n[api]\nsocket = "{other}"\n')
    serving.run("systemd-tmpfiles", "--create", "operators.conf")
    serving.run("systemctl", "daemon-reload")
    restart(serving)
    serving.run(WHEELWAY, "reconcile", user="grace")
    for user in ("wheelway-ray", "ada"):
        assert connect(serving, user, other) == "PermissionError"
    serving.write(CONFIG, text)
    serving.run("rm", "-r", folder, dropin, "/run/wheelway")
    serving.run("rmdir", "--ignore-fail-on-non-empty", str(Path(dropin).parent))
    serving.run("systemctl", "daemon-reload")
    restart(serving)
    assert connect(serving, "ada") == ""


def taken_up(serving):
    """How often a new configuration came into force."""
    return serving.journal("wheelway").count("the new configuration is in force")


def test_the_metrics_tell_what_the_daemon_takes_itself(serving):
    said = taken_up(serving)
    text = serving.path(CONFIG).read_text()
    serving.write(CONFIG, f'{text}\n[api]\nlisten = "127.0.0.1:9180"\n')
    serving.run("systemctl", "reload", "wheelway")
    eventually(lambda: serving.ask("http://127.0.0.1:9180/metrics").status == 200)
    told = serving.ask("http://127.0.0.1:9180/metrics").body
    for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds", "start_time_seconds"):
        found = re.search(rf"^process_{name} (\S+)$", told, re.MULTILINE)
        assert found, name
        assert float(found[1]) > 0
    assert 'wheelway_releases{phase="Live",pipeline="demo"} 1.0' in told
    eventually(lambda: taken_up(serving) == said + 1)
    serving.write(CONFIG, text)
    serving.run("systemctl", "reload", "wheelway")
    eventually(lambda: taken_up(serving) == said + 2)


def test_a_reload_takes_up_an_edit_at_once(serving):
    said = taken_up(serving)
    before = main_pid(serving)
    text = serving.path(CONFIG).read_text()
    serving.write(CONFIG, f"{text}\n[rollout]\ninterval = 4.5\n")
    serving.run("systemctl", "reload", "wheelway")
    eventually(lambda: taken_up(serving) == said + 1)
    serving.write(CONFIG, text)
    serving.run("systemctl", "reload", "wheelway")
    eventually(lambda: taken_up(serving) == said + 2)
    eventually(lambda: serving.show("wheelway", "ActiveState") == "active")
    assert main_pid(serving) == before


def test_a_reload_of_a_broken_edit_fails_with_its_line_and_changes_nothing(serving):
    before = main_pid(serving)
    text = serving.path(CONFIG).read_text()
    serving.write(CONFIG, f"{text}\n[rollout]\ninterval = -1\n")
    line = len(text.splitlines()) + 3
    assert serving.run("systemctl", "reload", "wheelway", check=False).returncode
    serving.write(CONFIG, text)
    assert f"{CONFIG}:{line}: rollout.interval:" in serving.journal("wheelway")
    assert main_pid(serving) == before
    assert serving.ask(ROUTE).status == 200


def test_a_killed_daemon_is_started_again_and_the_routes_never_notice(serving):
    before = main_pid(serving)
    serving.run("kill", "-KILL", str(before))
    assert serving.ask(ROUTE).status == 200
    eventually(lambda: recovered(serving, before), 60)
    eventually(lambda: "1 live" in serving.show("wheelway", "StatusText"))
    assert serving.ask(ROUTE).status == 200


def test_a_daemon_that_hangs_is_noticed_and_replaced(serving):
    serving.write("/run/systemd/system/wheelway.service.d/impatient.conf", IMPATIENT)
    serving.run("systemctl", "daemon-reload")
    serving.run("systemctl", "restart", "wheelway")
    before = main_pid(serving)
    serving.run("kill", "-STOP", str(before))
    assert serving.run("systemctl", "reload", "wheelway", check=False).returncode
    eventually(lambda: recovered(serving, before), 90)
    assert "Watchdog timeout" in serving.run("journalctl", "-u", "wheelway", "--no-pager").stdout
    assert serving.ask(ROUTE).status == 200
    serving.run("rm", "-r", "/run/systemd/system/wheelway.service.d")
    serving.run("systemctl", "daemon-reload")


def test_a_broken_configuration_stays_down_with_one_line_that_says_why(serving):
    text = serving.path(CONFIG).read_text()
    serving.write(CONFIG, text + "\n[roll-out]\n")
    assert serving.run("systemctl", "restart", "wheelway", check=False).returncode
    eventually(lambda: serving.show("wheelway", "ActiveState") == "failed")
    assert serving.show("wheelway", "ExecMainStatus") == "78"
    assert serving.show("wheelway", "SubState") == "failed"  # not waiting to be started again
    invocation = serving.show("wheelway", "InvocationID")
    said = serving.run(
        "journalctl", "-o", "cat", "--no-pager", f"_SYSTEMD_INVOCATION_ID={invocation}"
    ).stdout
    assert re.fullmatch(rf"error: {CONFIG}:\d+: roll-out: .+\n", said)
    assert serving.ask(ROUTE).status == 200
    serving.write(CONFIG, text)
    serving.run("systemctl", "restart", "wheelway")
    eventually(lambda: "1 live" in serving.show("wheelway", "StatusText"))


def test_a_second_version_is_served_beside_the_first(serving, tmp_path):
    publish(serving, make_wheel(tmp_path, version="2.0", wheelway_toml=LITTLE))
    eventually(lambda: serving.ask(SECOND).status == 200, 180)
    assert serving.ask(ROUTE).status == 200
    eventually(lambda: "2 live" in serving.show("wheelway", "StatusText"))


def test_installing_again_keeps_everything_and_the_routes_never_notice(serving):
    told = serving.run(WHEELWAY, "systemd", "install").stdout.splitlines()
    assert {line.split()[0] for line in told[:-1]} == {"unchanged"}
    before = main_pid(serving)
    serving.run("sh", "-c", told[-1].removeprefix("Next: "))
    assert main_pid(serving) not in {0, before}
    eventually(lambda: "2 live" in serving.show("wheelway", "StatusText"))
    assert [serving.ask(url).status for url in (ROUTE, SECOND)] == [200, 200]


def test_a_rollback_takes_the_newer_version_away_until_it_is_lifted(serving):
    serving.run(WHEELWAY, "rollback", "demo", "--note", "2.0 scores worse", user="ada")
    eventually(lambda: serving.ask(SECOND).status == 404)
    assert serving.ask(ROUTE).status == 200
    assert "2.0 scores worse" in serving.run(WHEELWAY, "explain", "demo").stdout
    serving.run(WHEELWAY, "unpin", "demo", user="ada")
    eventually(lambda: serving.ask(SECOND).status == 200, 180)
    assert serving.ask(ROUTE).status == 200


def test_a_bad_wheel_is_set_aside_explained_and_mended_by_another(serving, tmp_path):
    url = f"{INGRESS}/predict/other/1.0"
    code = "raise RuntimeError('the model is missing')\n"
    publish(serving, make_wheel(tmp_path / "bad", "other", code=code, wheelway_toml=LITTLE))
    quarantine = (WHEELWAY, "quarantine", "list")
    eventually(lambda: "other" in serving.run(*quarantine, user="ada").stdout, 180)
    said = serving.run(WHEELWAY, "explain", "other", "1.0", user="ada", check=False).stdout
    assert "the model is missing" in said
    assert serving.ask(url).status == 404
    publish(serving, make_wheel(tmp_path / "good", "other", wheelway_toml=LITTLE))
    eventually(lambda: serving.ask(url).status == 200, 180)
    # The bytes that failed stay known as such; what serves is the other.
    live = {("other", "Live")}
    eventually(lambda: live <= {(r["pipeline"], r["phase"]) for r in status(serving)["releases"]})


def test_stopping_the_daemon_leaves_ray_serving(serving):
    serving.run("systemctl", "stop", "wheelway")
    assert serving.show("wheelway", "ActiveState") == "inactive"
    assert serving.show("wheelway", "Result") == "success"
    assert serving.ask(ROUTE).status == 200
    # Nobody answers, so it is read in the journal: by who may.
    told = serving.run(WHEELWAY, "status", "--json", user="ada", check=False).stdout
    assert "Live" in {release["phase"] for release in json.loads(told)["releases"]}
    refused = serving.run(WHEELWAY, "status", "--json", user="wheelway-ray", check=False)
    assert refused.returncode
    assert refused.stdout == ""


def test_stopping_the_ray_unit_leaves_no_process(serving):
    assert "haproxy" in serving.run("ps", "-u", "wheelway-ray", "-o", "comm=").stdout
    serving.run("systemctl", "stop", "wheelway-ray-head")
    assert serving.show("wheelway-ray-head", "Result") == "success"
    assert serving.run("ps", "-u", "wheelway-ray", "-o", "comm=", check=False).stdout == ""
    assert serving.listening() == set()


def test_uninstalling_leaves_nothing_but_state(daemon, there_before):
    refused = daemon.run(WHEELWAY, "systemd", "uninstall", check=False)
    assert refused.returncode == 1
    command = re.search(r"first: (systemctl disable .+)", refused.stderr)
    assert command, refused.stderr
    daemon.run(*command[1].split())
    daemon.run("rm", VARIABLES)
    daemon.run(WHEELWAY, "systemd", "uninstall")
    daemon.run("systemctl", "daemon-reload")
    left = called_wheelway(daemon) - there_before
    assert {p for p in left if not any(f"{p}/".startswith(f"{s}/") for s in STATE)} == set()
