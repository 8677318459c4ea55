"""The pipeline: a customer in, what two models say and what follows from it out."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from scorecard.models import FEATURES
from wheelway import Context, Pipeline


class Customer(BaseModel):
    age: int = Field(ge=18, le=120)
    income: float = Field(ge=0, description="A year, in thousands.")
    debt: float = Field(ge=0, description="In thousands.")
    months: int = Field(ge=0, description="As a customer.")
    late_payments: int = Field(ge=0)
    support_calls: int = Field(ge=0)


class Score(BaseModel):
    risk: float = Field(ge=0, le=1, description="Of not paying.")
    churn: float = Field(ge=0, le=1, description="Of leaving.")
    offer: Literal["none", "usual", "better"]


class Scorecard(Pipeline):
    """Asks both parts at once; the slower one decides how long it takes, not their sum."""

    examples = (
        Customer(age=40, income=30, debt=5, months=24, late_payments=0, support_calls=1),
        Customer(age=22, income=12, debt=30, months=3, late_payments=4, support_calls=6),
    )

    def load(self, context: Context) -> None:
        self.reconfigure(context.settings)
        self.risk, self.churn = context.parts["risk"], context.parts["churn"]

    def reconfigure(self, settings: Mapping[str, Any]) -> None:
        found = {name: float(settings.get(name, 0.5)) for name in ("refuse", "keep")}
        for name, value in found.items():
            if not 0 <= value <= 1:
                raise ValueError(f"the setting `{name}` must be from 0 to 1, not {value}")
        self.limits = found

    def pre_process(self, customer: Customer) -> np.ndarray:
        return np.array([getattr(customer, name) for name in FEATURES], float)

    async def infer(self, row: np.ndarray) -> tuple[float, float]:
        risk, churn = await asyncio.gather(self.risk(row), self.churn(row))
        return risk, churn

    def post_process(self, scores: tuple[float, float]) -> Score:
        risk, churn = scores
        if risk > self.limits["refuse"]:
            offer = "none"
        else:
            offer = "better" if churn > self.limits["keep"] else "usual"
        return Score(risk=round(risk, 4), churn=round(churn, 4), offer=offer)
