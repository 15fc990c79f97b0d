"""DQN's mathematics: its targets, its gradient, its schedules."""

import numpy as np
import pytest
import torch

from labs.rl.agents.dqn import DQN, DQNConfig
from labs.rl.agents.replay import Transitions
from labs.rl.agents.segments import Segment
from labs.runtime.errors import InputError


def transitions(n: int) -> Transitions:
    generator = np.random.default_rng(0)
    observations, following = generator.normal(size=(2, n, 4)).astype(np.float32)
    actions = generator.integers(3, size=n)
    returns = generator.normal(0, 2, n).astype(np.float32)
    discounts = np.where(generator.random(n) < 0.3, 0, 0.97).astype(np.float32)
    return Transitions(observations, following, actions, returns, discounts)


@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_a_step_follows_the_gradient_of_the_published_loss(double_q: bool, loss: str) -> None:
    config = DQNConfig(
        double_q=double_q, loss=loss, max_grad_norm=1e6, normalize_observations=False
    )
    agent = DQN(config, 4, 3, seed=0)
    torch.manual_seed(0)
    agent._target_flat += 0.3 * torch.randn_like(agent._target_flat)
    rows = transitions(64)
    observations, following, actions, returns, discounts = map(torch.from_numpy, rows)

    flat = agent._flat.clone().requires_grad_()
    layers = agent._network.views(flat)
    values = agent._network.forward(layers, observations)[torch.arange(64), actions]
    with torch.no_grad():
        target = agent._network.forward(agent._target_layers, following)
        chooser = agent._network.forward(layers, following) if double_q else target
        best = target[torch.arange(64), chooser.argmax(1)]
    wanted = returns + discounts * best
    if loss == "huber":
        expected = torch.nn.functional.huber_loss(values, wanted)
    else:
        expected = torch.nn.functional.mse_loss(values, wanted) / 2
    expected.backward()

    tensors = Transitions(observations, following, actions, returns, discounts)
    found = agent._step(tensors, target.detach(), rate=0.0)
    torch.testing.assert_close(agent._optimizer.gradient, flat.grad, rtol=1e-4, atol=1e-6)
    assert found[0].item() == pytest.approx(expected.item(), rel=1e-5)
    assert found[1].item() == pytest.approx(values.mean().item(), rel=1e-4)
    assert found[2].item() == pytest.approx((values - wanted).abs().mean().item(), rel=1e-4)


@pytest.mark.parametrize(("ends", "expected"), [("truncated", 10.0), ("terminated", 1.0)])
def test_a_truncation_is_worth_what_follows_and_a_termination_nothing(
    ends: str, expected: float
) -> None:
    """Every step ends its episode: the value is 1 / (1 - 0.9) if it is cut, 1 if it is over."""
    shape = (4, 8)
    ended, never = np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)
    terminated, truncated = (ended, never) if ends == "terminated" else (never, ended)
    ones = np.ones((*shape, 1), dtype=np.float32)
    actions = np.random.default_rng(0).integers(2, size=shape)
    segment = Segment(ones, actions, ones[..., 0], terminated, truncated, ones, [], 0, 0.0, 0.0)
    config = DQNConfig(gamma=0.9, anneal=False, target_interval=10, normalize_observations=False)
    agent = DQN(config, 1, 2, seed=0)
    agent.add(segment)
    agent.update(1000, 0.0)
    values = agent._network.forward(agent._layers, torch.ones(1, 1))
    np.testing.assert_allclose(values.numpy(), expected, rtol=0.05)


def test_the_target_network_follows_at_its_interval_or_its_rate() -> None:
    rows = transitions(64)
    copied = DQN(DQNConfig(target_interval=5), 4, 3, seed=0)
    soft = DQN(DQNConfig(target_rate=0.1), 4, 3, seed=0)
    for agent in (copied, soft):
        agent.replay.add(rows)
    start = copied._flat.clone()
    copied.update(4, 0.0)
    torch.testing.assert_close(copied._target_flat, start, rtol=0, atol=0)
    copied.update(1, 0.0)
    torch.testing.assert_close(copied._target_flat, copied._flat, rtol=0, atol=0)
    soft.update(1, 0.0)
    torch.testing.assert_close(soft._target_flat, 0.9 * start + 0.1 * soft._flat)


def test_many_steps_at_once_are_the_same_as_one_after_another() -> None:
    """Also across copies to the target network, which what is computed ahead must not miss."""
    once, stepwise = (DQN(DQNConfig(target_interval=3), 4, 3, seed=0) for _ in range(2))
    for agent in (once, stepwise):
        agent.replay.add(transitions(64))
    metrics = once.update(8, 0.0)
    steps = [stepwise.update(1, 0.0) for _ in range(8)]
    torch.testing.assert_close(once._flat, stepwise._flat, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(once._target_flat, stepwise._target_flat, rtol=1e-4, atol=1e-6)
    for name, value in metrics.items():
        assert value == pytest.approx(np.mean([step[name] for step in steps]), rel=1e-4)


def test_epsilon_falls_linearly_and_stays() -> None:
    config = DQNConfig(epsilon_start=0.9, epsilon_end=0.1, epsilon_decay=0.5)
    assert [config.epsilon(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([0.9, 0.5, 0.1, 0.1])


def test_a_batch_larger_than_the_replay_is_refused() -> None:
    with pytest.raises(InputError, match="`batch_size` 64 is larger than `replay_size` 10"):
        DQNConfig(batch_size=64, replay_size=10)
