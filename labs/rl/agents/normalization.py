"""Running means and variances, exact for any sizes of the batches."""

from __future__ import annotations

import numpy as np
import torch

Moments = dict[str, torch.Tensor]
CLIP = 10.0
"""Normalised values are clipped to this many standard deviations."""


def normalize(rows: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """``(rows - mean) * scale``, clipped: float32 ``[n, size]`` from ``[n, size]`` and twice ``[size]``."""
    return ((rows - mean) * scale).clip(-CLIP, CLIP)


class RunningMoments:
    """Mean and variance of all rows seen, merged batch by batch (Chan et al., 1979), in float64."""

    def __init__(self, size: int) -> None:
        self.mean = np.zeros(size)
        self.variance = np.ones(size)
        self.count = 0.0

    def update(self, rows: np.ndarray) -> None:
        """Add ``rows`` ``[n, size]``."""
        rows = rows.astype(np.float64)
        count = len(rows)
        mean, variance = rows.mean(0), rows.var(0)
        total = self.count + count
        difference = mean - self.mean
        # Sums of squared deviations: those of both parts, and of the parts' means from the common one.
        squares = (
            self.variance * self.count
            + variance * count
            + difference**2 * (self.count * count / total)
        )
        self.mean = self.mean + difference * (count / total)
        self.variance = squares / total
        self.count = total

    @property
    def scale(self) -> np.ndarray:
        """1 / standard deviation, ``[size]``; 1 where all rows were equal or there were none."""
        return 1 / np.sqrt(np.where(self.variance > 1e-12, self.variance, 1.0))

    def parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale as float32, for ``normalize`` and for a policy's parameters."""
        return self.mean.astype(np.float32), self.scale.astype(np.float32)

    def state(self) -> Moments:
        """For a checkpoint."""
        return {
            "mean": torch.from_numpy(self.mean.copy()),
            "variance": torch.from_numpy(self.variance.copy()),
            "count": torch.tensor(self.count, dtype=torch.float64),
        }

    def load(self, state: Moments) -> None:
        """Restore what ``state`` returned."""
        self.mean = state["mean"].numpy().copy()
        self.variance = state["variance"].numpy().copy()
        self.count = float(state["count"])
