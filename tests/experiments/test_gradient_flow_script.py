"""The gradient flow experiment as a user runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scripts import load_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labs.runtime.cli import launch
from labs.runtime.errors import InputError

SMALL = ["--depths", "3", "5", "--width", "4", "--batches", "20", "--seeds", "2"]


def call(*arguments: str | Path) -> int:
    script = load_script("gradient_flow")
    with pytest.raises(SystemExit) as exit_:
        launch(script.main, script.Config, arguments=list(map(str, arguments)))
    return exit_.value.code


@pytest.mark.slow
def test_what_a_run_leaves_behind_twice_the_same(
    private_ray: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        assert call(*SMALL, "--run-root", tmp_path, "--run-name", name) == 0
    first, second = (tmp_path / "gradient_flow" / name for name in ("first", "second"))
    table = pd.read_csv(first / "results.csv")
    assert list(table["depth"]) == [3] * 4 + [5] * 4
    assert list(table["family"]) == ["cnn", "cnn", "rescnn", "rescnn"] * 2
    assert (table["status"] == "done").all() and (table["step"] == 20).all()
    ratios = pd.read_csv(first / "ratios.csv")
    assert len(ratios) == 18 and (ratios["seeds"] == 2).all()
    assert set(ratios["when"]) == {"first 10 batches", "last 10 batches", "all 20 batches"}
    assert ((ratios["low"] <= ratios["mean"]) & (ratios["mean"] <= ratios["high"])).all()
    pd.testing.assert_frame_equal(ratios, pd.read_csv(second / "ratios.csv"))
    assert {path.name for path in (first / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("classifier", "layers") for kind in ("png", "svg")
    }
    out = capfd.readouterr().out
    assert "5 convolutions, first 10 batches: in the CNN the first convolution gets" in out
    assert out.count(f"into {first}\n") == 1  # the run's path is named once

    events = EventAccumulator(
        str(first / "tensorboard" / table["name"].iloc[-1]), size_guidance={"histograms": 0}
    )
    events.Reload()
    tags = events.Tags()
    assert {"gradients/classifier", "gradients/conv_first", "layers/conv_005"} <= set(
        tags["scalars"]
    )
    assert [event.step for event in events.Scalars("gradients/classifier")] == list(range(1, 21))
    assert [event.step for event in events.Histograms("gradients/classifier")] == [1, 20]


def test_the_grid_keeps_its_order_and_deep_networks_start_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def run_nothing(train: object, configs: list[Any], **more: Any) -> None:
        given.update(more, configs=configs)
        raise InputError("enough")

    script = load_script("gradient_flow")
    monkeypatch.setattr(script, "run_grid", run_nothing)
    arguments = [*SMALL, "--run-root", str(tmp_path)]
    with pytest.raises(SystemExit):
        launch(script.main, script.Config, arguments=arguments)
    assert [trial.depth for trial in given["configs"]] == [3] * 4 + [5] * 4
    costs = [given["cost"](trial) for trial in given["configs"]]
    assert costs == [costs[0]] * 4 + [costs[-1]] * 4 and costs[0] < costs[-1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--depths", "20"], "use an odd number, for instance 19 or 21"),
        (["--seeds", "0"], "--seeds 0"),
        (["--batch-size", "100000"], "--batch-size 100000 is larger"),
        (["--dataset", "nothing"], "--dataset nothing is unknown"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*arguments, "--run-root", tmp_path) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_batch_norm_is_left_out_of_every_network_or_of_none() -> None:
    script = load_script("gradient_flow")
    for given in (True, False):
        assert {trial.batch_norm for trial in script.Config(batch_norm=given).trials()} == {given}
