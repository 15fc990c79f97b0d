"""Train an agent by reinforcement learning: PPO, DQN or an algorithm of your own.

    python experiments/train_agent.py                        # PPO on NavigationGoal, minutes on a core
    python experiments/train_agent.py dqn --seeds 3          # or --algorithm dqn
    python experiments/train_agent.py --env CartPole-v1 --learning-rate 3e-4 1e-3 3e-3
    python experiments/train_agent.py reinforce:reinforce    # the module reinforce registers it

Each algorithm has its own options: train_agent.py dqn --help. Their defaults are tuned for the
environment. Several values of an option make a grid.

The step of all curves is the number of environment steps. Each trial keeps its best checkpoint by
the mean return of its evaluations, which experiments/evaluate_agent.py evaluates on new episodes.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labs.analysis.answers import write_answers
from labs.analysis.configs import group_configs
from labs.analysis.curves import learning_curves
from labs.analysis.decisions import Decision
from labs.analysis.report.page import open_run
from labs.rl.agents.config import AgentConfig
from labs.rl.options import CHOICE, agent_configs, describe
from labs.rl.rollouts.advice import workers_note
from labs.rl.training import CURVES, METRIC, check_agent, train_agent
from labs.rounds import max_seeds, run_until_decided
from labs.runtime.cli import spell_options
from labs.runtime.commandline.choices import launch_choice
from labs.runtime.loop.console import say
from labs.runtime.machine.resources import Needs
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid


def main(options: Any) -> int:
    """Train all trials, plot their curves, and print where the best agent is."""
    trials = agent_configs(options)
    for trial in trials:
        check_agent(trial)
    say(describe(trials))
    workers = {(trial.env_settings(), trial.num_workers): trial for trial in trials}.values()
    notes = [*(trial.note() for trial in trials), *(workers_note(trial) for trial in workers)]
    for note in dict.fromkeys(notes):
        if note is not None:
            say(f"note: {spell_options(note, type(options))}")

    def run_once(
        configs: Sequence[AgentConfig], runtime: RuntimeOptions
    ) -> tuple[GridResult, Decision | None, Path]:
        with open_run("train_agent", options, runtime) as run:
            result = run_grid(
                train_agent,
                configs,
                run=run,
                objective=Objective(METRIC, last_step="total_steps", in_every_report=False),
                needs=Needs(
                    workers=max(config.num_workers for config in configs),
                    gpu=any(config.device != "cpu" for config in configs),
                ),
            )
            if not result.history.empty:
                groups = group_configs(result.table, METRIC)
                curves = learning_curves(result.history, groups, CURVES, "environment steps")
                run.add_figure("learning", curves)
            most = max_seeds(options.until_decided)
            decision = write_answers(result, run, planned=most)
            best = result.best()
            if best is not None:
                say(f"best: {best['name']}, {METRIC} {best[METRIC]:.4g} at step {best['step']}")
                script = Path(sys.argv[0]).with_name("evaluate_agent.py")
                words = ["python", str(script), "--checkpoint", str(best["checkpoint"])]
                say(f"evaluate it: {shlex.join(words)}")
            run.say_curves()
        return result, decision, run.path

    most = max_seeds(options.until_decided)
    if most is None:
        return run_once(trials, options.runtime)[0].exit_status
    return run_until_decided(run_once, trials, options.runtime, most).exit_status


if __name__ == "__main__":
    launch_choice(main, CHOICE)
