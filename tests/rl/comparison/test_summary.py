"""What a comparison comes to, on runs whose results are known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from labs.analysis.decisions import ALPHA, planned_p_values
from labs.rl.comparison import figures as comparison_figures
from labs.rl.comparison import summary as comparison
from labs.rl.comparison.pairs import answers, pairs_table
from labs.rl.comparison.summary import Scale, find_scale

CART, NAV = "CartPole-v1", "labs/NavigationGoal-v1"
SCALES = {
    NAV: Scale("eval/success_rate", 0.0, 1.0, 0.9),
    CART: Scale("eval/return_mean", 20.0, 475.0, 475.0),
}


def grid(
    ends: dict[tuple[str, str], list[float]], status: str = "done"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials whose metric rises in four evaluations to its end, a second per 100 steps."""
    rows, reports = [], []
    for (env, agent), values in ends.items():
        library, algorithm = agent.split("-")
        for seed, end in enumerate(values):
            trial = len(rows)
            rows.append(
                {
                    "trial": trial,
                    "library": library,
                    "algorithm": algorithm,
                    "env": env,
                    "seed": seed,
                    "status": status,
                }
            )
            for part in range(1, 5):
                report = {"trial": trial, "step": 1000 * part, "time/training_seconds": 10 * part}
                value = end * part / 4
                if env == NAV:
                    report |= {"eval/success_rate": value, "eval/return_mean": 2 * value - 1}
                else:
                    report["eval/return_mean"] = value
                reports.append(report)
    return pd.DataFrame(rows), pd.DataFrame(reports)


ENDS = {
    (NAV, "labs-ppo"): [0.9, 0.92, 0.94, 0.96, 1.0],
    (NAV, "rllib-ppo"): [0.5, 0.6, 0.62, 0.64, 0.9],
    (CART, "labs-ppo"): [475.0, 475.0, 475.0, 475.0, 475.0],
    (CART, "rllib-ppo"): [20.0, 475.0, 475.0, 475.0, 475.0],
}


