"""Gradients by layer: what is measured, and what is said of it."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from labs.runtime.errors import InputError
from labs.vision.data.datasets import load_dataset
from labs.vision.gradient_flow.measurement import (
    GradientFlowConfig,
    batch_order,
    mean_absolute_gradients,
    record_gradients,
    weight_layers,
)
from labs.vision.gradient_flow.summary import (
    classifier_figure,
    findings,
    layer_figure,
    ratios,
    trial_gradients,
)
from labs.vision.models import build_model

SMALL = GradientFlowConfig(depth=5, width=4, batches=12, batch_size=30)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", Path("unused"), train_size=200, test_size=20)


def test_gradients_of_a_network_worked_out_by_hand():
    """A 1x1 convolution w, the mean over pixels, a dense layer v: y = v . (w * mean(x))."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([3.0, -2.0]).view(2, 1, 1, 1))
        model[3].weight.copy_(torch.tensor([[0.5, 4.0]]))
        model[3].bias.zero_()
    images = torch.arange(8.0).view(1, 1, 2, 4)
    mean = 3.5
    output = model(images).sum()
    assert output.item() == pytest.approx(mean * (0.5 * 3 + 4 * -2))
    (output**2 / 2).backward()  # dL/dy = y
    expected = {
        "conv_001": abs(output.item()) * mean * (0.5 + 4) / 2,  # dy/dw_i = v_i mean(x)
        "classifier": abs(output.item()) * mean * (3 + 2) / 2,  # dy/dv_i = w_i mean(x)
    }
    assert mean_absolute_gradients(weight_layers(model)) == pytest.approx(expected)


@pytest.mark.parametrize("family", ["cnn", "rescnn"])
def test_layers_are_named_by_their_place_in_the_forward_pass(family):
    model = build_model(family, 7, 4, (1, 8, 8), 10)
    seen = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda module, *_: seen.append(module.weight))
    model(torch.randn(2, 1, 8, 8))
    layers = weight_layers(model)
    assert list(layers) == [f"conv_{n:03d}" for n in range(1, 8)] + ["classifier"]
    assert all(a is b for a, b in zip(layers.values(), seen, strict=True))


def test_batches_are_passes_without_repetition():
    order = batch_order(images=50, batch_size=20, batches=5, seed=3)
    assert order.shape == (5, 20)
    flat = order.flatten().tolist()
    assert sorted(flat[:50]) == sorted(flat[50:]) == list(range(50))
    assert flat[:50] != flat[50:]
    assert torch.equal(order, batch_order(50, 20, 5, 3))
    assert not torch.equal(order, batch_order(50, 20, 5, 4))


