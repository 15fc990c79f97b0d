"""The depth study: does more depth help a plain CNN, and does it help a residual one?

He et al. (2015, arXiv:1512.03385) found that plain networks get worse beyond some depth, on the
training data too, and that identity skips mend it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint, Report
from labs.statistics import difference_interval, mean_interval
from labs.vision.data.datasets import Splits
from labs.vision.models import FAMILY_TITLES, build_model, count_parameters
from labs.vision.training import TrainConfig, train_classifier

METRIC = "val/accuracy"
"""Epochs, learning rates and models are chosen by this; the test accuracy is only reported."""


@dataclass(frozen=True)
class DepthTrial(TrainConfig):
    """One trial of the study: a training and the data set that it is on."""

    dataset: str = "digits"
    """Name or path, as given to ``load_dataset``."""


@dataclass(frozen=True)
class FamilyPlan:
    """What a preset runs for one family."""

    dataset: str
    depths: tuple[int, ...]
    learning_rates: tuple[float, ...]
    epochs: int
    batch_size: int
    width: int


def train_on(
    config: DepthTrial, resume: Checkpoint | None = None, *, data: Mapping[str, Splits]
) -> Iterator[Report]:
    """``train_classifier`` on the data set that the trial names; the step is the epoch."""
    return train_classifier(config, resume, data=data[config.dataset])


def grid(
    plans: Mapping[str, FamilyPlan], seeds: Sequence[int], **common: object
) -> list[DepthTrial]:
    """All trials, family by family, shallow to deep.

    Args:
        plans: by family.
        seeds: one trial each.
        common: further fields of every ``DepthTrial``.

    Raises:
        InputError: no seeds, or a value that no trial can have.
    """
    if not seeds:
        raise InputError("--seeds 0 leaves nothing to run: use 1 or more")
    return [
        DepthTrial(
            family=family,  # type: ignore[arg-type]
            depth=depth,
            width=plan.width,
            learning_rate=rate,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            seed=seed,
            dataset=plan.dataset,
            **common,  # type: ignore[arg-type]
        )
        for family, plan in plans.items()
        for depth in sorted(plan.depths)
        for rate in plan.learning_rates
        for seed in seeds
    ]


def cost(trial: DepthTrial, data: Mapping[str, Splits]) -> float:
    """How long a trial takes, in an arbitrary unit: multiplications of one pass, images, epochs.

    A weight of a convolution is used once per pixel, one of a linear layer once.
    """
    splits = data[trial.dataset]
    with torch.device("meta"):
        model = build_model(
            trial.family, trial.depth, trial.width, splits.in_shape, splits.num_classes
        )
    pixels = math.prod(splits.in_shape[1:])
    uses = 1 if trial.family == "mlp" else pixels
    return float(count_parameters(model) * uses * len(splits.train) * trial.epochs)


def summarise(table: pd.DataFrame, data: Mapping[str, Splits]) -> pd.DataFrame:
    """One row per model and learning rate, over the seeds that finished.

    Columns: ``dataset family depth learning_rate seeds parameters``, ``val_accuracy`` and
    ``test_accuracy`` (means, at each trial's best validation epoch) with ``_low`` and ``_high``
    (95% interval of the mean, Student's t; NaN for one seed), ``seconds`` (mean per trial).
    """
    finished = table[table["status"].isin(("done", "stopped")) & table["step"].notna()]
    keys = ["dataset", "family", "depth", "learning_rate"]
    rows = []
    for (dataset, family, depth, rate), group in finished.groupby(keys, sort=False):
        row = {"dataset": dataset, "family": family, "depth": depth, "learning_rate": rate}
        row["seeds"] = len(group)
        splits = data[dataset]
        with torch.device("meta"):
            model = build_model(
                family, depth, int(group["width"].iloc[0]), splits.in_shape, splits.num_classes
            )
        row["parameters"] = count_parameters(model)
        for split in ("val", "test"):
            interval = mean_interval(group[f"{split}/accuracy"]).within(0, 1)
            row[f"{split}_accuracy"] = interval.estimate
            row[f"{split}_accuracy_low"] = interval.low
            row[f"{split}_accuracy_high"] = interval.high
        row["seconds"] = group["seconds"].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def best_by_depth(table: pd.DataFrame) -> pd.DataFrame:
    """The trials of each model at its best learning rate, by mean validation accuracy."""
    finished = table[table["status"].isin(("done", "stopped")) & table["step"].notna()]
    kept = []
    for _, group in finished.groupby(["dataset", "family", "depth"], sort=False):
        means = group.groupby("learning_rate", sort=False)[METRIC].mean()
        kept.append(group[group["learning_rate"] == means.idxmax()])
    return pd.concat(kept) if kept else finished


def answers(table: pd.DataFrame) -> list[str]:
    """One sentence each for the plain and the residual CNN, deepest against shallowest; one for both.

    The last one compares the two at the greatest depth that both were run at. Each depth is taken at its best learning rate by validation accuracy; the difference is of mean
    test accuracies, in points, with Welch's 95% interval over the seeds.
    """
    best = best_by_depth(table)
    sentences = []
    for family in ("cnn", "rescnn"):
        rows = best[best["family"] == family]
        title = FAMILY_TITLES[family]
        for dataset, group in rows.groupby("dataset", sort=False):
            depths = sorted(group["depth"].unique())
            if len(depths) < 2:
                sentences.append(
                    f"{title} on {dataset}: only depth {depths[0]} was run, so these runs cannot"
                    " tell whether depth helps."
                )
                continue
            accuracies = {
                depth: 100 * group.loc[group["depth"] == depth, "test/accuracy"].to_numpy()
                for depth in depths
            }
            sentences.append(_compare(f"{title} on {dataset}", accuracies))
    return sentences + _worth_of_skips(best)


def _worth_of_skips(best: pd.DataFrame) -> list[str]:
    sentences = []
    for dataset, group in best.groupby("dataset", sort=False):
        plain, residual = (group[group["family"] == family] for family in ("cnn", "rescnn"))
        common = set(plain["depth"]) & set(residual["depth"])
        if not common:
            continue
        depth = max(common)
        gain = difference_interval(
            *(100 * rows.loc[rows["depth"] == depth, "test/accuracy"] for rows in (residual, plain))
        )
        interval = (
            f"95% interval {gain.low:+.1f} to {gain.high:+.1f}, {gain.n} seeds"
            if gain.n > 1
            else "one seed, no interval"
        )
        sentences.append(
            f"At {depth} convolutions on {dataset} the identity skips are worth"
            f" {gain.estimate:+.1f} points of test accuracy ({interval})."
        )
    return sentences


def best_model(table: pd.DataFrame) -> pd.Series | None:
    """The trial with the highest validation accuracy; None where no trial finished."""
    finished = table[table["status"].isin(("done", "stopped")) & table["step"].notna()]
    return None if finished.empty else finished.loc[finished[METRIC].idxmax()]


def _compare(title: str, accuracies: Mapping[int, Sequence[float]]) -> str:
    shallow, deep = min(accuracies), max(accuracies)
    change = difference_interval(accuracies[deep], accuracies[shallow])
    means = {depth: mean_interval(values).estimate for depth, values in accuracies.items()}
    top = max(means, key=lambda depth: means[depth])
    measured = (
        f"{title}: from {shallow} to {deep} convolutions the test accuracy goes from"
        f" {means[shallow]:.1f}% to {means[deep]:.1f}%, a change of {change.estimate:+.1f} points"
    )
    if change.n < 2:
        return f"{measured} in one seed, so these runs cannot tell (use --seeds 3 or more)."
    measured += f" (95% interval {change.low:+.1f} to {change.high:+.1f}, {change.n} seeds)"
    if not change.excludes_zero:
        verdict = "these runs cannot tell whether more depth helps"
    elif change.estimate > 0:
        verdict = "more depth helps"
    else:
        verdict = "more depth hurts"
    return f"{measured}: {verdict}; depth {top} is the best of those run."
