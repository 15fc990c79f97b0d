"""A scikit-learn model: how many trees, and how deep? One report per trial is enough.

python sklearn_model.py --trees 10 30 100 --depth none 4 --seeds 5
"""

from dataclasses import dataclass

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import labs


@dataclass(frozen=True)
class Trial:
    trees: int = 30
    """Trees of the forest."""
    depth: int | None = None
    """Levels of each tree; none lets them grow."""
    seed: int = 0


def load_data():
    """Called once, in the driver; every trial gets what it returns, under the same names."""
    inputs, labels = load_breast_cancer(return_X_y=True)
    return {"splits": train_test_split(inputs, labels, test_size=0.4, random_state=0)}


def train(config: Trial, resume=None, *, splits):
    x, x_val, y, y_val = splits
    forest = RandomForestClassifier(config.trees, max_depth=config.depth, random_state=config.seed)
    forest.fit(x, y)
    yield labs.Report(
        1, {"train/accuracy": forest.score(x, y), "val/accuracy": forest.score(x_val, y_val)}
    )


if __name__ == "__main__":
    labs.main(train, Trial, metric="val/accuracy", mode="max", data=load_data)
