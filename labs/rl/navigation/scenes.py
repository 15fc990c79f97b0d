"""The scenes in which episodes of NavigationGoal start."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

ROOM_SIDE = 10.0
NUM_OBSTACLES = 3
OBSTACLE_SIDE = 1.0

_BLOCK = 16  # points drawn at once: a call takes longer than the numbers that it returns


class Scene(NamedTuple):
    """One robot, its goal and its obstacles."""

    position: Sequence[float]
    """x and y"""
    yaw: float
    """Radians clockwise from +y."""
    goal: Sequence[float]
    obstacles: Sequence[Sequence[float]]
    """Centres of the three obstacles."""


def draw_scene(generator: np.random.Generator) -> Scene:
    """A robot, its goal and its obstacles, all with their centres in [1, 9]^2.

    The goal is 4 to 8 from the robot; three obstacles are farther than 1.5 from the robot and 2.5 to
    6 from the goal.
    """
    points = _points(generator)
    position = next(points)
    yaw = math.pi * (2 * generator.random() - 1)
    goal = next(point for point in points if 4 <= math.dist(point, position) <= 8)
    clear = (
        point
        for point in points
        if math.dist(point, position) > 1.5 and 2.5 <= math.dist(point, goal) <= 6
    )
    return Scene(position, yaw, goal, list(itertools.islice(clear, NUM_OBSTACLES)))


def _points(generator: np.random.Generator) -> Iterator[list[float]]:
    """Uniform in [1, 9]^2."""
    while True:
        yield from generator.uniform(1, ROOM_SIDE - 1, (_BLOCK, 2)).tolist()


class Situations:
    """Positions of ``num_robots`` robots, their goals and their obstacles.

    The fields are views of one array, so that a robot's whole situation is copied as a column.
    """

    def __init__(self, num_robots: int) -> None:
        self.columns = np.full((8 + 2 * NUM_OBSTACLES, num_robots), ROOM_SIDE / 2)
        self.position = self.columns[0:2]
        self.yaw = self.columns[2]
        self.goal = self.columns[3:5]
        self.distance = self.columns[5]
        """Between position and goal."""
        self.centres = self.columns[6:].reshape(2, 1 + NUM_OBSTACLES, num_robots)
        """x and y of the room's and the obstacles' centres."""

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Situations:
        """The situations at the start of ``scenes``."""
        situations = cls(len(scenes))
        positions, yaws, goals, obstacles = zip(*scenes, strict=True)
        situations.position[:] = np.transpose(positions)
        situations.yaw[:] = yaws
        situations.goal[:] = np.transpose(goals)
        situations.centres[:, 1:] = np.transpose(obstacles)
        x, y = situations.goal - situations.position
        situations.distance[:] = np.sqrt(x * x + y * y)
        return situations
