"""Episodes as films."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from labs.rl.envs.episodes import Episode
from labs.rl.envs.make import make_env
from labs.rl.envs.settings import EnvSettings
from labs.rl.evaluation import Evaluation, PolicyLike, reports_success, require_fit

_BAR = 24  # pixels for the caption below a frame
_FONT = ImageFont.load_default(size=13)


class Recording(NamedTuple):
    """One episode as seen from outside."""

    episode: Episode
    frames: list[np.ndarray]
    """uint8 ``[height, width, 3]``, from the start to where the episode ended."""


def interesting(episodes: Sequence[Episode], count: int) -> list[Episode]:
    """``count`` episodes worth watching, by number: half of them failures if there are so many.

    Failures are taken from every kind of outcome in turn; where the environment reports no success,
    the lowest returns count as failures and the highest as successes.
    """
    if reports_success(episodes):
        good = [episode for episode in episodes if episode.outcome == "success"]
        bad = _in_turn([episode for episode in episodes if episode.outcome != "success"])
    else:
        bad = sorted(episodes, key=lambda episode: episode.total_reward)
        good = bad[::-1]
    chosen: dict[int, Episode] = {}
    for candidates, limit in ((bad, count // 2), (good, count), (bad, count)):
        for episode in candidates:
            if len(chosen) < limit:
                chosen[episode.number] = episode
    return [chosen[number] for number in sorted(chosen)]


def record(
    policy: PolicyLike,
    env: str | EnvSettings,
    seed: int,
    *,
    frame_stack: int = 1,
    generator: np.random.Generator | None = None,
) -> Recording:
    """Run the episode that starts from ``seed`` and draw it, without a display.

    Args:
        generator: sample actions from it instead of taking the best.

    Raises:
        InputError: as for ``make_env``.
        NoFramesError: the environment cannot be drawn.
    """
    # pygame looks for a screen and a sound card unless told that there are none.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    shown = make_env(env, 1, 0, frame_stack=frame_stack, episode_seeds=[seed], render=True)
    try:
        require_fit(policy, shown)
        observations = shown.reset()
        frames = list(shown.frames)
        while True:
            step = shown.step(policy.act(observations, generator))
            observations = step.observations
            frames += shown.frames
            if step.episodes:
                return Recording(step.episodes[0], frames)
    finally:
        shown.close()


def film_episodes(
    policy: PolicyLike,
    env: str | EnvSettings,
    evaluation: Evaluation,
    count: int,
    *,
    frame_stack: int = 1,
    sampling_seed: int | None = None,
) -> list[np.ndarray]:
    """A film of ``count`` interesting episodes, run once more from their seeds.

    Args:
        sampling_seed: sample actions instead of taking the best; then an episode may go otherwise
            than in the evaluation, and its caption says how it went in the film.

    Raises:
        NoFramesError: the environment cannot be drawn.
    """
    generator = None if sampling_seed is None else np.random.default_rng(sampling_seed)
    recordings = []
    for episode in interesting(evaluation.episodes, count):
        seed = evaluation.seeds[episode.number]
        shown = record(policy, env, seed, frame_stack=frame_stack, generator=generator)
        again = shown.episode._replace(number=episode.number)
        recordings.append(Recording(again, shown.frames))
    return film(recordings)


def film(
    recordings: Sequence[Recording],
    *,
    hold: int = 12,
    max_width: int = 400,
    max_frames: int = 600,
) -> list[np.ndarray]:
    """One episode after another, each with its caption below and its last frame held.

    Args:
        hold: frames that the last one stays for.
        max_width: wider frames are scaled down, in pixels.
        max_frames: a longer film keeps only every second frame, or third, and so on.

    Returns:
        uint8 frames, all of the shape ``[height, width, 3]``.
    """
    total = sum(len(recording.frames) for recording in recordings)
    interval = -(-total // max_frames)
    frames = []
    for recording in recordings:
        caption = _caption(recording.episode)
        kept = recording.frames[::interval] + recording.frames[-1:] * hold
        frames += [_with_caption(frame, caption, max_width) for frame in kept]
    return frames


def _caption(episode: Episode) -> str:
    return (
        f"episode {episode.number}: {episode.outcome}, return {episode.total_reward:.4g},"
        f" {episode.length} steps"
    )


def _in_turn(episodes: Sequence[Episode]) -> list[Episode]:
    """The first of every outcome, then the second of every outcome, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for episode in episodes:
        turns.append(seen[episode.outcome])
        seen[episode.outcome] += 1
    order = sorted(range(len(episodes)), key=turns.__getitem__)
    return [episodes[i] for i in order]


def _with_caption(frame: np.ndarray, caption: str, max_width: int) -> np.ndarray:
    image = Image.fromarray(frame)
    if image.width > max_width:
        image = image.resize((max_width, round(image.height * max_width / image.width)))
    canvas = Image.new("RGB", (image.width, image.height + _BAR), "white")
    canvas.paste(image)
    ImageDraw.Draw(canvas).text((6, image.height + 4), caption, fill="black", font=_FONT)
    return np.asarray(canvas)
