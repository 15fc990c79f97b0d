"""How many images make a gradient step: no more than there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.vision.data.datasets import Splits

T = TypeVar("T")


def check_batch_size(batch_size: int, data: Splits) -> None:
    """Refuse a batch larger than the training set, before anything is started.

    Raises:
        InputError: it is larger.
    """
    if batch_size > len(data.train):
        raise InputError(
            f"`batch_size` {batch_size} is larger than the training set: use"
            f" {len(data.train)} or less"
        )


def fit_batches(trials: Sequence[T], data: Callable[[T], Splits], given: bool) -> list[T]:
    """The trials, with a batch that is the whole training set where that is smaller than their own.

    Args:
        trials: frozen dataclasses with a field ``batch_size``.
        data: what each trains on.
        given: whether the batch size was asked for, and is no default.

    Raises:
        InputError: it was asked for, and is larger than the training set.
    """
    fitted = []
    smaller: dict[tuple[int, int], None] = {}
    for trial in trials:
        config: Any = trial
        size, images = config.batch_size, len(data(trial).train)
        if given:
            check_batch_size(size, data(trial))
        elif images < size:
            smaller[size, images] = None
        fitted.append(dataclasses.replace(config, batch_size=min(size, images)))
    for default, images in smaller:
        say(
            f"batch size {images}, the whole training set, in place of the default {default}: an epoch is one step"
        )
    return fitted
