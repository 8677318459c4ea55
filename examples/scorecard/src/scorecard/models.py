"""The two models, each a part of the pipeline: a Serve deployment of its own in production.

What they learned is in JSON files beside this module, written by `train.py`: a pickle would hold
only for the version of scikit-learn that wrote it.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from wheelway import Context, Pipeline

FEATURES = ("age", "income", "debt", "months", "late_payments", "support_calls")
LEARNED = {
    LogisticRegression: ("coef_", "intercept_", "classes_"),
    GaussianNB: ("theta_", "var_", "class_prior_", "classes_"),
}
"""The attributes that `predict_proba` needs."""

Model = LogisticRegression | GaussianNB


def save(model: Model, file: Path) -> None:
    learned = {name: getattr(model, name).tolist() for name in LEARNED[type(model)]}
    file.write_text(json.dumps(learned, indent=1) + "\n", encoding="utf-8")


def restored(model: Model, file: Path) -> Model:
    for name, value in json.loads(file.read_text(encoding="utf-8")).items():
        setattr(model, name, np.array(value))
    return model


class Risk(Pipeline):
    """How likely a customer is not to pay: a logistic regression."""

    examples = (np.array([40, 30.0, 5.0, 24, 0, 1]),)

    def load(self, context: Context) -> None:
        self.model = restored(LogisticRegression(), context.files / "risk.json")

    def infer(self, row: np.ndarray) -> float:
        return float(self.model.predict_proba(row[None])[0, 1])


class Churn(Pipeline):
    """How likely a customer leaves: naive Bayes."""

    examples = (np.array([40, 30.0, 5.0, 24, 0, 1]),)

    def load(self, context: Context) -> None:
        self.model = restored(GaussianNB(), context.files / "churn.json")

    def infer(self, row: np.ndarray) -> float:
        return float(self.model.predict_proba(row[None])[0, 1])