def runs_of(ends: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    return comparison.runs_table(*grid(ends), SCALES)


def test_scales_are_measured() -> None:
    navigation = find_scale(NAV, 50, 0)
    assert navigation == Scale("eval/success_rate", 0.0, 1.0, 0.9)
    cart = find_scale(CART, 200, 0)
    assert (cart.one, cart.threshold) == (475.0, 475.0)
    assert 18 < cart.zero < 27  # random actions hold the pole about 22 steps
    assert find_scale(CART, 200, 0) == cart
    assert cart.score(np.array([cart.zero, 475.0])).tolist() == [0.0, 1.0]
    mountain = Scale("eval/return_mean", -200.0, math.nan, math.nan)
    assert mountain.score(np.array([3.0])).tolist() == [3.0]


def test_a_row_per_run_at_its_end() -> None:
    runs = runs_of(ENDS)
    assert len(runs) == 20
    row = runs[(runs["env"] == NAV) & (runs["agent"] == "labs-ppo")].iloc[4]
    assert (row["score"], row["return"], row["success_rate"]) == (1.0, 1.0, 1.0)
    assert (row["steps"], row["seconds"], row["steps_per_second"]) == (4000, 40, 100)
    # 0.25, 0.5, 0.75, 1.0: the threshold of 0.9 is reached at the last evaluation
    assert (row["steps_to_threshold"], row["seconds_to_threshold"]) == (4000, 40)
    poor = runs[(runs["env"] == CART) & (runs["agent"] == "rllib-ppo")].iloc[0]
    assert poor["score"] == 0.0
    assert math.isnan(poor["steps_to_threshold"])
    failed = comparison.runs_table(*grid(ENDS, status="failed"), SCALES)
    assert failed.empty


def test_the_summary_by_hand() -> None:
    summary = comparison.summarise(runs_of(ENDS), SCALES).set_index(["env", "agent"])
    ours = summary.loc[(NAV, "labs-ppo")]
    assert ours["score"] == pytest.approx(0.94)  # the middle three of five
    assert 0.9 <= ours["score_low"] < 0.94 < ours["score_high"] <= 1.0
    assert ours["solved"] == 5
    assert ours["steps_to_threshold"] == 4000
    theirs = summary.loc[(NAV, "rllib-ppo")]
    assert theirs["score"] == pytest.approx((0.6 + 0.62 + 0.64) / 3)
    assert theirs["solved"] == 1
    assert math.isnan(theirs["steps_to_threshold"])  # four of five never got there
    everywhere = summary.loc[(comparison.ALL, "labs-ppo")]
    # 0.9 ... 1.0 and five times 1: of ten the lowest and the highest two are left out
    assert everywhere["score"] == pytest.approx((0.94 + 0.96 + 4 * 1.0) / 6)


def test_a_sentence_per_pair_and_by_how_much() -> None:
    runs = runs_of(ENDS)
    pairs = pairs_table(runs, SCALES).set_index("env")
    assert len(pairs) == 3
    ours, theirs = ENDS[NAV, "labs-ppo"], ENDS[NAV, "rllib-ppo"]
    row = pairs.loc[NAV]
    assert row["verdict"] == "better"
    assert row["difference"] == pytest.approx(0.944 - 0.652)
    test = scipy.stats.ttest_ind(ours, theirs, equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((low, high))
    # of 25 pairs 24 are won, and 0.9 against 0.9 is a draw
    assert row["improvement"] == pytest.approx(24.5 / 25)
    # Holm: the smallest of the three p-values counts three times. Together: each seed's mean of both
    cart = scipy.stats.ttest_ind([1.0] * 5, [0, 1, 1, 1, 1], equal_var=False).pvalue
    both = [[(a + b) / 2 for a, b in zip(x, y, strict=True)] for x, y in (
        (ours, [1.0] * 5), (theirs, [0.0, 1.0, 1.0, 1.0, 1.0]))]  # fmt: skip
    together = scipy.stats.ttest_ind(*both, equal_var=False).pvalue
    assert test.pvalue < together < cart
    expected = [3 * test.pvalue, 2 * together, cart]
    expected = np.maximum.accumulate(expected).tolist()
    assert pairs["p"].loc[[NAV, comparison.ALL, CART]].tolist() == pytest.approx(expected)
    assert pairs.loc[CART, "verdict"] == "the seeds cannot tell"
    told = answers(pairs_table(runs, SCALES), runs, 5)
    assert told[0].startswith(f"labs-ppo against rllib-ppo: better in {NAV} (+0.292 [+0.")
    assert f"the seeds cannot tell in {CART} (+0.200 [-0." in told[0]
    assert "adjusted together for all 3 comparisons (Holm)" in told[1] and len(told) == 2
    other_way = {
        (env, {"labs-ppo": "rllib-ppo", "rllib-ppo": "labs-ppo"}[who]): values
        for (env, who), values in ENDS.items()
    }
    pairs = pairs_table(runs_of(other_way), SCALES).set_index("env")
    assert pairs.loc[NAV, "first"] == "rllib-ppo" and pairs.loc[NAV, "verdict"] == "better"
    first = {key: values for key, values in reversed(list(ENDS.items()))}
    assert pairs_table(runs_of(first), SCALES).set_index("env").loc[NAV, "verdict"] == "worse"


@pytest.mark.parametrize("n", [3, 5])
def test_of_equal_agents_at_most_five_tables_in_a_hundred_have_a_wrong_verdict(n: int) -> None:
    """The six pairs of four agents whose scores differ by chance; 600 such tables."""
    generator = np.random.default_rng(n)
    wrong = 0
    for scores in generator.normal(size=(600, 4, n)):
        wrong += bool((planned_p_values(list(itertools.combinations(scores, 2))) < ALPHA).any())
    assert wrong / 600 < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 600)


def test_agents_with_runs_that_did_not_end_are_not_compared() -> None:
    table, history = grid(ENDS)
    table.loc[
        (table["env"] == CART) & (table["library"] == "rllib") & (table["seed"] == 0), "status"
    ] = "failed"
    runs = comparison.runs_table(table, history, SCALES)
    assert len(runs) == 19  # what ended is shown
    pairs = pairs_table(runs, SCALES)
    assert pairs["env"].tolist() == [NAV]
    assert answers(pairs, runs, 5)[-1] == (
        "Not compared, since some of their runs did not finish: rllib-ppo in CartPole-v1."
    )


def test_two_seeds_have_no_interval() -> None:
    runs = runs_of({key: values[:2] for key, values in ENDS.items()})
    assert comparison.summarise(runs, SCALES)["score_low"].isna().all()
    pairs = pairs_table(runs, SCALES)
    assert pairs.empty
    (sentence,) = answers(pairs, runs, 2)
    assert sentence == (
        "With 2 seeds these are single runs, without intervals: these need 3 seeds or more."
    )


def test_scores_without_a_scale_are_not_mixed() -> None:
    scales = SCALES | {CART: Scale("eval/return_mean", 20.0, math.nan, math.nan)}
    runs = comparison.runs_table(*grid(ENDS), scales)
    assert set(comparison.summarise(runs, scales)["env"]) == {NAV, CART}
    assert runs[runs["env"] == CART]["score"].max() == 475.0


def test_curves_by_hand() -> None:
    table, history = grid(ENDS)
    runs = comparison.runs_table(table, history, SCALES)
    curves = comparison.curves_table(runs, history, SCALES)
    keys = ["env", "metric", "against", "agent"]
    assert len(curves) == 200 * 2 * (3 + 2)  # points, agents, panels of both environments
    curve = curves.set_index(keys).loc[(NAV, "eval/success_rate", "step", "labs-ppo")]
    # the last evaluation holds until the next: a quarter of 0.94 before step 2000, half of it after
    at = curve.set_index("at")["value"]
    assert at[at.index < 2000].unique() == pytest.approx([0.94 / 4])
    assert at.iloc[-1] == pytest.approx(0.94)
    assert (curve["low"] <= curve["value"]).all() and (curve["value"] <= curve["high"]).all()
    seconds = curves.set_index(keys).loc[(CART, "eval/return_mean", comparison.SECONDS, "labs-ppo")]
    assert (seconds["at"].min(), seconds["at"].max()) == (10, 40)
    few = comparison.runs_table(*grid({k: v[:2] for k, v in ENDS.items()}), SCALES)
    single = comparison.curves_table(few, history, SCALES)
    assert sorted(single["seed"].unique()) == [0, 1]
    assert single["low"].isna().all()
    assert len(single) == 4 * 2 * 2 * (3 + 2)  # evaluations, seeds, agents, panels


def test_profiles_by_hand() -> None:
    profiles = comparison.profiles_table(runs_of(ENDS), SCALES).set_index(["env", "agent"])
    ours = profiles.loc[(NAV, "labs-ppo")]
    # scores of 0.9, 0.92, 0.94, 0.96 and 1: all above 0.89, two above 0.95, none above 1
    assert ours["share"].iloc[0] == 1.0
    assert ours[ours["threshold"].between(0.945, 0.955)]["share"].unique() == pytest.approx([0.4])
    assert ours["share"].iloc[-1] == 0.0
    together = profiles.loc[(comparison.ALL, "rllib-ppo")]
    assert together["share"].iloc[0] == pytest.approx(0.9)  # one of ten scores 0


def test_figures_show_every_agent() -> None:
    table, history = grid(ENDS)
    runs = comparison.runs_table(table, history, SCALES)
    curves = comparison.curves_table(runs, history, SCALES)
    figure = comparison_figures.comparison_curves(curves, SCALES)
    panels = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title() for axes in panels] == [
        *(f"{NAV}: mean return", f"{NAV}: success rate", f"{NAV}: success rate"),
        *(f"{CART}: mean return", f"{CART}: mean return"),
    ]
    assert panels[1].lines[0].get_ydata()[-1] == pytest.approx(0.94)
    assert list(panels[1].lines[2].get_ydata()) == [0.9, 0.9]  # the threshold
    assert panels[2].get_xscale() == "log"
    profiles = comparison_figures.profiles(comparison.profiles_table(runs, SCALES))
    assert profiles.axes[0].lines[0].get_ydata()[0] == 1.0
    assert len(comparison_figures.scores(comparison.summarise(runs, SCALES)).axes) == 3
    pairs = pairs_table(runs, SCALES)
    assert len(comparison_figures.improvements(pairs).axes) == 3
    single = comparison.runs_table(*grid({k: v[:1] for k, v in ENDS.items()}), SCALES)
    curves = comparison.curves_table(single, history, SCALES)
    figure = comparison_figures.comparison_curves(curves, SCALES)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1000, 2000, 3000, 4000]
