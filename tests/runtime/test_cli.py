"""From the command line to an exit status."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
import tyro

from labs.commands import listing
from labs.runtime.cli import launch, parse, spell_options
from labs.runtime.commandline.parsing import parse_known
from labs.runtime.directory.description import describe_run, restore
from labs.runtime.directory.storage import StoragePath
from labs.runtime.errors import InputError
from labs.runtime.options import NameOrPath, RuntimeOptions


@dataclass(frozen=True)
class Config:
    preset: str = "quick"
    """Name."""
    depths: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--depth"])] = (3, 11)
    """Depths."""
    rate: float = 1e-3
    """Rate."""
    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise InputError(f"`rate` {self.rate} must be above 0")


PRESETS = {"quick": Config(), "paper": Config(depths=(20, 56), rate=4e-4)}


def run(arguments: list[str], main: object = None) -> tuple[int, Config | None]:
    seen: list[Config] = []

    def remember(config: Config) -> int:
        seen.append(config)
        return 0

    with pytest.raises(SystemExit) as exit_:
        launch(main or remember, Config, presets=PRESETS, arguments=arguments)
    return exit_.value.code, seen[0] if seen else None


def test_errors_name_fields_and_the_command_line_spells_them() -> None:
    say = partial(spell_options, config_type=Config)
    assert say("`rate` 0 is not a rate") == "--rate 0 is not a rate"
    assert say("`depth` 4: `cpus_per_trial`") == "--depths 4: --cpus-per-trial"
    assert say("use `list(x)`, `nothing_known` or rate") == "use `list(x)`, `nothing_known` or rate"


def test_presets_and_overrides() -> None:
    assert run([]) == (0, PRESETS["quick"])
    status, config = run(["--preset", "paper", "--depths", "5", "7", "--local-mode"])
    assert status == 0
    assert config.depths == (5, 7)
    assert config.rate == 4e-4
    assert config.preset == "paper"
    assert config.runtime.local_mode
    assert run(["--preset=paper"])[1].depths == (20, 56)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "--preset huge is unknown: use quick or paper"),
        (["--rate", "0"], "--rate 0.0 must be above 0"),
        (["--local-mode", "--address", "auto"], "use only one"),
        (["--max-concurrent", "0"], "--max-concurrent 0 is too small"),
        (["--gpus-per-trial", "1.5"], "whole numbers only"),
        (["--cpus-per-trial", "0"], "use a positive number"),
        (["--run-name", "../x"], "is not a valid name"),
        (["--run-root", ""], "--run-root is empty"),
        (["--resume", "/nowhere"], "there is no run /nowhere: labs list shows the runs"),
        (["--resume", "/"], "is not a run directory"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, config = run(arguments)
    assert (status, config) == (2, None)
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


@pytest.mark.parametrize("arguments", [["--depths", "three"], ["--rate", "x"], ["--no-such-thing"]])
def test_a_value_of_the_wrong_type(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, config = run(arguments)
    assert (status, config) == (2, None)
    (line,) = capsys.readouterr().err.splitlines()  # no box of the parser
    assert line.startswith("error: ") and arguments[0] in line


def test_status_of_main_and_of_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: Config) -> int:
        raise KeyboardInterrupt

    assert run([], lambda _: 1)[0] == 1
    assert run([], interrupted)[0] == 130
    assert "interrupted" in capsys.readouterr().err


def test_an_unforeseen_error_keeps_its_traceback() -> None:
    def broken(_: Config) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        launch(broken, Config, presets=PRESETS, arguments=[])


def test_a_path_that_is_too_long_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever looks whether there is such a file gets an OSError."""
    path = Path("x" * 300)
    assert run([], lambda config: int(path.exists()))[0] == 2
    assert capsys.readouterr().err == f"error: {path}: this path or name is too long\n"

    def full(config: Config) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/weights")

    assert run([], full)[0] == 2
    said = "error: /cache/weights cannot be written: No space left on device\n"
    assert capsys.readouterr().err == said
    with pytest.raises(FileNotFoundError):  # another one is the program's own fault
        launch(lambda config: Path("nothing").stat().st_size, Config, arguments=[])


def test_a_reader_that_goes_away_leaves_no_traceback() -> None:
    """``--help | head -1``: the pipe is closed before all is written."""
    script = Path(__file__).parents[2] / "experiments" / "plan_sweep.py"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, script, "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_help_shows_the_preset_s_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    status, _ = run(["--preset", "paper", "--help"])
    assert status == 0
    text = capsys.readouterr().out
    assert "0.0004" in text
    assert "--max-failures" in text


@dataclass(frozen=True)
class Part:
    width: int = 8
    """Width."""
    shape: tuple[int, float] = (1, 0.5)
    """Shape."""


