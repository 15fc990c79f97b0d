"""Reports, which a training procedure yields, and the objective that selects among them."""

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
``torch.load(weights_only=True)`` can load. ``checkpoint["kind"]`` names its type, for instance
``"vision.classifier"``."""


@dataclass(frozen=True)
class Report:
    """The state of a training at one step.

    Raises:
        FloatingPointError: a metric or a part of a histogram is NaN or infinite; the message names the
            tag and the step.
        ValueError: the step is not a whole number, a metric is not one number or its tag is not of the
            form ``<split>/<metric>``, the checkpoint is not a function, a text is not a str, or a
            histogram has no numbers.
    """

    step: int
    """Epoch, batch or environment step. It must increase from report to report."""

    metrics: Mapping[str, float]
    """Values by tag ``<split>/<metric>``: ``train/loss``, ``val/accuracy``, ``time/seconds``. Scalars of
    NumPy and PyTorch become floats."""

    checkpoint: Callable[[], Checkpoint] | None = None
    """Returns the state from which training continues after this report. It is called only if it is
    needed, before the generator is asked for its next report or after it has ended."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """Markdown by tag, shown on TensorBoard's text page."""

    histograms: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays of any shape by tag, shown as distributions in TensorBoard."""

    def __post_init__(self) -> None:
        if not isinstance(self.step, (int, np.integer)) or abs(self.step) >= 2**63:
            raise ValueError(f"step {self.step!r} is not a whole number")
        for tag in self.metrics:
            if not (_is_name(tag) and re.fullmatch(r"[^/\s]+(/[^/]+)+", tag)):
                raise ValueError(
                    f"metric {tag!r} is not of the form <split>/<metric>, as in train/loss"
                )
        numbers = {tag: _number(tag, value) for tag, value in self.metrics.items()}
        object.__setattr__(self, "metrics", numbers)
        for tag, number in numbers.items():
            if not math.isfinite(number):
                raise FloatingPointError(f"metric {tag!r} is {number} at step {self.step}")
        # A module is callable as well, but what it returns is no checkpoint.
        if self.checkpoint is not None and (
            not callable(self.checkpoint) or hasattr(self.checkpoint, "state_dict")
        ):
            raise ValueError(
                f"the checkpoint is {type(self.checkpoint).__name__}: it must be a function that returns"
                ' a dict, such as lambda: {"model": model.state_dict()}'
            )
        self._require_storable()

    def _require_storable(self) -> None:
        """Raise for what TensorBoard cannot store: an error of this trial here, not of the driver later."""
        for tag, text in self.texts.items():
            if not (_is_name(tag) and isinstance(text, str)):
                raise ValueError(f"text {tag!r} is {type(text).__name__}: it must be a str")
        for tag, values in self.histograms.items():
            array = np.asarray(values)
            if not _is_name(tag) or array.dtype.kind not in "fiu" or not array.size:
                raise ValueError(f"histogram {tag!r} is not an array of at least one number")
            if not np.isfinite(array).all():
                raise FloatingPointError(
                    f"histogram {tag!r} holds NaN or infinite values at step {self.step}"
                )


def _number(tag: str, value: Any) -> float:
    """A metric as a float. ``item`` also takes a scalar tensor out of its graph."""
    try:
        number = value.item() if hasattr(value, "item") else value
        if not isinstance(number, (str, bytes)):
            return float(number)
    except (TypeError, ValueError, RuntimeError):
        pass
    kind = type(value).__name__
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    raise ValueError(f"metric {tag!r} is {kind}{shape}: it must be one number")


def _is_name(tag: Any) -> bool:
    """Whether TensorBoard can store a tag: one line that UTF-8 can encode."""
    return isinstance(tag, str) and tag.isprintable() and tag != ""


def whole_characters(text: str) -> str:
    """A text that UTF-8 can encode: lone surrogates, which names of files may have, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str, most: int = 500) -> str:
    """A text for one line of a terminal or a table: no line breaks, no control characters, not too long."""
    words = " ".join(text.split())
    line = "".join(c for c in whole_characters(words) if c.isprintable())
    return line if len(line) <= most else f"{line[: most - 3]}..."


Train = Callable[..., Iterator[Report]]
"""A training procedure: a generator of reports that does not depend on where it runs. It is called as
``train(config, resume=checkpoint or None, **shared)``, where ``shared`` is what all trials of a grid
have in common, such as the data set. (A protocol with ``**shared`` would not accept functions that
name their arguments.)"""


@dataclass(frozen=True)
class Objective:
    """The metric that a grid is optimised for.

    Raises:
        InputError: a mode other than ``max`` and ``min``.
    """

    metric: str | None = None
    """Tag of the metric that selects each trial's best report and checkpoint. With None only the last
    checkpoint is kept, and the last report counts."""

    mode: Literal["max", "min"] = "max"
    """Which value of the metric is better."""

    last_step: int | str | None = None
    """The last step that a trial reports, or the name of the config's field with it; None if it is
    not known. asha and the estimate of the time left need it."""

    within: tuple[str, ...] = ()
    """Fields that divide the configs into groups, such as the data set. asha compares configs only
    with others of the same group."""

    in_every_report: bool = True
    """Whether every report has the metric: then a first report without it is named, since its tag may be
    misspelled. False if only the last one has it, or only those after an evaluation."""

    def __post_init__(self) -> None:
        if self.mode not in ("max", "min"):
            raise InputError(f"`mode` {self.mode!r} is not valid: use max or min")

    def last_step_of(self, config: Any) -> int | None:
        """The last step of a config's trial; None if it is not known.

        Raises:
            InputError: the config has no such field, or its value is not a number.
        """
        if not isinstance(self.last_step, str):
            return self.last_step
        value = getattr(config, self.last_step, None)
        if not isinstance(value, (int, float)):
            raise InputError(
                f"`last_step` {self.last_step!r} is not the name of a field of"
                f" {type(config).__name__} that holds a number"
            )
        return int(value)

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """The metric's value in ``metrics``; None if it is missing or there is no metric."""
        return None if self.metric is None else metrics.get(self.metric)

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether ``value`` is better than ``best``; equal values are not better."""
        return best is None or (value > best if self.mode == "max" else value < best)
