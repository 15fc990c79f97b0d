"""Every command line of the documentation is one that its program takes, and every option exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documented import (
    OPTION,
    PAGES,
    Command,
    code,
    commands,
    options_of,
    parse,
    programs_named,
)
from scripts import ROOT

EVERYWHERE = {
    program
    for folder in ("experiments", "benchmarks", "examples")
    for program in (ROOT / folder).glob("*.py")
    if re.search(r"tyro\.cli|launch|labs\.main", program.read_text())
}
HELP = {"--help", "--help-all"}
FOREIGN = ("sbatch", "ray", "kubectl", "aws", "docker", "helm", "pip", "uv")
"""Programs of other projects, whose options a page may name as well."""


def is_known(option: str, programs: set[Path]) -> bool:
    return option in HELP or any(option in options_of(program) for program in programs)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_command_lines_are_taken(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, spans = code(page)
    for line in [*lines, *(span for span in spans if " --" in span)]:  # `labs submit` is a name
        for command in commands(line):
            try:
                left = parse(command)
            except SystemExit as end:
                shown = capsys.readouterr()
                assert not end.code, f"{line}\n{shown.err}{shown.out}"
                left = []
            unknown = [word for word in left if OPTION.fullmatch(word)]
            if command.arguments[:1] == ["rerun"]:  # they are the program's own
                unknown = [option for option in unknown if not is_known(option, EVERYWHERE)]
            assert not unknown, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_options_exist(page: Path) -> None:
    """In a program that the page names; in any, where it names none; or in another project's command."""
    lines, spans = code(page)
    other = [line for line in lines if line.split()[:1] in ([name] for name in FOREIGN)]
    foreign = {option for line in other for option in OPTION.findall(line)}
    named = programs_named(page)
    programs = named if named & EVERYWHERE else EVERYWHERE | named
    for span in spans:
        if list(commands(span)) or not span.startswith("--"):
            continue
        for option in OPTION.findall(span):
            assert option in foreign or is_known(option, programs), f"{page.name}: {span}"


@pytest.mark.parametrize("arguments", (["--deepness", "3"], ["--depth", "three"]))
def test_a_wrong_command_line_is_seen(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(Command(ROOT / "experiments" / "depth_sweep.py", arguments))
    assert end.value.code == 2 and arguments[-1] in "".join(capsys.readouterr())
