"""That iris takes the weights; needs scikit-learn, see the README."""

from pathlib import Path

import numpy as np
from iris.model import restored, trained
from iris.pipeline import Iris
from sklearn.datasets import load_iris
from train import WEIGHTS

from wheelway.local import run

BETWEEN = {"sepal_length": 6.0, "sepal_width": 2.7, "petal_length": 5.1, "petal_width": 1.6}
FOLDER = Path(__file__).parents[1] / "src/iris_weights"


def test_iris_answers_by_the_weights_that_it_is_given() -> None:
    request = {"flowers": [BETWEEN]}
    [own], [given] = run(Iris, request), run(Iris, request, weights=FOLDER)
    expected = restored(WEIGHTS).predict_proba([list(BETWEEN.values())])[0]
    assert np.allclose(list(given["probabilities"].values()), expected)
    assert given["probabilities"] != own["probabilities"]


def test_they_are_what_training_learned_and_good() -> None:
    data = load_iris()
    model = restored(WEIGHTS)
    assert model.score(data.data, data.target) > 0.95
    again = trained(c=10.0).predict_proba(data.data)
    assert np.allclose(model.predict_proba(data.data), again, atol=1e-3)
