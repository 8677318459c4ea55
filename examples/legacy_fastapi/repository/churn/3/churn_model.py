"""How likely a customer leaves: a logistic regression, whose weights a nightly job writes."""

import json
import os

import numpy as np


class ChurnModel:
    """How likely a customer leaves within three months."""

    def load(self, path):
        with open(os.path.join(path, "churn.json")) as file:
            weights = json.load(file)
        self.features = weights["features"]
        self.coefficients = np.array(weights["coefficients"])
        self.intercept = weights["intercept"]
        self.threshold = weights["threshold"]

    def fit(self, rows, leaves):
        raise NotImplementedError("the nightly job does that")

    def predict(self, payload: dict) -> dict:
        row = np.array([float(payload[name]) for name in self.features])
        probability = 1 / (1 + np.exp(-(row @ self.coefficients + self.intercept)))
        return {
            "probability": round(float(probability), 4),
            "leaves": bool(probability >= self.threshold),
        }