def test_first_report_is_autograds(digits):
    report = next(record_gradients(SMALL, data=digits))
    from labs.vision.training import new_model

    model, _ = new_model(SMALL, digits)
    chosen = batch_order(len(digits.train), 30, 12, 0)[0].numpy()
    pixels = (digits.train.images[chosen] - np.float64(digits.mean[0])) / digits.std[0]
    logits = model(torch.tensor(pixels, dtype=torch.float32))
    loss = nn.functional.cross_entropy(logits, torch.tensor(digits.train.labels[chosen]))
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    expected = [g.abs().mean().item() for g in torch.autograd.grad(loss, weights)]
    reported = [report.metrics[f"layers/conv_{n:03d}"] for n in range(1, 6)]
    reported.append(report.metrics["gradients/classifier"])
    np.testing.assert_allclose(reported, expected, rtol=1e-3)
    assert report.metrics["gradients/conv_first"] == report.metrics["layers/conv_001"]
    assert report.metrics["train/loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_one_report_per_batch_histograms_at_both_ends_and_resuming(digits):
    whole = list(record_gradients(SMALL, data=digits))
    assert [report.step for report in whole] == list(range(1, 13))
    shapes = {tag: values.shape for tag, values in whole[0].histograms.items()}
    assert shapes == {
        "gradients/conv_first": (4, 1, 3, 3),
        "gradients/conv_last": (4, 4, 3, 3),
        "gradients/classifier": (10, 4),
    }
    assert set(whole[-1].histograms) == set(shapes)
    assert not any(report.histograms for report in whole[1:-1])
    assert np.abs(whole[0].histograms["gradients/conv_first"]).mean() == pytest.approx(
        whole[0].metrics["gradients/conv_first"]
    )

    running = record_gradients(SMALL, data=digits)
    *_, fifth = (next(running) for _ in range(5))
    rest = list(record_gradients(SMALL, fifth.checkpoint(), data=digits))
    assert [dict(report.metrics) for report in rest] == [dict(r.metrics) for r in whole[5:]]
    assert list(record_gradients(SMALL, whole[-1].checkpoint(), data=digits)) == []


@pytest.mark.parametrize(
    "options, message",
    [
        ({"family": "mlp"}, "no convolutions"),
        ({"depth": 20}, "19 or 21"),
        ({"batches": 0}, "`batches` 0"),
        ({"seed": -1}, "`seed` -1 must be 0 or more"),
        ({"batch_seed": -2}, "`batch_seed` -2 must be 0 or more"),
        ({"learning_rate": float("nan")}, "`learning_rate` nan"),
    ],
)
def test_configs_that_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        GradientFlowConfig(**options)


@pytest.fixture
def planted():
    """Two seeds of each family at depth 3, 20 batches; the plain first layer gets a tenth."""
    rows, history = [], []
    for family, classifier, first, second in (("cnn", 1.0, 0.1, 1.1), ("rescnn", 3.0, 5.0, 1.2)):
        for seed, factor in ((0, 1.0), (1, second)):
            trial = len(rows)
            rows.append(
                {"trial": trial, "status": "done", "family": family, "depth": 3, "seed": seed}
            )
            for step in range(1, 21):
                history.append(
                    {"trial": trial, "step": step, "gradients/classifier": classifier * factor}
                    | {"gradients/conv_first": first * factor, "layers/conv_001": first * factor}
                    | {"layers/conv_002": 1.0, "layers/conv_003": 1.0}
                )
    return pd.DataFrame(history), pd.DataFrame(rows)


def test_ratios_and_their_intervals(planted):
    every = ratios(trial_gradients(*planted))
    table = every[every["when"] == "all 20 batches"].set_index("ratio")
    pair = table.loc["classifier, residual / plain"]
    ratio, spread = math.sqrt(3 * 3.6 / 1.1), 12.7062 * math.log(1.2 / 1.1) / 2
    expected = (ratio, ratio * math.exp(-spread), ratio * math.exp(spread))
    assert (pair["mean"], pair["low"], pair["high"]) == pytest.approx(expected, rel=1e-4)
    plain = table.loc["CNN, first / last convolution"]
    middle = math.sqrt(0.1 * 0.11)  # the geometric mean; then Student's t with one degree, 12.706
    spread = 12.7062 * (math.log(0.11) - math.log(0.1)) / 2
    assert plain["mean"] == pytest.approx(middle)
    assert plain["low"] == pytest.approx(middle * math.exp(-spread), rel=1e-4)
    assert plain["high"] == pytest.approx(middle * math.exp(spread), rel=1e-4)
    assert plain["seeds"] == 2


def test_the_first_and_the_last_batches_stand_apart(planted):
    """At the start the plain first layer gets 7 times as much as at the end, of all 21 batches."""
    history, table = planted
    more = history[history["step"] == 1].assign(step=21)
    history = pd.concat([history, more], ignore_index=True)
    early = history["step"] <= 10
    history.loc[early, "gradients/conv_first"] *= 7.0
    gradients = trial_gradients(history, table)
    assert list(gradients["when"][:3]) == ["first 10 batches", "last 10 batches", "all 21 batches"]
    plain = gradients[(gradients["family"] == "cnn") & (gradients["seed"] == 0)]
    plain = plain.set_index("when")["conv_first"]
    assert plain["first 10 batches"] == pytest.approx(0.7)
    assert plain["last 10 batches"] == pytest.approx(0.1)
    assert plain["all 21 batches"] == pytest.approx((10 * 0.7 + 11 * 0.1) / 21)
    means = ratios(gradients).set_index(["when", "ratio"])["mean"]
    name = "CNN, first / last convolution"
    assert means["first 10 batches", name] == pytest.approx(7 * means["last 10 batches", name])
    first, last = findings(ratios(gradients))
    assert first.startswith("3 convolutions, first 10 batches: in the CNN the first convolution")
    assert " gets 0.73 times" in first and " gets 0.10 times" in last


def test_of_few_batches_the_halves_are_compared(planted):
    history, table = planted
    gradients = trial_gradients(history[history["step"] <= 5], table)
    assert list(gradients["when"][:3]) == ["first 2 batches", "last 2 batches", "all 5 batches"]


def test_findings_say_what_was_measured(planted):
    sentence, last = findings(ratios(trial_gradients(*planted)))
    assert last == sentence.replace("first 10", "last 10")
    assert sentence.startswith(
        "3 convolutions, first 10 batches: in the CNN the first convolution gets 0.10 times"
    )
    assert "it shrinks towards the input, as vanishing gradients do" in sentence
    assert "in the ResCNN the first convolution gets 5.48 times" in sentence
    assert "it grows towards the input: no vanishing" in sentence
    assert "3.13 times [1.80, 5.45] the gradient of the CNN's (larger, as expected)" in sentence


@pytest.mark.parametrize("status", ["stopped", "failed", "interrupted"])
def test_a_network_without_all_of_its_seeds_is_not_compared(planted, status):
    history, table = planted
    table.loc[1, "status"] = status  # the second seed of the plain network
    kept = ratios(trial_gradients(history, table))
    assert list(kept["ratio"]) == ["ResCNN, first / last convolution"] * 3


def test_figures_show_the_means(planted):
    (panel,) = classifier_figure(*planted).axes
    labelled = {line.get_label(): line for line in panel.get_lines()}
    np.testing.assert_allclose(labelled["CNN, depth 3"].get_ydata(), math.sqrt(1.1))
    np.testing.assert_allclose(labelled["ResCNN, depth 3"].get_ydata(), 3 * math.sqrt(1.2))
    history, table = planted
    history.loc[history["step"] <= 10, "layers/conv_001"] *= 3  # only the dashed lines show it
    figure = layer_figure(history, table)
    (panel,) = figure.axes
    assert "95%" in figure.get_suptitle()
    # Student's t with one degree of freedom; the standard error of two values is half apart.
    half = 12.706204736 * math.log(1.1) / 2
    for band, factor in zip(panel.collections, (3, 1), strict=False):
        middle = factor * math.sqrt(0.1 * 0.11)
        ends = sorted({y for x, y in band.get_paths()[0].vertices if x == 1})
        assert ends == pytest.approx([middle * math.exp(-half), middle * math.exp(half)])
    assert panel.get_yscale() == "log"
    for style, factor in (("--", 3.0), ("-", 1.0)):
        drawn = [line.get_ydata() for line in panel.get_lines() if line.get_linestyle() == style]
        np.testing.assert_allclose(drawn[0], [math.sqrt(0.1 * 0.11) * factor, 1, 1])
        np.testing.assert_allclose(drawn[1], [math.sqrt(5 * 6) * factor, 1, 1])