@dataclass(frozen=True)
class Whole:
    files: tuple[Path, ...] = ()
    """Files."""
    data: Path = Path("data")
    """Data."""
    source: Annotated[str, NameOrPath(("digits",))] = "digits"
    """Name or directory."""
    size: int | None = None
    """Size."""
    rates: tuple[float, ...] = (0.1,)
    """Rates."""
    part: tyro.conf.OmitArgPrefixes[Part] = field(default_factory=Part)
    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)


def test_a_name_or_a_path_that_may_not_be_looked_at_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    source = NameOrPath(("digits",))
    assert [source.absolute(text) for text in ("photos", "digits", "imagenet")] == [
        str(tmp_path / "photos"), "digits", "imagenet",
    ]  # fmt: skip

    def refuse(path: Any, **_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refuse)
    assert source.absolute("org/model") == "org/model"


def recorded(directory: Path, config: Any) -> list[str]:
    """A run of this config in the directory; the options that resume it."""
    described = describe_run("x", config, config.runtime, [], {})
    (directory / "config.json").write_text(json.dumps(described))
    return ["--resume", str(directory)]


def test_resume_takes_the_run_s_options_and_refuses_others(tmp_path: Path) -> None:
    stored = dataclasses.replace(
        PRESETS["paper"],
        preset="paper",
        depths=(9,),
        runtime=RuntimeOptions(run_name="first", max_failures=4),
    )
    resume = recorded(tmp_path, stored)
    config = parse(Config, PRESETS, resume)
    assert dataclasses.replace(config, runtime=stored.runtime) == stored
    assert config.runtime == RuntimeOptions(resume=str(tmp_path), max_failures=4)
    assert parse(Config, PRESETS, [*resume, "--max-failures", "2"]).runtime.max_failures == 2
    with pytest.raises(InputError, match=r"`rate` is 0\.5 here and 0\.0004 in the run"):
        parse(Config, PRESETS, [*resume, "--rate", "0.5"])
    # The preset has been edited since: the run keeps what it began with.
    edited = {"paper": Config(depths=(1,), rate=0.9)}
    assert parse(Config, edited, resume).rate == 4e-4


def test_only_options_that_make_the_grid_may_change(tmp_path: Path) -> None:
    resume = recorded(tmp_path, PRESETS["quick"])
    more = [*resume, "--depths", "3", "11", "19"]
    assert parse(Config, PRESETS, more, grows=("depths",)).depths == (3, 11, 19)
    with pytest.raises(
        InputError, match=r"`depths` is \[3, 11, 19\] here and \[3, 11\] in the run"
    ):
        parse(Config, PRESETS, more)
    with pytest.raises(InputError, match=r"`rate` is 0\.5 here"):
        parse(Config, PRESETS, [*more, "--rate", "0.5"], grows=("depths",))


