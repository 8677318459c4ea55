"""Folders with a configuration and a daemon, beside the run's one Ray head."""

from contextlib import contextmanager

import pytest

from tests.support.head import eventually
from tests.support.site import Site


@contextmanager
def opened(head, folder):
    """The cluster has no declarative application at its start, nor at its end."""
    site = Site(folder, head)
    clear(site)
    yield site
    clear(site)
    site.close()


@pytest.fixture
def site(head, tmp_path):
    """A folder of this test's own; no daemon runs yet."""
    with opened(head, tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def folder(head, tmp_path_factory):
    """One folder for all tests of a file; no daemon runs yet."""
    with opened(head, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def at_work(folder):
    """One daemon for all tests of a file, each of which has pipelines of its own."""
    with folder.daemon():
        yield folder


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
