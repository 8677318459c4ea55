"""The pipeline: measurements in, species and probabilities out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, Field
from sklearn.datasets import load_iris

from iris.model import restored, trained
from wheelway import Context, Pipeline


class Flower(BaseModel):
    """One flower's measurements, in centimetres."""

    sepal_length: float = Field(gt=0, lt=100)
    sepal_width: float = Field(gt=0, lt=100)
    petal_length: float = Field(gt=0, lt=100)
    petal_width: float = Field(gt=0, lt=100)


class Request(BaseModel):
    flowers: list[Flower] = Field(min_length=1, max_length=1000)


class Prediction(BaseModel):
    species: str | None = Field(description="None when no species is likelier than `threshold`.")
    probabilities: dict[str, float]


class Iris(Pipeline):
    """Logistic regression over the data set that scikit-learn ships: nothing is downloaded.

    Weights that come in a wheel of their own are taken as they are; without any it trains itself.
    """

    examples = (
        {
            "flowers": [
                {
                    "sepal_length": 5.1,
                    "sepal_width": 3.5,
                    "petal_length": 1.4,
                    "petal_width": 0.2,
                },
                {
                    "sepal_length": 6.7,
                    "sepal_width": 3.0,
                    "petal_length": 5.2,
                    "petal_width": 2.3,
                },
            ]
        },
    )

    def load(self, context: Context) -> None:
        self.reconfigure(context.settings)
        self.species = [str(name) for name in load_iris().target_names]
        self.model = restored(context.weights / "iris.json") if context.weights else trained()
        context.logger.info("its weights: %s", context.weights or "trained just now")

    def reconfigure(self, settings: Mapping[str, Any]) -> None:
        threshold = float(settings.get("threshold", 0.6))
        if not 0 <= threshold <= 1:
            raise ValueError(f"the setting `threshold` must be between 0 and 1, not {threshold}")
        self.threshold = threshold

    def pre_process(self, request: Request) -> np.ndarray:
        return np.array([list(flower.model_dump().values()) for flower in request.flowers])

    def infer(self, measurements: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(measurements)

    def post_process(self, probabilities: np.ndarray) -> list[Prediction]:
        return [self._prediction(row) for row in probabilities.tolist()]

    def _prediction(self, row: list[float]) -> Prediction:
        best = max(row)
        species = self.species[row.index(best)] if best >= self.threshold else None
        return Prediction(species=species, probabilities=dict(zip(self.species, row, strict=True)))
