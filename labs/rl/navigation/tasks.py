"""The two versions of NavigationGoal: how the goal is observed, and the rewards."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

MAX_RANGE = 15.0


class View(NamedTuple):
    """What robots measure at their present positions."""

    ranges: np.ndarray
    """``[rays, num_robots]``, with noise."""
    distance: np.ndarray
    """To the goal, ``[num_robots]``."""
    sin_bearing: np.ndarray
    """Of the goal, clockwise from the heading, ``[num_robots]``."""
    cos_bearing: np.ndarray


class Move(NamedTuple):
    """One step of all robots; the arrays have the shape ``[num_robots]``."""

    distance_before: np.ndarray
    """To the goal, before the step."""
    view: View
    """After the step."""
    success: np.ndarray
    """bool; at most one of these three is true."""
    collision: np.ndarray
    timeout: np.ndarray


class Task(Protocol):
    """How the goal's direction is observed, and the reward."""

    bearing_low: tuple[float, ...]
    bearing_high: tuple[float, ...]

    def bearing(self, view: View) -> tuple[np.ndarray, ...]:
        """Components of the observation for the goal's direction, each ``[num_robots]``."""
        ...

    def reward(self, move: Move) -> np.ndarray:
        """The reward of every robot, float64 ``[num_robots]``."""
        ...


class FoldedBearing:
    """Version 0, the reference, kept with its flaws so that results are comparable.

    A negative bearing gets pi added, so that a goal ahead on the left and a goal behind on the right
    look the same. Driving away from a goal straight behind costs nothing, and a time-out costs as much
    as a collision.
    """

    bearing_low: tuple[float, ...] = (0.0,)
    bearing_high: tuple[float, ...] = (1.0,)

    def bearing(self, view: View) -> tuple[np.ndarray, ...]:
        """The folded bearing divided by pi, from 0 to 1."""
        return (_fold(view) / np.pi,)

    def reward(self, move: Move) -> np.ndarray:
        """-100 for a collision or a time-out, +500 for the goal, else by the folded bearing ``a``.

        With ``m = min(a, pi - a)``, the angle between the goal's direction and the robot's axis: a step
        that brings the goal nearer gives 2 at ``m = 0``, falling to 0 at ``m = pi / 4`` and beyond. Any
        other step gives 0 up to ``m = pi / 4``, falling to -1 at ``m = pi / 2``.
        """
        folded = _fold(move.view)
        off_axis = np.minimum(folded, np.pi - folded) / (np.pi / 4)
        nearer = move.view.distance < move.distance_before
        reward = np.where(nearer, np.maximum(0.0, 2 - 2 * off_axis), np.minimum(0.0, 1 - off_axis))
        reward = np.where(move.success, 500.0, reward)
        return np.where(move.collision | move.timeout, -100.0, reward)


class SineCosineBearing:
    """Version 1, corrected: the direction is unambiguous, and only outcomes and progress are rewarded."""

    bearing_low: tuple[float, ...] = (-1.0, -1.0)
    bearing_high: tuple[float, ...] = (1.0, 1.0)

    def bearing(self, view: View) -> tuple[np.ndarray, ...]:
        """Sine and cosine."""
        return view.sin_bearing, view.cos_bearing

    def reward(self, move: Move) -> np.ndarray:
        """+1 for the goal, -1 for a collision, and 0.1 for every unit that the goal came nearer.

        The last term is the change of a potential, ``-0.1 * distance``, as in Ng, Harada and Russell
        (1999), but without what guarantees that the optimal policy stays the same: the later potential
        is not multiplied by the discount, and is not 0 at the end of an episode. Over a path it sums to
        the distance gained, so a closed path adds nothing to the undiscounted return. In the discounted
        return early progress counts more, and an episode keeps its gain however it ends. On a straight
        way to the goal this agrees with the goal's reward; around an obstacle it may not. A time-out
        is a plain truncation and costs nothing.
        """
        progress = 0.1 * (move.distance_before - move.view.distance)
        return progress + move.success - move.collision


def _fold(view: View) -> np.ndarray:
    """The bearing in [0, pi]; negative values get pi added."""
    bearing = np.arctan2(view.sin_bearing, view.cos_bearing)
    return np.where(bearing < 0, bearing + np.pi, bearing)


TASKS: dict[int, Task] = {0: FoldedBearing(), 1: SineCosineBearing()}
