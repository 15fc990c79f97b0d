"""Grouping trials into configs, and which of them may be compared."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labs.analysis.configs import config_fields, group_configs, ranked

METRIC = "val/accuracy"


def table(rows: list[tuple[str, float, int, str, float | None]]) -> pd.DataFrame:
    """A grid's table: optimizer, rate, seed, status and score of each trial, numbered from 10."""
    return pd.DataFrame(
        [
            {"trial": 10 + number, "name": f"{number:03d}", "optimizer": optimizer, "rate": rate}
            | {"width": 8, "seed": seed, "status": status, "error": "", METRIC: score}
            for number, (optimizer, rate, seed, status, score) in enumerate(rows)
        ]
    )


ROWS = [
    ("adam", 0.1, 0, "done", 0.61),
    ("sgd", 0.1, 0, "done", 0.83),
    ("adam", 0.1, 1, "done", 0.67),
    ("sgd", 0.1, 1, "stopped", 0.99),
    ("adam", 0.5, 0, "done", 0.72),
    ("sgd", 0.1, 2, "failed", None),
    ("adam", 0.5, 1, "done", 0.70),
    ("sgd", 0.5, 0, "done", None),
]


def test_trials_are_grouped_by_every_field_but_the_seed() -> None:
    grid = table(ROWS)
    assert config_fields(grid) == ["optimizer", "rate", "width", "seed"]
    configs = group_configs(grid, METRIC)
    assert [config.label for config in configs] == [
        "adam rate=0.1", "sgd rate=0.1", "adam rate=0.5", "sgd rate=0.5",
    ]  # fmt: skip
    assert configs[0].trials == (10, 12)
    assert configs[0].fields == {"optimizer": "adam", "rate": 0.1, "width": 8}
    np.testing.assert_array_equal(configs[0].scores, [0.61, 0.67])
    assert configs[0].seeds == (0, 1)


def test_a_config_is_complete_only_if_all_its_seeds_ran_to_the_end() -> None:
    first, second, third, fourth = group_configs(table(ROWS), METRIC)
    assert first.complete and third.complete
    # The seed that was stopped has the best score of all: it must not be among the scores.
    np.testing.assert_array_equal(second.scores, [0.83])
    assert (second.stopped, second.failed, second.complete) == (1, 1, False)
    assert (fourth.failed, fourth.complete) == (1, False)  # it never reported the metric


def test_ranked_puts_the_best_complete_config_first_and_the_others_last() -> None:
    configs = group_configs(table(ROWS), METRIC)
    labels = [config.label for config in ranked(configs, "max")]
    assert labels == ["adam rate=0.5", "adam rate=0.1", "sgd rate=0.1", "sgd rate=0.5"]
    assert [c.label for c in ranked(configs, "min")][:2] == ["adam rate=0.1", "adam rate=0.5"]


def test_a_grid_without_the_metric_or_of_one_config() -> None:
    (config,) = group_configs(table(ROWS[:1]), "never/reported")
    assert config.label == "this config"
    assert config.failed == 1 and config.scores.size == 0
