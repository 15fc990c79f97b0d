"""The law of imports, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("labs/**/*.py"), *ROOT.glob("experiments/*.py")])
PARTS = ("vision", "language", "rl")
RAY_FILES = {"language": 1, "rl": 2}
"""Ray Data's pipeline; the rollout actors and the wrapper of RLlib."""


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def uses(path: Path, package: str) -> bool:
    return any(name == package or name.startswith(package + ".") for name in imports(path))


def test_the_files_are_there() -> None:
    assert {p.relative_to(ROOT).parts[0] for p in FILES} == {"labs", "experiments"}
    assert uses(ROOT / "labs/runtime/tune_loop.py", "ray")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_direction(path: Path) -> None:
    place = path.relative_to(ROOT).parts
    assert not uses(path, "experiments")
    for part in PARTS:
        if place[:2] == ("labs", "runtime"):
            assert not uses(path, f"labs.{part}"), "the runtime knows no experiment"
        elif place[0] == "labs" and place[1] in PARTS and place[1] != part:
            assert not uses(path, f"labs.{part}"), "the parts do not import one another"
    if place[:2] == ("labs", "statistics.py"):
        assert not uses(path, "labs")


def test_where_ray_is_imported() -> None:
    users = [p.relative_to(ROOT) for p in FILES if uses(p, "ray")]
    elsewhere = [p for p in users if p.parts[:2] != ("labs", "runtime")]
    assert all(p.parts[1] in RAY_FILES for p in elsewhere), elsewhere
    for part, limit in RAY_FILES.items():
        assert len([p for p in elsewhere if p.parts[1] == part]) <= limit, elsewhere


def test_where_tensorboard_is_imported() -> None:
    users = [p for p in FILES if uses(p, "torch.utils.tensorboard") or uses(p, "tensorboardX")]
    assert users == [ROOT / "labs/runtime/tracking.py"]


def test_no_cycles() -> None:
    modules = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in FILES
    }
    graph = {name: imports(path) & set(modules) - {name} for name, path in modules.items()}
    seen: dict[str, str] = {}

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, f"a cycle: {' -> '.join([*path, name])}"
        if seen.get(name) == "done":
            return
        for other in sorted(graph[name]):
            visit(other, [*path, name])
        seen[name] = "done"

    for name in graph:
        visit(name, [])


def test_trainables_live_where_every_node_can_import_them() -> None:
    for path in ROOT.glob("experiments/*.py"):
        tree = ast.parse(path.read_text())
        generators = [n.lineno for n in ast.walk(tree) if isinstance(n, (ast.Yield, ast.YieldFrom))]
        assert not generators, f"{path} defines a training procedure"
        assert ast.get_docstring(tree), f"{path} says nothing of itself"
