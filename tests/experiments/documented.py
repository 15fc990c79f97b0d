"""The commands and options that the documentation names, and what the programs take."""

from __future__ import annotations

import atexit
import contextlib
import io
import re
import runpy
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import tyro
from scripts import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "results" / "README.md"])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")

PROGRAMS = {
    program
    for folder in ("experiments", "benchmarks", "examples")
    for program in sorted((ROOT / folder).glob("*.py"))
    if re.search(r"tyro\.cli|launch|labs\.main", program.read_text())
}
"""All that have a command line of options."""

_SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_MODULES = {
    "labs.cluster.aws": "labs/cluster/aws.py",
    "labs.cluster.commit": "labs/cluster/commit.py",
}
_LABS = ROOT / "labs" / "__main__.py"
_OF_A_RUN = ("--resume", "--rerun")
"""Options whose value is a run that must exist."""


class Parsed(Exception):
    """The command line was understood."""


@dataclass(frozen=True)
class Command:
    """A command line of the documentation that calls a program of this project."""

    program: Path
    arguments: Sequence[str]


def code(page: Path) -> tuple[list[str], list[str]]:
    """The lines in code blocks, joined where they go on, and the code spans of a page."""
    text = page.read_text()
    blocks = [block for _, block in FENCED.findall(text)]
    rest = FENCED.sub("", text)
    lines = rest.splitlines()
    blocks += [line.strip() for line in lines if line.startswith("    ")]
    prose = "\n".join(line for line in lines if not line.startswith("    "))
    joined = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return joined, [" ".join(span.split()) for _, span in _SPAN.findall(prose)]


def commands(line: str) -> Iterator[Command]:
    """The programs of this project that a line of a code block calls."""
    line = re.sub(r"\$\(seq (\d+) (\d+)\)", _numbers, re.sub(r"(^|\s)#.*", "", line))
    line = re.sub(r"\$\([^)]*\)", "203.0.113.7", line)
    for part in re.split(r"\s&&\s|;\s", line.removeprefix("$ ")):
        try:
            words = [word for word in shlex.split(part) if word not in ("...", "[options]")]
        except ValueError:  # not a command: an apostrophe
            continue
        found = _program(words)
        if found is not None:
            yield found


def _numbers(sequence: re.Match[str]) -> str:
    """``$(seq 1 3)`` as 1 2 3."""
    first, last = map(int, sequence.groups())
    return " ".join(map(str, range(first, last + 1)))


def _program(words: Sequence[str]) -> Command | None:
    if words[:1] == ["labs"]:
        return Command(_LABS, words[1:])
    if words[:2] == ["python", "-m"] and words[2] in _MODULES:
        return Command(ROOT / _MODULES[words[2]], words[3:])
    if "my_experiment.py" in words:
        return Command(own_experiment(), words[words.index("my_experiment.py") + 1 :])
    for position, word in enumerate(words):
        name = word.removeprefix(".../")
        for program in PROGRAMS:
            if name in (program.name, program.relative_to(ROOT).as_posix()):
                return Command(program, words[position + 1 :])
    return None


@cache
def own_experiment() -> Path:
    """The first file of docs/own-experiment.md, as a file."""
    blocks = FENCED.findall((ROOT / "docs" / "own-experiment.md").read_text())
    file = Path(tempfile.mkdtemp(prefix="labs-docs-")) / "my_experiment.py"
    file.write_text(next(code for language, code in blocks if language == "python"))
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    return file


def parse(command: Command) -> list[str]:
    """What is left of a command line that a program takes; else its error is raised.

    Nothing is run: the program ends where its options have been read.
    """
    original = tyro.cli
    left: list[str] = []

    def cli(*arguments: Any, **options: Any) -> Any:
        found = original(*arguments, **options)
        if options.get("return_unknown_args"):
            left.extend(found[1])
        raise Parsed

    words = list(command.arguments)
    for option in _OF_A_RUN:
        if option in words:
            del words[words.index(option) : words.index(option) + 2]
    with mock.patch.object(tyro, "cli", cli), contextlib.suppress(Parsed):
        _run(command.program, words)
    return left


def _run(program: Path, words: Sequence[str]) -> None:
    with (
        mock.patch.object(sys, "argv", [str(program), *words]),
        mock.patch.object(sys, "path", [str(program.parent), *sys.path]),
        contextlib.chdir(ROOT / "examples"),
    ):
        runpy.run_path(str(program), run_name="__main__")


@cache
def options_of(program: Path) -> frozenset[str]:
    """Every option that a program's help describes."""
    calls: list[list[str]] = [[]]
    if program.name == "train_agent.py":
        calls = [["ppo"], ["dqn"], ["reinforce:reinforce"]]
    if program == _LABS:
        names = ("list", "show", "compare", "report", "rerun", "submit", "fetch")
        calls = [[name] for name in names]
    if program.name == "aws.py":
        calls = [[name] for name in ("create", "status", "delete")]
    shown = "".join(help_of(program, [*words, "--help-all"]) for words in calls)
    described = re.findall(r"^(?: +|│ )(--[a-z][\w-]*(?:, --no-[\w-]+)?)", shown, re.MULTILINE)
    return frozenset(option for names in described for option in names.split(", "))


def help_of(program: Path, words: Sequence[str]) -> str:
    """What a program prints when it is asked for its help."""
    shown = io.StringIO()
    if "tyro.cli(" in program.read_text():  # it has tyro's own help
        words = ["--help" if word == "--help-all" else word for word in words]
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        _run(program, words)
    return shown.getvalue()


def programs_of(page: Path) -> set[Path]:
    """Whose options a page may name: of the programs that a page about an experiment names, or of any."""
    text = page.read_text() + f" {page.stem}.py"
    if page.parent.name == "experiments":
        names = set(re.findall(r"\b[a-z_]+\.py\b", text))
        return {_LABS, *(program for program in PROGRAMS if program.name in names)}
    modules = {ROOT / path for module, path in _MODULES.items()}
    return {_LABS, own_experiment(), *PROGRAMS, *modules}
