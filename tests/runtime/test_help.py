"""``--help``: groups, types that a person reads, defaults as values, on two screens."""

from __future__ import annotations

import dataclasses
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
    assert "--width INT Units of a layer. (default: 64)" in text
    assert "Several values of an option make a grid." in text and "the grid: --samples INT" in text
    assert "Blocks per stage. (default: 8,16)" in text


@dataclass(frozen=True)
class Basis:
    """What all methods have: an example."""

    epochs: int = 3
    """Passes."""
    seed: int = 0


@dataclass(frozen=True)
class Method(Basis):
    """Options of one method. They are many."""

    momentum: float = 0.9
    """Of SGD."""


def test_options_of_base_classes_and_of_the_grid_have_headings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, "--help", config=options_type(Method, plans=True))
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["what all methods have:", "the grid:", "options of one method:", RUNTIME]
    of_grid = lines[lines.index("the grid:") : lines.index("options of one method:")]
    names = [line.split()[0] for line in of_grid if line.startswith("  --")]
    assert names == ["--seeds", "--until-decided", "--samples", "--plan,"]
    assert any(
        "--momentum FLOAT" in line for line in lines[lines.index("options of one method:") :]
    )


RUNTIME = "where and how it runs:"
LONG = [(f"option_{i}", int, field(default=i)) for i in range(100)]
Long = dataclasses.make_dataclass("Long", LONG, bases=(Basis,), frozen=True)
Long.__doc__ = "Very long."


def test_the_last_groups_are_only_named_where_the_help_would_be_longer_than_two_screens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, "--help", config=options_type(Long))
    assert len(lines) <= 100 and "--help-all describes every option." in lines[-1]
    assert "  --epochs INT            Passes. (default: 3)" in lines
    named = " ".join(lines[lines.index("very long:") : lines.index(RUNTIME)])
    assert all(f"--option-{i} INT" in named for i in range(100)) and "(default: 42)" not in named
    assert "(default: 42)" in "\n".join(shown(capsys, "--help-all", config=options_type(Long)))


@dataclass(frozen=True)
class Copy:
    """Copy a run. It is quick."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Which."""

    to: tyro.conf.Positional[Path] = Path("there")
    """Where to."""


@dataclass(frozen=True)
class Drop:
    """Drop a run."""

    name: str
    """Its name."""


@dataclass(frozen=True)
class Commands:
    command: tyro.conf.OmitSubcommandPrefixes[Copy | Annotated[Drop, tyro.conf.subcommand("rm")]]


def test_sub_commands(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "--help", config=Commands)
    assert lines[0] == "usage: python learn.py COMMAND [options]"
    assert (
        "  copy                    Copy a run." in lines
        and "  rm                      Drop a run." in lines
    )
    lines = shown(capsys, "copy", "--help", config=Commands)
    assert lines[0] == "usage: python learn.py copy TEXT [TEXT ...] [PATH] [options]"
    assert "Copy a run. It is quick." in lines
    assert "  [PATH]                  Where to. (default: there)" in lines
    assert "default: )" not in "\n".join(lines) and "rm" not in "\n".join(lines)
    lines = shown(capsys, "rm", "-h", config=Commands)
    assert "  --name TEXT             Its name." in lines


def test_no_colour_and_no_bold_into_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert "\x1b" not in "".join(shown(capsys, "--help"))


@dataclass(frozen=True)
class Undocumented:
    width: int = 64
    """Units of a layer."""


@dataclass(frozen=True)
class Documented(Undocumented):
    """How wide the network is."""


def test_a_config_without_docstring_has_no_description(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", None)
    for config in (Undocumented, options_type(Undocumented)):
        assert shown(capsys, "--help", config=config)[1:3] in (
            ["", "options:"],
            ["", "Several values of an option make a grid. A range such as 1e-4..1e-1:log is what"],
        )
    assert "How wide the network is." in shown(capsys, "--help", config=options_type(Documented))
