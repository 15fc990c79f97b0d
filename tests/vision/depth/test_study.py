"""The depth study's tables and sentences, from made-up results."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from labs.statistics import seeds_to_tell
from labs.vision.data.datasets import Images, Splits
from labs.vision.depth.study import (
    DepthTrial,
    FamilyPlan,
    answers,
    best_by_depth,
    best_sentence,
    cost,
    grid,
    summarise,
)

Outcome = float | str
"""A trial's test accuracy, or how it ended."""


def rows(
    family: str, depth: int, rate: float, val: list[float], test: Sequence[Outcome]
) -> list[dict[str, object]]:
    return [
        {"dataset": "d", "family": family, "depth": depth, "learning_rate": rate, "width": 4}
        | {"seed": seed, "status": t if isinstance(t, str) else "done", "step": 1, "seconds": 2.0}
        | {"val/accuracy": v, "test/accuracy": 0.999 if isinstance(t, str) else t}
        | {"train/accuracy": 1 - v / 10}
        for seed, (v, t) in enumerate(zip(val, test, strict=True))
    ]


def grid_table(*models: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame([row for model in models for row in model])
    return table.assign(trial=range(len(table)))


TABLE = grid_table(
    rows("cnn", 3, 0.1, [0.9, 0.9, 0.9], [0.90, 0.91, 0.92]),
    rows("cnn", 3, 0.2, [0.8, 0.8, 0.8], [0.99, 0.99, 0.99]),  # worse on validation: not chosen
    rows("cnn", 51, 0.1, [0.4, 0.4, 0.4], [0.40, 0.41, 0.39]),
    rows("rescnn", 3, 0.1, [0.9, 0.9, 0.9], [0.90, 0.91, 0.89]),
    rows("rescnn", 51, 0.1, [0.95, 0.95, 0.96], [0.95, 0.96, 0.97]),
)


def test_learning_rates_are_chosen_on_validation() -> None:
    best = best_by_depth(TABLE)
    assert [(c.fields["family"], c.fields["depth"]) for c in best] == [
        ("cnn", 3), ("cnn", 51), ("rescnn", 3), ("rescnn", 51),
    ]  # fmt: skip
    assert best[0].fields["learning_rate"] == 0.1
    np.testing.assert_array_equal(best[0].scores, [0.90, 0.91, 0.92])


def test_the_best_model_is_that_of_all_seeds_and_not_of_a_lucky_one() -> None:
    lucky = rows("mlp", 1, 0.1, [0.99, 0.5, 0.5], [0.5, 0.5, 0.5])
    unfinished = rows("cnn", 5, 0.1, [1.0, 1.0, 1.0], [1.0, "failed", 1.0])
    table = grid_table(lucky, unfinished, rows("rescnn", 3, 0.2, [0.8, 0.9, 0.7], [0.81, 0.7, 0.8]))
    table["checkpoint"] = [f"{n}.pt" for n in range(len(table))]
    mean, half = 77.0, 4.302652730 * 6.082762530 / math.sqrt(3)  # Student's t with 2 degrees
    assert best_sentence(table) == (
        "Best on validation, by the mean of 3 seeds: rescnn depth=3 learning_rate=0.2 d, test"
        f" accuracy {mean} [{mean - half:.1f}, {mean + half:.1f}]%; its best seed's checkpoint: 7.pt"
    )
    assert best_sentence(table[table["family"] == "cnn"]) is None


def test_answers_with_their_intervals() -> None:
    plain, residual, skips = answers(TABLE)
    assert "CNN on d: from 3 to 51 convolutions" in plain
    assert "from 91.0% to 40.0% (training 91.0% to 96.0%), a change of -51.0 points" in plain
    half = 2.776445105 * math.sqrt(1 / 3 + 1 / 3)  # Welch: variances 1 and 1 of three values each
    assert f"interval {-51 - half:+.1f} to {-51 + half:+.1f}, 3 seeds" in plain
    assert plain.endswith(": more depth hurts.")
    assert residual.endswith(": more depth helps.")
    assert "are worth +56.0 points" in skips and skips.endswith(": skips help.")


def test_each_step_is_asked_about_and_then_the_whole() -> None:
    """Depth 9 is better than 3 and than 51: from end to end one sees the loss alone."""
    middle = rows("cnn", 9, 0.1, [0.95] * 3, [0.97, 0.98, 0.96])
    table = grid_table(
        TABLE[TABLE["family"] == "cnn"].drop(columns="trial").to_dict("records"), middle
    )
    up, down, whole = answers(table)
    assert "from 3 to 9 convolutions the test accuracy goes from 91.0% to 97.0%" in up
    assert up.endswith(": more depth helps.")
    assert "from 9 to 51 convolutions the test accuracy goes from 97.0% to 40.0%" in down
    assert "from 3 to 51 convolutions the test accuracy goes from 91.0% to 40.0%" in whole
    assert down.endswith(": more depth hurts.") and whole.endswith(": more depth hurts.")


@pytest.mark.parametrize("ending", ["stopped", "failed", "interrupted"])
def test_a_model_whose_seeds_did_not_all_end_is_named_and_not_compared(ending: str) -> None:
    """Two seeds of the residual network at depth 51 are left, and would say that depth helps."""
    left = rows("rescnn", 51, 0.1, [0.95, 0.95, 0.96], [0.95, 0.96, ending])
    table = grid_table(TABLE[TABLE["trial"] < 12].drop(columns="trial").to_dict("records"), left)
    only, plain, skips, excluded = answers(table)
    assert skips.startswith("At 3 convolutions")
    assert only.startswith("ResCNN on d: only depth 3 can be judged")
    assert plain.endswith("more depth hurts.")
    what = {"interrupted": "not finished"}.get(ending, ending)
    assert excluded.endswith(f"did not finish: rescnn depth=51 learning_rate=0.1 (1 {what} of 3).")
    assert [c.fields["depth"] for c in best_by_depth(table)] == [3, 51, 3]


def test_a_learning_rate_with_unfinished_seeds_is_not_chosen() -> None:
    better = rows("cnn", 51, 0.2, [0.99, 0.99, 0.99], [0.99, 0.99, "stopped"])
    table = grid_table(TABLE.drop(columns="trial").to_dict("records"), better)
    (deep,) = (
        c for c in best_by_depth(table) if (c.fields["family"], c.fields["depth"]) == ("cnn", 51)
    )
    assert deep.fields["learning_rate"] == 0.1
    assert answers(table)[0] == answers(TABLE)[0]


def test_equal_seeds_give_no_verdict() -> None:
    tied = grid_table(
        rows("cnn", 3, 0.1, [0.9] * 3, [1.0] * 3), rows("cnn", 51, 0.1, [0.9] * 3, [0.9972] * 3)
    )
    (sentence,) = answers(tied)
    assert "(no interval, 3 seeds): these runs cannot tell whether more depth helps" in sentence
    (sentence,) = answers(tied, {"d": 359})
    assert "(95% interval -1." in sentence and "cannot tell" in sentence


@pytest.mark.slow
@pytest.mark.parametrize("heaps", [False, True])
def test_without_a_difference_any_verdict_is_wrong_in_at_most_5_percent(heaps: bool) -> None:
    """Three verdicts from three seeds each; also where a network learns or does not."""
    rng = np.random.default_rng(6)
    wrong = 0
    for _ in range(200):
        scores = rng.beta(*((0.5, 0.5) if heaps else (30, 3)), size=(4, 3))
        table = grid_table(
            *(
                rows(family, depth, 0.1, [0.5] * 3, list(scores[place]))
                for place, (family, depth) in enumerate(
                    [("cnn", 3), ("cnn", 51), ("rescnn", 3), ("rescnn", 51)]
                )
            )
        )
        wrong += any("cannot tell" not in sentence for sentence in answers(table))
    assert wrong / 200 <= 0.076  # 5% and 1.65 standard errors


def test_one_seed_gives_no_verdict() -> None:
    single = TABLE[TABLE["seed"] == 0]
    plain, residual, skips = answers(single)
    for sentence in (plain, residual, skips):
        assert "no interval, 1 seed): these runs cannot tell" in sentence
        assert "(use 3 seeds or more)" in sentence
    assert "only depth 3 can be judged" in answers(single[single["depth"] == 3])[0]


def test_close_runs_give_no_verdict() -> None:
    table = grid_table(
        rows("cnn", 3, 0.1, [0.9] * 3, [0.90, 0.94, 0.91]),
        rows("cnn", 9, 0.1, [0.9] * 3, [0.91, 0.95, 0.92]),
    )
    (sentence,) = answers(table)
    assert "these runs cannot tell whether more depth helps (about " in sentence
    seeds = int(sentence.split("(about ")[1].split(" seeds each")[0])
    assert seeds == seeds_to_tell(np.array([0.90, 0.94, 0.91]), np.array([0.91, 0.95, 0.92]))
    assert seeds > 3


def test_the_summary_shows_all_and_gives_intervals_to_those_that_ended() -> None:
    stopped = rows("rescnn", 5, 0.1, [0.9, 0.8], [0.9, "stopped"])
    table = grid_table(TABLE.drop(columns="trial").to_dict("records"), stopped)
    pixels = np.zeros((2, 1, 8, 8), np.uint8)
    images = Images(pixels, np.array([0, 1]))
    splits = Splits("d", ("a", "b"), True, images, images, images, (0.0,), (1.0,))
    summary = summarise(table, {"d": splits})
    assert list(summary["seeds"]) == [3, 3, 3, 3, 3, 1]
    assert list(summary["stopped"]) == [0] * 5 + [1]
    assert summary["train_accuracy"][0] == pytest.approx(0.91)
    assert summary["parameters"][0] == 9 * (4 + 16 + 16) + 3 * 8 + 4 * 2 + 2
    assert summary["test_accuracy"][5] == 0.9 and math.isnan(summary["test_accuracy_low"][5])
    assert summary["test_accuracy_low"][0] < 0.91 < summary["test_accuracy_high"][0]


def test_a_thousand_trials_of_one_architecture_are_priced_at_once() -> None:
    pixels = np.zeros((20, 1, 8, 8), np.uint8)
    images = Images(pixels, np.arange(20) % 2)
    data = {"d": Splits("d", ("a", "b"), True, images, images, images, (0.0,), (1.0,))}
    trials = [DepthTrial("cnn", 201, 4, 1e-3, seed=seed, dataset="d") for seed in range(1000)]
    started = time.process_time()
    costs = [cost(trial, data) for trial in trials]
    assert time.process_time() - started < 2  # one meta model each took 25 ms
    shallow = cost(dataclasses.replace(trials[0], depth=101), data)
    assert len(set(costs)) == 1 and 1.9 < costs[0] / shallow < 2.1


def test_grid_order_and_refusals() -> None:
    plan = FamilyPlan("digits", (11, 3), (0.1, 0.2), epochs=1, batch_size=8, width=4)
    trials = grid({"cnn": plan, "rescnn": plan}, [0, 1])
    assert [t.depth for t in trials[:8]] == [3] * 4 + [11] * 4
    assert [t.family for t in trials] == ["cnn"] * 8 + ["rescnn"] * 8
    assert [t.seed for t in trials[:4]] == [0, 1, 0, 1]
