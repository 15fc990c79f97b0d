"""The seeds of a run's trials."""

from __future__ import annotations

from collections.abc import Sequence

from labs.runtime.errors import require
from labs.runtime.grid import seed_values


def trial_seeds(seed: int, seeds: Sequence[int]) -> list[int]:
    """The seeds of a run's trials, from its ``--seed`` and ``--seeds``.

    One number in ``seeds`` is how many there are: 7, 8, ... for ``seed`` 7. Several are the seeds
    themselves. Consecutive numbers are as good as any others: each trial derives its random streams from
    a ``numpy.random.SeedSequence``, which makes independent streams from close seeds.

    Raises:
        InputError: a seed is negative, which NumPy does not accept; or there is none, or one twice.
    """
    require("seed", seed, seed >= 0, "0 or more")
    found = seed_values(seeds, seed)
    require("seeds", min(found), min(found) >= 0, "0 or more")
    return found
