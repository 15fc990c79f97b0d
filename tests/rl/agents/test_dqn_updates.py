"""DQN against one written with loops, automatic differentiation and PyTorch's Adam."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from labs.rl.agents.dqn import DQN, DQNConfig
from labs.rl.agents.networks.base import Spaces
from labs.rl.agents.networks.images import convolutional_network
from labs.rl.agents.policies import Policy
from labs.rl.agents.segments import Segment
from labs.runtime.errors import InputError

T, N, SIZE = 11, 4, 3
SPACES = Spaces((SIZE,), 3, True)
SIZES = (SIZE, 6, 5, 3)
DEFAULTS: dict[str, Any] = {
    "hidden_sizes": (6, 5),
    "batch_size": 16,
    "learning_rate": 0.01,
    "gamma": 0.9,
    "target_interval": 3,
}


def random_segment(seed: int) -> Segment:
    """Distinct numbers everywhere, ends of both kinds anywhere, the last row among them."""
    rng = np.random.default_rng(seed)
    observations, following = rng.normal(1, 2, (2, T, N, SIZE)).astype(np.float32)
    rewards = rng.normal(0.5, 2, (T, N)).astype(np.float32)
    terminated = rng.random((T, N)) < 0.15
    truncated = (rng.random((T, N)) < 0.2) & ~terminated
    actions = rng.integers(3, size=(T, N))
    return Segment(observations, actions, rewards, terminated, truncated, following, [], 0, 0, 0)


def reference_rows(segment: Segment, config: DQNConfig) -> list[tuple[Any, ...]]:
    """Row by row what the replay must hold: observation, next one, action, return, discount."""
    rows = []
    for t in range(T):
        for n in range(N):
            total, k = 0.0, 0
            while True:
                total += config.gamma**k * float(segment.rewards[t + k, n]) * config.reward_scale
                ended = segment.terminated[t + k, n] or segment.truncated[t + k, n]
                k += 1
                if ended or k == config.n_step or t + k == T:
                    break
            last = t + k - 1
            discount = 0.0 if segment.terminated[last, n] else config.gamma**k
            rows.append(
                (
                    segment.observations[t, n],
                    segment.next_observations[last, n],
                    segment.actions[t, n],
                    total,
                    discount,
                )
            )
    return rows


@pytest.mark.parametrize("n_step", [1, 2, 3, 5, 11])
@pytest.mark.parametrize("reward_scale", [1.0, 0.01])
def test_the_replay_holds_the_n_step_rows_of_a_loop(n_step: int, reward_scale: float) -> None:
    config = DQNConfig(**DEFAULTS, n_step=n_step, reward_scale=reward_scale)
    agent = DQN(config, SPACES, seed=0)
    segments = [random_segment(k) for k in (0, 1)]
    for segment in segments:
        agent.add(segment)
    expected = [row for segment in segments for row in reference_rows(segment, config)]
    found = agent.replay.gather(np.arange(agent.replay.size))
    assert agent.replay.size == 2 * T * N == len(expected)
    for column, values in zip(found, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(column, np.stack(values), rtol=1e-5, atol=1e-6)


def q_values(flat: torch.Tensor, x: torch.Tensor, activation: str) -> torch.Tensor:
    start = 0
    for i in range(len(SIZES) - 1):
        weight = flat[start : start + SIZES[i] * SIZES[i + 1]].reshape(SIZES[i], SIZES[i + 1])
        start += weight.numel()
        x = x @ weight + flat[start : start + SIZES[i + 1]]
        start += SIZES[i + 1]
        if i < len(SIZES) - 2:
            x = torch.tanh(x) if activation == "tanh" else torch.relu(x)
    return x


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"double_q": False, "activation": "relu"},
        {"loss": "squared", "max_grad_norm": 50.0},
        {"loss": "squared", "double_q": False, "max_grad_norm": 0.05},
        {"target_rate": 0.2, "anneal": False},
        {"normalize_observations": False, "n_step": 1},
        {"reward_scale": 0.1, "target_interval": 50, "batch_size": 7},
    ],
)
def test_updates_equal_the_reference(change: dict[str, Any]) -> None:
    """Two segments, seven gradient steps after each, across copies to the target network."""
    config = DQNConfig(**{**DEFAULTS, **change})
    agent = DQN(config, SPACES, seed=0)
    flat = agent._flat.clone().requires_grad_()
    target = flat.detach().clone()
    adam = torch.optim.Adam([flat], eps=1e-5)
    draw = np.random.default_rng()
    draw.bit_generator.state = agent.replay._generator.bit_generator.state
    rows: list[tuple[Any, ...]] = []
    seen: list[np.ndarray] = []
    steps = 0
    for k, progress in enumerate((0.0, 0.4)):
        segment = random_segment(k)
        agent.add(segment)
        rows += reference_rows(segment, config)
        seen.append(segment.observations.reshape(-1, SIZE))
        found = agent.update(7, progress)

        rate = config.learning_rate * (1 - progress if config.anneal else 1)
        adam.param_groups[0]["lr"] = rate
        past = np.concatenate(seen).astype(float)

        def normal(values: np.ndarray, past: np.ndarray = past) -> torch.Tensor:
            if config.normalize_observations:
                values = ((values - past.mean(0)) / past.std(0)).clip(-10, 10)
            return torch.tensor(values, dtype=torch.float32)

        losses, values, errors = [], [], []
        for indices in draw.integers(len(rows), size=(7, config.batch_size)):
            obs, following, actions, returns, discounts = (
                np.stack(column) for column in zip(*(rows[i] for i in indices), strict=True)
            )
            q = q_values(flat, normal(obs), config.activation)
            chosen = q[torch.arange(len(indices)), torch.tensor(actions)]
            with torch.no_grad():
                next_q = q_values(target, normal(following), config.activation)
                chooser = next_q
                if config.double_q:
                    chooser = q_values(flat, normal(following), config.activation)
                best = next_q[torch.arange(len(indices)), chooser.argmax(1)]
                wanted = torch.tensor(returns) + torch.tensor(discounts) * best
                wanted = wanted.float()
            if config.loss == "huber":
                loss = torch.nn.functional.huber_loss(chosen, wanted)
            else:
                loss = (chosen - wanted).square().mean() / 2
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([flat], config.max_grad_norm)
            adam.step()
            steps += 1
            with torch.no_grad():
                if config.target_rate is not None:
                    target += config.target_rate * (flat - target)
                elif steps % config.target_interval == 0:
                    target.copy_(flat)
            losses.append(loss.item())
            values.append(chosen.mean().item())
            errors.append((chosen - wanted).abs().mean().item())
        assert agent.version == agent._optimizer.steps == steps
        torch.testing.assert_close(agent._flat, flat.detach(), rtol=2e-3, atol=2e-4)
        torch.testing.assert_close(agent._target_flat, target, rtol=2e-3, atol=2e-4)
        assert found["train/loss"] == pytest.approx(np.mean(losses), rel=2e-3)
        assert found["train/q_mean"] == pytest.approx(np.mean(values), rel=2e-3, abs=1e-4)
        assert found["train/td_error"] == pytest.approx(np.mean(errors), rel=2e-3)
        assert found["train/learning_rate"] == pytest.approx(rate)


def test_images_are_divided_by_255_and_not_normalised() -> None:
    """One gradient step through the convolutions against PyTorch's own."""
    shape = (2, 7, 6)
    config = DQNConfig(**{**DEFAULTS, "n_step": 1, "double_q": True, "anneal": False})
    agent = DQN(config, Spaces(shape, 3, True), seed=0)
    networks = [convolutional_network(shape, 3, (6, 5), "tanh") for _ in range(2)]
    for network, flat in zip(networks, (agent._flat, agent._target_flat), strict=True):
        torch.nn.utils.vector_to_parameters(flat.clone(), network.parameters())
    segment = random_segment(0)
    pixels = np.random.default_rng(1).integers(256, size=(2, T, N, *shape), dtype=np.uint8)
    agent.add(segment._replace(observations=pixels[0], next_observations=pixels[1]))
    draw = np.random.default_rng()
    draw.bit_generator.state = agent.replay._generator.bit_generator.state
    found = agent.update(1, 0.0)

    (indices,) = draw.integers(T * N, size=(1, config.batch_size))
    now, after = (torch.tensor(p.reshape(-1, *shape)[indices] / 255).float() for p in pixels)
    rewards, terminated, actions = (
        torch.tensor(column.ravel()[indices])
        for column in (segment.rewards, segment.terminated, segment.actions)
    )
    rows = torch.arange(len(indices))
    with torch.no_grad():
        best = networks[0](after).argmax(1)
        wanted = rewards + config.gamma * ~terminated * networks[1](after)[rows, best]
    loss = torch.nn.functional.huber_loss(networks[0](now)[rows, actions], wanted)
    adam = torch.optim.Adam(networks[0].parameters(), lr=config.learning_rate, eps=1e-5)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(networks[0].parameters(), config.max_grad_norm)
    adam.step()
    assert found["train/loss"] == pytest.approx(loss.item(), rel=1e-4)
    expected = torch.nn.utils.parameters_to_vector(networks[0].parameters())
    torch.testing.assert_close(agent._flat, expected, rtol=1e-4, atol=2e-5)


