"""Videos of episodes."""

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

_FONT = ImageFont.load_default(size=13)
_BAR, _LINE, _MARGIN = 24, 16, 6
"""Pixels: height of a caption of one line, of each further line, and the space left and right of it."""
_MIN_WIDTH, _MAX_ENLARGED = 240, 480
"""Smallest width of a video, so that captions fit, and largest height that small frames grow to."""


class Recording(NamedTuple):
    """The frames of one episode."""

    episode: Episode
    frames: list[np.ndarray]
    """uint8 ``[height, width, 3]`` each, from the first observation to the last."""


def select_episodes(episodes: Sequence[Episode], count: int) -> list[Episode]:
    """``count`` episodes to record, sorted by number: half of them failures, if there are enough.

    Failures are taken from each outcome in turn. If the environment does not report success, the
    lowest returns count as failures and the highest as successes.
    """
    if reports_success(episodes):
        good = [episode for episode in episodes if episode.outcome == "success"]
        bad = _interleaved([episode for episode in episodes if episode.outcome != "success"])
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
    """Run the episode that starts from ``seed`` and render it, without a display.

    Args:
        generator: samples the actions; None takes the best ones.

    Raises:
        InputError: as for ``make_env``.
        NoFramesError: the environment cannot be rendered.
    """
    # Without these, pygame looks for a screen and a sound card.
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


def record_episodes(
    policy: PolicyLike,
    env: str | EnvSettings,
    evaluation: Evaluation,
    count: int,
    *,
    frame_stack: int = 1,
    sampling_seed: int | None = None,
) -> list[np.ndarray]:
    """A video of ``count`` selected episodes, run again from their seeds.

    Args:
        sampling_seed: samples the actions; None takes the best ones. A sampled episode may differ
            from the one that was evaluated; its caption has the outcome that the video shows.

    Raises:
        NoFramesError: the environment cannot be rendered.
    """
    generator = None if sampling_seed is None else np.random.default_rng(sampling_seed)
    recordings = []
    for episode in select_episodes(evaluation.episodes, count):
        seed = evaluation.seeds[episode.number]
        shown = record(policy, env, seed, frame_stack=frame_stack, generator=generator)
        again = shown.episode._replace(number=episode.number)
        recordings.append(Recording(again, shown.frames))
    return make_video(recordings)


def make_video(
    recordings: Sequence[Recording],
    *,
    hold: int = 12,
    max_width: int = 400,
    max_frames: int = 600,
) -> list[np.ndarray]:
    """One episode after another, each with a caption below it and its last frame repeated.

    Args:
        hold: how many times the last frame of an episode is repeated.
        max_width: in pixels; wider frames are scaled down, small ones are enlarged.
        max_frames: a longer video keeps only every second frame, or every third, and so on.

    Returns:
        uint8 frames, all of the shape ``[height, width, 3]``.
    """
    total = sum(len(recording.frames) for recording in recordings)
    interval = -(-total // max_frames)
    pictures: list[tuple[Image.Image, list[str]]] = []
    for recording in recordings:
        kept = [_scaled(frame, max_width) for frame in recording.frames[::interval]]
        kept += [_scaled(recording.frames[-1], max_width)] * hold
        pictures += [(picture, _caption(recording.episode)) for picture in kept]
    width = max(_MIN_WIDTH, *(picture.width for picture, _ in pictures))
    height = max(picture.height for picture, _ in pictures)
    captions = [_lines(parts, width - 2 * _MARGIN) for _, parts in pictures]
    bar = _BAR + _LINE * (max(map(len, captions)) - 1)
    return [
        _with_caption(picture, lines, (width, height), bar)
        for (picture, _), lines in zip(pictures, captions, strict=True)
    ]


def _caption(episode: Episode) -> list[str]:
    """The parts of a caption; a line may break between them."""
    return [
        f"episode {episode.number}: {episode.outcome}",
        f"return {episode.total_reward:.4g}",
        f"{episode.length} steps",
    ]


def _lines(parts: Sequence[str], width: int) -> list[str]:
    """The parts in as few lines as ``width`` pixels allow."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}, {part}"
        if _FONT.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines[-1] += ","
            lines.append(part)
    return lines


def _scaled(frame: np.ndarray, max_width: int) -> Image.Image:
    """Scale down a wide frame; enlarge a small one by a whole number, so that pixels stay square."""
    image = Image.fromarray(frame)
    if image.width > max_width:
        return image.resize((max_width, max(1, round(image.height * max_width / image.width))))
    factor = min(-(-_MIN_WIDTH // image.width), max_width // image.width)
    factor = max(1, min(factor, _MAX_ENLARGED // image.height))
    if factor == 1:
        return image
    larger = (image.width * factor, image.height * factor)
    return image.resize(larger, Image.Resampling.NEAREST)


def _interleaved(episodes: Sequence[Episode]) -> list[Episode]:
    """The first of every outcome, then the second of every outcome, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for episode in episodes:
        turns.append(seen[episode.outcome])
        seen[episode.outcome] += 1
    order = sorted(range(len(episodes)), key=turns.__getitem__)
    return [episodes[i] for i in order]


def _with_caption(
    picture: Image.Image, lines: Sequence[str], size: tuple[int, int], bar: int
) -> np.ndarray:
    canvas = Image.new("RGB", (size[0], size[1] + bar), "white")
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, size[1] + 4 + _LINE * number), line, fill="black", font=_FONT)
    return np.asarray(canvas)
