"""PPO's mathematics: its gradient, its loss, and what a truncation is worth."""

import numpy as np
import pytest
import torch

from labs.rl.agents.policies import Policy
from labs.rl.agents.ppo import PPO, PPOConfig, _Batch, clipped_loss
from labs.rl.agents.segments import Segment
from labs.runtime.errors import InputError


def constant_segment(version: int, ends: str) -> Segment:
    """Reward 1 for 32 steps of 8 environments, with an end every 8th step."""
    ended = np.zeros((32, 8), dtype=bool)
    ended[7::8] = True
    never = np.zeros_like(ended)
    ones = np.ones((32, 8, 1), dtype=np.float32)
    terminated, truncated = (ended, never) if ends == "terminated" else (never, ended)
    actions = np.zeros((32, 8), dtype=np.int64)
    return Segment(ones, actions, ones[..., 0], terminated, truncated, ones, [], version, 0.0, 0.0)


@pytest.mark.parametrize(("ends", "expected"), [("truncated", 10.0), ("terminated", 3.593)])
def test_a_truncation_is_worth_what_follows_and_a_termination_nothing(
    ends: str, expected: float
) -> None:
    """Reward 1 for ever is worth 1 / (1 - 0.9) = 10. If each 8th step were the end, the mean value
    over an episode would be sum((1 - 0.9^k) / 0.1 for k = 1..8) / 8 = 3.593."""
    config = PPOConfig(
        gamma=0.9,
        gae_lambda=1.0,
        learning_rate=0.02,
        anneal=False,
        normalize_rewards=False,
        normalize_observations=False,
        batch_size=128,
        max_grad_norm=100.0,
    )
    agent = PPO(config, 1, 2, True, seed=0)
    for _ in range(150):
        agent.update(constant_segment(agent.version, ends), 0.0)
    value = agent._values(torch.ones(1, 1))[0]
    assert value == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("discrete", [True, False])
def test_a_step_follows_the_gradient_of_the_published_loss(discrete: bool) -> None:
    config = PPOConfig(entropy_coefficient=0.1, value_coefficient=0.7, clip_range=0.2)
    agent = PPO(config, 4, 3, discrete, seed=0)
    torch.manual_seed(0)
    agent._flat += 0.1 * torch.randn_like(agent._flat)
    n = 64
    actions = torch.randint(0, 3, (n,)) if discrete else torch.randn(n, 3)
    batch = _Batch(
        torch.randn(n, 4), actions, torch.randn(n) * 0.5 - 1, torch.randn(n), torch.randn(n)
    )

    flat = agent._flat.clone().requires_grad_()
    policy_size, spread = agent._policy.num_parameters, agent.spec.num_log_std
    outputs = agent._policy.forward(agent._policy.views(flat[:policy_size]), batch.observations)
    value_layers = agent._value.views(flat[policy_size + spread :])
    values = agent._value.forward(value_layers, batch.observations)[:, 0]
    if discrete:
        distribution = torch.distributions.Categorical(logits=outputs)
        log_probs, entropy = distribution.log_prob(actions), distribution.entropy()
    else:
        std = flat[policy_size : policy_size + spread].exp()
        distribution = torch.distributions.Normal(outputs, std)
        log_probs, entropy = distribution.log_prob(actions).sum(1), distribution.entropy().sum(1)
    ratios = (log_probs - batch.log_probs).exp()
    surrogate = torch.minimum(
        ratios * batch.advantages, ratios.clamp(0.8, 1.2) * batch.advantages
    ).mean()
    loss = -surrogate - 0.1 * entropy.mean() + 0.7 * (values - batch.returns).square().mean()
    loss.backward()
    assert ((ratios - 1).abs() > 0.2).float().mean() > 0.3  # the clipping is put to the test
    torch.testing.assert_close(
        clipped_loss(ratios, batch.advantages, 0.2).detach(), -surrogate.detach()
    )

    found_log_probs, found_entropy, found_values = agent._step(batch, rate=0.0)
    gradient = agent._optimizer.gradient
    norm = flat.grad.norm()
    expected = flat.grad * min(1.0, 0.5 / norm.item())
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found_log_probs, log_probs.detach())
    torch.testing.assert_close(found_entropy.clone(), entropy.detach())
    torch.testing.assert_close(found_values, values.detach())


def test_refuses_a_segment_of_another_version() -> None:
    agent = PPO(PPOConfig(), 1, 2, True, seed=0)
    with pytest.raises(ValueError, match="version 3"):
        agent.update(constant_segment(3, "truncated"), 0.0)


def test_the_learning_rate_falls_and_target_kl_stops_an_update() -> None:
    agent = PPO(PPOConfig(epochs=10, learning_rate=0.05, target_kl=0.01), 1, 2, True, seed=0)
    segment = constant_segment(0, "truncated")
    segment.actions[:, ::2] = 1
    segment.rewards[:, ::2] = 0
    metrics = agent.update(segment, 0.25)
    assert metrics["train/epochs"] < 10 and metrics["train/kl"] > 0.01
    assert metrics["train/learning_rate"] == pytest.approx(0.05 * 0.75)


def test_the_spread_of_actions_follows_its_schedule() -> None:
    config = PPOConfig(action_std="decay", action_std_start=0.6, action_std_end=0.2)
    agent = PPO(config, 1, 2, False, seed=0)
    segment = constant_segment(0, "truncated")
    segment = segment._replace(
        actions=np.random.default_rng(0).normal(size=(32, 8, 2)).astype("f4")
    )
    assert agent.update(segment, 0.5)["train/action_std"] == pytest.approx(0.4)


def test_an_exported_policy_acts_as_the_learner_evaluates() -> None:
    """Sampled actions have the frequencies that the learner's own log-probabilities say."""
    agent = PPO(PPOConfig(), 3, 4, True, seed=0)
    torch.manual_seed(0)
    agent._flat += 0.5 * torch.randn_like(agent._flat)
    agent._observation_moments.update(np.random.default_rng(0).normal(2, 3, (500, 3)))
    policy = Policy(agent.spec)
    policy.load(agent.actor_parameters())
    observations = np.full((40_000, 3), 1.5, dtype=np.float32)
    actions = policy.act(observations, np.random.default_rng(1))
    shares = np.bincount(actions, minlength=4) / len(actions)
    outputs = agent._policy.forward(agent._policy_layers, agent._tensor(observations[:1]))
    np.testing.assert_allclose(shares, torch.softmax(outputs, 1)[0].numpy(), atol=0.01)


@pytest.mark.parametrize(
    ("option", "value"),
    [("learning_rate", -1.0), ("gamma", 1.5), ("epochs", 0), ("clip_range", float("nan"))],
)
def test_values_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"`{option}` .*use for instance"):
        PPOConfig(**{option: value})
