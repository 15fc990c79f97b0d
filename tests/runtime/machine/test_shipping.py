"""Which modules a script needs from its own directory, and what keeps them from being shipped."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from labs.runtime.errors import InputError
from labs.runtime.machine import shipping
from labs.runtime.machine.shipping import own_modules, runtime_env


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script with a module and a package beside it, and two that it does not need."""
    files = {
        "script.py": "import json, numpy, labs, ship_one\ndef train():\n    from ship_two.part import x",
        "ship_one.py": "import ship_three, not_there",
        "ship_three.py": "import ship_one",
        "ship_two/__init__.py": "",
        "ship_two/part.py": "from .ship_unused import z\nfrom ship_three import y",
        "ship_two/words.txt": "seven",
        "ship_unused.py": "",
        "ship_unused_too/__init__.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    main = ModuleType("__main__")
    main.__file__ = str(tmp_path / "script.py")
    monkeypatch.setitem(shipping.sys.modules, "__main__", main)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    return main


def test_what_is_imported_from_beside_the_script_is_found(
    script: ModuleType, tmp_path: Path
) -> None:
    expected = [tmp_path / name for name in ("ship_one.py", "ship_three.py", "ship_two")]
    assert own_modules() == expected
    given = runtime_env()
    assert given["py_modules"] == list(map(str, expected))
    assert {".git", ".venv", "runs", "data", "checkpoints"} <= set(given["excludes"])


def test_a_script_without_its_own_modules_ships_nothing(script: ModuleType, tmp_path: Path) -> None:
    Path(str(script.__file__)).write_text("import labs, torch, os")
    assert runtime_env() == {}


def test_a_package_that_is_too_large_is_one_sentence(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("data", "checkpoints", ".git"):
        (tmp_path / "ship_two" / place).mkdir()
        (tmp_path / "ship_two" / place / "large").write_bytes(bytes(3 * 2**20))
    monkeypatch.setattr(shipping, "MAX_MIB", 2)
    runtime_env()  # what is left behind does not count
    (tmp_path / "ship_two" / "large.bin").write_bytes(bytes(3 * 2**20))
    with pytest.raises(
        InputError, match=r"ship_two has 3 MiB, and at most 2 MiB are sent .*: move"
    ):
        runtime_env()


def test_a_job_that_came_with_its_files_ships_nothing_again(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, ships in (({"working_dir": "gcs://x.zip"}, False), ({"env_vars": {}}, True)):
        job = json.dumps({"runtime_env": given})
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
        assert bool(runtime_env()) == ships
