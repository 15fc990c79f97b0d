"""Hand-written gradients, modules under autograd, and the optimiser, against PyTorch's."""

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from labs.rl.agents.networks.adam import Adam
from labs.rl.agents.networks.images import convolutional_network
from labs.rl.agents.networks.make import make_network
from labs.rl.agents.networks.mlp import MLP
from labs.rl.agents.networks.module import ModuleNetwork
from labs.rl.agents.normalization import RunningMoments
from labs.runtime.errors import InputError


def mine(observation_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A factory as users write it, named on the command line as ``module:mine``."""
    return nn.Sequential(nn.Linear(*observation_shape, 6), nn.SiLU(), nn.Linear(6, outputs))


class Scaled(nn.Module):
    """A tied parameter, a random buffer, a counter and a frozen layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, inputs), nn.Linear(inputs, inputs)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(inputs, inputs).requires_grad_(False)
        self.last = nn.LazyLinear(outputs)
        self.register_buffer("scale", torch.rand(inputs))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(
            torch.tanh(self.second(torch.tanh(self.first(self.frozen(x * self.scale)))))
        )


def perceptron(hidden: tuple[int, ...], activation: str) -> tuple[MLP, torch.Tensor, nn.Module]:
    """A perceptron, its parameters, and the same one of PyTorch's layers."""
    network = MLP((5, *hidden, 3), activation)
    flat = network.initial_parameters(torch.Generator().manual_seed(1))
    flat += 0.1 * torch.randn(len(flat), generator=torch.Generator().manual_seed(2))
    reference = nn.Sequential()
    for i, (weight, bias) in enumerate(network.views(flat)):
        layer = nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = weight.t().clone(), bias.clone()
        reference.append(layer)
        if i < len(hidden):
            reference.append(nn.Tanh() if activation == "tanh" else nn.ReLU())
    return network, flat, reference


def gradients(reference: nn.Module, *, transposed: bool) -> torch.Tensor:
    """Flat; a weight of PyTorch's is ``[outputs, inputs]``."""
    parts = [parameter.grad for parameter in reference.parameters()]
    return torch.cat([(p.t() if transposed and p.ndim == 2 else p).reshape(-1) for p in parts])


@pytest.mark.parametrize("rows", [None, 4])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (7,), (16, 8)])
@pytest.mark.parametrize("kind", ["written out", "module"])
def test_gradients_equal_automatic_differentiation(
    kind: str, activation: str, hidden: tuple[int, ...], rows: int | None
) -> None:
    """Of all rows, or of the first ones while the others are only computed."""
    network, flat, reference = perceptron(hidden, activation)
    if kind == "module":
        network = ModuleNetwork(lambda: copy.deepcopy(reference), (5,), 3)
        flat = network.initial_parameters(torch.Generator())
    generator = torch.Generator().manual_seed(3)
    inputs, slope = (torch.randn(11, n, generator=generator) for n in (5, 3))
    expected = reference(inputs)
    (expected * slope)[:rows].sum().backward()

    gradient = torch.full_like(flat, torch.nan)  # every place must be written
    network.bind(flat, gradient)
    with torch.inference_mode():  # as the learners do
        outputs = network.forward_for_backward(inputs * 1, rows)
        network.backward(slope[:rows] * 1)
        torch.testing.assert_close(network.forward(inputs), expected.detach())
    torch.testing.assert_close(outputs, expected.detach())
    wanted = gradients(reference, transposed=kind == "written out")
    torch.testing.assert_close(gradient, wanted)


def test_a_network_follows_the_parameters_that_it_is_bound_to() -> None:
    for network in (
        MLP((5, 4, 2)),
        ModuleNetwork(lambda: mine((5,), 2), (5,), 2),
        ModuleNetwork(lambda: Scaled(5, 2), (5,), 2),
    ):
        inputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
        flat = network.initial_parameters(torch.Generator().manual_seed(1))
        network.bind(flat)
        first = network.forward(inputs)
        other = network.initial_parameters(torch.Generator().manual_seed(2))
        flat.copy_(other)
        changed = network.forward(inputs)
        assert (first - changed).abs().max() > 0.01
        network.bind(other)
        torch.testing.assert_close(network.forward(inputs), changed, rtol=0, atol=0)
        again = network.initial_parameters(torch.Generator().manual_seed(2))
        torch.testing.assert_close(again, other, rtol=0, atol=0)


