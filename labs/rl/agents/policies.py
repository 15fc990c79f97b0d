"""Policies: the part of an agent that acts, and its form in checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from labs.rl.agents.distributions import Categorical, DiagonalGaussian
from labs.rl.agents.learner import LearnerConfig
from labs.rl.agents.networks.base import Activation, Network, Spaces, is_image
from labs.rl.agents.networks.make import make_network
from labs.rl.agents.normalization import normalize
from labs.rl.envs.settings import EnvSettings
from labs.runtime.checkpoints import load_checkpoint
from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint

Head = Literal["categorical", "gaussian", "values"]


@dataclass(frozen=True)
class PolicySpec:
    """The architecture of a policy; together with parameters it defines how an agent acts."""

    observation_shape: tuple[int, ...]
    """``(size,)`` of float32 vectors, or ``(channels, height, width)`` of uint8 images."""
    action_size: int
    hidden_sizes: tuple[int, ...]
    activation: Activation
    head: Head
    """``categorical`` and ``gaussian`` are sampled; ``values`` are Q values, used epsilon-greedily."""
    normalize: bool = False
    """Whether observations are normalised; the parameters then include their mean and scale."""
    network: str | None = None
    """``module:function`` that makes the network (see ``make_network``); None for a built-in one."""

    @property
    def discrete(self) -> bool:
        """Whether actions are indices, not vectors."""
        return self.head != "gaussian"

    def make_network(self, outputs: int | None = None) -> Network:
        """The policy's network, or the same with another number of outputs; ``bind`` gives it parameters.

        Raises:
            InputError: ``network`` is not found, or does not make a network for these shapes.
        """
        return make_network(
            self.observation_shape,
            outputs or self.action_size,
            self.hidden_sizes,
            self.activation,
            self.network,
        )

    @property
    def num_moments(self) -> int:
        """Number of components of an observation that are normalised, 0 without normalisation."""
        return self.observation_shape[0] if self.normalize else 0

    @property
    def num_log_std(self) -> int:
        """Number of log standard deviations after the network's parameters."""
        return self.action_size if self.head == "gaussian" else 0


class Policy:
    """Chooses actions with the parameters that were last loaded. Learners train copies of their own."""

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self.observation_shape = spec.observation_shape
        self.action_size = spec.action_size
        self.discrete = spec.discrete
        self._network = spec.make_network()
        end = self._network.num_parameters
        self.num_parameters = end + spec.num_log_std + 2 * spec.num_moments
        # Everything below is a view of this array, so that `load` is a single copy.
        self._parameters = np.zeros(self.num_parameters, dtype=np.float32)
        self._network.bind(torch.from_numpy(self._parameters[:end]))
        self._log_std = self._parameters[end : end + spec.num_log_std]
        self._moments = np.split(self._parameters[end + spec.num_log_std :], 2)

    def load(self, parameters: np.ndarray) -> None:
        """Use ``parameters``, float32 ``[num_parameters]``.

        They are those of the network, then the log standard deviations of a Gaussian head, then the
        mean and the scale of observations. The array is copied, since it may be a read-only view of
        Ray's object store.
        """
        self._parameters[:] = parameters

    def outputs(self, observations: np.ndarray) -> np.ndarray:
        """Logits, means or Q values, float32 ``[n, action_size]``."""
        if self.spec.normalize:
            observations = normalize(observations, *self._moments)
        with torch.inference_mode():
            return self._network.forward(torch.from_numpy(observations)).numpy()

    def act(
        self,
        observations: np.ndarray,
        generator: np.random.Generator | None = None,
        epsilon: float = 0.0,
    ) -> np.ndarray:
        """Choose an action for every row of ``observations`` (``[n, *observation_shape]``).

        Args:
            generator: source of randomness; None takes the best action (or the mean).
            epsilon: probability of a uniformly random action if the head is ``values``.

        Returns:
            int64 ``[n]``, or float32 ``[n, action_size]`` with a Gaussian head.
        """
        outputs = self.outputs(observations)
        if self.spec.head == "values":
            actions = outputs.argmax(1)
            if generator is None:
                return actions
            explore = generator.random(len(actions)) < epsilon
            return np.where(
                explore, generator.integers(self.action_size, size=len(actions)), actions
            )
        head = Categorical if self.spec.head == "categorical" else DiagonalGaussian
        if generator is None:
            return head.mode(outputs)
        return head.sample(outputs, self._log_std, generator)


