"""The simulation: all robots and their rooms in one NumPy computation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from labs.rl.navigation.geometry import NUM_RAYS, cast_rays
from labs.rl.navigation.scenes import (
    NUM_OBSTACLES,
    OBSTACLE_SIDE,
    ROOM_SIDE,
    Scene,
    Situations,
    draw_scene,
)
from labs.rl.navigation.tasks import MAX_RANGE, TASKS, Move, View

MAX_STEPS = 100
COLLISION_RANGE = 0.4
GOAL_DISTANCE = 1.0

_TURN = np.array([0.0, 0.2, -0.2])  # by action: forward, right, left; clockwise, in radians
_ADVANCE = np.array([0.2, 0.1, 0.1])
_HALF_SIDES = np.array([ROOM_SIDE] + [OBSTACLE_SIDE] * NUM_OBSTACLES, dtype=np.float32) / 2
_NOISES = NUM_RAYS + 2  # per step: one for every ray, the turn and the distance


class Outcome(NamedTuple):
    """The result of one step of all robots; the arrays are new."""

    observations: np.ndarray
    """float32 ``[num_robots, observation_size]``"""
    rewards: np.ndarray
    """float64 ``[num_robots]``"""
    success: np.ndarray
    """bool ``[num_robots]``; at most one of these three is true."""
    collision: np.ndarray
    timeout: np.ndarray


class Robots:
    """The state of ``num_robots`` robots and their rooms.

    A robot's random numbers come from its own generator, and all numbers of an episode are drawn at
    its start: the scene, then the noise of all steps. So a robot's episodes depend neither on the
    other robots (a batch equals its robots one by one) nor on its own actions.
    """

    def __init__(self, num_robots: int, version: int, noise: float) -> None:
        self.now = Situations(num_robots)
        self.steps = np.zeros(num_robots, dtype=np.int64)
        self.generators = [np.random.default_rng() for _ in range(num_robots)]
        self._task = TASKS[version]
        self._noise = np.float32(noise)
        self._noises = np.zeros((num_robots, MAX_STEPS, _NOISES), dtype=np.float32)
        self._first_row = np.arange(num_robots) * MAX_STEPS
        # To draw one episode takes as long as to draw ten, so the next ones are drawn ahead.
        self._next = Situations(num_robots)
        self._next_observations = self._observations(self._look(self._next))
        self._has_next = np.zeros(num_robots, dtype=bool)
        self._starts: list[dict[str, Any]] = [{}] * num_robots
        self._next_starts = list(self._starts)

    def seed(self, robot: int, generator: np.random.Generator) -> None:
        """Draw the robot's episodes from ``generator``, from the next one on."""
        self.generators[robot] = generator
        self._has_next[robot] = False

    def begin(self, chosen: np.ndarray) -> np.ndarray:
        """Start new episodes of the robots ``chosen`` (int ``[m]``).

        Returns:
            Their observations: float32 ``[m, observation_size]``.
        """
        if not self._has_next[chosen].all():
            self._draw_next()
        self._has_next[chosen] = False
        self.now.columns[:, chosen] = self._next.columns[:, chosen]
        self.steps[chosen] = 0
        for robot in chosen:
            self.generators[robot].standard_normal(out=self._noises[robot], dtype=np.float32)
            self._starts[robot] = self._next_starts[robot]
        return self._next_observations[chosen]

    def place(self, robot: int, scene: Scene) -> np.ndarray:
        """Put a robot that has just started an episode into another scene.

        Returns:
            float32 ``[observation_size]``: its first observation, without noise.
        """
        situation = Situations.of([scene])
        self.now.columns[:, robot] = situation.columns[:, 0]
        return self._observations(self._look(situation))[0]

    def step(self, actions: np.ndarray) -> Outcome:
        """Move every robot by its action (int ``[num_robots]``: 0 forward, 1 right, 2 left)."""
        now = self.now
        # A robot that is not reset after its last step keeps getting the last row of noise.
        rows = self._first_row + np.minimum(self.steps, MAX_STEPS - 1)
        noise = self._noises.reshape(-1, _NOISES).take(rows, axis=0)
        noise *= self._noise
        self.steps += 1
        now.yaw += _TURN.take(actions) + noise[:, NUM_RAYS]
        sin_yaw, cos_yaw = np.sin(now.yaw), np.cos(now.yaw)
        advance = _ADVANCE.take(actions) + noise[:, NUM_RAYS + 1]
        now.position[0] += advance * sin_yaw
        now.position[1] += advance * cos_yaw

        view = self._look(now, sin_yaw, cos_yaw, noise[:, :NUM_RAYS].T)
        collision = view.ranges.min(axis=0) < COLLISION_RANGE
        success = (view.distance < GOAL_DISTANCE) & ~collision
        timeout = (self.steps >= MAX_STEPS) & ~(collision | success)
        rewards = self._task.reward(Move(now.distance, view, success, collision, timeout))
        now.distance[:] = view.distance
        return Outcome(self._observations(view), rewards, success, collision, timeout)

    def ranges(self, robot: int) -> np.ndarray:
        """The robot's 16 ranges, without noise."""
        alone = Situations(1)
        alone.columns[:] = self.now.columns[:, robot : robot + 1]
        return self._look(alone).ranges[:, 0]

    def get_state(self) -> dict[str, Any]:
        """The state of the robots: numbers, strings and lists.

        It has the states of the generators at the start of the episodes, from which ``set_state``
        draws the noise again: that is much smaller than the noise itself.
        """
        return {
            "starts": list(self._starts),
            "steps": self.steps.tolist(),
            "columns": self.now.columns.tolist(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Draw the episodes of ``get_state`` again, and put the robots where they were."""
        for generator, start in zip(self.generators, state["starts"], strict=True):
            generator.bit_generator.state = start
        self._has_next[:] = False
        self.begin(np.arange(self.steps.size))
        self.steps[:] = state["steps"]
        self.now.columns[:] = state["columns"]

    def _draw_next(self) -> None:
        """Draw the next episode of every robot that has none."""
        without = np.flatnonzero(~self._has_next)
        scenes, noise = [], np.empty((without.size, NUM_RAYS), dtype=np.float32)
        for row, robot in zip(noise, without.tolist(), strict=True):
            generator = self.generators[robot]
            state: Any = generator.bit_generator.state
            self._next_starts[robot] = state
            scenes.append(draw_scene(generator))
            generator.standard_normal(out=row, dtype=np.float32)
        situations = Situations.of(scenes)
        self._next.columns[:, without] = situations.columns
        view = self._look(situations, ray_noise=noise.T * self._noise)
        self._next_observations[without] = self._observations(view)
        self._has_next[without] = True

    @staticmethod
    def _look(
        situations: Situations,
        sin_yaw: np.ndarray | None = None,
        cos_yaw: np.ndarray | None = None,
        ray_noise: np.ndarray | None = None,
    ) -> View:
        if sin_yaw is None or cos_yaw is None:
            sin_yaw, cos_yaw = np.sin(situations.yaw), np.cos(situations.yaw)
        ranges = cast_rays(situations.position, sin_yaw, cos_yaw, situations.centres, _HALF_SIDES)
        if ray_noise is not None:
            ranges += ray_noise
            np.maximum(ranges, 0, out=ranges)
            np.minimum(ranges, MAX_RANGE, out=ranges)
        x, y = situations.goal - situations.position
        distance = np.sqrt(x * x + y * y)
        nonzero = np.maximum(distance, 1e-9)
        sin_bearing = (x * cos_yaw - y * sin_yaw) / nonzero
        cos_bearing = (x * sin_yaw + y * cos_yaw) / nonzero
        return View(ranges, distance, sin_bearing, cos_bearing)

    def _observations(self, view: View) -> np.ndarray:
        bearing = self._task.bearing(view)
        rows = np.empty((NUM_RAYS + 1 + len(bearing), view.distance.size), dtype=np.float32)
        rows[:NUM_RAYS] = view.ranges
        rows[NUM_RAYS] = view.distance
        rows[: NUM_RAYS + 1] = scale_range(rows[: NUM_RAYS + 1])
        for row, component in enumerate(bearing, NUM_RAYS + 1):
            rows[row] = component
        return rows.T.copy()


def scale_range(distance: Any) -> Any:
    """How observations show a range or distance: 0.2 as 0 and 15 as 1."""
    return (distance - 0.2) / 14.8
