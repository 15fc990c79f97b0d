"""The room from above, drawn without a display."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from labs.rl.navigation.geometry import NUM_RAYS
from labs.rl.navigation.robots import (
    COLLISION_RANGE,
    GOAL_DISTANCE,
    MAX_STEPS,
    Outcome,
    Robots,
)
from labs.rl.navigation.scenes import OBSTACLE_SIDE, ROOM_SIDE

FRAME_SIZE = 400
_OVERSAMPLING = 2  # drawn larger and reduced, which smooths the edges
_SCALE = FRAME_SIZE * _OVERSAMPLING / ROOM_SIDE
_BACKGROUND, _OBSTACLE, _RAY = (250, 250, 248), (90, 94, 102), (214, 222, 235)
_GOAL, _ROBOT, _TRAIL = (120, 190, 120), (35, 90, 180), (150, 180, 225)
_ENDS = {"success": (40, 150, 60), "collision": (200, 50, 40), "timeout": (200, 140, 20)}
_FONT = ImageFont.load_default(size=14 * _OVERSAMPLING)


class Trails:
    """The paths of robots in their present episodes, and how the episodes ended."""

    def __init__(self, num_robots: int) -> None:
        self._paths: list[list[tuple[float, float]]] = [[] for _ in range(num_robots)]
        self._ends = [""] * num_robots

    def begin(self, chosen: Iterable[int], robots: Robots) -> None:
        """Record that the robots ``chosen`` have started new episodes."""
        for i in chosen:
            self._paths[i] = [tuple(robots.now.position[:, i])]
            self._ends[i] = ""

    def extend(self, robots: Robots, outcome: Outcome) -> None:
        """Record a step of all robots."""
        for i, path in enumerate(self._paths):
            path.append(tuple(robots.now.position[:, i]))
            for name in _ENDS:
                if getattr(outcome, name)[i]:
                    self._ends[i] = name

    def draw(self, robots: Robots, i: int) -> np.ndarray:
        """Robot ``i`` in its room, +y up: uint8 ``[FRAME_SIZE, FRAME_SIZE, 3]``.

        The radius of the goal's disk is the distance at which it counts as reached, that of the
        robot's disk is the range that counts as a collision.
        """
        side = FRAME_SIZE * _OVERSAMPLING
        image = Image.new("RGB", (side, side), _BACKGROUND)
        canvas = ImageDraw.Draw(image)
        x, y = robots.now.position[:, i]
        yaw, ranges = robots.now.yaw[i], robots.ranges(i)
        angles = yaw + 2 * np.pi / NUM_RAYS * np.arange(NUM_RAYS)
        tips = np.stack([x + ranges * np.sin(angles), y + ranges * np.cos(angles)])
        for tip in tips.T:
            canvas.line([_pixel(x, y), _pixel(*tip)], fill=_RAY, width=_OVERSAMPLING)
        _disk(canvas, tuple(robots.now.goal[:, i]), GOAL_DISTANCE, _GOAL)
        for centre in robots.now.centres[:, 1:, i].T:
            low, high = centre - OBSTACLE_SIDE / 2, centre + OBSTACLE_SIDE / 2
            canvas.rectangle([_pixel(low[0], high[1]), _pixel(high[0], low[1])], fill=_OBSTACLE)
        path = [_pixel(*point) for point in self._paths[i]]
        if len(path) > 1:
            canvas.line(path, fill=_TRAIL, width=2 * _OVERSAMPLING, joint="curve")
        _disk(canvas, (x, y), COLLISION_RANGE, _ENDS.get(self._ends[i], _ROBOT))
        nose = (x + 0.4 * np.sin(yaw), y + 0.4 * np.cos(yaw))
        canvas.line([_pixel(x, y), _pixel(*nose)], fill="white", width=2 * _OVERSAMPLING)
        canvas.rectangle([0, 0, side - 1, side - 1], outline=_OBSTACLE, width=2 * _OVERSAMPLING)
        caption = f"{robots.steps[i]}/{MAX_STEPS} {self._ends[i]}"
        canvas.text((8 * _OVERSAMPLING, 6 * _OVERSAMPLING), caption, fill=(30, 30, 30), font=_FONT)
        return np.asarray(image.reduce(_OVERSAMPLING))


def _pixel(x: float, y: float) -> tuple[float, float]:
    return x * _SCALE, (ROOM_SIDE - y) * _SCALE


def _disk(
    canvas: ImageDraw.ImageDraw,
    centre: tuple[float, ...],
    radius: float,
    colour: tuple[int, int, int],
) -> None:
    x, y = _pixel(centre[0], centre[1])
    half = radius * _SCALE
    canvas.ellipse([x - half, y - half, x + half, y + half], fill=colour)