def policy_spec(config: LearnerConfig, spaces: Spaces, head: Head) -> PolicySpec:
    """The policy for these hyperparameters. Images are not normalised."""
    return PolicySpec(
        spaces.observation_shape,
        spaces.action_size,
        config.hidden_sizes,
        config.activation,
        head,
        config.normalize_observations and not is_image(spaces.observation_shape),
        config.network,
    )


class SavedPolicy(NamedTuple):
    """A policy from a checkpoint, with the environment it was trained on."""

    policy: Policy
    algorithm: str
    """Its name, for instance ``ppo``."""
    env: EnvSettings
    frame_stack: int
    step: int
    """Environment steps of training."""

    @property
    def env_id(self) -> str:
        """Id of the environment that it was trained on."""
        return self.env.env_id

    def require_probabilities(self) -> None:
        """Raise unless actions can be sampled.

        Raises:
            InputError: the policy has Q values, and no probabilities.
        """
        if self.policy.spec.head == "values":
            raise InputError(
                f"`stochastic` has no effect: {self.algorithm} learns values of actions, and no"
                " probabilities to sample from; leave it out"
            )


def policy_state(policy_spec: PolicySpec, parameters: np.ndarray) -> dict[str, Any]:
    """The part of a checkpoint that ``load_policy`` reads."""
    return {"spec": asdict(policy_spec), "parameters": torch.from_numpy(parameters)}


def env_state(env: EnvSettings) -> dict[str, Any]:
    """The part of a checkpoint that ``saved_env`` reads."""
    return {
        "env_id": env.env_id,
        "env_kwargs": list(env.env_kwargs),
        "wrapper": list(env.wrapper),
    }


def saved_env(checkpoint: Checkpoint) -> EnvSettings:
    """The environment that a checkpoint's agent was trained on."""
    kwargs, wrapper = checkpoint.get("env_kwargs", ()), checkpoint.get("wrapper", ())
    return EnvSettings(checkpoint.get("env_id", ""), tuple(kwargs), tuple(wrapper))


def saved_spec(saved: dict[str, Any]) -> PolicySpec:
    """The spec in a checkpoint's ``policy_state``, whose tuples may have become lists."""
    values = dict(saved)
    if "observation_size" in values:  # checkpoints of version 0.2 and before
        values["observation_shape"] = [values.pop("observation_size")]
    for name in ("observation_shape", "hidden_sizes"):
        values[name] = tuple(values[name])
    return PolicySpec(**values)


def load_policy(path: str | Path) -> SavedPolicy:
    """The policy in a checkpoint of ``train_agent``.

    Raises:
        InputError: there is no checkpoint at ``path``, it is of another kind, or it is damaged.
    """
    checkpoint = load_checkpoint(path)
    family, _, algorithm = str(checkpoint["kind"]).partition(".")
    if family != "rl":
        raise InputError(
            f"checkpoint {path} is of kind {checkpoint['kind']}: use a checkpoint of train_agent, for"
            " instance of kind rl.ppo"
        )
    state = checkpoint["policy"]
    spec = saved_spec(state["spec"])
    policy = Policy(spec)
    if state["parameters"].shape != (policy.num_parameters,):
        raise InputError(
            f"checkpoint {path} holds {state['parameters'].numel()} parameters and its network has"
            f" {policy.num_parameters}: it is damaged"
        )
    policy.load(state["parameters"].numpy())
    return SavedPolicy(
        policy, algorithm, saved_env(checkpoint), checkpoint["frame_stack"], checkpoint["step"]
    )
