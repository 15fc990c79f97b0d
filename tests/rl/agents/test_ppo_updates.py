"""PPO against one written with loops, automatic differentiation and PyTorch's Adam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from labs.rl.agents.networks.base import Spaces
from labs.rl.agents.policies import Policy
from labs.rl.agents.ppo import PPO, PPOConfig
from labs.rl.agents.segments import Segment
from labs.runtime.errors import InputError

T, N, SIZE = 9, 5, 4

DISCRETE, CONTINUOUS = Spaces((SIZE,), 3, True), Spaces((SIZE,), 2, False)
DEFAULTS: dict[str, Any] = {
    "hidden_sizes": (7, 6),
    "batch_size": 16,  # the last batch of 45 rows has 13
    "learning_rate": 0.01,
    "entropy_coefficient": 0.05,
    "value_coefficient": 0.7,
    "gamma": 0.93,
    "gae_lambda": 0.85,
    "epochs": 3,
}


def random_segment(seed: int, spaces: Spaces, version: int) -> Segment:
    """Distinct numbers everywhere, ends of both kinds anywhere, the last row among them."""
    rng = np.random.default_rng(seed)
    observations, following = rng.normal(1, 2, (2, T, N, SIZE)).astype(np.float32)
    actions = rng.integers(3, size=(T, N))
    if not spaces.discrete:
        actions = rng.normal(size=(T, N, spaces.action_size)).astype(np.float32)
    rewards = rng.normal(0.5, 2, (T, N)).astype(np.float32)
    terminated = rng.random((T, N)) < 0.2
    truncated = (rng.random((T, N)) < 0.25) & ~terminated
    return Segment(
        observations, actions, rewards, terminated, truncated, following, [], version, 0.0, 0.0
    )


def mlp(flat: torch.Tensor, sizes: tuple[int, ...], x: torch.Tensor, act: str) -> torch.Tensor:
    start = 0
    for i in range(len(sizes) - 1):
        weight = flat[start : start + sizes[i] * sizes[i + 1]].reshape(sizes[i], sizes[i + 1])
        start += weight.numel()
        x = x @ weight + flat[start : start + sizes[i + 1]]
        start += sizes[i + 1]
        if i < len(sizes) - 2:
            x = torch.tanh(x) if act == "tanh" else torch.relu(x)
    return x


class Reference:
    """PPO as one writes it down, row by row."""

    def __init__(self, agent: PPO, config: PPOConfig, spaces: Spaces) -> None:
        self.config, self.spaces = config, spaces
        self.flat = agent._flat.clone().requires_grad_()
        self.adam = torch.optim.Adam([self.flat], eps=1e-5)
        self.random = torch.Generator()
        self.random.set_state(agent._generator.get_state())
        hidden = config.hidden_sizes
        self.policy_sizes = (SIZE, *hidden, spaces.action_size)
        self.value_sizes = (SIZE, *hidden, 1)
        count = sum(
            (a + 1) * b for a, b in zip(self.policy_sizes, self.policy_sizes[1:], strict=False)
        )
        spread = 0 if spaces.discrete else spaces.action_size
        self.parts = (slice(count), slice(count, count + spread), slice(count + spread, None))
        self.seen: list[np.ndarray] = []
        self.sums, self.all_sums = np.zeros(N), []

    def normal(self, rows: np.ndarray) -> torch.Tensor:
        if self.config.normalize_observations:
            past = np.concatenate(self.seen or [np.array([[-1.0], [1.0]])]).astype(float)
            rows = ((rows - past.mean(0)) / past.std(0)).clip(-10, 10)
        return torch.tensor(rows, dtype=torch.float32)

    def value(self, rows: np.ndarray) -> torch.Tensor:
        return mlp(
            self.flat[self.parts[2]], self.value_sizes, self.normal(rows), self.config.activation
        )[:, 0]

    def distribution(self, rows: np.ndarray) -> Any:
        outputs = mlp(
            self.flat[self.parts[0]], self.policy_sizes, self.normal(rows), self.config.activation
        )
        if self.spaces.discrete:
            return torch.distributions.Categorical(logits=outputs)
        normal = torch.distributions.Normal(outputs, self.flat[self.parts[1]].exp())
        return torch.distributions.Independent(normal, 1)

    def rewards(self, segment: Segment) -> np.ndarray:
        rewards = segment.rewards.astype(float) * self.config.reward_scale
        if not self.config.normalize_rewards:
            return rewards
        for t in range(T):
            for n in range(N):
                self.sums[n] = self.config.gamma * self.sums[n] + rewards[t, n]
                self.all_sums.append(self.sums[n])
                if segment.terminated[t, n] or segment.truncated[t, n]:
                    self.sums[n] = 0
        return (rewards / np.std(self.all_sums)).clip(-10, 10)

    def advantages(self, segment: Segment) -> tuple[np.ndarray, np.ndarray]:
        rewards, c = self.rewards(segment), self.config
        advantages = np.zeros((T, N))
        values = np.zeros((T, N))
        for n in range(N):
            following = 0.0
            for t in reversed(range(T)):
                values[t, n] = self.value(segment.observations[t, n][None]).item()
                after = self.value(segment.next_observations[t, n][None]).item()
                if not segment.truncated[t, n] and t < T - 1:
                    after = self.value(segment.observations[t + 1, n][None]).item()
                if segment.terminated[t, n]:
                    after = 0.0
                if segment.terminated[t, n] or segment.truncated[t, n]:
                    following = 0.0
                delta = rewards[t, n] + c.gamma * after - values[t, n]
                following = delta + c.gamma * c.gae_lambda * following
                advantages[t, n] = following
        return advantages, values

    def update(self, segment: Segment, progress: float) -> dict[str, float]:
        c = self.config
        rate = c.learning_rate * (1 - progress) if c.anneal else c.learning_rate
        self.adam.param_groups[0]["lr"] = rate
        with torch.no_grad():
            advantages, values = self.advantages(segment)
            rows = segment.observations.reshape(-1, SIZE)
            actions = torch.tensor(segment.actions.reshape(T * N, *segment.actions.shape[2:]))
            old = self.distribution(rows).log_prob(actions)
        returns = torch.tensor((advantages + values).ravel(), dtype=torch.float32)
        explained = 1 - float((returns.numpy() - values.ravel()).var() / returns.numpy().var())
        if c.normalize_advantages:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        advantage = torch.tensor(advantages.ravel(), dtype=torch.float32)
        epochs, kl = 0, 0.0
        for _ in range(c.epochs):
            order = torch.randperm(T * N, generator=self.random)
            found: dict[str, list[torch.Tensor]] = {k: [] for k in ("pl", "vl", "h", "clipped")}
            for batch in order.split(c.batch_size):
                distribution = self.distribution(rows[batch.numpy()])
                ratio = (distribution.log_prob(actions[batch]) - old[batch]).exp()
                a = advantage[batch]
                inside = ratio.clamp(1 - c.clip_range, 1 + c.clip_range)
                policy_loss = -torch.minimum(ratio * a, inside * a)
                value_loss = (self.value(rows[batch.numpy()]) - returns[batch]).square()
                entropy = distribution.entropy()
                loss = policy_loss.mean() + c.value_coefficient * value_loss.mean()
                loss = loss - c.entropy_coefficient * entropy.mean()
                self.adam.zero_grad()
                loss.backward()
                if c.action_std == "decay":
                    self.flat.grad[self.parts[1]] = 0
                torch.nn.utils.clip_grad_norm_([self.flat], c.max_grad_norm)
                self.adam.step()
                found["pl"].append(policy_loss.detach())
                found["vl"].append(value_loss.detach())
                found["h"].append(entropy.detach())
                found["clipped"].append(((ratio - 1).abs() > c.clip_range).float().detach())
            epochs += 1
            with torch.no_grad():
                log_ratio = self.distribution(rows).log_prob(actions) - old
                kl = float((log_ratio.exp() - 1 - log_ratio).mean())
            if c.target_kl is not None and kl > c.target_kl:
                break
        if c.action_std == "decay":
            std = c.action_std_start + (c.action_std_end - c.action_std_start) * progress
            with torch.no_grad():
                self.flat[self.parts[1]] = math.log(std)
        self.seen.append(rows)
        means = {name: float(torch.cat(values).mean()) for name, values in found.items()}
        return {
            "train/policy_loss": means["pl"],
            "train/value_loss": means["vl"],
            "train/entropy": means["h"],
            "train/clip_fraction": means["clipped"],
            "train/explained_variance": explained,
            "train/kl": kl,
            "train/epochs": epochs,
            "train/learning_rate": rate,
        }


@pytest.mark.parametrize(
    ("spaces", "change"),
    [
        (DISCRETE, {}),
        (DISCRETE, {"activation": "relu", "hidden_sizes": (8,)}),
        (DISCRETE, {"normalize_rewards": False, "reward_scale": 0.3}),
        (DISCRETE, {"reward_scale": 20.0, "normalize_advantages": False, "max_grad_norm": 50.0}),
        (DISCRETE, {"normalize_observations": False, "anneal": False, "max_grad_norm": 0.05}),
        (DISCRETE, {"clip_range": 0.02, "learning_rate": 0.05, "epochs": 5}),
        (DISCRETE, {"epochs": 1, "batch_size": 45}),
        (DISCRETE, {"epochs": 10, "learning_rate": 0.04, "target_kl": 0.02}),
        (CONTINUOUS, {}),
        (CONTINUOUS, {"action_std": "decay", "action_std_start": 0.7, "action_std_end": 0.2}),
    ],
)
def test_three_updates_equal_the_reference(spaces: Spaces, change: dict[str, Any]) -> None:
    config = PPOConfig(**{**DEFAULTS, **change})
    agent = PPO(config, spaces, seed=0)
    reference = Reference(agent, config, spaces)
    start = agent._flat.clone()
    steps = 0
    for k, progress in enumerate((0.0, 0.3, 0.6)):
        segment = random_segment(k, spaces, agent.version)
        found = agent.update(segment, progress)
        expected = reference.update(segment, progress)
        steps += expected["train/epochs"] * math.ceil(T * N / config.batch_size)
        assert agent._optimizer.steps == steps
        torch.testing.assert_close(agent._flat, reference.flat.detach(), rtol=2e-3, atol=2e-4)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=5e-3, abs=1e-4), name
    assert agent.version == 3
    assert (
        agent._flat - start
    ).abs().max() > 0.01  # far enough for the tolerance to mean something
    if "target_kl" in change:
        assert 1 < found["train/epochs"] < 10 and found["train/kl"] > 0.02


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_ten_standard_deviations_away_is_clipped_there(sign: int) -> None:
    """One observation and one reward, in the third segment after two usual ones."""
    config = PPOConfig(**DEFAULTS)
    agents = [PPO(config, DISCRETE, seed=0) for _ in range(2)]
    reference = Reference(agents[0], config, DISCRETE)
    segments = [random_segment(k, DISCRETE, k) for k in range(3)]
    for segment in segments[:2]:
        for agent in agents:
            agent.update(segment, 0.0)
        reference.update(segment, 0.0)
    far = segments[2].observations.copy()
    far[3, 2, 1] = sign * 80.0
    rewards, terminated = segments[2].rewards.copy(), segments[2].terminated.copy()
    rewards[4, 3], terminated[4, 3] = sign * 9000.0, True
    truncated = segments[2].truncated & ~terminated
    last = segments[2]._replace(
        observations=far, rewards=rewards, terminated=terminated, truncated=truncated
    )
    seen = reference.seen[0]
    assert sign * (far[3, 2, 1] - seen.mean()) / seen.std() > 20
    assert sign * rewards[4, 3] / np.std([*reference.all_sums, *rewards.ravel()]) > 10.5
    found, expected = agents[0].update(last, 0.0), reference.update(last, 0.0)
    torch.testing.assert_close(agents[0]._flat, reference.flat.detach(), rtol=2e-3, atol=2e-4)
    assert found["train/value_loss"] == pytest.approx(expected["train/value_loss"], rel=5e-3)
    # what is farther away still is the same
    far[3, 2, 1] = sign * 90.0
    agents[1].update(last, 0.0)
    assert torch.equal(agents[0]._flat, agents[1]._flat)


def test_the_first_policy_is_nearly_uniform_and_the_value_s_hidden_biases_are_random() -> None:
    agent = PPO(PPOConfig(hidden_sizes=(32, 16)), Spaces((9,), 4, True), seed=0)
    (_, first), (_, second), (last, _) = agent._policy._layers
    assert not first.any() and not second.any()
    torch.testing.assert_close(last.t() @ last, 1e-4 * torch.eye(4))
    (weight, first), (_, second), (last, bias) = agent._value._layers
    torch.testing.assert_close(weight @ weight.t(), 2 * torch.eye(9))
    for biases, inputs in ((first, 9), (second, 32)):
        assert 0.5 * inputs**-0.5 < biases.abs().max() <= inputs**-0.5
        assert len(biases.unique()) == len(biases)
    assert last.norm() == pytest.approx(1) and not bias.any()
    other = PPO(PPOConfig(hidden_sizes=(32, 16)), Spaces((9,), 4, True), seed=1)
    assert not torch.equal(agent._flat, other._flat)


def test_the_initial_spread_is_what_the_config_says() -> None:
    agent = PPO(PPOConfig(action_std_start=0.35), CONTINUOUS, seed=0)
    np.testing.assert_allclose(agent._log_std.exp().numpy(), [0.35, 0.35], rtol=1e-6)


def test_refuses_a_segment_of_another_version() -> None:
    agent = PPO(PPOConfig(), DISCRETE, seed=0)
    with pytest.raises(ValueError, match="version 3"):
        agent.update(random_segment(0, DISCRETE, 3), 0.0)


@pytest.mark.filterwarnings("error")
def test_arrays_of_the_object_store_cannot_be_written_and_are_learned_from_all_the_same() -> None:
    for spaces in (DISCRETE, CONTINUOUS):
        agents = [PPO(PPOConfig(normalize_observations=False), spaces, seed=0) for _ in range(2)]
        segment = random_segment(0, spaces, 0)
        expected = agents[0].update(segment, 0.0)
        for array in segment[:6]:
            array.flags.writeable = False
        assert agents[1].update(segment, 0.0) == expected


def test_a_saved_state_continues_exactly() -> None:
    config = PPOConfig(**DEFAULTS)
    first, second = (PPO(config, CONTINUOUS, seed=seed) for seed in (0, 1))
    first.update(random_segment(0, CONTINUOUS, 0), 0.1)
    second.load(first.state())
    segment = random_segment(1, CONTINUOUS, 1)
    assert first.update(segment, 0.2) == second.update(segment, 0.2)
    np.testing.assert_array_equal(first.actor_parameters(), second.actor_parameters())


@pytest.mark.parametrize("spaces", [DISCRETE, CONTINUOUS])
def test_an_exported_policy_acts_as_the_learner_evaluates(spaces: Spaces) -> None:
    """Sampled actions have the frequencies (or the mean and spread) of the learner's own."""
    agent = PPO(PPOConfig(), spaces, seed=0)
    torch.manual_seed(0)
    agent._flat += 0.5 * torch.randn_like(agent._flat)
    agent._observation_moments.update(np.random.default_rng(0).normal(2, 3, (500, SIZE)))
    policy = Policy(agent.spec)
    policy.load(agent.actor_parameters())
    row = np.array([1.5, -2.0, 0.3, 4.0], dtype=np.float32)
    actions = policy.act(np.tile(row, (40_000, 1)), np.random.default_rng(1))
    mean = (row - agent._observation_moments.mean) * agent._observation_moments.scale
    sizes = (SIZE, 64, 64, spaces.action_size)
    flat = torch.from_numpy(agent.actor_parameters())
    outputs = mlp(flat, sizes, torch.tensor(mean[None], dtype=torch.float32), "tanh")[0]
    if spaces.discrete:
        shares = np.bincount(actions, minlength=3) / len(actions)
        np.testing.assert_allclose(shares, torch.softmax(outputs, 0).numpy(), atol=0.01)
        assert (policy.act(row[None]) == outputs.argmax().item()).all()
    else:
        np.testing.assert_allclose(actions.mean(0), outputs.numpy(), atol=0.02)
        np.testing.assert_allclose(actions.std(0), agent._log_std.exp().numpy(), rtol=0.02)
        np.testing.assert_allclose(policy.act(row[None])[0], outputs.numpy(), rtol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", -1.0),
        ("gamma", 1.5),
        ("gamma", -0.1),
        ("epochs", 0),
        ("clip_range", float("nan")),
        ("gae_lambda", 1.01),
        ("entropy_coefficient", -0.1),
        ("value_coefficient", -1.0),
        ("target_kl", 0.0),
        ("max_grad_norm", 0.0),
        ("reward_scale", 0.0),
        ("batch_size", 0),
        ("hidden_sizes", (8, 0)),
        ("action_std_start", 0.0),
        ("action_std_end", -1.0),
    ],
)
def test_values_out_of_range_are_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"`{field}` .*must be"):
        PPOConfig(**{field: value})
