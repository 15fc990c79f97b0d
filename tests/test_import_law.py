"""The law of imports, read from the source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import labs

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("labs/**/*.py"), *ROOT.glob("experiments/*.py")])
ALL_FILES = sorted([*FILES, *ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/*.py")])
PARTS = ("vision", "language", "rl")
SPELLERS = ("parsing.py", "cli.py", "field_options.py", "session.py", "hub.py")
"""They name options of this command line, or of another program's."""
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
    assert uses(ROOT / "labs/runtime/loop/tune_loop.py", "ray")


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
    if place[:2] == ("labs", "bootstrap.py"):
        assert {n for n in imports(path) if n.startswith("labs")} == {
            "labs.statistics",
            "labs.statistics.Interval",
        }
    if place[:2] in (("labs", "runtime"), *(("labs", part) for part in PARTS)):
        assert not uses(path, "labs.cluster"), "clouds and prices are handed in as functions"
    if place[:2] == ("labs", "runtime"):
        assert not uses(path, "labs.analysis"), "the runtime does not judge results"


def test_where_ray_is_imported() -> None:
    users = [p.relative_to(ROOT) for p in FILES if uses(p, "ray")]
    elsewhere = [p for p in users if p.parts[:2] != ("labs", "runtime")]
    assert all(p.parts[1] in RAY_FILES for p in elsewhere), elsewhere
    for part, limit in RAY_FILES.items():
        assert len([p for p in elsewhere if p.parts[1] == part]) <= limit, elsewhere


def test_where_tensorboard_is_imported() -> None:
    users = [p for p in FILES if uses(p, "torch.utils.tensorboard") or uses(p, "tensorboardX")]
    assert users == [ROOT / "labs/runtime/directory/tracking.py"]


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


def test_home_directories_are_found_in_one_place() -> None:
    """``Path.expanduser`` raises a RuntimeError for an unknown user; ``expand_user`` says who."""
    for path in FILES:
        if path.relative_to(ROOT) != Path("labs/runtime/options.py"):
            assert ".expanduser()" not in path.read_text(), path


def test_analysis_does_not_import_ray() -> None:
    """Nor does anything that it imports, so that results can be read where Ray is not installed."""
    seen: set[Path] = set()
    waiting = list(ROOT.glob("labs/analysis/**/*.py"))
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        assert not uses(path, "ray"), f"{path} is imported by labs/analysis, and imports ray"
        for name in imports(path):
            found = ROOT / f"{name.replace('.', '/')}.py"
            if name.startswith("labs.") and found.exists():
                waiting.append(found)
    assert len(seen) > 10


def test_examples_use_public_names_only() -> None:
    examples = sorted(ROOT.glob("examples/*.py"))
    assert examples
    for path in examples:
        own = {name for name in imports(path) if name.startswith(("labs.", "experiments"))}
        assert own <= {f"labs.{name}" for name in labs.__all__}, path
        text = path.read_text()
        most = 130 if "register_algorithm(" in text else 40
        assert len(text.splitlines()) <= most, f"{path} is too long for an example"


def test_folders_are_small_and_names_do_not_repeat_their_folder() -> None:
    for directory in {path.parent for path in ROOT.glob("labs/**/*.py")}:
        files = [path for path in directory.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 12, f"{directory}: {len(files)} files"
        for path in files:
            assert not path.stem.startswith(f"{directory.name}_"), (
                f"{path} repeats its folder's name"
            )


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    """At most 350 lines and 60; a docstring counts, since it is read as well."""
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_more_than_seven_parameters_have_a_reason(path: Path) -> None:
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        count = len([argument for argument in given if argument.arg not in ("self", "cls")])
        signature = lines[node.lineno - 1 : node.body[0].lineno]
        assert count <= 7 or any("#" in line for line in signature), f"{path}: {node.name}"


def test_options_are_spelled_by_the_command_line_alone() -> None:
    """Below it an error names the field in backquotes: it may come from Python as well."""
    option = re.compile(r"(?:^|[\s(])--[a-z]+(?:-[a-z]+)*\b(?!=)")
    found = []
    for path in ROOT.glob("labs/**/*.py"):
        if path.relative_to(ROOT).parts[1] == "cluster" or path.name in SPELLERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError":
                found += [f"{path}: {text}" for text in strings(node) if option.search(text)]
    assert not found


def test_ignored_types_are_few_and_each_has_a_reason() -> None:
    files = [*FILES, *ROOT.glob("benchmarks/*.py")]
    lines = [line for path in files for line in path.read_text().splitlines()]
    ignored = [line for line in lines if "# type: ignore" in line]
    assert len(ignored) <= 20
    for line in ignored:
        assert re.search(r"# type: ignore\[[\w, -]+\]  # \w", line), line


def strings(call: ast.Call) -> list[str]:
    parts = [node for argument in call.args for node in ast.walk(argument)]
    return [n.value for n in parts if isinstance(n, ast.Constant) and isinstance(n.value, str)]
