"""Rays against geometry worked out by hand, and against plain line segments."""

import math

import numpy as np
import pytest

from labs.rl.navigation.geometry import cast_rays

FAR_AWAY = (1.0, 1.0)
TOLERANCE = 2e-5


def ranges(
    position: tuple[float, float],
    yaw: float,
    obstacles: list[tuple[float, float]],
    half_side: float = 0.5,
) -> np.ndarray:
    """The 16 ranges of one robot in a room of side 10."""
    centres = np.array([(5.0, 5.0), *obstacles]).T[:, :, None]
    half_sides = np.array([5.0] + [half_side] * len(obstacles), dtype=np.float32)
    return cast_rays(
        np.array(position)[:, None],
        np.array([math.sin(yaw)]),
        np.array([math.cos(yaw)]),
        centres,
        half_sides,
    )[:, 0]


def test_an_empty_room_seen_from_its_centre() -> None:
    measured = ranges((5, 5), 0.0, [FAR_AWAY], half_side=0.1)
    straight, slanted, diagonal = 5.0, 5 / math.cos(math.pi / 8), 5 * math.sqrt(2)
    np.testing.assert_allclose(
        measured[:8], [straight, slanted, diagonal, slanted] * 2, atol=TOLERANCE
    )
    # The diagonal at 225 degrees ends at the small obstacle's corner (1.1, 1.1).
    assert measured[10] == pytest.approx(3.9 * math.sqrt(2), abs=TOLERANCE)


def test_headings_turn_clockwise_from_up() -> None:
    measured = ranges((2, 6), math.pi / 2, [FAR_AWAY])  # facing +x
    np.testing.assert_allclose(measured[[0, 4, 8, 12]], [8, 6, 2, 4], atol=TOLERANCE)


def test_parallel_walls_and_parallel_edges() -> None:
    """Rays parallel to two walls and to two edges of an obstacle, before it and beside it."""
    measured = ranges((5, 5), 0.0, [(5, 8), (8.2, 5.2)])
    np.testing.assert_allclose(measured[[0, 4, 8, 12]], [2.5, 2.7, 5, 5], atol=TOLERANCE)
    beside = ranges((5, 5), 0.0, [(5.6, 8)])  # its left edge is at 5.1
    assert beside[0] == pytest.approx(5, abs=TOLERANCE)


def test_neighbouring_ray_passes_the_obstacle() -> None:
    """At 22.5 degrees and 2.5 ahead a ray is 1.04 to the side of an obstacle half a unit wide."""
    measured = ranges((5, 5), 0.0, [(5, 8)])
    np.testing.assert_allclose(measured[[1, 15]], 5 / math.cos(math.pi / 8), atol=TOLERANCE)


@pytest.mark.parametrize("centre", [(5.5, 8.0), (4.5, 8.0)])
def test_grazing_an_edge_is_a_hit(centre: tuple[float, float]) -> None:
    assert ranges((5, 5), 0.0, [centre])[0] == pytest.approx(2.5, abs=TOLERANCE)


@pytest.mark.parametrize("aside", [1e-4, -1e-4])
def test_just_beside_an_edge(aside: float) -> None:
    measured = ranges((5 - aside, 5), 0.0, [(5.5, 8.0)])[0]
    assert measured == pytest.approx(5.0 if aside > 0 else 2.5, abs=TOLERANCE)


def test_corners() -> None:
    """A ray at 45 degrees that meets an obstacle's corner head on, and one that only touches it."""
    assert ranges((5, 5), 0.0, [(7.5, 7.5)])[2] == pytest.approx(2 * math.sqrt(2), abs=TOLERANCE)
    touched = ranges((5, 5), 0.0, [(7.5, 6.5)])[2]  # the upper left corner is (7, 7)
    assert touched == pytest.approx(2 * math.sqrt(2), abs=TOLERANCE)
    assert ranges((9, 9), 0.0, [FAR_AWAY])[2] == pytest.approx(math.sqrt(2), abs=TOLERANCE)


def test_the_nearest_of_several() -> None:
    assert ranges((5, 2), 0.0, [(5, 8), (5, 5), (5, 6.5)])[0] == pytest.approx(2.5, abs=TOLERANCE)


def test_against_line_segments() -> None:
    """Every robot among three obstacles against an intersection with each of the 16 segments."""
    generator = np.random.default_rng(0)
    compared = 0
    while compared < 100:
        position = generator.uniform(0.5, 9.5, 2)
        obstacles = generator.uniform(1, 9, (3, 2))
        if (np.abs(obstacles - position) < 0.5).all(axis=1).any():
            continue
        yaw = generator.uniform(-math.pi, math.pi)
        measured = ranges(tuple(position), yaw, [tuple(c) for c in obstacles])
        expected = [_nearest_segment(position, yaw + k * math.pi / 8, obstacles) for k in range(16)]
        np.testing.assert_allclose(measured, expected, atol=1e-4)
        compared += 1


def _nearest_segment(position: np.ndarray, angle: float, obstacles: np.ndarray) -> float:
    direction = np.array([math.sin(angle), math.cos(angle)])
    found = []
    for centre, half in [(np.array([5.0, 5.0]), 5.0), *((c, 0.5) for c in obstacles)]:
        corners = centre + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            edge = end - start
            determinant = direction[0] * edge[1] - direction[1] * edge[0]
            if determinant == 0:
                continue
            offset = start - position
            along_ray = (offset[0] * edge[1] - offset[1] * edge[0]) / determinant
            along_edge = (offset[0] * direction[1] - offset[1] * direction[0]) / determinant
            if along_ray >= 0 and 0 <= along_edge <= 1:
                found.append(along_ray)
    return min(found)
