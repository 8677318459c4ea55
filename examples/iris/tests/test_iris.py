"""What iris promises, without a server; needs scikit-learn, see the README."""

from collections.abc import Iterator

import pytest
from iris.pipeline import Iris
from pydantic import ValidationError

from wheelway.local import Loaded, loaded

SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
VIRGINICA = {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}
BETWEEN = {"sepal_length": 6.0, "sepal_width": 2.7, "petal_length": 5.1, "petal_width": 1.6}


@pytest.fixture(scope="module")
def iris() -> Iterator[Loaded]:
    with loaded(Iris) as pipeline:
        yield pipeline


def test_typical_flowers_are_named(iris: Loaded) -> None:
    answers = iris({"flowers": [SETOSA, VIRGINICA]})
    assert [answer["species"] for answer in answers] == ["setosa", "virginica"]


def test_probabilities_of_all_species_add_up(iris: Loaded) -> None:
    (answer,) = iris({"flowers": [BETWEEN]})
    assert set(answer["probabilities"]) == {"setosa", "versicolor", "virginica"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_below_the_threshold_no_species_is_named() -> None:
    with loaded(Iris, settings={"threshold": 0.5}) as pipeline:
        assert pipeline({"flowers": [BETWEEN]})[0]["species"] is not None
        assert pipeline.reconfigure({"threshold": 0.99}) == ""
        assert pipeline({"flowers": [BETWEEN]})[0]["species"] is None


@pytest.mark.parametrize("threshold", [-0.1, 1.1, "high"])
def test_an_impossible_threshold_is_refused(threshold: object) -> None:
    with loaded(Iris) as pipeline:
        assert pipeline.reconfigure({"threshold": threshold}) != ""


@pytest.mark.parametrize(
    "flowers", [[], [{**SETOSA, "petal_width": -1}], [{"sepal_length": 5.1}], [SETOSA] * 1001]
)
def test_impossible_measurements_are_refused(iris: Loaded, flowers: list[dict[str, float]]) -> None:
    with pytest.raises(ValidationError):
        iris({"flowers": flowers})
