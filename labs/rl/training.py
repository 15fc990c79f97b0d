"""Training an agent, as a generator of reports."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from labs.rl.agents.config import AgentConfig, find_algorithm
from labs.rl.agents.networks.base import Spaces
from labs.rl.agents.policies import (
    Policy,
    PolicySpec,
    env_state,
    policy_state,
    saved_env,
    saved_spec,
)
from labs.rl.agents.segments import Segment
from labs.rl.agents.trainer import Rollouts, Trainer
from labs.rl.envs.episodes import Episode
from labs.rl.envs.make import make_env
from labs.rl.evaluation import episode_metrics, evaluation_metrics
from labs.rl.rollouts.collector import CollectorSpec
from labs.rl.rollouts.workers import make_rollouts
from labs.runtime.errors import InputError
from labs.runtime.machine.devices import resolve_device
from labs.runtime.reports import Checkpoint, Report

METRIC = "eval/return_mean"
"""The metric that decides which checkpoint of a run is the best."""

CURVES = {
    "eval/success_rate": "evaluation: success rate",
    "eval/return_mean": "evaluation: mean return",
    "rollout/return_mean": "training: mean return",
    "rollout/length_mean": "training: mean length",
}
"""The metrics whose curves are drawn, with their titles."""


class _Interval:
    """Collects the metrics between two reports."""

    def __init__(self, seconds_before: float) -> None:
        self._began = time.perf_counter()
        self._seconds_before = seconds_before
        self._episodes: list[Episode] = []
        self._metrics: dict[str, list[float]] = defaultdict(list)
        self._seconds: dict[str, float] = defaultdict(float)
        self._steps = 0

    def add(
        self, segment: Segment, metrics: dict[str, float], collecting: float, learning: float
    ) -> None:
        """``collecting`` and ``learning`` are the seconds that this process spent on each."""
        self._episodes += segment.episodes
        self._steps += segment.num_steps
        for tag, value in metrics.items():
            self._metrics[tag].append(value)
        self._seconds["environment"] += segment.environment_seconds
        self._seconds["inference"] += segment.inference_seconds
        self._seconds["collecting"] += collecting
        self._seconds["learning"] += learning

    def metrics(self) -> dict[str, float]:
        """Means over the updates and episodes, and the time that each part of the loop took.

        With workers, the seconds of environment and inference are measured in the workers, and those
        of collecting are the time that this process waited for them. ``training_seconds`` count from
        the start of training, without evaluations.
        """
        elapsed = time.perf_counter() - self._began
        found = {tag: float(np.mean(values)) for tag, values in self._metrics.items()}
        if self._episodes:
            found |= {f"rollout/{k}": v for k, v in episode_metrics(self._episodes).items()}
        found["time/steps_per_second"] = self._steps / max(elapsed, 1e-9)
        found["time/training_seconds"] = self._seconds_before + elapsed
        return found | {f"time/{part}_seconds": value for part, value in self._seconds.items()}


def train_agent(config: AgentConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    """Train an agent; the step is the number of environment steps.

    Without workers, the same seed gives the same numbers, and a resumed training gives the same
    numbers as one that was not interrupted. With workers this holds for PPO as long as none dies.
    DQN learns while its workers collect, so the order of the segments depends on the machine.

    Raises:
        InputError: an environment that is unknown, not supported or returns NaN, DQN with
            continuous actions, or a checkpoint of another algorithm, environment or network.
    """
    # One seed each for the learner, the collectors and the evaluations.
    seeds = np.random.SeedSequence(config.seed).generate_state(3).tolist()
    trainer = _make_trainer(config, seeds[0])
    spec = trainer.learner.spec
    step = 0 if resume is None else _require_matching(resume, config, spec)
    if step >= config.total_steps:
        return
    rollouts = make_rollouts(_collector_spec(config, spec, seeds[1]), config.num_workers)
    try:
        if resume is not None:
            trainer.load(resume["trainer"])
            rollouts.set_state(resume["rollouts"])
        seconds = 0.0 if resume is None else resume["seconds"]
        yield from _train(config, trainer, rollouts, step, seconds, seeds[2])
    finally:
        rollouts.close()


def _train(
    config: AgentConfig,
    trainer: Trainer,
    rollouts: Rollouts,
    step: int,
    seconds_before: float,
    eval_seed: int,
) -> Iterator[Report]:
    policy = Policy(trainer.learner.spec)
    seconds = seconds_before

    def checkpoint() -> Checkpoint:
        """The state after the last report, from which training can be resumed."""
        return {
            "kind": _kind(config),
            **env_state(config.env_settings()),
            "frame_stack": config.frame_stack,
            "step": step,
            "seconds": seconds,
            "policy": policy_state(trainer.learner.spec, trainer.learner.actor_parameters()),
            "trainer": trainer.state(),
            "rollouts": rollouts.get_state(),
        }

    interval = _Interval(seconds)
    while step < config.total_steps:
        progress = step / config.total_steps
        began = time.perf_counter()
        segment = trainer.collect(rollouts, progress)
        collected = time.perf_counter()
        metrics = trainer.learn(segment, step, progress)
        interval.add(segment, metrics, collected - began, time.perf_counter() - collected)
        before, step = step, step + segment.num_steps
        finished = step >= config.total_steps
        if not (finished or _passed(before, step, config.report_interval)):
            continue
        found = interval.metrics() | {"rollout/workers_replaced": float(rollouts.replaced)}
        seconds = found["time/training_seconds"]
        if finished or _passed(before, step, config.eval_interval):
            policy.load(trainer.learner.actor_parameters())
            found |= evaluation_metrics(
                policy,
                config.env_settings(),
                config.eval_episodes,
                eval_seed,
                config.frame_stack,
            )
        yield Report(step, found, checkpoint)
        # The clock of an interval starts after the evaluation, which is not part of training.
        interval = _Interval(seconds)


def _passed(before: int, now: int, interval: int) -> bool:
    return before // interval < now // interval


def check_agent(config: AgentConfig) -> None:
    """Raise before anything is started if this config cannot be trained.

    Raises:
        InputError: as for ``train_agent``.
    """
    _make_trainer(config, seed=0)


def _make_trainer(config: AgentConfig, seed: int) -> Trainer:
    """The algorithm's trainer, for the shapes of the environment."""
    probe = make_env(config.env_settings(), 1, 0, frame_stack=config.frame_stack)
    spaces = Spaces(probe.observation_shape, probe.action_size, probe.discrete)
    probe.close()
    algorithm = find_algorithm(config.algorithm)
    return algorithm.make_trainer(config, spaces, seed, resolve_device(config.device))


