"""A run's directory belongs to one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labs.runtime.directory.runs import open_run
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions


def test_two_runs_that_begin_in_the_same_second_do_not_share_a_directory(
    tmp_path: Path,
) -> None:
    """The directory is chosen at the beginning and made when the first result comes."""
    options = RuntimeOptions(run_root=str(tmp_path))
    with (
        open_run("walk", RuntimeOptions(), options) as first,
        open_run("walk", RuntimeOptions(verbose=True), options) as second,
    ):
        second.path = first.path  # even where a second began in between
        first.start()
        written = (first.path / "config.json").read_text()
        with pytest.raises(InputError, match="has just been created by another run"):
            second.start()
    assert (first.path / "config.json").read_text() == written
    assert json.loads(written)["config"]["verbose"] is False
    assert [p.name for p in (tmp_path / "walk").iterdir()] == [first.path.name]
