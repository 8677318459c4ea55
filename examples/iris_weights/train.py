"""Train iris anew, as a job might every night: python train.py."""

from pathlib import Path

from iris.model import save, trained

WEIGHTS = Path(__file__).parent / "src/iris_weights/iris.json"

if __name__ == "__main__":
    # Weaker regularisation than the wheel's own: surer of what it says.
    save(trained(c=10.0), WEIGHTS)
