"""The sentences of docs/claims.md, computed from the rows beside this file.

Intervals are at 95%. What is compared was decided on before the results were seen; the verdicts of one
study hold together at 5% (Holm, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from scipy import special
from scipy.stats import binomtest

from labs.analysis.decisions import ALPHA, planned_p_values
from labs.statistics import (
    Interval,
    difference_interval,
    holm,
    mean_interval,
    proportion_interval,
    seeds_to_tell,
)
from labs.vision.depth import study as depth
from labs.vision.gradient_flow import summary as gradient_flow

RESULTS = Path(__file__).parent

Tables = Mapping[str, pd.DataFrame]
"""The CSV files of a study by their names, ``trials`` among them."""

TEST_IMAGES = {"cifar10_jpeg": 10_000}
REFERENCE_SUCCESS = 67.0
"""Percent of the episodes in which the reference's best agent reached the goal, on v0."""


def depth_on_cifar10(tables: Tables) -> list[str]:
    """Whether depth helps each kind of CNN, step by step, and what the skips are worth."""
    return depth.answers(tables["trials"], TEST_IMAGES)


def gradients_on_cifar10(tables: Tables) -> list[str]:
    """How the gradients of the first and the last layers compare, at the start and at the end."""
    return gradient_flow.findings(gradient_flow.ratios(tables["trials"]))


def agents(tables: Tables) -> list[str]:
    """How often agents reach the goal, or what they collect; whether they beat the reference."""
    trials = tables["trials"]
    sentences: list[str] = []
    shares: dict[tuple[str, str], np.ndarray] = {}
    for key, runs in trials.groupby(["env", "algorithm"], sort=False):
        env, algorithm = cast(tuple[str, str], key)
        name = f"{algorithm.upper()} on {env}"
        episodes = f"{int(runs['episodes'].iloc[0]):,} fresh episodes"
        if runs["success"].sum():
            share = 100 * (runs["success"] / runs["episodes"]).to_numpy()
            shares[env, algorithm] = share
            sentences.append(
                f"{name} reaches the goal in {_over_seeds(share, '%', 0, 100)} of {episodes}."
            )
        else:
            returns = runs["return_mean"].to_numpy()
            sentences.append(f"{name} has a mean return of {_over_seeds(returns)} in {episodes}.")
    return sentences + _beyond_the_reference(shares)


def _over_seeds(
    values: np.ndarray, unit: str = "", least: float = -math.inf, most: float = math.inf
) -> str:
    """``98.1% (95% interval 97.6 to 98.6, 5 seeds from 97.4 to 98.5)``."""
    found = mean_interval(values).within(least, most)
    seeds = f"{found.n} seeds"
    if math.isnan(found.low):
        return f"{found.estimate:.1f}{unit} ({seeds}, all the same, so that there is no interval)"
    return (
        f"{found.estimate:.1f}{unit} (95% interval {found.low:.1f} to {found.high:.1f},"
        f" {seeds} from {values.min():.1f} to {values.max():.1f})"
    )


def _beyond_the_reference(shares: Mapping[tuple[str, str], np.ndarray]) -> list[str]:
    """Each agent on v0 against the reference's best, and the two algorithms against each other."""
    old = {name: v for (env, name), v in shares.items() if env == "labs/NavigationGoal-v0"}
    envs = sorted({env for env, _ in shares})
    pairs = [(shares[env, "ppo"], shares[env, "dqn"]) for env in envs]
    p_values = holm(
        np.array(
            [_one_sample_p(share - REFERENCE_SUCCESS) for share in old.values()]
            + [planned_p_values([pair])[0] for pair in pairs]
        )
    )
    sentences = []
    for name, share, p in zip(old, old.values(), p_values, strict=False):
        gain = mean_interval(share - REFERENCE_SUCCESS)
        told = "not shown to differ from"
        if p < ALPHA:
            told = "more than" if gain.estimate > 0 else "less than"
        sentences.append(
            f"On v0 the success of {name.upper()} is {told} the {REFERENCE_SUCCESS:.0f}% of the"
            f" reference's best agent ({gain.estimate:+.1f} points, 95% interval {gain.low:+.1f} to"
            f" {gain.high:+.1f})."
        )
    for env, (ppo, dqn), p in zip(envs, pairs, p_values[len(old) :], strict=True):
        gap = difference_interval(ppo, dqn)
        verdict = "these runs cannot tell which is better"
        if p < ALPHA:
            verdict = f"{'PPO' if gap.estimate > 0 else 'DQN'} is better"
        elif needed := seeds_to_tell(ppo, dqn, alpha=ALPHA / len(p_values)):
            verdict += f" (about {needed} seeds each probably would)"
        sentences.append(
            f"On {env} PPO and DQN differ by {gap.estimate:+.1f} points of success (95% interval"
            f" {gap.low:+.1f} to {gap.high:+.1f}, {gap.n} seeds): {verdict}."
        )
    return sentences


