"""The depth study: does more depth help a plain CNN, and does it help a residual one?

He et al. (2015, arXiv:1512.03385) found that plain networks get worse beyond some depth, on the
training data too, and that identity skips fix it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from labs.analysis.configs import ConfigRuns, config_label, group_configs
from labs.analysis.decisions import ALPHA, planned_p_values
from labs.analysis.summary import score_interval
from labs.analysis.verdicts import not_compared
from labs.runtime.reports import Checkpoint, Report
from labs.statistics import MIN_SEEDS, difference_interval, seeds_to_tell
from labs.vision.data.datasets import Splits
from labs.vision.models import FAMILY_TITLES, Family, build_model, count_parameters
from labs.vision.training import TrainConfig, train_classifier

METRIC = "val/accuracy"
"""Epochs, learning rates and models are chosen by this; the test accuracy is only reported."""

_TEST = "test/accuracy"
_MODEL = ("dataset", "family", "depth", "width", "batch_norm", "learning_rate")
"""The fields that identify a config; all others are the same in the whole grid, or per family."""


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


def train(
    config: DepthTrial, resume: Checkpoint | None = None, *, data: Mapping[str, Splits]
) -> Iterator[Report]:
    """``train_classifier`` on the data set that the trial names; the step is the epoch."""
    return train_classifier(config, resume, data=data[config.dataset])


def grid(
    plans: Mapping[Family, FamilyPlan], seeds: Sequence[int], **common: Any
) -> list[DepthTrial]:
    """All trials, family by family, shallow to deep.

    Args:
        plans: by family.
        seeds: one trial each.
        common: further fields of every ``DepthTrial``.

    Raises:
        InputError: a value that no trial can have.
    """
    return [
        DepthTrial(
            family=family,
            depth=depth,
            width=plan.width,
            learning_rate=rate,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            seed=seed,
            dataset=plan.dataset,
            **common,
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
    parameters = _parameters(
        trial.family,
        trial.depth,
        trial.width,
        splits.in_shape,
        splits.num_classes,
        trial.batch_norm,
    )
    uses = 1 if trial.family == "mlp" else math.prod(splits.in_shape[1:])
    return float(parameters * uses * len(splits.train) * trial.epochs)


@functools.cache  # thousands of trials share a few architectures, and a deep one takes long to build
def _parameters(
    family: str,
    depth: int,
    width: int,
    in_shape: tuple[int, int, int],
    num_classes: int,
    batch_norm: bool,
) -> int:
    with torch.device("meta"):
        return count_parameters(
            build_model(family, depth, width, in_shape, num_classes, batch_norm)
        )


def group_models(table: pd.DataFrame, metric: str) -> list[ConfigRuns]:
    """The trials of a results table, model by model and learning rate by learning rate."""
    return group_configs(table, metric, [field for field in _MODEL if field in table])


def summarise(table: pd.DataFrame, data: Mapping[str, Splits]) -> pd.DataFrame:
    """One row per model and learning rate, over its seeds.

    Columns: ``dataset family depth learning_rate seeds stopped failed parameters`` (``seeds`` ran
    to the end), ``train_accuracy``, ``val_accuracy`` and ``test_accuracy`` (means, at each trial's
    best validation epoch), the latter two with ``_low`` and ``_high`` (95% interval of the mean,
    Student's t; NaN where there is none), ``seconds`` (mean per trial).
    """
    rows = []
    by_metric = (group_models(table, f"{split}/accuracy") for split in ("train", "val", "test"))
    for train_, val, test in zip(*by_metric, strict=True):
        family, depth, width = (val.fields[name] for name in ("family", "depth", "width"))
        splits = data[val.fields["dataset"]]
        row: dict[str, Any] = {k: val.fields[k] for k in ("dataset", "family", "depth")}
        row["learning_rate"] = val.fields["learning_rate"]
        row |= {"seeds": len(val.scores), "stopped": val.stopped, "failed": val.failed}
        norm = val.fields.get("batch_norm", True)
        row["parameters"] = _parameters(
            family, depth, width, splits.in_shape, splits.num_classes, norm
        )
        row["train_accuracy"] = score_interval(train_).estimate
        for split, config in (("val", val), ("test", test)):
            interval = score_interval(config)
            row[f"{split}_accuracy"] = interval.estimate
            row[f"{split}_accuracy_low"] = interval.low
            row[f"{split}_accuracy_high"] = interval.high
        row["seconds"] = table.loc[table["trial"].isin(val.trials), "seconds"].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def best_by_depth(table: pd.DataFrame) -> list[ConfigRuns]:
    """Each model at its best learning rate by mean validation accuracy; scores are of the test set.

    Only configs whose seeds all ran to the end are looked at: a model without any is left out.
    """
    best: dict[tuple[str, str, int], tuple[float, ConfigRuns]] = {}
    for val, test in zip(group_models(table, METRIC), group_models(table, _TEST), strict=True):
        if not (val.complete and test.complete):
            continue
        model = (val.fields["dataset"], val.fields["family"], val.fields["depth"])
        score = float(val.scores.mean())
        if model not in best or score > best[model][0]:
            best[model] = (score, test)
    return [config for _, config in best.values()]


def best_sentence(table: pd.DataFrame) -> str | None:
    """The best model on validation, by its mean over the seeds: that of one seed may be luck.

    None where no model has all its seeds.
    """
    pairs = zip(group_models(table, METRIC), group_models(table, _TEST), strict=True)
    complete = [(val, test) for val, test in pairs if val.complete and test.complete]
    if not complete:
        return None
    val, test = max(complete, key=lambda pair: float(pair[0].scores.mean()))
    rows = table[table["trial"].isin(val.trials)]
    chosen = rows.iloc[int(rows[METRIC].to_numpy().argmax())]
    seeds = f"{len(val.scores)} seed{'s' * (len(val.scores) != 1)}"
    fields = {name: val.fields[name] for name in ("family", "depth", "learning_rate", "dataset")}
    checkpoint = chosen["checkpoint"]
    kept = f"; its best seed's checkpoint: {checkpoint}" if isinstance(checkpoint, str) else ""
    return (
        f"Best on validation, by the mean of {seeds}: {config_label(fields)}, test accuracy"
        f" {score_interval(test).format(1, scale=100)}%{kept}"
    )


@dataclass(frozen=True)
class _Question:
    """Two models that are compared, and the words for it."""

    first: ConfigRuns
    second: ConfigRuns
    measured: str
    """The sentence up to the interval."""
    what: str
    """What is asked, such as ``more depth helps``."""


def answers(
    table: pd.DataFrame, test_images: Mapping[str, int] | None = None, alpha: float = ALPHA
) -> list[str]:
    """Whether depth helps each kind of CNN, and what the skips are worth.

    Of more than two depths each step to the next one is asked about, and then the deepest against the
    shallowest: what helps up to some depth may hurt beyond it. What the skips are worth is asked at
    the greatest depth that both kinds were run at. Each model is taken at its best
    learning rate by validation accuracy. Differences are of mean test accuracies, in points, with
    Welch's 95% interval over the seeds; the verdicts hold together (``planned_p_values``).

    Args:
        table: one row per trial: ``trial``, the ``DepthTrial`` fields, ``status`` and the metrics.
        test_images: number of test images by data set. A difference that the choice of test images
            could explain then gets no verdict.
        alpha: the probability of any wrong verdict.
    """
    best = best_by_depth(table)
    training = {c.trials: c.scores for c in group_models(table, "train/accuracy")}
    questions: list[_Question] = []
    sentences: list[str] = []
    for dataset in dict.fromkeys(config.fields["dataset"] for config in best):
        by_family = {
            family: {
                config.fields["depth"]: config
                for config in best
                if config.fields["dataset"] == dataset and config.fields["family"] == family
            }
            for family in ("cnn", "rescnn")
        }
        for family, models in by_family.items():
            title = f"{FAMILY_TITLES[family]} on {dataset}"
            if len(models) == 1:
                sentences.append(
                    f"{title}: only depth {min(models)} can be judged, so these runs cannot tell"
                    " whether depth helps."
                )
            elif models:
                questions += [
                    _depth_question(title, models[shallow], models[deep], training)
                    for shallow, deep in _steps(sorted(models))
                ]
        common = by_family["cnn"].keys() & by_family["rescnn"].keys()
        if common:
            depth = max(common)
            plain, residual = by_family["cnn"][depth], by_family["rescnn"][depth]
            gain = 100 * (residual.scores.mean() - plain.scores.mean())
            measured = (
                f"At {depth} convolutions on {dataset} the identity skips are worth {gain:+.1f}"
                " points of test accuracy"
            )
            questions.append(_Question(residual, plain, measured, "skips help"))
    return [
        *sentences,
        *_judge(questions, test_images or {}, alpha),
        *not_compared(group_models(table, METRIC)),
    ]


def _steps(depths: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbouring depths, and the ends where there are more than two."""
    steps = list(itertools.pairwise(depths))
    return steps if len(steps) == 1 else [*steps, (depths[0], depths[-1])]


def _depth_question(
    title: str,
    shallow: ConfigRuns,
    deep: ConfigRuns,
    training: Mapping[tuple[int, ...], np.ndarray],
) -> _Question:
    low, high = (100 * config.scores.mean() for config in (shallow, deep))
    measured = (
        f"{title}: from {shallow.fields['depth']} to {deep.fields['depth']} convolutions the test"
        f" accuracy goes from {low:.1f}% to {high:.1f}%"
    )
    trained = [training.get(config.trials, np.array([])) for config in (shallow, deep)]
    if all(scores.size for scores in trained):
        # A deep network that is worse on the training images too does not overfit: it trains worse.
        before, after = (100 * scores.mean() for scores in trained)
        measured += f" (training {before:.1f}% to {after:.1f}%)"
    measured += f", a change of {high - low:+.1f} points"
    return _Question(deep, shallow, measured, "more depth helps")


def _judge(
    questions: Sequence[_Question], test_images: Mapping[str, int], alpha: float
) -> list[str]:
    items = [test_images.get(question.first.fields["dataset"]) for question in questions]
    pairs = [(question.first.scores, question.second.scores) for question in questions]
    sentences = []
    p_values = planned_p_values(pairs, items)
    for question, (first, second), count, p in zip(questions, pairs, items, p_values, strict=True):
        change = difference_interval(100 * first, 100 * second)
        if count is not None:
            change = difference_interval(first, second, items=count).scaled(100)
        seeds = f"{change.n} seed{'s' * (change.n != 1)}"
        interval = f"95% interval {change.low:+.1f} to {change.high:+.1f}, {seeds}"
        if math.isnan(change.low):
            interval = f"no interval, {seeds}"
        verdict = f"these runs cannot tell whether {question.what}"
        if p < alpha:
            verdict = (
                question.what if change.estimate > 0 else question.what.replace("help", "hurt")
            )
        elif change.n < MIN_SEEDS:
            verdict += f" (use {MIN_SEEDS} seeds or more)"
        else:
            needed = seeds_to_tell(first, second, alpha=alpha / len(questions))
            if needed is not None and needed > change.n:
                verdict += f" (about {needed} seeds each probably would)"
        sentences.append(f"{question.measured} ({interval}): {verdict}.")
    return sentences