def test_paths_mean_the_same_in_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Field case S19; and every type of option comes back as it was."""
    for place in ("first", "second"):
        (tmp_path / place / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "first")
    arguments = ["--files", "a", "/b", "--source", "photos", "--width", "9", "--rates", "0.5", "1"]
    config = parse(Whole, {}, arguments)
    first = tmp_path / "first"
    assert config.files == (first / "a", Path("/b"))
    assert (config.data, config.source) == (first / "data", str(first / "photos"))
    assert parse(Whole, {}, []).source == "digits"
    assert parse(Whole, {}, ["--source", "cifar10"]).source == "cifar10"
    assert parse(Whole, {}, ["--source", "s3://b/photos"]).source == "s3://b/photos"
    resume = recorded(tmp_path, config)
    monkeypatch.chdir(tmp_path / "second")
    again = parse(Whole, {}, resume)
    assert dataclasses.replace(again, runtime=config.runtime) == config
    with pytest.raises(InputError, match="`source` is .*second/photos.* here and .*first/photos"):
        parse(Whole, {}, [*resume, "--source", "photos"])
    with pytest.raises(InputError, match="`width` is 3 here and 9 in the run"):
        parse(Whole, {}, [*resume, "--width", "3"])


def test_a_value_that_its_field_no_longer_takes_is_refused(tmp_path: Path) -> None:
    """An option has had another type since: one sentence, in place of what its type raises."""
    resume = recorded(tmp_path, PRESETS["quick"])
    described = json.loads((tmp_path / "config.json").read_text())
    described["config"]["rate"] = "fast"
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match="`rate` of the run is 'fast', which this code does not"):
        parse(Config, PRESETS, resume)
    described["config"]["rate"] = [0.1, 0.2]
    described["program"] = ["/elsewhere/other program.py"]
    (tmp_path / "config.json").write_text(json.dumps(described))
    said = "has other options: use the program that made it, '/elsewhere/other program.py'"
    for option in ("--resume", "--rerun"):
        with pytest.raises(InputError, match=f"^`{option[2:]}` .* is a run of .*, which {said}$"):
            parse(Config, PRESETS, [option, *resume[1:]])


@pytest.mark.parametrize("kind", [int, bool, str])
def test_a_value_of_another_type_is_not_restored(kind: type) -> None:
    """Else the run would fail later, and anywhere."""
    made = dataclasses.make_dataclass("Made", [("field", kind), ("either", kind | float)])
    values = {int: 3, bool: True, str: "a"}
    for other, value in values.items():
        if issubclass(other, kind):
            assert restore(made, {"field": value, "either": value}).either is value
        else:
            with pytest.raises(InputError, match="`field` of the run is .*, which this code"):
                restore(made, {"field": value, "either": 0.5})
    assert restore(made, {"field": values[kind], "either": 0.5}).either == 0.5
    with pytest.raises(InputError, match="`field` of the run is"):
        restore(made, {"field": [values[kind]], "either": 0.5})


@pytest.mark.parametrize(
    "part", ["experiment", "config", "runtime", "git", "versions", "data", "trials"]
)
def test_a_damaged_description_is_no_run(tmp_path: Path, part: str) -> None:
    resume = recorded(tmp_path, PRESETS["quick"])
    described = json.loads((tmp_path / "config.json").read_text())
    for broken in ({**described, part: None}, {k: v for k, v in described.items() if k != part}):
        (tmp_path / "config.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match="is not a run directory"):
            parse(Config, PRESETS, resume)
        assert listing.describe(StoragePath(tmp_path), ".") is None


@pytest.mark.parametrize("found", [1, 3])
def test_a_run_of_another_format_is_refused_in_one_sentence(tmp_path: Path, found: int) -> None:
    resume = recorded(tmp_path, PRESETS["quick"])
    described = json.loads((tmp_path / "config.json").read_text())
    if found == 1:  # as version 0.1 wrote it on a machine without git
        for name in ("format", "trials", "data", "program", "directory"):
            del described[name]
        described["git"] = None
    else:
        described["format"] = found
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match=rf"is a run of format {found}, which this version"):
        parse(Config, PRESETS, resume)


def test_the_command_to_resume_is_quoted(tmp_path: Path) -> None:
    script = tmp_path / "my script.py"
    script.write_text(
        "from pathlib import Path\nfrom labs.runtime.directory.description import resume_command\n"
        "print(resume_command(Path('/runs/a (b) #1')))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, "--rate", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    words = shlex.split(done.stdout)
    assert words == [*(sys.executable, "-W", "ignore", str(script), "--resume", "/runs/a (b) #1")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--raet", "3"], "--raet is not an option: did you mean --rate? --help shows the options"),
        (["--num_cpuss=3"], "--num_cpuss=3 is not an option: did you mean --num-cpus? --help"),
        (["forgotten"], "forgotten is not an option: --help shows the options"),
        (["--num-cpus", "many"], "--num-cpus many is not valid: it takes a whole number"),
        (["--cpus-per-trial", "x"], "--cpus-per-trial x is not valid: it takes a number"),
        (["--scheduler", "best"], "--scheduler best is not valid: use fifo or asha"),
        (["--run-name"], "--run-name needs a value"),
        (["--depths", "--local-mode"], "--depths needs a value"),
        (["--rate", "0.1", "--depth"], "--depth needs a value"),
    ],
)
def test_what_the_parser_refuses_is_one_sentence_too(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == (2, None)
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {sentence}") and printed.out == ""


@dataclass(frozen=True)
class ManyConfig:
    sizes: Annotated[tuple[int, ...] | None, tyro.conf.arg(aliases=["--size"])] = None
    rates: tuple[float, ...] = (0.1,)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "3", "x"], "--size 3 x is not valid: it takes whole numbers"),
        (["--sizes=x"], "--sizes x is not valid: it takes whole numbers"),
        (["--rates", "0.1", "y"], "--rates 0.1 y is not valid: it takes numbers"),
    ],
)
def test_of_several_values_all_are_shown(arguments: list[str], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        parse_known(ManyConfig, arguments)
    assert str(error.value) == sentence


@dataclass(frozen=True)
class RequiredConfig:
    checkpoint: str
    """The checkpoint. Its text is a long one, which a narrow terminal breaks into several lines."""
    rate: float = 0.1


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])  # tyro draws other boxes
def test_a_required_option_is_named(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    for columns in ("50", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        with pytest.raises(InputError, match="^no value for --checkpoint: --help shows the"):
            parse_known(RequiredConfig, ["--rate", "2"])
