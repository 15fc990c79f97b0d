"""Copies of an environment that are stepped together, in the form that agents learn from.

Observations are float32 rows, an episode that ends is followed by the next one in the same step, and
its final observation is kept. Rewards and observations are not normalised here: that is a task of the
agent, since its statistics must go with its parameters to the workers and into checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled

from labs.rl.envs.frames import NoFramesError, as_frame
from labs.rl.envs.spaces import Actions, Observations
from labs.runtime.errors import InputError

OUTCOMES = ("success", "collision", "timeout", "failure", "terminated", "truncated")


class Episode(NamedTuple):
    """An episode that has ended."""

    number: int
    """Episodes are numbered in the order in which they start: copy ``i`` starts with number ``i``,
    and every reset takes the next free number."""
    total_reward: float
    """The undiscounted return."""
    length: int
    """In steps."""
    outcome: str
    """If the info of the last step has ``is_success``: one of ``success``, ``timeout`` (truncated
    without success), ``collision`` (``info["collision"]`` is true) and ``failure``. Otherwise
    ``terminated`` or ``truncated``."""


class Step(NamedTuple):
    """The result of one step of all copies. The arrays are new, and the caller may keep them."""

    observations: np.ndarray
    """``[num_envs, *observation_shape]``, for the next actions. Where an episode has just ended,
    this is already the first observation of the next one."""
    rewards: np.ndarray
    """float32 ``[num_envs]``"""
    terminated: np.ndarray
    """bool ``[num_envs]``: the episode ended in a terminal state, whose value is 0."""
    truncated: np.ndarray
    """bool ``[num_envs]``: the episode was cut off, and its return bootstraps from the value of the
    final observation. Never true together with ``terminated``."""
    final_observations: np.ndarray
    """``[num_envs, *observation_shape]``: the observation that this step led to, before any reset.
    Equal to ``observations`` except where an episode ended; the same array if none ended."""
    episodes: list[Episode]
    """The episodes that ended in this step."""


class ResumableVectorEnv(Protocol):
    """A vector environment whose state can be saved and restored.

    It is a ``gymnasium.vector.VectorEnv`` in autoreset mode ``DISABLED``, reset with
    ``reset(options={"reset_mask": ...})``. A vector entry point of the registry that has these two
    methods is used instead of the loop over single environments; its constructor must take
    ``autoreset_mode``.
    """

    def get_state(self) -> dict[str, Any]:
        """The state for ``set_state``, of types that a checkpoint may hold."""

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Restore what ``get_state`` returned; returns the current observations."""


