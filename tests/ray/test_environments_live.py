"""Releases whose requirements contradict the base, or are not to be had yet."""

import pytest

from controller.model import Phase
from tests.support.head import eventually
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.ray

NUMPY = """
import sys
from importlib.metadata import version

import numpy
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def infer(self, request: int) -> dict[str, str]:
        return {
            "numpy": numpy.__version__,
            "known as": version("numpy"),
            "from": numpy.__file__,
            "ray": version("ray"),
            "sum": str(numpy.arange(request).sum()),
        }
"""
LATER = """
import laterlib.pipeline
from wheelway import Pipeline

class Demo(Pipeline):
    def infer(self, request):
        return {"marker": laterlib.pipeline.MARKER}
"""


def test_a_release_gets_the_numpy_it_requires_beside_one_that_runs_on_the_bases(site):
    environments = site.folder / "cache" / "environments"
    with site.daemon():
        site.drop("modern", code=NUMPY, requires=["numpy>=2"])
        site.drop("classic", code=NUMPY, requires=["numpy<2"])
        site.wait_for("/predict/modern/1.0")
        site.wait_for("/predict/classic/1.0", deadline=240)
        modern = site.ask("/predict/modern/1.0", 5).json()
        classic = site.ask("/predict/classic/1.0", 5).json()
        assert modern["numpy"].startswith("2.")
        assert classic["numpy"].startswith("1.")
        assert classic["known as"] == classic["numpy"]
        assert classic["from"].startswith(str(environments))
        assert not modern["from"].startswith(str(environments))
        assert classic["ray"] == modern["ray"]
        assert classic["sum"] == modern["sum"] == "10"
        # The same requirements lead to the same environment, without another one being built.
        [built] = [place for place in environments.iterdir() if not place.name.startswith(".")]
        site.drop("classic", "2.0", code=NUMPY, requires=["numpy<2"])
        site.wait_for("/predict/classic/2.0")
        assert site.ask("/predict/classic/2.0", 5).json() == classic
        assert {place for place in environments.iterdir() if place.name[0] != "."} == {built}


def test_a_requirement_that_is_not_to_be_had_is_waited_for_and_its_release_goes_live_then(site):
    links = site.folder / "links"
    links.mkdir()
    site.configure('[environments]\noffline = true\nfind_links = ["links"]\n')
    with site.daemon():
        site.drop("early", code=LATER, requires=["laterlib==1.0"])
        [condition] = eventually(lambda: site.conditions("RequirementMissingOffline"))
        assert condition.subject.startswith("early@1.0+")
        assert "early-1.0-py3-none-any.whl" in condition.message
        assert "laterlib" in condition.message
        assert "find_links" in condition.message
        assert set(site.phases().values()) == {Phase.FETCHED}
        site.drop("independent")
        site.wait_for("/predict/independent/1.0")
        assert site.quarantines() == {}
        make_wheel(links, "laterlib", marker="here at last")
        site.wait_for("/predict/early/1.0")
        assert site.ask("/predict/early/1.0", {}).json() == {"marker": "here at last"}
        eventually(lambda: not site.conditions("RequirementMissingOffline"))
