"""Documents checked by what they have in common come out as if each had been checked by itself."""

from __future__ import annotations

import copy
import datetime as dt
import math

import pytest

from controller.errors import Rejected
from controller.serve import schema
from controller.serve.outline import Schema

pytestmark = pytest.mark.unit

HOST = {
    "name": "Host",
    "num_replicas": 2,
    "ray_actor_options": {"num_cpus": 1.0, "runtime_env": {"py_executable": "/e/bin/python"}},
    "user_config": {"settings": {"n": 1, "x": 1.0, "yes": True, "none": None, "l": [{"a": 1}]}},
}
WHOLE = {
    "name": "iris-1.0-abc",
    "route_prefix": "/predict/iris/1.0",
    "import_path": "wheelway.host:build",
    "runtime_env": {},
    "args": {"release": {"pipeline": "iris"}, "tree": "/t/\x00\ud7ff"},
    "logging_config": {"enable_access_log": False},
    "deployments": [HOST],
}
ODD = [
    {"name": 7},
    {"name": None},
    {"route_prefix": None},
    {"route_prefix": 3},
    {"args": None},
    {"args": [1]},
    {"args": {1: 2}},
    {"args": {"when": dt.date(2026, 1, 1)}},
    {"args": {"n": math.nan}},
    {"runtime_env": {"working_dir": "/tmp"}},
    {"import_path": "nowhere"},
    {"deployments": None},
    {"deployments": []},
    {"deployments": [3]},
    {"deployments": [{**HOST, "user_config": None}]},
    {"deployments": [{**HOST, "user_config": 5}]},
    {"deployments": [{**HOST, "user_config": {"a": {2: 3}}}]},
    {"deployments": [{**HOST, "num_replicas": -1}, HOST]},
    {"deployments": [{**HOST, "num_replica": 1}]},
    {"deployments": [{**HOST, "autoscaling_config": {"min_replicas": "x"}, "num_replicas": None}]},
    {"deployments": [{**HOST, "ray_actor_options": None}]},
    {"deployments": [{**HOST, "ray_actor_options": {}}]},
    {"deployments": [{**HOST, "ray_actor_options": {"num_cpus": 1.0}}, HOST]},
    {"deployments": [{**HOST, "ray_actor_options": {"runtime_env": None}}]},
    {"deployments": [{**HOST, "ray_actor_options": {"runtime_env": {"working_dir": "/tmp"}}}]},
    {"deployments": [{**HOST, "ray_actor_options": {"runtime_env": {"env_vars": {"A": 1}}}}]},
    {"unheard": "of"},
]


class Counted(schema.Asker):
    """Counts what it is asked."""

    def __init__(self):
        self.asked = 0

    def ask(self, question, document):
        self.asked += 1
        return super().ask(question, document)


@pytest.fixture
def asker():
    return Counted()


def came_of(check, document):
    try:
        return repr(check(copy.deepcopy(document)))
    except schema.SchemaError as error:
        return (error.path, str(error))
    except (TypeError, AttributeError) as error:
        return type(error)


@pytest.mark.parametrize("change", [{}, *ODD], ids=repr)
def test_an_application_comes_out_as_if_the_whole_of_it_had_been_checked(asker, change):
    document = {**WHOLE, **change}
    before = copy.deepcopy(document)
    by_outline = Schema(asker)
    for _ in range(2):
        assert came_of(by_outline.application, document) == came_of(schema.application, document)
    assert repr(document) == repr(before)


def test_releases_that_are_alike_are_asked_about_once(asker):
    checked = Schema(asker)
    for number in range(4):
        actor = {"num_cpus": 1.0, "runtime_env": {"env_vars": {"A": str(number)}}}
        if number == 0:  # the base interpreter's
            del actor["runtime_env"]
        host = {**HOST, "user_config": {"n": number}, "ray_actor_options": actor}
        document = {
            **WHOLE,
            "name": f"iris-{number}",
            "route_prefix": f"/predict/iris/{number}",
            "args": {"n": number},
            "deployments": [host],
        }
        assert checked.application(document) == document
        checked.validate(document)
    assert asker.asked == 2


def test_what_a_check_returned_may_be_changed_by_whoever_has_it(asker):
    checked = Schema(asker)
    checked.application(WHOLE)["deployments"][0]["num_replicas"] = 99
    assert checked.application(WHOLE) == WHOLE


def test_what_was_refused_is_refused_again_without_being_asked_about(asker):
    checked = Schema(asker)
    bad = {**WHOLE, "deployments": [{**HOST, "num_replicas": -1}]}
    for name in ("one", "other"):
        with pytest.raises(Rejected, match=f"application '{name}'.*num_replicas"):
            checked.validate({**bad, "name": name})
    assert asker.asked == 1


def test_numbers_that_python_takes_for_equal_are_asked_about_each(asker):
    checked = Schema(asker)
    for value in (1, 1.0, True):
        host = {**HOST, "num_replicas": 1, "health_check_period_s": value}
        document = {**WHOLE, "deployments": [host]}
        assert came_of(checked.application, document) == came_of(schema.application, document)
    assert asker.asked == 3
