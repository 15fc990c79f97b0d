"""The help of every program: one screen where that is possible, and a default of None is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from documented import help_of
from scripts import ROOT

AGENTS = [["ppo"], ["dqn"], ["reinforce:reinforce"]]
COMMANDS = ("list", "show", "compare", "report", "rerun", "submit", "fetch")
SCREENS = [
    *((path, []) for path in sorted((ROOT / "experiments").glob("*.py"))),
    *((ROOT / "experiments" / "train_agent.py", words) for words in AGENTS),
    *((ROOT / "labs" / "__main__.py", words) for words in ([], *([name] for name in COMMANDS))),
    *((ROOT / "labs/cluster/aws.py", words) for words in ([], ["create"], ["status"], ["delete"])),
    *(
        (path, [])
        for path in sorted((ROOT / "examples").glob("*.py"))
        if "labs.main" in path.read_text()
    ),
]


@pytest.mark.parametrize(
    ("program", "words"), SCREENS, ids=lambda p: p.stem if isinstance(p, Path) else " ".join(p)
)
def test_the_help(program, words, monkeypatch: pytest.MonkeyPatch) -> None:
    screens = {}
    for width in (80, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        screens[width] = help_of(program, [*words, "--help"])
        lines = screens[width].splitlines()
        assert lines[0].startswith("usage: ") and len(lines) <= 50
        assert all(
            len(line) <= width
            for line in lines
            if not line.startswith(("  python ", "python ", "usage: "))
        )
    for text in (*screens.values(), help_of(program, [*words, "--help-all"])):
        assert "(default: )" not in text and "default: None" not in text.replace("\n", " ")
        assert "MISSING" not in text and "dataclass" not in text and "Raises:" not in text
