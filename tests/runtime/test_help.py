"""``--help``: groups, types that a person reads, defaults as values, on two screens."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from labs.runtime.cli import launch
from labs.runtime.field_options import options_type
from labs.runtime.options import RuntimeOptions


@dataclass(frozen=True)
class Inner:
    """Sizes of the model."""

    width: int = 64
    """Units of a layer."""

    layers: tuple[int, ...] = (8, 16)
    """Blocks per stage."""


@dataclass(frozen=True)
class Config:
    """What a model learns."""

    preset: str = "quick"
    """quick or large."""

    rate: Annotated[tuple[float, ...] | None, tyro.conf.arg(aliases=["--rates"])] = None
    """Of Adam; the default is the preset's."""

    kind: Literal["plain", "residual"] = "plain"
    """Which network."""

    augment: bool = False
    """Mirror the images."""

    steps: int | None = None
    """How long."""

    fixed: tyro.conf.Fixed[int] = 3
    """Nobody may choose it."""

    data: Path = Path("data")
    """Where it is."""

    inner: tyro.conf.OmitArgPrefixes[Inner] = field(default_factory=Inner)
    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def shown_defaults(self) -> dict[str, str]:
        return {"steps": f"{10 if self.preset == 'quick' else 900} per layer", "data": "nowhere"}


PRESETS = {"quick": Config(), "large": Config(inner=Inner(width=4096))}


@pytest.fixture(autouse=True)
def called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["learn.py"])


def shown(
    capsys: pytest.CaptureFixture[str], *arguments: str, config: type = Config
) -> Sequence[str]:
    presets = PRESETS if config is Config else None
    with pytest.raises(SystemExit) as end:
        launch(lambda config: 0, config, presets=presets, arguments=arguments)
    assert not end.value.code
    return capsys.readouterr().out.splitlines()


def test_options_in_groups_with_types_and_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, "--help")
    assert max(map(len, lines)) <= 80
    assert lines[0] == "usage: python learn.py [options]"
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["options:", "inner options:", "where and how it runs:"]
    text = "\n".join(lines)
    for line in (
        "  --preset TEXT           quick or large. (default: quick)",
        "  --kind {plain,residual}\n                          Which network. (default: plain)",
        "  --augment, --no-augment\n                          Mirror the images. (default: no)",
        "  --data PATH             Where it is. (default: data)",
        "  --width INT             Units of a layer. (default: 64)",
        "  --layers INT [INT ...]  Blocks per stage. (default: 8 16)",
    ):
        assert line in text
    assert "  --rate FLOAT [FLOAT ...]\n" in text and "the preset's.\n" in text
    assert "none" not in text.lower() and "fixed" not in text
    # What every experiment has is named, an option on one line.
    assert "--max-concurrent INT," in text and "--scheduler {fifo,asha}" in text
    assert "Run everything in this process" not in text


def test_the_defaults_are_those_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(shown(capsys, "-h", "--preset=large"))
    assert "Units of a layer. (default: 4096)" in text
    assert "How long. (default: 900 per layer)" in text and "nowhere" not in text


def test_everything(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(" ".join(shown(capsys, "--help-all")).split())
    assert "--max-failures INT Restart a failed trial from its last checkpoint" in text
    assert "--local-mode, --no-local-mode Run everything in this process" in text


def test_help_of_a_user_s_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(" ".join(shown(capsys, "--help", config=options_type(Inner))).split())
    assert "--width INT [INT ...] Units of a layer. (default: 64)" in text
    assert "Blocks per stage. (default: 8,16)" in text


def test_no_colour_and_no_bold_into_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert "\x1b" not in "".join(shown(capsys, "--help"))
