"""What the progress of an embedding says where there is no terminal."""

from __future__ import annotations

import time

import pytest

from labs.language.progress import Progress


def lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *batches: tuple[float, int]
) -> list[str]:
    """The lines for batches of 100 texts in all, given as (seconds since the beginning, texts)."""
    clock = 50.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    done = 0
    with Progress("texts", 100) as progress:
        for seconds, count in batches:
            clock, done = 50.0 + seconds, done + count
            progress.advance(count, done / 100)
    return capsys.readouterr().out.splitlines()


def test_the_rate_leaves_the_start_up_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = lines(monkeypatch, capsys, (8, 20), (12, 40), (14, 40))
    assert said == [
        "60/100 texts, 10 texts/s, about 4.0s left",
        "100/100 texts, 13 texts/s, 14.0s with start-up",
    ]


def test_batches_that_come_together_give_no_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(monkeypatch, capsys, (8, 60), (8.001, 40)) == ["100/100 texts, 8.0s with start-up"]
