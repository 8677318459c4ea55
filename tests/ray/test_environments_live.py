"""A release whose requirements contradict the base."""

import pytest

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