class Environment:
    """``num_envs`` copies of one environment. Build it with ``make_env``, then call ``reset``."""

    num_envs: int
    observation_shape: tuple[int, ...]
    """Shape of a (stacked) observation: ``(size,)``, where a Discrete one is one-hot, or
    ``(channels, height, width)``, where a stack has the channels of all its images."""
    observation_dtype: type[np.generic]
    """float32, or uint8 for images."""
    action_size: int
    """Number of actions if ``discrete``, else number of components of the action vector."""
    discrete: bool
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    """The space of one copy, as the environment defines it."""
    frames: list[np.ndarray]
    """With ``render=True``: one uint8 frame ``[height, width, 3]`` per copy, of the state that the
    last step or reset led to, before any reset within the step."""

    def __init__(
        self,
        env_id: str,
        vector_env: Any,
        seed: int,
        frame_stack: int = 1,
        episode_seeds: Sequence[int] = (),
    ) -> None:
        self.env_id = env_id
        self.num_envs = vector_env.num_envs
        self._vector_env = vector_env
        self._seed = seed
        self._episode_seeds = episode_seeds
        self.observation_space = vector_env.single_observation_space
        self.action_space = vector_env.single_action_space
        self._encoder = Observations(env_id, self.observation_space)
        self._actions = Actions(env_id, self.action_space)
        self.discrete = self._actions.discrete
        self.action_size = self._actions.size
        components, *sides = self._encoder.shape
        self._frame_size = components  # along axis 1 of a batch, where frames are stacked
        self.observation_shape = (components * frame_stack, *sides)
        self.observation_dtype = np.uint8 if sides else np.float32
        self._frame_stack = frame_stack
        self._steps = 0
        self._renders = vector_env.render_mode is not None
        self._begin()

    def _begin(self) -> None:
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._numbers = np.arange(self.num_envs)
        self._next_number = self.num_envs

    def reset(self) -> np.ndarray:
        """Start all copies from their seeds; returns ``[num_envs, *observation_shape]``.

        A second call starts from the same seeds again.
        """
        self._begin()
        seeds = np.random.SeedSequence(self._seed).generate_state(self.num_envs).tolist()
        seeds[: len(self._episode_seeds)] = self._episode_seeds[: self.num_envs]
        raw, _ = self._vector_env.reset(seed=[int(seed) for seed in seeds])
        frames = self._encode(raw)
        self._check(frames, self._returns)
        self._observations = self._stacked(frames)
        self._render()
        return self._observations

    def step(self, actions: np.ndarray) -> Step:
        """Step every copy.

        Args:
            actions: integers ``[num_envs]`` from 0 to ``action_size - 1`` if ``discrete``, else
                floats ``[num_envs, action_size]``, where -1 and 1 are the bounds of the action space
                (see ``labs.rl.envs.spaces.Actions``).

        Raises:
            InputError: an observation or reward is NaN or infinite; the message names the step.
        """
        raw, rewards, terminated, truncated, infos = self._vector_env.step(
            self._actions.native(actions)
        )
        self._steps += 1
        frames = self._encode(raw)
        self._check(frames, rewards)
        self._returns += rewards
        self._lengths += 1
        final = self._push(frames)
        truncated = truncated & ~terminated  # with both flags the episode's return is complete
        ended = terminated | truncated
        episodes: list[Episode] = []
        self._observations = final
        self._render()  # before the restart: the last frame of an episode is that of its end
        if ended.any():
            episodes = self._finish(ended, truncated, infos)
            self._observations = self._restart(ended, final)
        return Step(
            self._observations,
            np.asarray(rewards, dtype=np.float32),
            terminated,
            truncated,
            final,
            episodes,
        )

    def get_state(self) -> dict[str, Any]:
        """The state of all copies, of types that a checkpoint may hold.

        It is exact for environments that draw all random numbers from ``np_random``, as gymnasium
        requires.
        """
        return {
            "vector_env": self._vector_env.get_state(),
            "observations": self._observations.tolist(),
            "returns": self._returns.tolist(),
            "lengths": self._lengths.tolist(),
            "numbers": self._numbers.tolist(),
            "next_number": self._next_number,
            "steps": self._steps,
        }

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Restore what ``get_state`` returned, instead of ``reset``; returns the observations."""
        self._vector_env.set_state(state["vector_env"])
        self._observations = np.array(state["observations"], dtype=self.observation_dtype)
        self._returns = np.array(state["returns"])
        self._lengths = np.array(state["lengths"])
        self._numbers = np.array(state["numbers"])
        self._next_number = state["next_number"]
        self._steps = state["steps"]
        return self._observations

    def close(self) -> None:
        """Close the copies."""
        self._vector_env.close()

    def _render(self) -> None:
        if not self._renders:
            return
        try:
            drawn = list(self._vector_env.render())
        except DependencyNotInstalled as error:
            raise NoFramesError(str(missing_package(self.env_id, error))) from None
        except Exception as error:  # only the rendering failed, and the results are there
            raise NoFramesError(
                f"environment {self.env_id} could not be drawn, its render raised"
                f" {type(error).__name__}: {error}"
            ) from error
        self.frames = [as_frame(self.env_id, frame) for frame in drawn]

    def _encode(self, raw: np.ndarray) -> np.ndarray:
        return self._encoder.encode(raw)

    def _check(self, frames: np.ndarray, rewards: np.ndarray) -> None:
        """Raise an InputError for NaN and infinity."""
        # A sum is finite only if every term is, and takes a third of the time of `isfinite` on all.
        images = self.observation_dtype is np.uint8
        if np.isfinite(rewards.sum() + (0 if images else frames.sum())):
            return
        for values, name in ((frames, "an observation"), (rewards[:, None], "a reward")):
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if bad.any():
                index = int(bad.argmax())
                value = values[index][~np.isfinite(values[index])][0]
                raise InputError(
                    f"environment {self.env_id} returned {name} with {value} at step {self._steps}"
                    f" (copy {index} of {self.num_envs}): its step and reset must return finite"
                    " numbers"
                )

    def _stacked(self, frames: np.ndarray) -> np.ndarray:
        """A stack of one frame."""
        return np.concatenate([frames] * self._frame_stack, axis=1)

    def _push(self, frames: np.ndarray) -> np.ndarray:
        if self._frame_stack == 1:
            return frames
        return np.concatenate([self._observations[:, self._frame_size :], frames], axis=1)

    def _finish(
        self, ended: np.ndarray, truncated: np.ndarray, infos: dict[str, Any]
    ) -> list[Episode]:
        success, told = _reported(infos, "is_success", self.num_envs)
        collision, _ = _reported(infos, "collision", self.num_envs)
        episodes = []
        for i in np.flatnonzero(ended):
            if not told[i]:
                outcome = "truncated" if truncated[i] else "terminated"
            elif success[i]:
                outcome = "success"
            elif truncated[i]:
                outcome = "timeout"
            else:
                outcome = "collision" if collision[i] else "failure"
            episodes.append(
                Episode(
                    int(self._numbers[i]), float(self._returns[i]), int(self._lengths[i]), outcome
                )
            )
        return episodes

    def _restart(self, ended: np.ndarray, final: np.ndarray) -> np.ndarray:
        """Reset the copies whose episode has ended; a stack is filled with the first frame."""
        seeds: list[int | None] = [None] * self.num_envs
        for i in np.flatnonzero(ended):
            self._numbers[i] = self._next_number
            # Episode k starts from seed k, whichever copy runs it: evaluations compare episodes.
            if self._next_number < len(self._episode_seeds):
                seeds[i] = int(self._episode_seeds[self._next_number])
            self._next_number += 1
        raw, _ = self._vector_env.reset(seed=seeds, options={"reset_mask": ended})
        first = self._encode(raw)[ended]
        self._check(first, self._returns[ended])
        self._returns[ended] = 0
        self._lengths[ended] = 0
        observations = final.copy()
        observations[ended] = self._stacked(first)
        return observations


def _reported(infos: dict[str, Any], key: str, num_envs: int) -> tuple[np.ndarray, np.ndarray]:
    """The value of ``key`` in each copy's info, and whether it is there: each bool ``[num_envs]``."""
    if key not in infos:
        return np.zeros(num_envs, dtype=bool), np.zeros(num_envs, dtype=bool)
    values = np.asarray(infos[key]).astype(bool)
    told = np.asarray(infos.get(f"_{key}", np.ones(num_envs, dtype=bool)))
    return values & told, told


def missing_package(env_id: str, error: Exception) -> InputError:
    """The error for an environment that needs a package which is not installed."""
    text = str(error)
    ours = any(name in text.lower() for name in ("box2d", "pygame"))
    hint = "; pip install 'labs[envs]' installs Box2D and pygame" if ours else ""
    return InputError(f"environment {env_id} needs a package that is not installed ({text}){hint}")
