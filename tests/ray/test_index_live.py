"""From `twine upload` to a live route, by way of real package indexes."""

import pytest

from controller.model import Phase
from tests.support.indexes import devpi, pypiserver
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.ray

SOURCE = """
[[sources]]
type = "index"
url = "{url}"
packages = ["{package}"]
poll_interval = 1
"""


@pytest.mark.parametrize("server", [pypiserver, devpi])
def test_a_wheel_uploaded_to_an_index_becomes_a_live_route(server, site, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    package = f"by-{server.__name__}"
    route = f"/predict/{package}/1.0"
    with server(tmp_path) as index:
        site.configure(SOURCE.format(url=index.url, package=package))
        with site.daemon():
            assert site.release_at(route) == ""
            index.upload(make_wheel(tmp_path / "made", package))
            release = site.wait_for(route)
            site.wait_for_phase(release, Phase.LIVE)
            assert site.ask(route, [1]).json()["echo"] == [1]
    assert site.conditions("PackageMissing") == []
