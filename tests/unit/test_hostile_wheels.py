"""Whatever bytes and texts a wheel holds, it passes or is rejected."""

from __future__ import annotations

from importlib.metadata import Distribution

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.tags import sys_tags

from controller.cache.wheels import entry_points
from controller.cache.wheels.inspection import inspect
from controller.config.settings import InspectionLimits
from controller.errors import Rejected
from tests.support.wheels import make_wheel, revision_of

pytestmark = pytest.mark.unit

TAGS = tuple(sys_tags())


class Text(Distribution):
    """A distribution of nothing but its entry_points.txt, as importlib.metadata reads it."""

    def __init__(self, text):
        self.text = text

    def read_text(self, _filename):
        return self.text

    def locate_file(self, path):
        raise FileNotFoundError(path)


def verdict(wheel, revision):
    try:
        tree = wheel.with_name("tree")
        return inspect(wheel, revision, InspectionLimits(), TAGS, "3.11.7", tree).project
    except Rejected as rejected:
        return rejected.message


@given(text=st.text(alphabet=" \n[]=;#:.ab", max_size=60))
@example(text="[[]\n=")
@example(text="[ a ]\nb=")
def test_what_passes_can_be_read_by_replicas(text):
    try:
        groups = entry_points.read(text)
    except entry_points.EntryPointError:
        return
    found = [(e.group, e.name, e.value) for e in Text(text).entry_points]
    assert found == [(group, *e) for group, entries in groups.items() for e in entries]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    wheel = make_wheel(tmp_path_factory.mktemp("sound"), requires=["numpy"], wheelway_toml="a=1")
    return wheel, revision_of(wheel), wheel.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutation_of_the_bytes_raises_anything_but_rejected(tmp_path, sound, data):
    _, revision, body = sound
    mutated = bytearray(body)
    for _ in range(data.draw(st.integers(0, 8))):
        mutated[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del mutated[data.draw(st.integers(0, 2 * len(body))) :]
    target = tmp_path / "mutated.whl"
    target.write_bytes(mutated)
    assert "demo" in verdict(target, revision)


TEXTS = st.text(max_size=80) | st.binary(max_size=80)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entry_points=TEXTS, toml=TEXTS, header=st.text(max_size=40), requirement=st.text(max_size=40)
)
def test_no_text_in_a_wheel_raises_anything_but_rejected(
    tmp_path, entry_points, toml, header, requirement
):
    def clean(text):
        return text.encode(errors="replace").decode()

    if isinstance(entry_points, str):
        entry_points = "[wheelway.pipelines]\ndemo = demo.x:X\n" + clean(entry_points)
    wheel = make_wheel(
        tmp_path,
        entry_points=entry_points or "[x]",
        files={"demo/wheelway.toml": clean(toml) if isinstance(toml, str) else toml},
        metadata={"Summary": clean(header)},
        requires=[clean(requirement)] if requirement else [],
    )
    assert "demo" in verdict(wheel, revision_of(wheel))
