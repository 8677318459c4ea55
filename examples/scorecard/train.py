"""Train both models on customers that are made up, always the same: python train.py."""

from pathlib import Path

import numpy as np
from scorecard.models import save
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

SEED, CUSTOMERS = 7, 4000


def customers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the features, who did not pay, and who left."""
    random = np.random.default_rng(SEED)
    age = random.uniform(18, 80, CUSTOMERS)
    income = random.gamma(4, 9, CUSTOMERS)
    debt = random.gamma(1.5, 7, CUSTOMERS)
    months = random.exponential(30, CUSTOMERS)
    late = random.poisson(0.8, CUSTOMERS)
    calls = random.poisson(1.5, CUSTOMERS)
    noise = random.logistic(size=(2, CUSTOMERS))
    unpaid = 0.09 * debt - 0.05 * income + 0.9 * late - 0.6 + noise[0] > 0
    left = 0.7 * calls - 0.05 * months + 0.01 * (40 - age) - 0.4 + noise[1] > 0
    return np.stack([age, income, debt, months, late, calls], axis=1), unpaid, left


def trained() -> tuple[LogisticRegression, GaussianNB]:
    rows, unpaid, left = customers()
    return LogisticRegression(max_iter=5000).fit(rows, unpaid), GaussianNB().fit(rows, left)


if __name__ == "__main__":
    package = Path(__file__).parent / "src/scorecard"
    risk, churn = trained()
    save(risk, package / "risk.json")
    save(churn, package / "churn.json")
