"""Proximal policy optimisation (Schulman et al., 2017): arrays in, parameters and losses out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from labs.rl.agents.distributions import Categorical, DiagonalGaussian
from labs.rl.agents.learner import LearnerConfig
from labs.rl.agents.networks.adam import Adam
from labs.rl.agents.networks.base import Spaces
from labs.rl.agents.normalization import CLIP, RunningMoments, normalize
from labs.rl.agents.policies import Head, policy_spec
from labs.rl.agents.returns import discounted_sums, generalized_advantages
from labs.rl.agents.segments import Segment
from labs.runtime.errors import require


@dataclass(frozen=True)
class PPOConfig(LearnerConfig):
    """Hyperparameters of PPO."""

    epochs: int = 4
    """Passes over each segment."""

    clip_range: float = 0.2
    """Distance of a probability ratio from 1 at which its gradient is cut off."""

    gae_lambda: float = 0.95
    """0 bootstraps after one step, 1 at the episode's end."""

    entropy_coefficient: float = 0.003
    """Weight of the entropy in the loss."""

    value_coefficient: float = 0.5
    """Weight of the value's squared error."""

    target_kl: float | None = None
    """Stop an update at a larger KL divergence, in nats."""

    normalize_advantages: bool = True
    """Standardise each update's advantages."""

    normalize_rewards: bool = True
    """Divide rewards by the running standard deviation of their discounted sum."""

    action_std: Literal["learned", "decay"] = "learned"
    """Spread of continuous actions: learned, or a decay over the run."""

    action_std_start: float = 0.6
    """Standard deviation at the start."""

    action_std_end: float = 0.1
    """Standard deviation at the end, with 'decay'."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("epochs", self.epochs, self.epochs >= 1, "1 or more")
        require("gae_lambda", self.gae_lambda, 0 <= self.gae_lambda <= 1, "from 0 to 1")
        for name in ("entropy_coefficient", "value_coefficient"):
            require(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        for name in ("clip_range", "action_std_start", "action_std_end"):
            require(name, getattr(self, name), getattr(self, name) > 0, "above 0")
        if self.target_kl is not None:
            require("target_kl", self.target_kl, self.target_kl > 0, "above 0")


class _Batch(NamedTuple):
    """The rows of a segment, one per environment step: each tensor has ``n = T * N`` of them."""

    observations: torch.Tensor
    actions: torch.Tensor
    log_probs: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


class PPO:
    """A policy and a value function, trained on-policy on segments."""

    def __init__(
        self,
        config: PPOConfig,
        spaces: Spaces,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        self.config = config
        self.device = device or torch.device("cpu")
        self.version = 0
        """Updates so far, which is also the version of the parameters."""
        head: Head = "categorical" if spaces.discrete else "gaussian"
        self.spec = policy_spec(config, spaces, head)
        self._head = Categorical if spaces.discrete else DiagonalGaussian
        self._generator = torch.Generator().manual_seed(seed)
        self._policy, self._value = self.spec.make_network(), self.spec.make_network(outputs=1)
        self._allocate()
        self._observation_moments = RunningMoments(self.spec.num_moments)
        self._return_moments = RunningMoments(1)
        self._return_sums: np.ndarray | None = None

    def _allocate(self) -> None:
        """One flat tensor: the policy, its log standard deviations, the value function."""
        log_std = torch.full((self.spec.num_log_std,), math.log(self.config.action_std_start))
        # A gain of 0.01 makes the first policy nearly uniform (Andrychowicz et al., 2021).
        parts = (
            self._policy.initial_parameters(self._generator, output_gain=0.01),
            log_std,
            self._value.initial_parameters(self._generator, hidden_biases=True),
        )
        self._flat = torch.cat(parts).to(self.device)
        self._optimizer = Adam(self._flat)
        lengths = [len(part) for part in parts]
        self._num_actor = lengths[0] + lengths[1]  # actors need no value function, so it comes last
        policy, self._log_std, value = self._flat.split(
            lengths
        )  # views, which the optimiser updates
        policy_gradient, self._log_std_gradient, value_gradient = self._optimizer.gradient.split(
            lengths
        )
        self._policy.bind(policy, policy_gradient)
        self._value.bind(value, value_gradient)

    def actor_parameters(self) -> np.ndarray:
        """A copy of the parameters in the form that ``Policy.load`` takes."""
        parts = [self._flat[: self._num_actor].cpu().numpy()]
        if self.spec.normalize:
            parts += self._observation_moments.parameters()
        return np.concatenate(parts)

    @torch.inference_mode()
    def update(self, segment: Segment, progress: float) -> dict[str, float]:
        """Improve the policy on one segment.

        Args:
            segment: collected with this version of the parameters.
            progress: fraction of the run so far, 0 to 1, for the schedules.

        Returns:
            Losses and diagnostics of the last epoch, tagged ``train/...``.

        Raises:
            ValueError: the segment was collected with another version.
        """
        if segment.version != self.version:
            raise ValueError(f"segment of version {segment.version}, learner at {self.version}")
        rate = self.config.learning_rate * (1 - progress if self.config.anneal else 1)
        batch, metrics = self._prepare(segment)
        for epoch in range(self.config.epochs):
            # Drawn on the CPU, so that the order of the rows does not depend on the device.
            order = torch.randperm(len(batch.returns), generator=self._generator).to(self.device)
            shuffled = _Batch(*(rows.index_select(0, order) for rows in batch))
            found = self._epoch(shuffled, rate)
            target, last = self.config.target_kl, epoch == self.config.epochs - 1
            if target is not None or last:  # it costs a forward pass over the segment
                kl = self._divergence(batch)
                if target is not None and kl > target:
                    break
        if self.config.action_std == "decay":
            start, end = self.config.action_std_start, self.config.action_std_end
            self._log_std.fill_(math.log(start + (end - start) * progress))
        # Only now: the segment was collected, and its log-probabilities computed, with the old ones.
        if self.spec.normalize:
            self._observation_moments.update(self._rows(segment.observations))
        self.version += 1
        if not self.spec.discrete:
            metrics["train/action_std"] = float(self._log_std.exp().mean())
        metrics |= {"train/kl": kl, "train/epochs": float(epoch + 1), "train/learning_rate": rate}
        return metrics | self._losses(shuffled, found)

    def _prepare(self, segment: Segment) -> tuple[_Batch, dict[str, float]]:
        """Values, advantages and log-probabilities under the parameters that collected."""
        shape = segment.rewards.shape  # [T, N]
        observations = self._inputs(segment.observations)
        actions = self._tensor(segment.actions.reshape(-1, *segment.actions.shape[2:]))
        log_probs = self._log_probs(
            observations, actions
        )  # fixed from here on: the ratio's denominator
        values = self._values(observations).reshape(shape)
        # A step leads to the observation of the next row, so its value is there already, except in
        # the last row and after a truncation, where the next row begins another episode. After a
        # termination the value is not used (see generalized_advantages).
        next_values = np.concatenate([values[1:], np.zeros_like(values[:1])])
        bootstrapped = segment.truncated.copy()
        bootstrapped[-1] = True
        next_values[bootstrapped] = self._values(
            self._inputs(segment.next_observations[bootstrapped])
        )
        ended = segment.terminated | segment.truncated
        advantages = generalized_advantages(
            self._scale_rewards(segment.rewards, ended),
            values,
            next_values,
            segment.terminated,
            segment.truncated,
            self.config.gamma,
            self.config.gae_lambda,
        )
        returns = advantages + values  # the lambda-returns, which the value function is fitted to
        unexplained, variance = (returns - values).var(), returns.var()
        explained = 1 - unexplained / variance if variance > 1e-12 else 0.0
        if self.config.normalize_advantages:  # over the segment: minibatches would add their noise
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        flat = [
            torch.from_numpy(rows.reshape(-1)).to(self.device) for rows in (advantages, returns)
        ]
        batch = _Batch(observations, actions, log_probs, *flat)
        return batch, {"train/explained_variance": float(explained)}

    def _rows(self, observations: np.ndarray) -> np.ndarray:
        return observations.reshape(-1, *self.spec.observation_shape)

    def _inputs(self, observations: np.ndarray) -> torch.Tensor:
        """Rows ``[n, *observation_shape]`` on the device, normalised if the config says so."""
        rows = self._rows(observations)
        if self.spec.normalize:
            rows = normalize(rows, *self._observation_moments.parameters())
        return self._tensor(rows)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        """On the device. Arrays from Ray's object store are read-only, and torch has no such tensors."""
        return torch.from_numpy(values if values.flags.writeable else values.copy()).to(self.device)

    def _log_probs(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        outputs = self._policy.forward(observations)
        return self._head(outputs, self._log_std).log_prob(actions)

    def _values(self, observations: torch.Tensor) -> np.ndarray:
        return self._value.forward(observations)[:, 0].cpu().numpy()

    def _scale_rewards(self, rewards: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Rewards ``[T, N]`` over the running std of their discounted sums, as gymnasium does."""
        rewards = rewards * np.float32(self.config.reward_scale)
        if not self.config.normalize_rewards:
            return rewards
        if self._return_sums is None:
            self._return_sums = np.zeros_like(rewards[0])
        sums, self._return_sums = discounted_sums(
            rewards, ended, self.config.gamma, self._return_sums
        )
        self._return_moments.update(sums.reshape(-1, 1))
        # No mean is subtracted: a constant per step would make long episodes better or worse.
        scaled = rewards * np.float32(self._return_moments.scale[0])
        return scaled.clip(-CLIP, CLIP)

    def _epoch(self, batch: _Batch, rate: float) -> list[torch.Tensor]:
        """One pass over the rows in minibatches: what each step found before it, for all rows."""
        parts = zip(*(column.split(self.config.batch_size) for column in batch), strict=True)
        found = [self._step(_Batch(*part), rate) for part in parts]
        return [torch.cat(column) for column in zip(*found, strict=True)]

    def _losses(self, batch: _Batch, found: list[torch.Tensor]) -> dict[str, float]:
        """Losses and diagnostics of an epoch, from what its steps found."""
        log_probs, entropies, values = found
        ratios = (log_probs - batch.log_probs).exp()
        policy_loss = clipped_loss(ratios, batch.advantages, self.config.clip_range)
        clipped = (ratios - 1).abs() > self.config.clip_range
        names = ("policy_loss", "value_loss", "entropy", "clip_fraction")
        means = (
            policy_loss,
            (values - batch.returns).square().mean(),
            entropies.mean(),
            clipped.float().mean(),
        )
        numbers = torch.stack(means).tolist()
        return {f"train/{name}": value for name, value in zip(names, numbers, strict=True)}

    def _divergence(self, batch: _Batch) -> float:
        """KL divergence between the policy that collected and the present one, in nats.

        Schulman's estimator, (r - 1) - log r: unbiased, and never negative.
        """
        log_ratios = self._log_probs(batch.observations, batch.actions) - batch.log_probs
        return float((log_ratios.expm1() - log_ratios).mean())

    def _step(self, batch: _Batch, rate: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One gradient step: the rows' log-probabilities, entropies and values before it, each ``[n]``.

        The loss is the clipped loss, minus the weighted entropy, plus the weighted squared error of
        the values, all means over the n rows.
        """
        config, n = self.config, len(batch.returns)
        outputs = self._policy.forward_for_backward(batch.observations)
        head = self._head(outputs, self._log_std)
        log_probs, entropies = head.log_prob(batch.actions), head.entropy()
        ratios = (log_probs - batch.log_probs).exp_()
        output_gradient = head.backward(
            batch.actions,
            clipped_loss_gradient(ratios, batch.advantages, config.clip_range),
            entropies,
            -config.entropy_coefficient / n,  # the derivative of the loss by each row's entropy
            self._log_std_gradient,
        )
        self._policy.backward(output_gradient)
        if config.action_std == "decay":  # set by the schedule, not learned
            self._log_std_gradient.zero_()
        values = self._value.forward_for_backward(batch.observations).squeeze(1)
        # d/dv of c * mean((v - R)^2) = 2 c (v - R) / n
        errors = (values - batch.returns).mul_(2 * config.value_coefficient / n)
        self._value.backward(errors.unsqueeze(1))
        self._optimizer.step(rate, config.max_grad_norm)
        return log_probs, entropies, values

    def state(self) -> dict[str, Any]:
        """The complete state for ``load``. The tensors are not copied."""
        sums = self._return_sums
        return {
            "parameters": self._flat,
            "optimizer": self._optimizer.state(),
            "generator": self._generator.get_state(),
            "version": self.version,
            "observation_moments": self._observation_moments.state(),
            "return_moments": self._return_moments.state(),
            "return_sums": None if sums is None else torch.from_numpy(sums),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self._flat.copy_(state["parameters"])
        self._optimizer.load(state["optimizer"])
        self._generator.set_state(state["generator"])
        self.version = state["version"]
        self._observation_moments.load(state["observation_moments"])
        self._return_moments.load(state["return_moments"])
        sums = state["return_sums"]
        self._return_sums = None if sums is None else sums.numpy().copy()


def clipped_loss(ratios: torch.Tensor, advantages: torch.Tensor, clip_range: float) -> torch.Tensor:
    """PPO's loss, -mean(min(r A, clip(r, 1 - c, 1 + c) A)) (Schulman et al., 2017, equation 7)."""
    clipped = ratios.clamp(1 - clip_range, 1 + clip_range) * advantages
    return -torch.minimum(ratios * advantages, clipped).mean()


def clipped_loss_gradient(
    ratios: torch.Tensor, advantages: torch.Tensor, clip_range: float
) -> torch.Tensor:
    """The derivative of ``clipped_loss`` by the log-probabilities, ``[n]``.

    With r = exp(log p - log p_old), dr / d log p = r. Where the minimum is the clipped term and the
    ratio is outside of the range, the loss is constant and the derivative is 0.
    """
    weighted = ratios * advantages
    clipped = ratios.clamp(1 - clip_range, 1 + clip_range).mul_(advantages)
    return weighted.masked_fill_(weighted > clipped, 0).mul_(-1 / len(ratios))
