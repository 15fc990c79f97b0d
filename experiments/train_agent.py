"""Train an agent by reinforcement learning: PPO or DQN, on any flat gymnasium environment.

    python experiments/train_agent.py                        # PPO finds the goal, minutes on a core
    python experiments/train_agent.py --algorithm dqn --seeds 3
    python experiments/train_agent.py --env CartPole-v1 --learning-rates 3e-4 1e-3 3e-3
    python experiments/train_agent.py --num-workers 1 --envs-per-worker 64

The step of all curves is the number of environment steps. Each trial keeps its best checkpoint by
the mean return of its evaluations; experiments/evaluate_agent.py puts it to the test.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import tyro

from labs.analysis.configs import group_configs
from labs.analysis.curves import learning_curves
from labs.rl.agents.config import AgentConfig
from labs.rl.training import CURVES, METRIC, check_agent, train_agent
from labs.runtime.cli import launch
from labs.runtime.directory.runs import open_run
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.machine.resources import Needs
from labs.runtime.machine.seeds import trial_seeds
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.sweep import run_grid


@dataclass(frozen=True)
class Config:
    """Options of the training."""

    learning_rates: tuple[float, ...] = ()
    """One trial for each of these; without them one with --learning-rate."""

    gammas: tuple[float, ...] = ()
    """One trial for each of these; without them one with --gamma."""

    seeds: int = 1
    """Trials per setting, each with its own seed."""

    train: tyro.conf.OmitArgPrefixes[AgentConfig] = field(default_factory=AgentConfig)
    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise InputError(f"`seeds` {self.seeds} must be at least 1")
        self.trials()

    def trials(self) -> list[AgentConfig]:
        """One training per learning rate, discount and seed."""
        train = self.train.resolve()
        return [
            dataclasses.replace(train, learning_rate=rate, gamma=gamma, seed=seed)
            for rate in self.learning_rates or (train.learning_rate,)
            for gamma in self.gammas or (train.gamma,)
            for seed in trial_seeds(train.seed, self.seeds)
        ]


def main(config: Config) -> int:
    """Train all trials, draw their curves, say where the best agent is."""
    trials = config.trials()
    check_agent(trials[0])
    with open_run("train_agent", config, config.runtime) as run:
        say(f"{trials[0].algorithm} on {trials[0].env}")
        result = run_grid(
            train_agent,
            trials,
            run=run,
            objective=Objective(METRIC, last_step="total_steps"),
            needs=Needs(workers=trials[0].num_workers, gpu=trials[0].device != "cpu"),
        )
        if not result.history.empty:
            configs = group_configs(result.table, METRIC)
            curves = learning_curves(result.history, configs, CURVES, "environment steps")
            run.add_figure("learning", curves)
        best = result.best()
        if best is not None:
            say(f"best: {best['name']}, {METRIC} {best[METRIC]:.3f} at step {best['step']}")
            say(f"python experiments/evaluate_agent.py --checkpoint {best['checkpoint']}")
        run.say_curves()
    return result.exit_status


if __name__ == "__main__":
    launch(main, Config, grows=("learning_rates", "gammas", "seeds"))
