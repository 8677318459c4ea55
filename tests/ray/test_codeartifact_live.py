"""From `twine upload` to a live route and to its end, by way of CodeArtifact's wire: boto3 and the
stand-in. What each state of a version does, and what events do, is shown beside a paper head.
"""

import pytest

from controller.model import Phase
from tests.support.acme import section
from tests.support.codeartifact import StandIn
from tests.support.head import eventually
from tests.support.publishing import twine_upload
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.ray

ROUTE = "/predict/acme-demo/1.0"


@pytest.fixture
def standin(monkeypatch):
    with StandIn() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def test_a_wheel_uploaded_to_codeartifact_lives_and_ends_with_its_version(
    site, standin, tmp_path, monkeypatch
):
    monkeypatch.setenv("NO_PROXY", "*")
    site.configure(section(standin, packages=["acme-*"]) + "[rollout]\nabsence_grace = 1\n")
    with site.daemon():
        assert site.release_at(ROUTE) == ""
        done = twine_upload(standin, make_wheel(tmp_path / "made", "acme-demo"))
        assert done.returncode == 0, done.stdout + done.stderr
        release = site.wait_for(ROUTE)
        site.wait_for_phase(release, Phase.LIVE)
        assert site.ask(ROUTE, [1]).json()["echo"] == [1]
        standin.shelf.delete("acme-demo", "1.0")
        eventually(lambda: site.phases()[release] is Phase.RETIRED)
        assert site.client.get(f"{site.ingress}{ROUTE}").status_code == 404
