"""Modules of users' own are found, or one sentence says where they were looked for."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.plugins import import_module, load_object
from labs.runtime.errors import InputError


@pytest.fixture(autouse=True)
def path_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_module_in_the_current_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "plugin_one").mkdir()
    (tmp_path / "plugin_one" / "inner.py").write_text("class Thing:\n    size = 17\n")
    assert str(tmp_path) not in sys.path
    assert load_object("plugin_one.inner:Thing.size", "wrapper") == 17
    assert sys.path[-1] == str(tmp_path)  # last, so that nothing installed is hidden


def test_an_installed_module_comes_first(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("mine = True\n")
    sys.modules.pop("colorsys", None)
    assert not hasattr(import_module("colorsys", "env"), "mine")
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("plugin_two:Thing", None, r"^`network`: there is no module plugin_two.*current directory"),
        ("plugin_two.inner:Thing", "", r"there is no module plugin_two.inner"),
        ("plugin_two:Thing", "import surely_absent", "cannot be imported: .*surely_absent"),
        ("plugin_two:Thing", "def f(:", "cannot be imported: .*plugin_two.py"),
        ("plugin_two:Thing", "x = 1", "module plugin_two has no Thing"),
        ("plugin_two", "x = 1", r"^`network` plugin_two is not of the form module:name$"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, path: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "plugin_two.py").write_text(content)
    with pytest.raises(InputError, match=message):
        load_object(path, "network")
