"""Segments: what a rollout worker collects for a learner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:  # learners import this module, and need no environments
    from labs.rl.envs.episodes import Episode


class Segment(NamedTuple):
    """``T`` consecutive steps of ``N`` environments, collected with one version of the parameters."""

    observations: np.ndarray
    """``[T, N, *observation_shape]``, float32, or uint8 for images: what the actions were chosen for."""
    actions: np.ndarray
    """int64 ``[T, N]`` or float32 ``[T, N, action_size]``"""
    rewards: np.ndarray
    """float32 ``[T, N]``"""
    terminated: np.ndarray
    """bool ``[T, N]``: the episode ended here; the value of what follows is 0."""
    truncated: np.ndarray
    """bool ``[T, N]``: the episode was cut off here; what follows has the next observation's value."""
    next_observations: np.ndarray
    """``[T, N, *observation_shape]``: what the step led to, before any reset."""
    episodes: list[Episode]
    """The episodes that ended within the segment."""
    version: int
    """The version of the parameters that the actions were chosen with."""
    environment_seconds: float
    inference_seconds: float

    @property
    def num_steps(self) -> int:
        """Environment steps: ``T * N``."""
        return self.rewards.size


def concatenate(segments: Sequence[Segment]) -> Segment:
    """Join the segments of several workers along N; the seconds are those of the slowest worker.

    Raises:
        ValueError: the segments were collected with different versions.
    """
    if len(segments) == 1:
        return segments[0]
    versions = {segment.version for segment in segments}
    if len(versions) > 1:
        raise ValueError(f"segments of versions {sorted(versions)} cannot be used as one")
    columns = zip(*(segment[:6] for segment in segments), strict=True)
    arrays: list[Any] = [np.concatenate(parts, axis=1) for parts in columns]
    return segments[0]._replace(
        **dict(zip(Segment._fields, arrays, strict=False)),
        episodes=[episode for segment in segments for episode in segment.episodes],
        environment_seconds=max(s.environment_seconds for s in segments),
        inference_seconds=max(s.inference_seconds for s in segments),
    )