def test_observations_ten_standard_deviations_away_are_clipped_there() -> None:
    for far in (40.0, 60.0, 8.0, -5.0, -50.0):
        agent = DQN(DQNConfig(**DEFAULTS), SPACES, seed=0)
        agent.add(random_segment(0))
        rows = agent.replay.gather(np.arange(agent.replay.size))
        rows.observations[:, 1] = far
        batch = agent._tensors(rows)
        mean, std = (
            random_segment(0).observations[..., 1].mean(),
            random_segment(0).observations[..., 1].std(),
        )
        expected = max(-10.0, min(10.0, (far - mean) / std))
        torch.testing.assert_close(batch.observations[:, 1], torch.full((44,), expected))


def test_many_steps_at_once_equal_one_after_another() -> None:
    """Also across copies to the target network, which what is computed ahead must not miss."""
    once, stepwise = (DQN(DQNConfig(**DEFAULTS), SPACES, seed=0) for _ in range(2))
    for agent in (once, stepwise):
        agent.add(random_segment(0))
    metrics = once.update(8, 0.0)
    steps = [stepwise.update(1, 0.0) for _ in range(8)]
    torch.testing.assert_close(once._flat, stepwise._flat, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(once._target_flat, stepwise._target_flat, rtol=1e-4, atol=1e-6)
    for name, value in metrics.items():
        assert value == pytest.approx(np.mean([step[name] for step in steps]), rel=1e-4)


def test_a_saved_state_continues_exactly() -> None:
    first, second = (DQN(DQNConfig(**DEFAULTS), SPACES, seed=seed) for seed in (0, 1))
    first.add(random_segment(0))
    first.update(4, 0.0)
    second.load(first.state())
    for agent in (first, second):
        agent.add(random_segment(1))
    assert first.update(5, 0.2) == second.update(5, 0.2)
    np.testing.assert_array_equal(first.actor_parameters(), second.actor_parameters())
    torch.testing.assert_close(first._target_flat, second._target_flat, rtol=0, atol=0)


def test_the_policy_explores_uniformly_with_probability_epsilon() -> None:
    agent = DQN(DQNConfig(**DEFAULTS), SPACES, seed=0)
    agent.add(random_segment(0))
    policy = Policy(agent.spec)
    policy.load(agent.actor_parameters())
    row = np.array([0.3, -1.0, 2.0], dtype=np.float32)
    moments = agent._moments
    fed = torch.tensor(((row - moments.mean) * moments.scale)[None], dtype=torch.float32)
    best = int(q_values(agent._flat, fed, "tanh").argmax())
    assert policy.act(row[None]).tolist() == [best]
    rows = np.tile(row, (60_000, 1))
    shares = np.bincount(policy.act(rows, np.random.default_rng(0), 0.3), minlength=3) / 60_000
    expected = np.full(3, 0.1)
    expected[best] += 0.7
    np.testing.assert_allclose(shares, expected, atol=0.006)
    assert (policy.act(rows[:1000], np.random.default_rng(0), 0.0) == best).all()


def test_epsilon_falls_linearly_and_stays() -> None:
    config = DQNConfig(epsilon_start=0.9, epsilon_end=0.1, epsilon_decay=0.5)
    assert [config.epsilon(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([0.9, 0.5, 0.1, 0.1])
    assert DQNConfig(epsilon_decay=0.0).epsilon(0.0) == pytest.approx(DQNConfig().epsilon_end)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("replay_size", 0),
        ("learning_starts", -1),
        ("update_interval", 0),
        ("target_interval", 0),
        ("target_rate", 1.5),
        ("target_rate", 0.0),
        ("n_step", 0),
        ("n_step", -5),
        ("epsilon_start", 1.1),
        ("epsilon_end", -0.1),
        ("epsilon_decay", 2.0),
    ],
)
def test_values_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"`{field}` .*must be"):
        DQNConfig(**{field: value})


def test_a_batch_larger_than_the_replay_is_refused() -> None:
    with pytest.raises(InputError, match="`batch_size` 64 is larger than `replay_size` 10"):
        DQNConfig(batch_size=64, replay_size=10)
