"""Two procedures of one config, compared: gradient descent with and without momentum. No torch.

python optimizers.py --step-size 1e-3..1e-1:log --samples 8 --seeds 5
"""

from dataclasses import dataclass

import numpy as np

import labs


@dataclass(frozen=True)
class Trial:
    step_size: float = 1e-2
    """Step size of the descent."""
    dimensions: int = 20
    seed: int = 0


def descend(config: Trial, momentum: float):
    rng = np.random.default_rng(config.seed)
    curvature = np.geomspace(1, 50, config.dimensions)
    point, velocity = rng.normal(size=config.dimensions), np.zeros(config.dimensions)
    for step in range(1, 101):
        velocity = momentum * velocity - config.step_size * curvature * point
        point = point + velocity
        yield labs.Report(step, {"train/loss": float(curvature @ point**2)})


def plain(config: Trial, resume=None):
    yield from descend(config, momentum=0.0)


def heavy_ball(config: Trial, resume=None):
    yield from descend(config, momentum=0.9)


if __name__ == "__main__":
    labs.main({"plain": plain, "heavy ball": heavy_ball}, Trial, metric="train/loss", mode="min")
