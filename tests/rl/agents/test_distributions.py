"""The hand-written distributions against torch.distributions."""

import numpy as np
import pytest
import torch

from labs.rl.agents.distributions import Categorical, DiagonalGaussian


@pytest.mark.parametrize("discrete", [True, False])
def test_log_probability_entropy_and_gradients(discrete: bool) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(9, 3, requires_grad=True)
    log_std = (torch.zeros(0) if discrete else torch.randn(3)).requires_grad_()
    if discrete:
        actions = torch.randint(0, 3, (9,))
        reference = torch.distributions.Categorical(logits=outputs)
        log_prob, entropy = reference.log_prob(actions), reference.entropy()
        own = Categorical(outputs.detach(), log_std.detach())
    else:
        actions = torch.randn(9, 3)
        reference = torch.distributions.Normal(outputs, log_std.exp())
        log_prob, entropy = reference.log_prob(actions).sum(1), reference.entropy().sum(1)
        own = DiagonalGaussian(outputs.detach(), log_std.detach())
    torch.testing.assert_close(own.log_prob(actions), log_prob.detach())
    torch.testing.assert_close(own.entropy(), entropy.detach())

    weights, entropy_weight = torch.randn(9), -0.3
    ((log_prob * weights).sum() + entropy_weight * entropy.sum()).backward()
    place = torch.full_like(log_std, torch.nan).detach()
    found = own.backward(actions, weights, own.entropy(), entropy_weight, place)
    torch.testing.assert_close(found, outputs.grad if outputs.grad is not None else found * 0)
    if not discrete:
        torch.testing.assert_close(place, log_std.grad)


def test_categorical_samples_have_the_probabilities_of_the_softmax() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.3], dtype=np.float32))
    rows = np.tile(logits, (100_000, 1))
    actions = Categorical.sample(rows, np.zeros(0), np.random.default_rng(0))
    shares = np.bincount(actions, minlength=3) / len(actions)
    np.testing.assert_allclose(shares, [0.1, 0.6, 0.3], atol=0.006)  # four standard errors
    assert (Categorical.mode(rows) == 1).all()


def test_gaussian_samples_have_the_mean_and_the_spread() -> None:
    rows = np.tile(np.array([1.0, -2.0], dtype=np.float32), (100_000, 1))
    log_std = np.log(np.array([0.5, 2.0], dtype=np.float32))
    actions = DiagonalGaussian.sample(rows, log_std, np.random.default_rng(0))
    np.testing.assert_allclose(actions.mean(0), [1, -2], atol=0.03)
    np.testing.assert_allclose(actions.std(0), [0.5, 2], rtol=0.01)
    np.testing.assert_array_equal(DiagonalGaussian.mode(rows), rows)
