"""A site of its own for each test, beside the run's one Ray head."""

import pytest

from tests.support.head import eventually
from tests.support.site import Site


@pytest.fixture
def site(head, tmp_path):
    """A folder with a configuration; the cluster has no declarative application at its start."""
    site = Site(tmp_path, head)
    clear(site)
    yield site
    clear(site)
    site.dashboard.close()


def clear(site):
    """Take every declarative application away; those that drain are no longer in the way."""
    if any(app.document is not None for app in site.dashboard.applications()):
        site.dashboard.put({"applications": []})
    eventually(
        lambda: all(
            app.status == "DELETING" or app.document is None
            for app in site.dashboard.applications()
        )
    )
