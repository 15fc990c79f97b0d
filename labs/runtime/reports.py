"""What a training procedure yields, whoever runs it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from labs.runtime.errors import InputError

Checkpoint = dict[str, Any]
"""Tensors, numbers, strings, ``None``, and lists, tuples and dicts of these: what
``torch.load(weights_only=True)`` can read. ``checkpoint["kind"]`` names what wrote it, for instance
``"vision.classifier"``."""


@dataclass(frozen=True)
class Report:
    """One moment of training.

    Raises:
        FloatingPointError: a metric is NaN or infinite; the message names the tag and the step.
        ValueError: the step is not a whole number, or a metric's tag is not of the form
            ``<split>/<metric>``.
    """

    step: int
    """Epoch, batch or environment step: named once per experiment, and it only grows."""

    metrics: Mapping[str, float]
    """Flat, tagged ``<split>/<metric>``: ``train/loss``, ``val/accuracy``, ``time/seconds``."""

    checkpoint: Callable[[], Checkpoint] | None = None
    """Builds the state from which training goes on after this report. Called only when somebody
    wants it, before the generator is asked for its next report or after it has ended."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """Markdown by tag, shown on TensorBoard's text page."""

    histograms: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays of any shape by tag, shown as distributions."""

    def __post_init__(self) -> None:
        if not isinstance(self.step, (int, np.integer)):
            raise ValueError(f"step {self.step!r} is not a whole number")
        for tag, value in self.metrics.items():
            if not re.fullmatch(r"[^/\s]+(/[^/]+)+", tag):
                raise ValueError(
                    f"metric {tag!r} is not of the form <split>/<metric>, as in train/loss"
                )
            if not math.isfinite(value):
                raise FloatingPointError(f"metric {tag!r} is {value} at step {self.step}")


Train = Callable[..., Iterator[Report]]
"""A training procedure: a generator of reports that knows nothing of where it runs. Called as
``train(config, resume=checkpoint or None, **shared)``, where ``shared`` is what all trials of a grid
have in common, such as the data set. (A protocol with ``**shared`` would fit no function that names
what it takes.)"""


@dataclass(frozen=True)
class Objective:
    """What a grid is optimised for.

    Raises:
        InputError: a mode other than ``max`` and ``min``.
    """

    metric: str | None = None
    """Tag of the metric that decides each trial's best report and checkpoint. Without one only the
    last checkpoint is kept, and the last report counts."""

    mode: Literal["max", "min"] = "max"
    """Which value of the metric is better."""

    last_step: int | str | None = None
    """The last step that a trial reports, where it is known, or the config's field that holds it.
    asha needs it, and so does an estimate of the time left."""

    within: tuple[str, ...] = ()
    """Fields of the config within which configs can be compared, such as the data set: asha stops
    none because another one of another group is better."""

    def __post_init__(self) -> None:
        if self.mode not in ("max", "min"):
            raise InputError(f"`mode` {self.mode!r} is not valid: use max or min")

    def last_step_of(self, config: Any) -> int | None:
        """The last step of a config's trial; None where it is not known."""
        if isinstance(self.last_step, str):
            return int(getattr(config, self.last_step))
        return self.last_step

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """The metric's value among ``metrics``; None where it is missing or nothing is selected."""
        return None if self.metric is None else metrics.get(self.metric)

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether ``value`` beats ``best``; the first of equals stays."""
        return best is None or (value > best if self.mode == "max" else value < best)
