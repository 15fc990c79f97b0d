"""The seeds of a run's trials."""

from __future__ import annotations

from labs.runtime.errors import require

SEEDS_PER_RUN = 1000


def trial_seeds(seed: int, repeats: int) -> list[int]:
    """The seeds of ``repeats`` trials: 1000, 1001, ... for ``seed`` 1, different for each ``seed``.

    Consecutive numbers are as good as any others: each trial derives its random streams from a
    ``numpy.random.SeedSequence``, which makes independent streams from close seeds.

    Raises:
        InputError: the seed is negative, which NumPy does not accept.
    """
    require("seed", seed, seed >= 0, "0 or more")
    return [seed * SEEDS_PER_RUN + repeat for repeat in range(repeats)]
