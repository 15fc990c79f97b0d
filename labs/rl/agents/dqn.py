"""Deep Q-learning (Mnih et al., 2015): arrays in, parameters and losses out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from labs.rl.agents.learner import LearnerConfig
from labs.rl.agents.networks.adam import Adam
from labs.rl.agents.networks.base import Spaces
from labs.rl.agents.normalization import RunningMoments, normalize
from labs.rl.agents.policies import policy_spec
from labs.rl.agents.replay import Replay, Transitions
from labs.rl.agents.returns import n_step_targets
from labs.rl.agents.segments import Segment
from labs.runtime.errors import InputError, require


@dataclass(frozen=True)
class DQNConfig(LearnerConfig):
    """Hyperparameters of DQN."""

    replay_size: int = 100_000
    """Transitions that the replay holds."""

    learning_starts: int = 5_000
    """Environment steps before the first gradient step."""

    update_interval: int = 10
    """Environment steps per gradient step."""

    target_interval: int = 200
    """Gradient steps between two copies of the parameters to the target network."""

    target_rate: float | None = None
    """Move the target network by this fraction after every gradient step, instead of copying."""

    double_q: bool = True
    """Choose the next action with the network and evaluate it with the target network."""

    n_step: int = 3
    """Rewards counted before a target bootstraps."""

    loss: Literal["huber", "squared"] = "huber"
    """squared, or huber, which is linear beyond an error of 1."""

    epsilon_start: float = 1.0
    """Probability of a random action at the start of the run."""

    epsilon_end: float = 0.05
    """Probability of a random action after the decay."""

    epsilon_decay: float = 0.2
    """Fraction of the run over which epsilon falls linearly from its start to its end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("replay_size", "update_interval", "target_interval", "n_step"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        require("learning_starts", self.learning_starts, self.learning_starts >= 0, "0 or more")
        if self.target_rate is not None:
            valid = 0 < self.target_rate <= 1
            require("target_rate", self.target_rate, valid, "above 0 and at most 1")
        for name in ("epsilon_start", "epsilon_end", "epsilon_decay"):
            require(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "from 0 to 1")
        if self.batch_size > self.replay_size:
            raise InputError(
                f"`batch_size` {self.batch_size} is larger than `replay_size` {self.replay_size}:"
                f" use at most {self.replay_size}"
            )

    def epsilon(self, progress: float) -> float:
        """The probability of a random action after this fraction of the run, 0 to 1."""
        part = min(1.0, progress / self.epsilon_decay) if self.epsilon_decay > 0 else 1.0
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * part


class _Batch(NamedTuple):
    """``Transitions`` as tensors on the device, observations normalised if the config says so."""

    observations: torch.Tensor
    next_observations: torch.Tensor
    actions: torch.Tensor
    returns: torch.Tensor
    discounts: torch.Tensor


class DQN:
    """Q values of discrete actions, trained off-policy on transitions from a replay."""

    def __init__(
        self,
        config: DQNConfig,
        spaces: Spaces,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        """``spaces`` must be discrete."""
        self.config = config
        self.device = device or torch.device("cpu")
        self.version = 0
        """Gradient steps so far, which is also the version of the parameters."""
        self.spec = policy_spec(config, spaces, "values")
        # Independent streams: what the replay draws does not depend on the network's size.
        init_seed, replay_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
        self.replay = Replay(config.replay_size, spaces.observation_shape, replay_seed)
        self._moments = RunningMoments(self.spec.num_moments)
        self._network, self._target = self.spec.make_network(), self.spec.make_network()
        flat = self._network.initial_parameters(torch.Generator().manual_seed(init_seed))
        self._flat = flat.to(self.device)
        self._target_flat = self._flat.clone()
        self._optimizer = Adam(self._flat)
        self._network.bind(self._flat, self._optimizer.gradient)
        self._target.bind(self._target_flat)

    def actor_parameters(self) -> np.ndarray:
        """A copy of the parameters in the form that ``Policy.load`` takes."""
        moments = self._moments.parameters() if self.spec.normalize else ()
        return np.concatenate([self._flat.cpu().numpy(), *moments])

    def add(self, segment: Segment) -> None:
        """Put a segment's steps into the replay, with their n-step returns."""
        rewards = segment.rewards * np.float32(self.config.reward_scale)
        targets = n_step_targets(
            rewards, segment.terminated, segment.truncated, self.config.gamma, self.config.n_step
        )
        # The target of row (t, i) bootstraps from the observation that row (last[t, i], i) led to.
        columns = np.arange(rewards.shape[1])
        rows = (
            segment.observations,
            segment.next_observations[targets.last, columns],
            segment.actions,
            targets.returns,
            targets.discounts,
        )
        flat = [row.reshape(rewards.size, *row.shape[2:]) for row in rows]
        self.replay.add(Transitions(*flat))
        if self.spec.normalize:
            self._moments.update(flat[0])

    @torch.inference_mode()
    def update(self, count: int, progress: float) -> dict[str, float]:
        """Take ``count`` gradient steps on rows drawn from the replay.

        Args:
            count: at least 1.
            progress: fraction of the run so far, 0 to 1, for the learning rate.

        Returns:
            Means over these steps, tagged ``train/...``.
        """
        config = self.config
        rate = config.learning_rate * (1 - progress if config.anneal else 1)
        found = torch.zeros(
            3, device=self.device
        )  # stays there: each read would wait for the device
        batches = self.replay.sample(count, config.batch_size)
        done = 0
        while done < count:
            # Up to the next change of the target network, its outputs do not depend on the gradient
            # steps: gather the rows of many steps and run the target network on them at once.
            chunk = batches[done : done + self._steps_to_next_target()]
            done += len(chunk)
            rows = self._tensors(self.replay.gather(chunk.ravel()))
            outputs = self._target.forward(rows.next_observations)
            columns = [column.split(config.batch_size) for column in (*rows, outputs)]
            for *batch, target_outputs in zip(*columns, strict=True):
                found += self._step(_Batch(*batch), target_outputs, rate)
                self.version += 1
            if config.target_rate is not None:  # a moving average (Lillicrap et al., 2016)
                self._target_flat.lerp_(self._flat, config.target_rate)
            elif self.version % config.target_interval == 0:
                self._target_flat.copy_(self._flat)
        loss, q_value, error = (found / count).tolist()
        return {
            "train/loss": loss,
            "train/q_mean": q_value,
            "train/td_error": error,
            "train/learning_rate": rate,
        }

    def _steps_to_next_target(self) -> int:
        """Gradient steps until the target network changes, at most 32 to bound the memory."""
        if self.config.target_rate is not None:
            return 1
        return min(self.config.target_interval - self.version % self.config.target_interval, 32)

    def _tensors(self, rows: Transitions) -> _Batch:
        """Rows of the replay on the device, observations normalised if the config says so."""
        if self.spec.normalize:  # now, not when they were stored: the moments have changed since
            moments = self._moments.parameters()
            rows = rows._replace(
                observations=normalize(rows.observations, *moments),
                next_observations=normalize(rows.next_observations, *moments),
            )
        return _Batch(*(torch.from_numpy(column).to(self.device) for column in rows))

    def _step(self, rows: _Batch, target_outputs: torch.Tensor, rate: float) -> torch.Tensor:
        """One gradient step; its loss, mean Q value and mean absolute error, ``[3]``.

        Args:
            rows: to learn from.
            target_outputs: of the target network for the next observations ``[n, actions]``.
            rate: the learning rate.
        """
        n = len(rows.actions)
        chosen = rows.actions.unsqueeze(1)
        if self.config.double_q:  # van Hasselt et al., 2016
            # One pass for both: the first n rows are trained, the others only choose actions.
            both = torch.cat([rows.observations, rows.next_observations])
            outputs = self._network.forward_for_backward(both, rows=n)
            best = outputs[n:].argmax(1, keepdim=True)  # [n, 1]
            next_values = target_outputs.gather(1, best).squeeze(1)
            outputs = outputs[:n]
        else:
            outputs = self._network.forward_for_backward(rows.observations)
            next_values = target_outputs.amax(1)
        values = outputs.gather(1, chosen).squeeze(1)  # Q(s, a) of the actions taken, [n]
        # minus the target R + discount * Q(s_last, a'); the discount is 0 after a termination
        errors = values - torch.addcmul(rows.returns, rows.discounts, next_values)
        slopes, losses = loss_and_slope(errors, self.config.loss)
        # The loss is a mean over n rows, and depends on the Q value of the chosen action alone.
        gradient = torch.zeros_like(outputs)
        gradient.scatter_(1, chosen, slopes.div_(n).unsqueeze(1))
        self._network.backward(gradient)
        self._optimizer.step(rate, self.config.max_grad_norm)
        return torch.stack([losses, values, errors.abs_()]).mean(1)

    def state(self) -> dict[str, Any]:
        """The complete state for ``load``, the replay included. The tensors are not copied."""
        return {
            "parameters": self._flat,
            "target": self._target_flat,
            "optimizer": self._optimizer.state(),
            "version": self.version,
            "observation_moments": self._moments.state(),
            "replay": self.replay.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self._flat.copy_(state["parameters"])
        self._target_flat.copy_(state["target"])
        self._optimizer.load(state["optimizer"])
        self.version = state["version"]
        self._moments.load(state["observation_moments"])
        self.replay.load(state["replay"])


def loss_and_slope(
    errors: torch.Tensor, loss: Literal["huber", "squared"]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The derivative of the loss by each error ``e``, and the loss, both ``[n]``.

    squared is e^2 / 2; huber (Huber, 1964) is the same up to |e| = 1 and |e| - 1/2 beyond.
    """
    if loss == "squared":
        return errors.clone(), errors.square() / 2
    slopes = errors.clamp(-1, 1)  # with s = clamp(e), the loss is s (e - s / 2) in both regions
    return slopes, slopes * (errors - slopes / 2)
