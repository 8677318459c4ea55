"""What Serve reports, as Ray 2.60 sent it, shortened; and a dashboard client that reads it."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import strategies as st

from controller.config.settings import RayOptions
from controller.errors import Rejected, Stalled, Transient, Waiting
from controller.serve.dashboard import Dashboard


def dashboard_at(url, **options):
    return closing(Dashboard.connect(RayOptions(dashboard_url=url, **options)))


def document(**more):
    return {
        "name": "iris-1.0-0a1b2c3d",
        "route_prefix": None,
        "import_path": "wheelway.host:build",
        "args": {"release": {"pipeline": "iris", "version": "1.0", "digest": "a" * 64}},
        **more,
    }


def reported(status="RUNNING", **more):
    return {
        "name": "x",
        "route_prefix": None,
        "docs_path": None,
        "status": status,
        "message": "",
        "last_deployed_time_s": 12.5,
        "deployed_app_config": document(),
        "source": "declarative",
        "deployments": {},
        **more,
    }


def failure(call):
    """What a call raises of the errors that it may."""
    with pytest.raises((Waiting, Stalled, Transient, Rejected)) as caught:
        call()
    return caught.value


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
"""Any JSON, and what Python takes for such."""
