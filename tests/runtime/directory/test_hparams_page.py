"""TensorBoard's HPARAMS page, as TensorBoard itself makes it of a grid's files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment

from labs.experiment import sweep
from labs.runtime.grid import grid
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Checkpoint, Report

pytestmark = pytest.mark.usefixtures("without_ray")


@dataclass(frozen=True)
class Trial:
    alpha: float = 0.5
    batch: int = 8
    width: int = 4
    zeta: str = "plain"
    seed: int = 0


def rise(config: Trial, resume: Checkpoint | None = None) -> Iterator[Report]:
    for step in range(1, 3):
        yield Report(step, {"a/loss": 1.0 / step, "train/loss": 0.5, "val/score": config.width})


def page(directory: Path) -> tuple[list[str], list[str]]:
    """The names of the hyperparameters and the tags of the metrics, in TensorBoard's order."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(directory))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(directory))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = api_pb2.GetExperimentRequest()
    found = get_experiment.Handler(RequestContext(), context, "", request).run()
    names = [info.name for info in found.hparam_infos]
    return names, [info.name.tag for info in found.metric_infos]


@pytest.mark.slow
def test_what_varies_comes_first_and_so_does_the_selected_metric(tmp_path: Path) -> None:
    """TensorBoard orders by name otherwise; its page opens with five columns."""
    configs = grid(Trial, width=[4, 16], zeta=["plain", "odd"])
    options = RuntimeOptions(run_root=str(tmp_path), run_name="grid", local_mode=True)
    sweep(rise, configs, metric="val/score", options=options)
    run = tmp_path / "rise" / "grid"
    tags = ["best/val/score", "best/a/loss", "best/train/loss"]
    assert page(run / "tensorboard") == (["width", "zeta", "alpha", "batch", "seed"], tags)

    # a field that varies only since the grid has grown: finished trials are not written again
    configs = grid(Trial, width=[4, 16], zeta=["plain", "odd"], seed=[0, 3])
    options = RuntimeOptions(resume=str(run), local_mode=True)
    sweep(rise, configs, metric="val/score", options=options)
    assert page(run / "tensorboard") == (["seed", "width", "zeta", "alpha", "batch"], tags)
