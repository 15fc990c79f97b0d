"""A trained agent in Python: takes observations of its environment, returns actions for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from labs.analysis.load import load_run
from labs.rl.agents.policies import SavedPolicy
from labs.rl.agents.policies import load_policy as load_saved
from labs.rl.envs.make import make_env
from labs.rl.envs.settings import EnvSettings
from labs.rl.envs.spaces import Actions, Observations
from labs.runtime.directory.description import CONFIG_FILE
from labs.runtime.directory.mirror import is_remote
from labs.runtime.errors import InputError


class LoadedPolicy:
    """A trained agent. Build it with ``labs.load_policy``.

    Attributes:
        algorithm: for instance ``ppo``.
        env: the environment of the training, with its keyword arguments and wrappers.
        step: environment steps of training.
        observation_space: the space of what ``act`` takes: that of the environment with its wrappers.
        action_space: the space of what ``act`` returns.
    """

    def __init__(self, saved: SavedPolicy, stochastic: bool = False, seed: int = 0) -> None:
        self.algorithm, self.step = saved.algorithm, saved.step
        self.env: EnvSettings = saved.env
        self._policy = saved.policy
        self._frame_stack = saved.frame_stack
        self._generator = np.random.default_rng(seed) if stochastic else None
        probe = make_env(saved.env, 1, 0, frame_stack=saved.frame_stack)
        probe.close()
        self.observation_space, self.action_space = probe.observation_space, probe.action_space
        self._encoder = Observations(saved.env_id, self.observation_space)
        self._actions = Actions(saved.env_id, self.action_space)
        self._stack: np.ndarray | None = None
        self._fresh = np.zeros(0, dtype=bool)
        """Rows whose next observation is the first of an episode."""

    def act(self, observation: Any) -> Any:
        """The action for an observation, or the actions for a batch of them.

        Args:
            observation: as the environment returns it, or ``n`` of them stacked along a first axis.
                If the agent was trained with ``frame_stack``, the observations since ``reset`` are
                stacked here, row by row.

        Returns:
            As the environment takes it: an ``np.int64``, or an array with the shape and dtype of its
            action space, scaled to its bounds. For a batch, ``n`` of them along a first axis.

        Raises:
            InputError: it has neither the shape of an observation nor of a batch, or is not finite.
        """
        values, shape = np.asarray(observation), self.observation_space.shape or ()
        single = values.shape == shape
        if not single and values.shape[1:] != shape:
            raise InputError(
                f"`observation` has shape {values.shape}: one of {self.env} has shape {shape}, and a"
                f" batch has shape {('n', *shape)}".replace("'", "")
            )
        rows = self._encoder.encode(values[None] if single else values)
        if not np.isfinite(rows).all():
            raise InputError("`observation` has a value that is not a finite number")
        actions = self._actions.native(self._policy.act(self._stacked(rows), self._generator))
        return actions[0] if single else actions

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Forget the observations so far. Call it at the start of an episode if frames are stacked.

        Args:
            mask: bool ``[n]``, the rows of the batch that start an episode; None for all rows.
        """
        if mask is None or self._stack is None:
            self._stack = None
        else:
            self._fresh[np.asarray(mask, dtype=bool)] = True

    def _stacked(self, rows: np.ndarray) -> np.ndarray:
        if self._frame_stack == 1:
            return rows
        full = np.concatenate([rows] * self._frame_stack, axis=1)
        if self._stack is not None and len(self._stack) == len(rows):
            going = ~self._fresh
            full[going] = np.concatenate([self._stack[:, rows.shape[1] :], rows], axis=1)[going]
        self._stack, self._fresh = full, np.zeros(len(rows), dtype=bool)
        return full.copy()


def load_policy(
    run: str | Path, *, trial: int | None = None, stochastic: bool = False, seed: int = 0
) -> LoadedPolicy:
    """Load a trained agent.

    ::

        policy = labs.load_policy("runs/train_agent/NAME")
        action = policy.act(observation)

    Args:
        run: the directory of a run of ``train_agent.py``, or the path of one of its checkpoints
            (``*.pt``); either may be a URI.
        trial: number of the trial; None takes the trial with the best checkpoint.
        stochastic: sample actions as in training instead of taking the best.
        seed: seed of the sampling.

    Raises:
        InputError: there is no such run, trial or checkpoint, its environment cannot be made, or
            ``stochastic`` is set for an agent without probabilities to sample from.
    """
    path: str | Path = run
    remote = is_remote(str(run)) and not str(run).endswith(".pt")
    if remote or (Path(run) / CONFIG_FILE).exists():
        path = load_run(run).checkpoint_path(trial)
    elif trial is not None:
        raise InputError(
            f"`trial` selects a trial of a run, and {run} is not a run directory: leave it out"
        )
    elif Path(run).is_dir():
        raise InputError(f"{run} is not a run directory: it has no {CONFIG_FILE}")
    saved = load_saved(path)
    if stochastic:
        saved.require_probabilities()
    return LoadedPolicy(saved, stochastic, seed)