def test_buffers_and_frozen_layers_travel_with_the_parameters_and_stay() -> None:
    network = ModuleNetwork(lambda: Scaled(4, 2), (4,), 2)
    flat = network.initial_parameters(torch.Generator().manual_seed(5))
    assert len(flat) == (16 + 4 + 4) + (16 + 4) + (4 * 2 + 2) + 4  # tied once, the counter not
    gradient = torch.zeros_like(flat)
    network.bind(flat, gradient)
    inputs = torch.randn(7, 4, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        outputs = network.forward_for_backward(inputs)
        network.backward(torch.ones_like(outputs))
        once = gradient.clone()
        network.forward_for_backward(inputs)
        network.backward(torch.ones_like(outputs))
    torch.testing.assert_close(gradient, once)  # not added up
    frozen = gradient[24:44]
    assert not frozen.any() and not gradient[-4:].any()
    assert (gradient[:24] != 0).all() and (gradient[44:54] != 0).all()


def test_a_factory_neither_draws_from_nor_reseeds_torch_s_own_generator() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    network = ModuleNetwork(lambda: mine((5,), 2), (5,), 2)
    network.initial_parameters(torch.Generator().manual_seed(1))
    assert torch.equal(torch.rand(3), expected)


def test_the_output_gain_scales_the_last_layer_of_a_module() -> None:
    network = ModuleNetwork(lambda: mine((5,), 2), (5,), 2)
    whole, small = (
        network.initial_parameters(torch.Generator().manual_seed(1), output_gain=gain)
        for gain in (1.0, 0.01)
    )
    torch.testing.assert_close(small[:36], whole[:36], rtol=0, atol=0)
    torch.testing.assert_close(small[36:], 0.01 * whole[36:])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: nn.Linear(), "raises TypeError"),
        (lambda: 3, "is a int: return a torch.nn.Module"),
        (lambda: nn.Linear(4, 2), r"given float32 observations \[2, 5\], raises RuntimeError"),
        (lambda: nn.Linear(5, 3), r"returns float32 \[2, 3\] for 2 .*return float32 \[2, 2\]"),
        (lambda: nn.GRU(5, 2), "returns a tuple: return a tensor"),
        (lambda: nn.Sequential(nn.Linear(5, 2), nn.BatchNorm1d(2)), "BatchNorm1d, which"),
        (lambda: nn.Sequential(nn.Linear(5, 2), nn.Dropout(0.1)), "Dropout, which"),
        (lambda: nn.Sequential(nn.Linear(5, 2), nn.Softmax(0)).double(), "given float32"),
    ],
)
def test_a_network_that_does_not_fit_the_shapes_is_refused(module: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^`network` mine:make,? .*{message}"):
        ModuleNetwork(module, (5,), 2, "`network` mine:make")


def test_a_factory_is_found_by_name_and_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nets_of_mine.py").write_text(
        "from torch import nn\n"
        "NUMBER = 3\n"
        "def make(observation_shape, outputs):\n"
        "    return nn.Linear(observation_shape[0], outputs)\n"
    )
    network = make_network((5,), 3, (), "tanh", "nets_of_mine:make")
    assert isinstance(network, ModuleNetwork) and network.num_parameters == 18
    for factory, message in (
        ("nets_of_mine:NUMBER", "`network` nets_of_mine:NUMBER is not a function"),
        ("nets_of_mine:other", "module nets_of_mine has no other"),
        ("no_nets:make", "there is no module no_nets"),
    ):
        with pytest.raises(InputError, match=message):
            make_network((5,), 3, (), "tanh", factory)


def test_initial_weights_are_orthogonal() -> None:
    network = MLP((20, 12, 4))
    flat = network.initial_parameters(torch.Generator().manual_seed(0), output_gain=0.01)
    (first, bias), (last, _) = network.views(flat)
    torch.testing.assert_close(first.t() @ first, 2 * torch.eye(12))
    torch.testing.assert_close(last.t() @ last, 1e-4 * torch.eye(4))
    assert not bias.any()


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 16, 20), (4, 84, 84), (3, 210, 160)])
def test_images_are_scaled_and_seen_whole(shape: tuple[int, int, int]) -> None:
    """Every pixel has a say in the outputs, and the network stays small."""
    network = make_network(shape, 3, (32,), "tanh")
    flat = network.initial_parameters(torch.Generator().manual_seed(0))
    network.bind(flat)
    assert network.num_parameters < 80_000
    images = torch.randint(256, (5, *shape), generator=torch.Generator().manual_seed(1))
    images = images.to(torch.uint8)
    outputs = network.forward(images)
    assert outputs.std(0).min() > 1e-3
    scaled = (images.float() / 255).requires_grad_()
    own = convolutional_network(shape, 3, (32,), "tanh")
    torch.nn.utils.vector_to_parameters(flat, own.parameters())
    expected = own(scaled)
    torch.testing.assert_close(outputs, expected.detach())
    expected.square().sum().backward()
    assert (scaled.grad.abs().sum((0, 1)) > 0).float().mean() > 0.97


@pytest.mark.parametrize(("gain", "hidden"), [(1.0, (32,)), (0.01, (24, 16))])
def test_convolutions_begin_orthogonal(gain: float, hidden: tuple[int, ...]) -> None:
    network = make_network((3, 15, 15), 4, hidden, "relu")
    flat = network.initial_parameters(torch.Generator().manual_seed(0), output_gain=gain)
    module = convolutional_network((3, 15, 15), 4, hidden, "relu")
    torch.nn.utils.vector_to_parameters(flat, module.parameters())
    layers = [layer for layer in module if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 2 + len(hidden) + 1
    for layer in layers:
        rows = layer.weight.detach().flatten(1)
        wanted = gain**2 if layer is layers[-1] else 2.0
        if len(rows) > rows.shape[1]:
            rows = rows.t()
        torch.testing.assert_close(rows @ rows.t(), wanted * torch.eye(len(rows)))
        assert not layer.bias.any()


def test_adam_equals_pytorchs_with_clipped_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(50, generator=generator)
    own, reference = start.clone(), torch.nn.Parameter(start.clone())
    adam, expected = Adam(own), torch.optim.Adam([reference], lr=0.01, eps=1e-5)
    for step in range(30):
        gradient = torch.randn(50, generator=generator) * (0.01 if step % 2 else 1)
        adam.gradient.copy_(gradient)
        adam.step(0.01, max_norm=0.5)
        reference.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_([reference], 0.5)
        expected.step()
    torch.testing.assert_close(own, reference.detach(), atol=1e-6, rtol=1e-5)


def test_running_moments_equal_those_of_all_rows_at_once() -> None:
    rows = np.random.default_rng(0).normal(5, 3, (1000, 4)) * [1, 10, 0.1, 0]
    moments = RunningMoments(4)
    for part in np.split(rows, [1, 10, 500]):
        moments.update(part)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.scale, [*1 / rows.std(0)[:3], 1], rtol=1e-9)
    again = RunningMoments(4)
    again.load(moments.state())
    moments.update(rows[:3])
    again.update(rows[:3])
    np.testing.assert_array_equal(again.mean, moments.mean)
