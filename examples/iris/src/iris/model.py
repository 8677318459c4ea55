"""Training, and what it learned as a file: a pickle would hold only for one scikit-learn."""

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

LEARNED = {
    "standardscaler": ("mean_", "scale_"),
    "logisticregression": ("coef_", "intercept_", "classes_"),
}
"""The attributes that predicting needs, by step."""


def untrained(c: float = 1.0) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500))


def trained(c: float = 1.0) -> Pipeline:
    """A model of the data set that scikit-learn ships; `c` is the inverse of regularisation."""
    data = load_iris()
    return untrained(c).fit(data.data, data.target)


def save(model: Pipeline, file: Path) -> None:
    learned = {
        step: {name: getattr(model[step], name).tolist() for name in names}
        for step, names in LEARNED.items()
    }
    file.write_text(json.dumps(learned, indent=1) + "\n", encoding="utf-8")


def restored(file: Path) -> Pipeline:
    """The model that was saved there."""
    model = untrained()
    for step, learned in json.loads(file.read_text(encoding="utf-8")).items():
        for name, value in learned.items():
            setattr(model[step], name, np.array(value))
    return model
