"""The order in which the depth study's trials start."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from labs.vision.data.datasets import load_dataset
from labs.vision.depth.study import DepthTrial, cost


def test_cost_grows_with_epochs_images_and_depth(tmp_path: Path) -> None:
    data = {
        "digits": load_dataset("digits", tmp_path),
        "few": load_dataset("digits", tmp_path, train_size=100),
    }
    trial = DepthTrial(family="cnn", depth=3, width=16, epochs=2, dataset="digits")
    assert cost(dataclasses.replace(trial, epochs=6), data) == 3 * cost(trial, data)
    ratio = len(data["digits"].train) / len(data["few"].train)
    few = cost(dataclasses.replace(trial, dataset="few"), data)
    assert cost(trial, data) == pytest.approx(ratio * few)
    deep = dataclasses.replace(trial, depth=51)
    # 3x3 convolutions from 16 to 16 channels: 48 more of them, on 8 x 8 pixels each.
    assert cost(deep, data) - cost(trial, data) > 48 * 16 * 16 * 9 * 64 * len(data["digits"].train)
    mlp = DepthTrial(family="mlp", depth=8, width=128, epochs=2, dataset="digits")
    assert cost(mlp, data) < cost(deep, data)
