"""Requests made up from the OpenAPI document, and every answer held against it."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from controller.api.application import EVERYTHING, whole
from controller.api.listening import Server, loopback_socket
from controller.journal import Journal
from tests.support.indexes import free_port
from tests.support.service import Service, fill

pytestmark = pytest.mark.unit

# The events never end, so they have tests of their own.
described = schemathesis.openapi.from_dict(EVERYTHING.openapi()).exclude(path="/v1/events")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Every operation over a journal of its own, on a port, where schemathesis can ask."""
    folder = tmp_path_factory.mktemp("journal")
    with Journal.open(folder) as journal:
        fill(journal)
    service, port = Service(folder), free_port()
    service.passes.ended(1, service.report, complete=True)
    with service.inside() as inside:
        server = Server(whole(inside), loopback_socket("127.0.0.1", port))
        yield f"http://127.0.0.1:{port}"
        server.close()


@described.parametrize()
@settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_answer_is_as_the_document_says(case, url):
    case.call_and_validate(base_url=url)
