"""What the depth study's figures show, read back from their artists."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import rgb_to_hsv

from labs.vision.depth.figures import accuracy_against_depth, curves
from labs.vision.style import depth_shades

RATES = (1e-3, 1e-2)  # the second is the better one everywhere


@pytest.fixture
def study():
    """Two families, two depths, two rates, three seeds, four epochs; accuracies by formula."""
    rows, history = [], []
    for family, gain in (("cnn", -0.1), ("rescnn", 0.1)):
        for depth in (3, 51):
            for rate in RATES:
                for seed in range(3):
                    accuracy = 0.5 + gain * (depth == 51) + 0.1 * (rate == RATES[1]) + 0.01 * seed
                    trial = len(rows)
                    metrics = {"val/accuracy": accuracy, "test/accuracy": accuracy - 0.05}
                    metrics["train/accuracy"] = accuracy
                    rows.append(
                        {
                            "trial": trial,
                            "status": "done",
                            "step": 4,
                            "dataset": "digits",
                            "width": 8,
                        }
                        | {"family": family, "depth": depth, "learning_rate": rate, "seed": seed}
                        | metrics
                    )
                    for step in range(1, 5):
                        history.append(
                            {"trial": trial, "step": step, "train/loss": 1 / step}
                            | {"val/loss": 2 / step, "train/accuracy": accuracy * step / 4}
                            | {"val/accuracy": accuracy * step / 4}
                        )
    return pd.DataFrame(history), pd.DataFrame(rows)


def test_darker_is_deeper():
    for family in ("mlp", "cnn", "rescnn"):
        colours = depth_shades(family, [51, 3, 11])
        assert list(colours) == [3, 11, 51]
        light = [sum(colour[:3]) for colour in colours.values()]
        assert light == sorted(light, reverse=True) and light[0] - light[-1] > 0.5
        hues = [rgb_to_hsv(colour[:3])[0] for colour in colours.values()]
        assert np.ptp(hues) < 0.1


def test_curves_are_means_over_seeds_at_the_best_rate(study):
    figure = curves(*study)
    axes = np.array(figure.axes).reshape(2, 2)
    assert [panel.get_title() for panel in axes[0]] == ["CNN on digits", "ResCNN on digits"]
    for column, deep in ((0, 0.5), (1, 0.7)):
        colours = depth_shades(("cnn", "rescnn")[column], [3, 51])
        lines = axes[1, column].get_lines()
        assert len(lines) == 4
        solid = {line.get_color(): line for line in lines if line.get_linestyle() == "-"}
        for depth, value in ((3, 0.6), (51, deep)):
            expected = 100 * (value + 0.01) * np.arange(1, 5) / 4
            np.testing.assert_allclose(solid[colours[depth]].get_ydata(), expected)
    loss = axes[0, 0].get_lines()[0]
    np.testing.assert_allclose(loss.get_ydata(), 2 / np.arange(1, 5))


def test_accuracy_against_depth_has_intervals_over_seeds(study):
    figure = accuracy_against_depth(study[1])
    (panel,) = figure.axes
    handles, labels = panel.get_legend_handles_labels()
    assert labels == ["CNN", "ResCNN"]
    assert [handle[0].get_linestyle() for handle in handles] == ["-", "--"]
    for handle, expected in zip(handles, ([56, 46], [56, 66]), strict=True):
        line, _, (bars,) = handle
        np.testing.assert_allclose(line.get_xdata(orig=False), [3, 51])
        np.testing.assert_allclose(line.get_ydata(orig=False), expected)
        half = 4.302653 * 1.0 / np.sqrt(3)  # Student's t for 3 seeds, whose deviation is 1 point
        for segment, mean in zip(bars.get_segments(), expected, strict=True):
            np.testing.assert_allclose(segment[:, 1], [mean - half, mean + half], rtol=1e-5)
