"""The figure of a character model's losses."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from labs.language.char_gpt.results import _to_bits, _to_nats, loss_curves


def test_the_loss_is_drawn_in_nats_with_an_axis_in_bits() -> None:
    losses = np.random.default_rng(0).uniform(1, 4, (4, 2))
    rows = [
        {"trial": i % 2, "step": 10 * i, "val/loss": val, "train/loss": train}
        for i, (val, train) in enumerate(losses)
    ]
    figure = loss_curves(pd.DataFrame(rows), pd.DataFrame({"trial": [0, 1], "name": ["a", "b"]}))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn == {
        "a, validation": losses[::2, 0].tolist(),
        "a, training (with dropout)": losses[::2, 1].tolist(),
        "b, validation": losses[1::2, 0].tolist(),
        "b, training (with dropout)": losses[1::2, 1].tolist(),
    }
    (bits,) = axes.child_axes
    assert bits.get_ylim() == pytest.approx([end / math.log(2) for end in axes.get_ylim()])
    assert _to_nats(_to_bits(losses)) == pytest.approx(losses)
