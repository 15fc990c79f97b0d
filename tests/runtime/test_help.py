"""``--help``: groups, types that a person reads, defaults as values, on one screen."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from labs.runtime.cli import launch
from labs.runtime.commandline.groups import groups_of
from labs.runtime.commandline.help import _beginning
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
    assert "--max-concurrent INT," in text and "--scheduler fifo," in text
    assert "--[no-]local-mode," in text and "Run everything in this process" not in text
    assert lines[-1] == "The values are defaults. --help-all describes every option."


def test_the_defaults_are_those_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(shown(capsys, "-h", "--preset=large"))
    assert "Units of a layer. (default: 4096)" in text
    assert "How long. (default: 900 per layer)" in text and "nowhere" not in text


def test_options_as_they_are_typed() -> None:
    (group, *_) = groups_of(Config, Config(), "options")
    assert [option.example for option in group.options] == [
        "--preset quick",
        "--rate FLOAT [FLOAT ...]",
        "--kind plain",
        "--[no-]augment",
        "--steps INT",  # its default, 10 per layer, is in words
        "--data data",
    ]


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


def long(directory: Path, count: int, text: str) -> type:
    """Options of a config with a group of two and a group of ``count`` fields, from a file as a user's."""
    fields = "".join(f"    option_{i}: int = {i}\n    {text!r}\n" for i in range(count))
    file = directory / "config.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from test_help import Basis\n\n"
        f"@dataclass(frozen=True)\nclass Long(Basis):\n    'Very long.'\n{fields}"
    )
    spec = importlib.util.spec_from_file_location(f"config_of_{count}_options", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return options_type(module.Long)


def of_group(lines: Sequence[str], title: str) -> Sequence[str]:
    start = lines.index(title) + 1
    return lines[start : lines.index("", start)]


def test_a_line_for_each_option_where_all_their_text_would_be_longer_than_a_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = (
        "The one; the other. It has (by the way, seldom) module:name, more words and "
        + 9 * "ever more "
    )
    config = long(tmp_path, 25, text)
    lines = shown(capsys, "--help", config=config)
    assert len(lines) <= 50 and max(map(len, lines)) <= 100
    assert of_group(lines, "very long:") == [
        f"  --option-{i} {i}".ljust(36) + "The one; the other" for i in range(25)
    ]
    assert "  --seeds 1                         How many seeds each config runs with" in lines
    assert "--help-all describes every option." in lines[-1]
    whole = "\n".join(shown(capsys, "--help-all", config=config))
    assert whole.count("The one; the other. It has") == 25 and "(default: 17)" in whole


def test_the_last_groups_are_only_named_where_a_line_for_each_would_be_longer_than_a_screen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = long(tmp_path, 100, "One of many.")
    lines = shown(capsys, "--help", config=config)
    assert len(lines) <= 50 and "--help-all describes every option." in lines[-1]
    assert "  --epochs 3                        Passes" in lines
    named = " ".join(of_group(lines, "very long:")) + ","
    assert all(f"--option-{i} {i}," in named for i in range(100))
    assert "(default: 42)" in "\n".join(shown(capsys, "--help-all", config=config))


@pytest.mark.parametrize(
    ("text", "room", "beginning"),
    [
        ("Of Adam.", 7, "Of Adam"),
        ("First sentence. Second one, which is long.", 20, "First sentence"),
        ("One; two, three; four.", 14, "One"),
        ("One; two, three; four.", 15, "One; two, three"),
        ("A name, or module:name for your own.", 30, "A name, ..."),
        ("What it is: cpu, cuda or auto.", 25, "What it is: cpu, ..."),
        ("What it is: cpu, cuda or auto.", 16, "What it is: ..."),
        ("A size (in pixels, square) of images as they are.", 24, "A size ..."),
        (
            "A size (in pixels, square) of images, as they are.",
            42,
            "A size (in pixels, square) of images, ...",
        ),
        ("Nothing to cut it at here or there.", 20, "Nothing to cut ..."),
        ("Version 1.5 of it. More.", 17, "Version 1.5 of it"),
        ("Version 1.5 of it here.", 14, "Version ..."),
    ],
)
def test_a_text_is_cut_where_a_clause_ends(text: str, room: int, beginning: str) -> None:
    assert _beginning(text, room) == beginning


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
