"""Steps per second of NavigationGoal on one core: all robots at once against an object per line.

The object-per-line version is the straightforward one: a class for lines, each intersected with each
ray, one robot at a time. Both take random actions, reset episodes that end and compute the same ranges,
which is checked before anything is timed. Times are processor times, which on an idle machine equal the
wall time.

    python benchmarks/navigation.py
    python benchmarks/navigation.py --num-envs 64 --seconds 5
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np
import tyro

import labs.rl.navigation  # noqa: F401  (registers the environments)
from labs.rl.navigation.scenes import Scene, draw_scene

NOISE = 0.02


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    num_envs: tuple[int, ...] = (1, 16, 64, 256)
    """Robots in the vector environment; the ratio is that of the largest number up to 64."""
    seconds: float = 2.0
    """Time of one round."""
    rounds: int = 3
    """Number of rounds. The best one counts, since other programs can only slow a round down."""


class Line:
    """A wall or an edge of an obstacle."""

    def __init__(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.start, self.end = start, end

    def distance(self, x: float, y: float, angle: float) -> float:
        """Distance from (x, y) along ``angle``, clockwise from +y; infinite if the ray misses it."""
        dx, dy = math.sin(angle), math.cos(angle)
        ex, ey = self.end[0] - self.start[0], self.end[1] - self.start[1]
        determinant = dx * ey - dy * ex
        if abs(determinant) < 1e-12:
            return math.inf
        ox, oy = self.start[0] - x, self.start[1] - y
        along_ray = (ox * ey - oy * ex) / determinant
        along_line = (ox * dy - oy * dx) / determinant
        return along_ray if along_ray >= 0 and 0 <= along_line <= 1 else math.inf


class Square:
    """The room or an obstacle."""

    def __init__(self, centre: tuple[float, float], side: float) -> None:
        (x, y), half = centre, side / 2
        corners = [(x - half, y - half), (x + half, y - half), (x + half, y + half)]
        corners.append((x - half, y + half))
        self.lines = [Line(corners[i - 1], corners[i]) for i in range(4)]


class ObjectPerLine:
    """NavigationGoal-v1 with one robot and its 16 lines."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.place(draw_scene(self.generator))

    def place(self, scene: Scene) -> None:
        """Start an episode."""
        (self.x, self.y), self.yaw, self.goal, obstacles = scene
        squares = [Square((5, 5), 10), *(Square((x, y), 1) for x, y in obstacles)]
        self.lines = [line for square in squares for line in square.lines]
        self.steps = 0
        self.distance = math.dist(self.goal, (self.x, self.y))

    def ranges(self) -> list[float]:
        """The 16 ranges without noise."""
        angles = [self.yaw + k * math.pi / 8 for k in range(16)]
        return [min(line.distance(self.x, self.y, a) for line in self.lines) for a in angles]

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        """Observation, reward, terminated, truncated."""
        turn, advance = [(0.0, 0.2), (0.2, 0.1), (-0.2, 0.1)][action]
        self.yaw += self.generator.normal(turn, NOISE)
        driven = self.generator.normal(advance, NOISE)
        self.x += driven * math.sin(self.yaw)
        self.y += driven * math.cos(self.yaw)
        self.steps += 1
        ranges = [max(0.0, r + self.generator.normal(0, NOISE)) for r in self.ranges()]
        before, self.distance = self.distance, math.dist(self.goal, (self.x, self.y))
        bearing = math.atan2(self.goal[0] - self.x, self.goal[1] - self.y) - self.yaw
        collision = min(ranges) < 0.4
        success = self.distance < 1 and not collision
        scaled = [(value - 0.2) / 14.8 for value in [*ranges, self.distance]]
        observation = np.array([*scaled, math.sin(bearing), math.cos(bearing)], dtype=np.float32)
        reward = 0.1 * (before - self.distance) + success - collision
        return observation, reward, success or collision, self.steps == 100


def check_ranges() -> None:
    """Check that both versions have the same ranges in the same scene."""
    env = gymnasium.make("labs/NavigationGoal-v1", noise=0.0).unwrapped
    single = ObjectPerLine(0)
    for _ in range(50):
        scene = draw_scene(single.generator)
        single.place(scene)
        observation, _ = env.reset(options=scene._asdict())
        np.testing.assert_allclose(observation[:16] * 14.8 + 0.2, single.ranges(), atol=1e-4)


def best_rate(config: Config, work: Callable[[], int]) -> float:
    """Steps per second of the best round; ``work`` returns the steps that it took."""
    rates = []
    for _ in range(config.rounds):
        steps, started = 0, time.process_time()
        while time.process_time() - started < config.seconds:
            steps += work()
        rates.append(steps / (time.process_time() - started))
    return max(rates)


def vector_rate(config: Config, num_envs: int) -> float:
    """Steps per second of the vector environment, with resets in the same step."""
    env = gymnasium.make_vec("labs/NavigationGoal-v1", num_envs=num_envs, autoreset_mode="SameStep")
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 3, (100, num_envs))

    def work() -> int:
        for row in actions:
            env.step(row)
        return actions.size

    return best_rate(config, work)


def single_rate(config: Config) -> float:
    """Steps per second of the single environment, without gymnasium's checking wrappers."""
    env = gymnasium.make("labs/NavigationGoal-v1").unwrapped
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 3, 100).tolist()

    def work() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return len(actions)

    return best_rate(config, work)


def object_rate(config: Config) -> float:
    """Steps per second of one robot with an object per line."""
    env = ObjectPerLine(0)
    actions = np.random.default_rng(0).integers(0, 3, 20).tolist()

    def work() -> int:
        for action in actions:
            _, _, terminated, truncated = env.step(action)
            if terminated or truncated:
                env.place(draw_scene(env.generator))
        return len(actions)

    return best_rate(config, work)


def main(config: Config) -> None:
    """Print the steps per second of each version, and the ratio."""
    check_ranges()
    slow = object_rate(config)
    print(f"object per line              {slow:10,.0f} steps/s")
    print(f"single environment           {single_rate(config):10,.0f} steps/s", flush=True)
    rates = {n: vector_rate(config, n) for n in config.num_envs}
    for num_envs, rate in rates.items():
        print(f"vector environment, {num_envs:4d}     {rate:10,.0f} steps/s")
    chosen = max((n for n in rates if n <= 64), default=min(rates))
    print(
        f"{chosen} robots at once are {rates[chosen] / slow:.0f} times as fast as an object per line"
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
