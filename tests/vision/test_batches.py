"""How many images make a gradient step."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.runtime.errors import InputError
from labs.vision.batches import check_batch_size, fit_batches
from labs.vision.data.datasets import load_dataset
from labs.vision.training import TrainConfig


def test_a_default_batch_becomes_the_training_set_and_a_given_one_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    small, large = (load_dataset("digits", Path("data"), train_size=n) for n in (30, 300))
    images = {1: len(small.train), 2: len(large.train)}
    assert images == {1: 27, 2: 270}  # a tenth is for validation
    configs = [
        TrainConfig("mlp", depth, batch_size=batch) for depth in images for batch in (27, 28, 64)
    ]

    def data(config: TrainConfig):
        return small if config.depth == 1 else large

    fitted = fit_batches(configs, data, given=False)
    assert [config.batch_size for config in fitted] == [27, 27, 27, 27, 28, 64]
    assert [config.depth for config in fitted] == [config.depth for config in configs]
    assert capsys.readouterr().out.splitlines() == [
        "batch size 27, the whole training set, in place of the default 28: an epoch is one step",
        "batch size 27, the whole training set, in place of the default 64: an epoch is one step",
    ]
    assert fit_batches(configs[3:], data, given=True) == configs[3:]
    with pytest.raises(InputError, match="`batch_size` 28 is larger.*use 27 or less"):
        fit_batches(configs, data, given=True)
    check_batch_size(270, large)
    with pytest.raises(InputError, match="`batch_size` 271 is larger.*use 270 or less"):
        check_batch_size(271, large)
    assert capsys.readouterr().out == ""
