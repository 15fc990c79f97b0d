"""The package as it is installed: torchvision beside a CPU-only torch, pins, help of every script."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from scripts import run_here

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=300
    )


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


def test_pins_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [line for name in extras for line in extras[name]]
    exact = {w.split("==")[0].split("[")[0]: w.split("==")[1] for w in wanted if "==" in w}
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
