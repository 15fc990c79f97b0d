"""Our DQN and PPO beside RLlib's, compared fairly.

The same environments, networks, budget of environment steps and evaluation (the same code on the same
episodes), one core per run, several seeds, all as one grid. Hyperparameters are published ones, or the
same for both libraries but for the learning rate, which a pilot chose for each. Scores are those of the
agents at the end of their budget; nothing is selected. Results follow Agarwal et al. (2021,
arXiv:2108.13264): interquartile means with stratified bootstrap 95% intervals, performance profiles,
probability of improvement, curves against steps and against seconds. Verdicts come from Welch's tests,
adjusted together for all comparisons.

    python experiments/compare_agents.py                        # 40 runs, 18 to 34 minutes on two cores
    python experiments/compare_agents.py --preset quick         # 24 short runs, a minute or two
    python experiments/compare_agents.py --envs Acrobot-v1 --agents labs-ppo rllib-ppo
    python experiments/compare_agents.py --resume runs/compare_agents/NAME

What to expect of the default run: NavigationGoal-v1 scores of 0.90 (our PPO), 0.88 (RLlib's), 0.96 (our
DQN) and 0.85 (RLlib's); CartPole-v1 1.05, 0.52, 1.06 and 1.06 with intervals that overlap; ours trains
6 to 29 times as many steps per second.

The score is the success rate where the environment reports it; elsewhere the mean return, 0 for
uniformly random actions and 1 for gymnasium's reward threshold. A run of RLlib that was interrupted
begins again (its replay and running episodes cannot be saved), one of ours goes on.

Written to runs/compare_agents/<run name>/: runs.csv (a row per run), summary.csv, pairs.csv,
curves.csv, profiles.csv, figures/ (learning, scores, profiles, improvements), checkpoints/ for evaluate_agent.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from labs.analysis.report.page import open_run
from labs.rl.comparison import figures as comparison_figures
from labs.rl.comparison import summary as comparison
from labs.rl.comparison.pairs import answers, pairs_table
from labs.rl.comparison.settings import (
    AGENTS,
    RunConfig,
    check_run,
    plan_runs,
    train_run,
)
from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.grid import seed_values
from labs.runtime.loop.console import show_table
from labs.runtime.machine.resources import Needs
from labs.runtime.options import RuntimeOptions
from labs.runtime.sweep import run_grid

STEPS = {"labs/NavigationGoal-v1": 61_440}
OTHER_STEPS = 25_600
COST = {"rllib-dqn": 30.0, "rllib-ppo": 8.0, "labs-dqn": 2.0, "labs-ppo": 1.0}
"""How long a step takes, in an arbitrary unit: long runs start first."""


@dataclass(frozen=True)
class Config:
    """Options of the comparison."""

    preset: str = "default"
    """default (five seeds, within an hour on two cores) or quick (three short ones, minutes)."""

    envs: tuple[str, ...] = ("labs/NavigationGoal-v1", "CartPole-v1")
    """Gymnasium environments with flat observations and discrete actions."""

    env_kwargs: tuple[str, ...] = ()
    """Keyword arguments of the environment, each key=value; for a single environment."""

    wrapper: tuple[str, ...] = ()
    """Wrappers of the environment, each module:Class; for a single environment."""

    agents: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--contestants"])] = AGENTS
    """Any of labs-ppo, rllib-ppo, labs-dqn, rllib-dqn, or module:name of an algorithm of your own."""

    seeds: tuple[int, ...] = (5,)
    """How many seeds each agent runs with in each environment; with fewer than 3 there are no intervals.
    Several numbers are the seeds themselves."""

    seed: int = 0
    """That of the first run of each agent; the others have the numbers that follow."""

    steps: int | None = None
    """Environment steps of every run. The default is 61,440 for navigation and 25,600 elsewhere."""

    evaluations: int = 20
    """Evaluations per run, equally far apart."""

    eval_episodes: int = 100
    """Episodes per evaluation, which takes the best action every time."""

    learning_rate: float | None = None
    """Of all agents, in place of their own: for a pilot on other seeds."""

    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        for name in ("steps", "evaluations", "eval_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` {value} must be at least 1")

    def trials(self) -> list[RunConfig]:
        """One run per environment, agent and seed."""
        return plan_runs(
            self.envs,
            self.agents,
            seed_values(self.seeds, self.seed),
            steps={env: self.steps or STEPS.get(env, OTHER_STEPS) for env in self.envs},
            evaluations=self.evaluations,
            eval_episodes=self.eval_episodes,
            learning_rate=self.learning_rate,
            env_kwargs=self.env_kwargs,
            wrapper=self.wrapper,
        )


QUICK = Config(preset="quick", seeds=(3,), steps=3_072, evaluations=3, eval_episodes=50)


def main(config: Config) -> int:
    """Train all agents; save tables, figures and a sentence per pair."""
    trials = config.trials()
    for trial in {(trial.env, trial.agent): trial for trial in trials}.values():
        check_run(trial)
    scales = {
        trial.env: comparison.find_scale(trial.env_settings(), config.eval_episodes, config.seed)
        for trial in {trial.env: trial for trial in trials}.values()
    }
    with open_run("compare_agents", config, config.runtime) as run:
        result = run_grid(
            train_run,
            trials,
            run=run,
            cost=lambda trial: COST.get(trial.agent, 1.0) * trial.total_steps,
            needs=Needs(gpu=False),
        )
        runs = comparison.runs_table(result.table, result.history, scales)
        if runs.empty:
            return result.exit_status
        run.add_table("runs", runs)
        summary = comparison.summarise(runs, scales)
        run.add_table("summary", summary)
        pairs = pairs_table(runs, scales)
        curves = comparison.curves_table(runs, result.history, scales)
        run.add_table("curves", curves, shown=False)
        run.add_figure("learning", comparison_figures.comparison_curves(curves, scales))
        if pairs.empty:
            show_table(runs)
        else:
            run.add_table("pairs", pairs)
            run.add_figure("scores", comparison_figures.scores(summary))
            profiles = comparison.profiles_table(runs, scales)
            run.add_table("profiles", profiles, shown=False)
            run.add_figure("profiles", comparison_figures.profiles(profiles))
            run.add_figure("improvements", comparison_figures.improvements(pairs))
            show_table(summary, intervals=("score",))
        run.answer("answers", answers(pairs, runs, len(seed_values(config.seeds, config.seed))))
        run.say_curves()
    return result.exit_status


if __name__ == "__main__":
    launch(
        main,
        Config,
        presets={"default": Config(), "quick": QUICK},
        grows=("envs", "agents", "seeds"),
    )
