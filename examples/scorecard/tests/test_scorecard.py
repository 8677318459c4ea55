"""What the scorecard promises, without a server or Ray; needs scikit-learn, see the README."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scorecard.models import FEATURES, LEARNED
from scorecard.pipeline import Scorecard
from train import customers, trained

from wheelway.local import Loaded, loaded

PACKAGE = Path(__file__).parents[1] / "src/scorecard"
GOOD = {"age": 45, "income": 60, "debt": 2, "months": 60, "late_payments": 0, "support_calls": 0}
LEAVING = {**GOOD, "months": 2, "support_calls": 7}
POOR = {**GOOD, "income": 8, "debt": 40, "late_payments": 4}


@pytest.fixture(scope="module")
def scorecard() -> Iterator[Loaded]:
    with loaded(Scorecard) as pipeline:
        yield pipeline


@pytest.mark.parametrize(
    ("customer", "offer"), [(GOOD, "usual"), (LEAVING, "better"), (POOR, "none")]
)
def test_both_models_decide_on_the_offer(
    customer: dict[str, float], offer: str, scorecard: Loaded
) -> None:
    assert scorecard(customer)["offer"] == offer


def test_what_the_models_say_is_what_they_were_trained_to(scorecard: Loaded) -> None:
    rows, unpaid, left = customers()
    risk, churn = trained()
    assert risk.score(rows, unpaid) > 0.7
    assert churn.score(rows, left) > 0.7
    for row in rows[:20].round():
        customer = dict(zip(FEATURES, row.tolist(), strict=True))
        said = scorecard({**customer, "age": int(customer["age"])})
        assert said["risk"] == pytest.approx(risk.predict_proba(row[None])[0, 1], abs=1e-3)
        assert said["churn"] == pytest.approx(churn.predict_proba(row[None])[0, 1], abs=1e-3)


def test_the_files_are_those_that_training_writes() -> None:
    for model, name in zip(trained(), ("risk", "churn"), strict=True):
        learned = json.loads((PACKAGE / f"{name}.json").read_text())
        assert set(learned) == set(LEARNED[type(model)])
        for attribute, value in learned.items():
            assert np.allclose(value, getattr(model, attribute), rtol=1e-3, atol=1e-5)


def test_from_where_on_there_is_no_offer_is_a_setting() -> None:
    with loaded(Scorecard, settings={"refuse": 1.0}) as scorecard:
        assert scorecard(POOR)["offer"] != "none"
        assert scorecard.reconfigure({"refuse": 0.0}) == ""
        assert scorecard(GOOD)["offer"] == "none"
        assert "keep" in scorecard.reconfigure({"keep": 2})


def test_an_impossible_customer_is_refused(scorecard: Loaded) -> None:
    with pytest.raises(ValidationError):
        scorecard({**GOOD, "age": 7})