def _kind(config: AgentConfig) -> str:
    return f"rl.{find_algorithm(config.algorithm).name}"


def _collector_spec(config: AgentConfig, policy: PolicySpec, seed: int) -> CollectorSpec:
    return CollectorSpec(
        env=config.env_settings(),
        num_envs=config.envs_per_worker,
        frame_stack=config.frame_stack,
        segment_length=config.segment_length,
        policy=policy,
        seed=seed,
    )


def _require_matching(checkpoint: Checkpoint, config: AgentConfig, spec: PolicySpec) -> int:
    """The step of the checkpoint.

    Raises:
        InputError: it belongs to another algorithm, environment or network.
    """
    saved = checkpoint["policy"]["spec"] if "policy" in checkpoint else None
    for name, found, wanted in (
        ("kind", checkpoint["kind"], _kind(config)),
        ("environment", str(saved_env(checkpoint)), str(config.env_settings())),
        ("frame stack", checkpoint.get("frame_stack"), config.frame_stack),
        ("network", saved and vars(saved_spec(saved)), vars(spec)),
    ):
        if found != wanted:
            raise InputError(
                f"the checkpoint has {name} {found} and this run has {wanted}: resume with the"
                " configuration that wrote it, or start a new run"
            )
    return int(checkpoint["step"])
