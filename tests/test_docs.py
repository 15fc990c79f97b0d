"""The docs: their links lead somewhere, their figures exist, their Python compiles and runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_figures_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path) if path else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(found.read_text()), f"{page.name}: {target}"


def test_every_figure_is_shown_somewhere() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    for figure in ROOT.glob("docs/figures/*"):
        assert figure.name in text, figure


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_compiles(page: Path) -> None:
    for language, code in FENCED.findall(page.read_text()):
        if language == "python":
            compile(code, str(page), "exec")


@pytest.mark.slow
def test_the_first_file_of_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    blocks = FENCED.findall((ROOT / "docs" / "own-experiment.md").read_text())
    script = tmp_path / "my_experiment.py"
    script.write_text(next(code for language, code in blocks if language == "python"))
    command = [sys.executable, str(script), "--learning-rate", "1e-3", "1e-2", "--local-mode"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs" / "my_experiment").iterdir()
    table = pd.read_csv(run / "results.csv")
    expected = [1 - (1 - rate) ** 30 / 64 for rate in (1e-3, 1e-2)]
    assert table["val/accuracy"].to_numpy() == pytest.approx(expected)
