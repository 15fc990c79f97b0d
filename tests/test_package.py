"""The package as it is installed: its wheel, the examples with it, pins, help of every script."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from scripts import run_here

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))
EXAMPLES = {
    "optimizers": (("--procedure", "plain", "heavy ball"), "train/loss", 0.0),
    "resumable": ((), "train/loss", 0.0),
    "sklearn_model": (("--trees", "5"), "val/accuracy", 0.85),
    "torch_model": (("--width", "16"), "val/accuracy", 0.7),
}
"""Options of each, the metric that it leaves, and the least of it."""
PLUGINS = ("pixel_goal", "reinforce")
"""Examples that another command imports. Other tests train with them."""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_torchvision_and_transformers_import_in_a_new_process() -> None:
    done = python(
        "import labs, torchvision, torchvision.models; from transformers import BertModel; print(1)"
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.skipif(
    not importlib.metadata.version("torch").endswith("+cpu"), reason="this torch has CUDA"
)
def test_without_the_fix_torchvision_would_fail() -> None:
    """When this fails, torchvision has been fixed and ``labs/__init__.py`` can forget it."""
    done = python("import torchvision")
    assert "torchvision::nms does not exist" in done.stderr


def test_the_fix_touches_nothing_else_and_does_not_import_torch() -> None:
    done = python(
        "import importlib.metadata as m, sys\n"
        "m.version = lambda name: '2.13.0+cu130'\n"
        "import labs\n"
        "assert 'torchvision._meta_registrations' not in sys.modules\n"
        "assert 'torch' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: in place, what an earlier build left would be packed as well."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "labs", source / "labs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    target = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(target), str(source))
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, and with all packages of this one but labs.

    A directory that a ``.pth`` file names is searched, but its own ``.pth`` files are not read: an
    editable installation of the checkout is not seen.
    """
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip("--python", str(python), "install", "--no-index", "--no-deps", str(wheel))
    (packages,) = home.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "others.pth").write_text("\n".join(others))
    return python


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run_outside(python: Path, *arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """In a directory and an environment that know nothing of the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = {path for path in (ROOT / "labs").rglob("*") if path.is_file()}
    expected = {str(p.relative_to(ROOT)) for p in there if "__pycache__" not in p.parts}
    assert packed == expected
    assert {"labs/py.typed", "labs/language/data/news_sample.csv"} <= packed


@pytest.mark.slow
def test_the_installed_package_has_all_that_it_needs(installed: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.metadata, labs\n"
        "print(labs.__file__)\n"
        "for name in labs.__all__: getattr(labs, name)\n"
        "from labs.language.topics.texts import load_texts\n"
        "print(len(load_texts('sample').train.texts) > 100)\n"
        "print(importlib.metadata.version('labs'))"
    )
    done = run_outside(installed, "-c", code, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    place, has_texts, version = done.stdout.splitlines()[-3:]
    assert Path(place).is_relative_to(installed.parent.parent)
    assert has_texts == "True"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version == project["version"]


def test_every_example_is_run_or_imported() -> None:
    assert {path.stem for path in ROOT.glob("examples/*.py")} == {*EXAMPLES, *PLUGINS}


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_needs_only_the_installed_package(
    name: str, installed: Path, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "examples" / f"{name}.py", tmp_path)
    done = run_outside(installed, "-c", f"import {name}", directory=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_from_a_folder_of_its_own(
    name: str, installed: Path, tmp_path: Path
) -> None:
    options, metric, least = EXAMPLES[name]
    script = Path(shutil.copy(ROOT / "examples" / f"{name}.py", tmp_path))
    command = (script.name, *options, "--local-mode", "--seeds", "2")
    done = run_outside(installed, *command, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs" / name).iterdir()
    table = pd.read_csv(run / "results.csv")
    assert list(table["status"]) == ["done"] * (4 if name == "optimizers" else 2)
    assert (table[metric] > least).all()
    assert (run / "summary.csv").exists()


def test_pins_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [line for name in extras for line in extras[name]]
    requirements = [line.split(";")[0] for line in wanted]  # without the platforms they are for
    pins = [line for line in requirements if "==" in line]
    exact = {line.split("==")[0].split("[")[0]: line.split("==")[1] for line in pins}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = dict(line.lower().split("==") for line in lines if "==" in line)
    assert exact.items() <= tested.items()
    for name in ("torch", "ray", "tyro"):
        assert importlib.metadata.version(name).split("+")[0] == tested[name]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_help(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(script.stem, "--help") == 0
    shown = capsys.readouterr()
    assert "usage:" in shown.out and "options" in shown.out
    assert shown.err == ""
