"""labs/NavigationGoal: a robot must reach a goal in a square room without touching anything.

The room spans 0 to 10 in x and y and has three square obstacles. The robot turns and drives in
small noisy steps, measures 16 ranges and knows the goal's distance and bearing. There are two
versions, for ``gymnasium.make`` and ``gymnasium.make_vec``:

- ``labs/NavigationGoal-v0``, the reference with its flaws: the bearing is folded into [0, pi].
- ``labs/NavigationGoal-v1``, corrected: sine and cosine of the bearing, potential-based shaping.

``labs.rl.navigation.tasks`` has their observations and rewards. An episode ends with success (the
goal is nearer than 1), with a collision (a ray is shorter than 0.4, which counts if both hold), or
by truncation at step 100. ``info`` has ``is_success`` and ``collision``.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from labs.rl.navigation.geometry import NUM_RAYS
from labs.rl.navigation.rendering import Trails
from labs.rl.navigation.robots import Robots, scale_range
from labs.rl.navigation.scenes import ROOM_SIDE, Scene
from labs.rl.navigation.tasks import MAX_RANGE, TASKS

_METADATA = {"render_modes": ["rgb_array"], "render_fps": 15}


def _observation_space(version: int) -> spaces.Box:
    task = TASKS[version]
    farthest = scale_range(ROOM_SIDE * np.sqrt(2))
    low = [scale_range(0.0)] * (NUM_RAYS + 1) + list(task.bearing_low)
    high = [scale_range(MAX_RANGE)] * NUM_RAYS + [farthest] + list(task.bearing_high)
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


def _require_render_mode(render_mode: str | None) -> None:
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode {render_mode!r} is unknown; use 'rgb_array' or None")


class NavigationGoalEnv(gymnasium.Env[np.ndarray, int]):
    """One robot. It is computed as a batch of one, so that it cannot differ from the vector version."""

    metadata = _METADATA

    def __init__(self, version: int = 1, noise: float = 0.02, render_mode: str | None = None):
        """``noise``: standard deviation on every range, turn and distance driven."""
        _require_render_mode(render_mode)
        self.render_mode = render_mode
        self.observation_space = _observation_space(version)
        self.action_space = spaces.Discrete(3)
        self.robots = Robots(1, version, noise)
        self._trails = Trails(1) if render_mode else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        ``options`` may set ``position`` (x, y), ``yaw`` (radians clockwise from +y), ``goal`` (x, y)
        and ``obstacles`` (three centres); what is left out is random.
        """
        super().reset(seed=seed)
        if self.robots.generators[0] is not self.np_random:
            self.robots.seed(0, self.np_random)
        observation = self.robots.begin(np.zeros(1, dtype=np.int64))[0]
        if options:
            now = self.robots.now
            drawn = Scene(
                now.position[:, 0].tolist(),
                float(now.yaw[0]),
                now.goal[:, 0].tolist(),
                now.centres[:, 1:, 0].T.tolist(),
            )
            if unknown := set(options) - set(Scene._fields):
                raise ValueError(f"options {unknown} are unknown: use some of {Scene._fields}")
            observation = self.robots.place(0, drawn._replace(**options))
        if self._trails:
            self._trails.begin([0], self.robots)
        return observation, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take action 0 (forward), 1 (right) or 2 (left)."""
        outcome = self.robots.step(np.array([action]))
        if self._trails:
            self._trails.extend(self.robots, outcome)
        success, collision = bool(outcome.success[0]), bool(outcome.collision[0])
        return (
            outcome.observations[0],
            float(outcome.rewards[0]),
            success or collision,
            bool(outcome.timeout[0]),
            {"is_success": success, "collision": collision},
        )

    def render(self) -> Any:
        """The room from above, uint8 ``[400, 400, 3]``; None without a render mode."""
        return self._trails.draw(self.robots, 0) if self._trails else None


class NavigationGoalVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """``num_envs`` robots in one NumPy computation.

    For the same seeds, actions and ``autoreset_mode`` (all three modes) it returns exactly what a
    ``gymnasium.vector.SyncVectorEnv`` of ``NavigationGoalEnv`` does, infos included.
    """

    def __init__(
        self,
        num_envs: int = 1,
        version: int = 1,
        noise: float = 0.02,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ):
        _require_render_mode(render_mode)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**_METADATA, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = _observation_space(version)
        self.single_action_space = spaces.Discrete(3)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.robots = Robots(num_envs, version, noise)
        self._trails = Trails(num_envs) if render_mode else None
        self._ended = np.zeros(num_envs, dtype=bool)
        self._observations = np.zeros(
            (num_envs, *self.single_observation_space.shape), dtype=np.float32
        )

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes everywhere, or where ``options["reset_mask"]`` (bool) is true.

        Robot ``i`` gets the seed ``seed + i``, or its own from a list; with None it keeps its
        generator.
        """
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} environments")
        mask = (options or {}).get("reset_mask")
        chosen = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        for i in chosen.tolist():
            if seed[i] is not None:
                self.robots.seed(i, seeding.np_random(seed[i])[0])
        self._observations = self._observations.copy()
        self._observations[chosen] = self._begin(chosen)
        self._ended[chosen] = False
        return self._observations, {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take the actions (int ``[num_envs]``). The autoreset modes are those of gymnasium."""
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            raise gymnasium.error.ResetNeeded(
                f"episodes {np.flatnonzero(self._ended).tolist()} have ended: reset them with"
                ' options={"reset_mask": ...}'
            )
        outcome = self.robots.step(actions)
        if self._trails:
            self._trails.extend(self.robots, outcome)
        observations, rewards, success, collision, truncated = outcome
        terminated = success | collision
        final_infos = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            begun = terminated | truncated
            final_infos = _final_infos(observations, success, collision, begun)
        else:
            # In mode NEXT_STEP an episode that ended in the last step is reset in this one, and its
            # action is ignored.
            begun = self._ended
            rewards[begun] = 0
            terminated[begun] = truncated[begun] = False
        self._ended = terminated | truncated
        if begun.any():
            chosen = np.flatnonzero(begun)
            observations[chosen] = self._begin(chosen)
        self._observations = observations
        infos = _infos(success, collision, ~begun) | final_infos
        return observations, rewards, terminated, truncated, infos

    def get_state(self) -> dict[str, Any]:
        """The state of every robot, of types that a checkpoint may hold."""
        return {"robots": self.robots.get_state(), "observations": self._observations.tolist()}

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Restore what ``get_state`` returned at a moment when no ended episode awaited its reset.

        Returns:
            The current observations.
        """
        self.robots.set_state(state["robots"])
        self._observations = np.array(state["observations"], dtype=np.float32)
        self._ended[:] = False
        if self._trails:
            self._trails.begin(range(self.num_envs), self.robots)
        return self._observations

    def render(self) -> tuple[Any, ...] | None:
        """One frame per robot, each uint8 ``[400, 400, 3]``."""
        if self._trails is None:
            return None
        return tuple(self._trails.draw(self.robots, i) for i in range(self.num_envs))

    def _begin(self, chosen: np.ndarray) -> np.ndarray:
        observations = self.robots.begin(chosen)
        if self._trails:
            self._trails.begin(chosen, self.robots)
        return observations


def _infos(success: np.ndarray, collision: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """The infos of the robots in ``mask``, in gymnasium's format: values, and whether they are there."""
    if not mask.any():
        return {}
    return {
        "is_success": success & mask,
        "_is_success": mask,
        "collision": collision & mask,
        "_collision": mask,
    }


def _final_infos(
    observations: np.ndarray, success: np.ndarray, collision: np.ndarray, ended: np.ndarray
) -> dict[str, Any]:
    """What mode SAME_STEP adds for episodes that ended: their last observations and infos."""
    if not ended.any():
        return {}
    final_observations = np.empty(len(ended), dtype=object)  # an array of None
    for i, final in zip(np.flatnonzero(ended), observations[ended], strict=True):
        final_observations[i] = final
    return {
        "final_obs": final_observations,
        "_final_obs": ended,
        "final_info": _infos(success, collision, ended),
        "_final_info": ended,
    }
