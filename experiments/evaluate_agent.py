"""How good is a trained agent, and how does it fail?

Runs a checkpoint of train_agent.py on fresh episodes and prints the share of successes, collisions
and time-outs, the mean return and the mean length, each with its 95% interval. Then it makes a video
of some episodes, half of them failures if there are enough.

    python experiments/evaluate_agent.py --checkpoint runs/train_agent/NAME/checkpoints/.../best.pt
    python experiments/evaluate_agent.py --checkpoint best.pt --episodes 1000 --seed 5 --films 10
    python experiments/evaluate_agent.py --checkpoint best.pt --stochastic

Episode k of a seed begins the same for every agent, so evaluations with the same --seed compare
pairwise. Written to runs/evaluate_agent/<run name>/: summary.csv, episodes.csv (a row per
episode) and figures/episodes.gif, which TensorBoard shows too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from labs.analysis.report.page import open_run
from labs.rl.agents.policies import load_policy
from labs.rl.envs.frames import NoFramesError
from labs.rl.envs.settings import EnvSettings
from labs.rl.evaluation import evaluate
from labs.rl.recording import record_episodes
from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say, show_table
from labs.runtime.options import NameOrPath, RuntimeOptions


@dataclass(frozen=True)
class Config:
    """Options of the evaluation."""

    checkpoint: Annotated[str, NameOrPath()]
    """Checkpoint of train_agent.py: a path or a URI of shared storage."""

    episodes: int = 500
    """Episodes to run."""

    seed: int = 0
    """Determines how every episode begins."""

    env: str | None = None
    """Environment id. The default is the one that the agent was trained on."""

    env_kwargs: tuple[str, ...] = ()
    """Keyword arguments of the environment, each key=value, in place of those of the training."""

    wrapper: tuple[str, ...] = ()
    """Wrappers of the environment, each module:Class, in place of those of the training."""

    stochastic: bool = False
    """Sample actions as in training instead of taking the best; not for DQN."""

    films: int = 6
    """Episodes in the video; 0 makes no video."""

    fps: float = 15
    """Frames per second of the video."""

    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        for name, value, least in (("episodes", self.episodes, 1), ("films", self.films, 0)):
            if value < least:
                raise InputError(f"`{name}` {value} is too small: use {least} or more")
        if self.seed < 0:
            raise InputError(f"`seed` {self.seed} must not be negative: use 0 or more")
        if not 0 < self.fps <= 50:
            raise InputError(f"`fps` {self.fps} is out of range: a GIF plays up to 50 a second")
        if self.runtime.resume:
            raise InputError("`resume` does not apply: an evaluation is short, so start it again")


def main(config: Config) -> int:
    """Evaluate, print the results, and make the video."""
    saved = load_policy(config.checkpoint)
    if config.stochastic:
        saved.require_probabilities()
    env = saved.env if config.env in (None, saved.env_id) else EnvSettings(config.env)
    env = dataclasses.replace(
        env,
        env_kwargs=config.env_kwargs or env.env_kwargs,
        wrapper=config.wrapper or env.wrapper,
    )
    say(f"{saved.algorithm} after {saved.step} steps: {config.episodes} episodes of {env}")
    evaluation = evaluate(
        saved.policy,
        env,
        config.episodes,
        config.seed,
        frame_stack=saved.frame_stack,
        stochastic=config.stochastic,
    )
    with open_run("evaluate_agent", config, config.runtime) as run:
        summary = evaluation.summary()
        show_table(summary, intervals=("mean",))
        if note := evaluation.note():
            say(note)
        run.add_table("summary", summary)
        run.add_table("episodes", evaluation.table())
        if config.films:
            try:
                frames = record_episodes(
                    saved.policy,
                    env,
                    evaluation,
                    config.films,
                    frame_stack=saved.frame_stack,
                    sampling_seed=config.seed if config.stochastic else None,
                )
                say(f"video: {run.add_animation('episodes', frames, config.fps)}")
            except NoFramesError as error:  # the results of the evaluation are valid without it
                say(f"no video: {error}")
        say(f"tables: {run.path}")
    return 0


if __name__ == "__main__":
    launch(main, Config)
