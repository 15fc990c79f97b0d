"""The seeds of the trials of a run."""

from __future__ import annotations

from labs.runtime.errors import require

SEEDS_PER_RUN = 1000


def trial_seeds(seed: int, repeats: int) -> list[int]:
    """``repeats`` seeds of a run's ``--seed``: 1000, 1001, ... for 1, which no other run shares.

    Consecutive numbers are as good as any: each trial spawns its random streams from a
    ``numpy.random.SeedSequence`` of its seed, which is made to tell close numbers apart.

    Raises:
        InputError: the seed is negative, which NumPy does not take.
    """
    require("seed", seed, seed >= 0, "0 or more")
    return [seed * SEEDS_PER_RUN + repeat for repeat in range(repeats)]
