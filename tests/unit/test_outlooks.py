"""What Serve's controller is asked of a path, and what is made of its answers."""

import asyncio
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from wheelway import fallback
from wheelway.fallback import Outlook, Outlooks

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Deployment(NamedTuple):
    name: str
    app_name: str


class Controller:
    """Serve's: applications by their route."""

    def __init__(self, route="/predict/x/1.0", name="Host", user_config=None, replica="RUNNING"):
        self.endpoints = {Deployment(name, "app"): {"route": route}}
        self.user_config = {"limits": {}} if user_config is None else user_config
        self.replica = replica
        self.calls = []
        self.hangs = False
        self.gone = False
        self.get_all_endpoints = SimpleNamespace(remote=self._endpoints)
        self.get_deployment_details = SimpleNamespace(remote=self._details)

    async def _endpoints(self):
        self.calls.append("endpoints")
        if self.hangs:
            await asyncio.Event().wait()
        return self.endpoints

    async def _details(self, app_name, name):
        self.calls.append((app_name, name))
        if self.gone:
            raise KeyError(name)
        return SimpleNamespace(
            deployment_config=SimpleNamespace(user_config=self.user_config),
            replicas=[SimpleNamespace(state=self.replica)],
        )


def at(controller, path="/predict/x/1.0/healthz"):
    return Outlooks(lambda: controller).at(path)


async def test_a_release_tells_whether_a_replica_runs_and_how_long_it_may_take():
    limits = {"limits": {"request_timeout": 7.0}}
    assert await at(Controller(user_config=limits)) == Outlook(runs=True, request_timeout=7.0)
    starting = Controller(replica="STARTING")
    assert await at(starting) == Outlook(runs=False, request_timeout=60.0)


@pytest.mark.parametrize(
    ("route", "path"), [("/", "/anything"), ("/shop", "/shop/x"), ("/", "/predict/x/1.0")]
)
async def test_an_application_beside_our_routes_is_none_of_ours(route, path):
    assert await at(Controller(route), path) is None


async def test_a_path_beside_our_routes_asks_nobody_even_once_its_application_is_deleted():
    controller = Controller()
    controller.endpoints = {}
    assert await at(controller, "/shop/x") is None
    assert controller.calls == []


@pytest.mark.parametrize(
    "user_config",
    [
        {"limits": 5},
        {"limits": None},
        {},
        [1],
        {"limits": {"request_timeout": "soon"}},
        {"limits": {"request_timeout": True}},
        {"limits": {"request_timeout": -1}},
    ],
)
async def test_a_deployment_called_as_ours_is_without_our_limits_none_of_ours(user_config):
    assert await at(Controller(user_config=user_config)) is None


async def test_a_release_that_is_deleted_has_no_replica():
    controller = Controller()
    controller.gone = True
    assert await at(controller) == Outlook(runs=False)
    controller.endpoints = {}
    assert await at(controller) == Outlook(runs=False)


async def test_without_a_controller_nobody_knows():
    def find():
        raise ValueError("no actor has that name")

    assert await Outlooks(find, (ValueError,)).at("/predict/x/1.0") == Outlook(runs=None)


async def test_of_a_controller_that_hangs_one_call_is_under_way_however_many_ask(monkeypatch):
    monkeypatch.setattr(fallback, "_FRESH", 0.0)
    controller = Controller()
    controller.hangs = True
    subject = Outlooks(lambda: controller)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(subject.at("/predict/x/1.0"), 0.05)
    assert len(controller.calls) <= 1
