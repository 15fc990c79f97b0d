"""Hand-written gradients and the optimiser against PyTorch's."""

import numpy as np
import pytest
import torch

from labs.rl.agents.networks import MLP, Adam
from labs.rl.agents.normalization import RunningMoments


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (7,), (16, 8)])
def test_gradients_equal_automatic_differentiation(
    activation: str, hidden: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    network = MLP((5, *hidden, 3), activation)
    flat = torch.zeros(network.num_parameters)
    network.initialize(flat, torch.Generator().manual_seed(1))
    flat += 0.1 * torch.randn_like(flat)
    inputs, slope = torch.randn(11, 5), torch.randn(11, 3)

    reference = torch.nn.Sequential()
    for i, (weight, bias) in enumerate(network.views(flat)):
        layer = torch.nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = weight.t().clone(), bias.clone()
        reference.append(layer)
        if i < len(hidden):
            reference.append(torch.nn.Tanh() if activation == "tanh" else torch.nn.ReLU())
    expected = reference(inputs)
    (expected * slope).sum().backward()

    gradient = torch.full_like(flat, torch.nan)  # every place must be written
    layers = network.views(flat)
    activations = network.forward_with_activations(layers, inputs)
    network.backward(layers, activations, slope, network.views(gradient))
    torch.testing.assert_close(activations[-1], expected.detach())
    torch.testing.assert_close(network.forward(layers, inputs), expected.detach())
    parts = [
        part
        for layer in reference
        if isinstance(layer, torch.nn.Linear)
        for part in (layer.weight.grad.t().reshape(-1), layer.bias.grad)
    ]
    torch.testing.assert_close(gradient, torch.cat(parts))


def test_initial_weights_are_orthogonal() -> None:
    network = MLP((20, 12, 4))
    flat = torch.full((network.num_parameters,), 9.0)
    network.initialize(flat, torch.Generator().manual_seed(0), output_gain=0.01)
    (first, bias), (last, _) = network.views(flat)
    torch.testing.assert_close(first.t() @ first, 2 * torch.eye(12))
    torch.testing.assert_close(last.t() @ last, 1e-4 * torch.eye(4))
    assert not bias.any()


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
