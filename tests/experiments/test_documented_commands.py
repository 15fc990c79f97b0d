"""Every command line of the documentation is one that its program takes, and every option exists."""

from __future__ import annotations

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
    programs_of,
)
from scripts import ROOT

HELP = {"--help", "--help-all"}
FOREIGN = ("sbatch", "ray", "kubectl", "aws", "docker", "helm", "pip", "uv")
"""Programs of other projects, whose options a page may name as well."""


def is_known(option: str, programs: set[Path]) -> bool:
    return option in HELP or any(option in options_of(program) for program in programs)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_command_lines_are_taken(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in code(page)[0]:
        for command in commands(line):
            left: list[str] = []
            try:
                left = parse(command)
            except SystemExit as end:
                shown = capsys.readouterr()
                assert not end.code, f"{line}\n{shown.err}{shown.out}"
            unknown = left
            if command.arguments[:1] == ["rerun"]:  # they are the program's own
                options = [word for word in left if OPTION.fullmatch(word)]
                unknown = [o for o in options if not is_known(o, programs_of(page))]
            assert not unknown, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_options_exist(page: Path) -> None:
    """In the program of a command, in one of which the page tells, or in another project's."""
    lines, spans = code(page)
    other = [line for line in lines if line.split()[:1] in ([name] for name in FOREIGN)]
    foreign = {option for line in other for option in OPTION.findall(line)}
    for span in spans:
        called = {command.program for command in commands(span)}
        if not called and not span.startswith("--"):
            continue
        for option in OPTION.findall(span):
            known = is_known(option, called or programs_of(page))
            assert known or (option in foreign and not called), f"{page.name}: {span}"


@pytest.mark.parametrize("arguments", (["--deepness", "3"], ["--depth", "three"]))
def test_a_wrong_command_line_is_seen(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(ROOT / "experiments" / "depth_sweep.py", arguments)
    if arguments[0] == "--deepness":
        assert parse(command) == arguments  # they are left
        return
    with pytest.raises(SystemExit) as end:
        parse(command)
    assert end.value.code == 2 and arguments[-1] in "".join(capsys.readouterr())