def _one_sample_p(values: np.ndarray) -> float:
    """Two-sided p-value of Student's test that the mean is 0; NaN where there is no spread."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    if error == 0:
        return math.nan
    return float(2 * special.stdtr(len(values) - 1, -abs(values.mean()) / error))


def character_gpt(tables: Tables) -> list[str]:
    """The validation loss at the end of training, and the lowest on the way."""
    trials = tables["trials"]
    final = mean_interval(trials["val/loss"].to_numpy())
    bits = mean_interval(trials["val/loss"].to_numpy() / math.log(2))
    best = mean_interval(trials["best/val/loss"].to_numpy())
    gap = mean_interval((trials["val/loss"] - trials["train/loss"]).to_numpy())
    steps = trials["best/step"]
    when = f"{steps.min():,}" if steps.nunique() == 1 else f"{steps.min():,} to {steps.max():,}"
    return [
        f"After {int(trials['step'].iloc[0]):,} iterations the validation loss is"
        f" {_between(final, 3)} nats per character, {_between(bits, 3)} bits ({final.n} seeds).",
        f"The lowest loss on the way is {_between(best, 3)} nats, at iteration {when}"
        f" ({best.n} seeds).",
        f"At the end the validation loss lies {_between(gap, 3)} nats above the training loss"
        f" ({gap.n} seeds).",
    ]


def _between(interval: Interval, digits: int) -> str:
    """``1.480 (95% interval 1.470 to 1.490)``."""
    if math.isnan(interval.low):
        return f"{interval.estimate:.{digits}f}"
    return (
        f"{interval.estimate:.{digits}f} (95% interval {interval.low:.{digits}f} to"
        f" {interval.high:.{digits}f})"
    )


def class_activation_maps(tables: Tables) -> list[str]:
    """Whether removing what the map shows hurts more than removing other pixels."""
    every = tables["trials"]
    images, drawn = every[every["source"] == "test"], every[every["source"] == "drawn"]
    rivals = {"moved": "the same map moved elsewhere", "random": "random pixels"}
    gains = {order: (images[f"area_{order}"] - images["area_most"]).to_numpy() for order in rivals}
    p_values = holm(np.array([_one_sample_p(values) for values in gains.values()]))
    sentences = []
    for (order, name), p in zip(rivals.items(), p_values, strict=True):
        gain = mean_interval(gains[order])
        wins = proportion_interval(int((gains[order] > 0).sum()), gain.n).scaled(100)
        verdict = "these images cannot tell them apart"
        if p < ALPHA:
            verdict = f"the map beats {name}" if gain.estimate > 0 else f"{name} beat the map"
        sentences.append(
            f"Beside {name}: over {len(images)} test images of ships and trucks the mean area under"
            f" the deletion curve is {images['area_most'].mean():.3f} with the map and"
            f" {images[f'area_{order}'].mean():.3f} with {name}, a difference of"
            f" {_between(gain, 3)}, and the map has the smaller area in {wins.estimate:.0f}% of the"
            f" images ({wins.low:.0f} to {wins.high:.0f}): {verdict}."
        )
    for row in drawn.to_dict("records"):
        areas = (f"{row[f'area_{o}']:.3f} ({o})" for o in ("most", "moved", "random", "least"))
        sentences.append(
            f"Of the {row['image']} the network says {row['map_of']} (probability"
            f" {row['probability']:.2f}); the areas are {', '.join(areas)}."
        )
    return sentences


def ag_news(tables: Tables) -> list[str]:
    """What embeddings are worth beside TF-IDF, by the number of training texts."""
    trials = tables["trials"].set_index(["train_size", "draw", "features"])
    accuracy = (100 * trials["test/accuracy"]).unstack()
    (whole,) = tables["whole"].to_dict("records")
    texts = f"of the {int(whole['texts']):,} test texts"
    gains = {size: part["embeddings"] - part["tfidf"] for size, part in accuracy.groupby(level=0)}
    only = [int(whole["only_embeddings"]), int(whole["only_tfidf"])]
    *p_values, p_whole = holm(
        np.array([*(_one_sample_p(gain.to_numpy()) for gain in gains.values()),
                  binomtest(only[0], sum(only)).pvalue])
    )  # fmt: skip
    sentences = []
    for (size, part), gain, p in zip(
        accuracy.groupby(level=0), gains.values(), p_values, strict=True
    ):
        found = mean_interval(gain.to_numpy())
        embeddings, words = (
            _over_seeds(part[name].to_numpy(), "%", 0, 100).replace("seeds", "draws")
            for name in ("embeddings", "tfidf")
        )
        sentences.append(
            f"With {int(cast(float, size)):,} training texts embeddings are right in {embeddings}"
            f" {texts}, and TF-IDF in {words}: a difference of {found.estimate:+.1f} points (95%"
            f" interval {found.low:+.1f} to {found.high:+.1f}): {_better(found.estimate, p)}."
        )
    shares = [100 * (whole["both"] + count) / whole["texts"] for count in only]
    sentences.append(
        f"With all {int(whole['train_size']):,} training texts embeddings are right in"
        f" {shares[0]:.1f}% {texts} and TF-IDF in {shares[1]:.1f}% ({only[0]:,} only embeddings get"
        f" right, {only[1]:,} only TF-IDF): {_better(only[0] - only[1], p_whole)}."
    )
    return sentences


def _better(gain: float, p: float) -> str:
    if not p < ALPHA:
        return "these runs cannot tell which is better"
    return f"{'embeddings are' if gain > 0 else 'TF-IDF is'} better"


STUDIES: Mapping[str, Callable[[Tables], list[str]]] = {
    "cifar10_depth": depth_on_cifar10,
    "cifar10_depth_large": depth_on_cifar10,
    "cifar10_gradient_flow": gradients_on_cifar10,
    "cifar10_gradient_flow_without_norm": gradients_on_cifar10,
    "class_activation_maps": class_activation_maps,
    "char_gpt": character_gpt,
    "ag_news": ag_news,
    "agents": agents,
}
"""The folders of ``results/``, and what makes sentences of their tables."""


def load(study: str, root: Path = RESULTS) -> dict[str, pd.DataFrame]:
    """The tables of a study."""
    return {path.stem: pd.read_csv(path) for path in sorted((root / study).glob("*.csv"))}
