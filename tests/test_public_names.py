"""The names that `labs` gives: light to import, complete, and in the docs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import labs

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", labs.__all__)
def test_each_name_exists_and_has_a_docstring(name: str) -> None:
    value = getattr(labs, name)
    assert getattr(value, "__name__", name) in (name, "dict")
    assert value.__doc__
    assert name in dir(labs)


def test_importing_the_package_imports_nothing_large() -> None:
    code = (
        "import sys, labs\n"
        "heavy = {'torch', 'ray', 'pandas', 'numpy', 'matplotlib', 'tyro'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from labs import InputError\n"
        "assert not {'torch', 'ray'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = labs.nothing  # type: ignore[attr-defined]  # that is the point


def test_the_table_in_the_docs_is_complete() -> None:
    table = (ROOT / "docs" / "api.md").read_text()
    assert set(re.findall(r"^\| `labs\.(\w+)", table, re.MULTILINE)) == set(labs.__all__)
