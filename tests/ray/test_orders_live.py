"""What a person orders at the control socket, and what the live daemon does about it."""

import pytest
from packaging.version import Version

from controller.journal import Journal
from controller.model import Phase
from tests.support.head import eventually
from tests.support.service import on_socket

pytestmark = pytest.mark.ray


def live(site):
    return {str(release.split("@")[1].split("+")[0]) for release in running(site)}


def running(site):
    return [release for release, phase in site.phases().items() if phase is Phase.LIVE]


def test_suspend_rollback_and_pin_act_on_the_live_daemon(site):
    site.configure("[rollout]\ninterval = 1\n")
    with site.daemon(), on_socket(site.folder / "state" / "control.sock") as client:

        def order(path, **body):
            answer = client.post(f"/v1/{path}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        site.drop("ordered", "1.0")
        site.wait_for_phase(site.wait_for("/predict/ordered/1.0"), Phase.LIVE)
        site.drop("ordered", "2.0")
        site.wait_for_phase(site.wait_for("/predict/ordered/2.0"), Phase.LIVE)

        order("suspend", pipeline="ordered", by="alice")
        site.drop("ordered", "3.0")
        assert order("reconcile")["complete"]
        eventually(lambda: site.conditions("Suspended"))
        eventually(lambda: Version("3.0") in {r.version for r in known(site)})
        sent = site.sent()
        assert order("reconcile")["plan"]["changes"] == []
        assert live(site) == {"1.0", "2.0"}
        assert site.sent() == sent

        done = order("rollback", pipeline="ordered")
        assert (done["before"], done["after"]) == ("2.0", "1.0")
        assert order("reconcile")["plan"]["changes"] == [], "it is still suspended"
        order("resume", pipeline="ordered")
        eventually(lambda: live(site) == {"1.0"})
        eventually(lambda: not site.release_at("/predict/ordered/2.0"))
        assert site.ask("/predict/ordered/1.0", 1).json()["version"] == "1.0"

        order("pin", pipeline="ordered", versions=["3.0"])
        site.wait_for("/predict/ordered/3.0")
        eventually(lambda: live(site) == {"3.0"})
        order("unpin", pipeline="ordered")
        eventually(lambda: live(site) == {"2.0", "3.0"})
        assert client.get("/readyz").status_code == 200
        told = client.get("/v1/history?pipeline=ordered&limit=500").json()["events"]
        ours = {"SuspensionSet", "SuspensionLifted", "PinSet", "PinLifted"}
        assert ours <= {event["reason"] for event in told}


def known(site):
    with Journal.read(site.folder / "state") as journal:
        return [record.release for record in journal.releases("ordered")]
