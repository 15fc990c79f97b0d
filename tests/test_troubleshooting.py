"""Every error that a user meets says what to do, or docs/troubleshooting.md does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
ADVICE = re.compile(
    r"\b(add|ask|call|choose|compare|convert|decorate|continue|create|delete|expected|free|get|give|go|keep|leave|make|move|must"
    r"|must lie|name|needs?|pip install|put|reinstall|remove|rename|replace|resume|return|run|say|set|shorten"
    r"|spell|start|supported are|takes?|use|wait|write)\b"
)
"""Words that a sentence tells its reader with what to do, or what is taken instead."""
ALWAYS = (
    "labs/runtime/machine/session.py",
    "labs/runtime/machine/shipping.py",
    "labs/runtime/machine/pickling.py",
    "labs/runtime/directory/lease.py",
    "labs/runtime/directory/runs.py",
    "labs/runtime/directory/mirror.py",
)
"""What has its cause outside of the command line is on the page in any case."""
OF_TRIALS = (
    "labs/runtime/trial.py",
    "labs/runtime/reports.py",
    "labs/runtime/checkpoints.py",
    "labs/vision/training.py",
    "labs/language/char_gpt/training.py",
)
"""Where every exception is one that a trial ends with, and a user reads."""
ERRORS = {"InputError", "LeaseLost", "TrialFilesTaken", "NoFramesError"}
IN_A_ROW = 5


def sentences() -> Iterator[tuple[str, str]]:
    """Place and text of each error, with ``{}`` for what is filled in."""
    for path in sorted([*ROOT.glob("labs/**/*.py"), *ROOT.glob("experiments/*.py")]):
        place = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            raised = isinstance(node, ast.Raise) and place in OF_TRIALS
            if name in ERRORS or raised:
                yield f"{place}:{call.lineno}", " ".join(map(text, call.args))


def text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return "{}"


def words(sentence: str) -> str:
    """Lower case, one space between words, no marks, options as the command line has them."""
    spelled = re.sub(r"`([a-z_]+)`", lambda m: "--" + m[1].replace("_", "-"), sentence)
    return " ".join(re.sub(r"[`'\",.;:()|]", " ", spelled).lower().split())


def is_on(page: str, sentence: str) -> bool:
    """Whether five words in a row are on the page, or the longest part where nothing is filled in."""
    parts = [words(part).split() for part in sentence.split("{}")]
    rows = [part[i : i + IN_A_ROW] for part in parts for i in range(len(part) - IN_A_ROW + 1)]
    return any(f" {' '.join(row)} " in page for row in rows or [max(parts, key=len)])


def test_every_error_has_advice_or_a_place_on_the_page() -> None:
    found = dict(sentences())
    assert len(found) > 300 and any(place.startswith(ALWAYS[0]) for place in found)
    page = f" {words(PAGE.read_text())} "
    missing = [
        f"{place}: {sentence}"
        for place, sentence in found.items()
        if re.search("[a-z]", words(sentence))  # else it is another function's sentence
        and (place.startswith(ALWAYS) or not ADVICE.search(words(sentence)))
        and not is_on(page, sentence)
    ]
    assert not missing, "\n".join(missing)
