"""RLlib's PPO and DQN (new API stack) as a generator of reports, for comparison with ours.

The algorithm runs entirely in the calling process, without actors, so a trial takes one core, as ours
do. Its network is copied into a ``labs.rl.agents.policies.Policy``: the same code evaluates it, and
``evaluate_agent.py`` can load its checkpoints.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch

from labs.rl.agents.config import AgentConfig
from labs.rl.agents.networks.adam import EPSILON
from labs.rl.agents.policies import Head, Policy, PolicySpec, env_state, policy_state
from labs.rl.envs.make import make_env, make_single
from labs.rl.evaluation import evaluation_metrics
from labs.rl.trainers import DQNAgentConfig, PPOAgentConfig
from labs.runtime.errors import InputError
from labs.runtime.machine import compat
from labs.runtime.machine.session import ray_for_a_library
from labs.runtime.reports import Checkpoint, Report


def train_rllib(config: AgentConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    """Train RLlib's algorithm with these hyperparameters; the step is the number of env steps.

    RLlib saves neither its replay nor its running episodes, and its checkpoints are pickles. So a
    trial that was interrupted starts from the beginning, and ``resume`` only tells whether it had
    finished.

    ``time/training_seconds`` is the time of collecting and learning so far, without building the
    algorithm and without evaluations.

    Raises:
        InputError: RLlib cannot do the same; see ``check_rllib``.
    """
    config = check_rllib(config)
    if resume is not None and resume["step"] >= config.total_steps:
        return
    seeds = np.random.SeedSequence(config.seed).generate_state(3).tolist()
    with ray_for_a_library():
        algorithm = _build(config, seeds[0])
        try:
            yield from _train(config, algorithm, seeds[2])
        finally:
            algorithm.stop()


def _train(
    config: PPOAgentConfig | DQNAgentConfig, algorithm: Any, eval_seed: int
) -> Iterator[Report]:
    spec = _policy_spec(config)
    policy = Policy(spec)
    step, seconds = 0, 0.0
    while step < config.total_steps:
        began = time.perf_counter()
        result = algorithm.train()
        seconds += time.perf_counter() - began
        step = int(result["env_runners"]["num_env_steps_sampled_lifetime"])
        policy.load(parameters_of(algorithm.get_module()))
        metrics = evaluation_metrics(policy, config.env_settings(), config.eval_episodes, eval_seed)
        metrics["time/training_seconds"] = seconds
        metrics["time/steps_per_second"] = step / seconds
        yield Report(step, metrics, partial(_checkpoint, config, spec, algorithm, step))


def _checkpoint(
    config: PPOAgentConfig | DQNAgentConfig, spec: PolicySpec, algorithm: Any, step: int
) -> Checkpoint:
    """The policy alone: enough to evaluate it, but not to continue training."""
    return {
        "kind": f"rl.{config.algorithm}",
        **env_state(config.env_settings()),
        "frame_stack": 1,
        "step": step,
        "policy": policy_state(spec, parameters_of(algorithm.get_module())),
    }


def check_rllib(config: AgentConfig) -> PPOAgentConfig | DQNAgentConfig:
    """The same config; raises if it would not mean the same in RLlib.

    Raises:
        InputError: an environment without flat observations or discrete actions, stacked frames,
            normalised observations or rewards, scaled rewards, workers, or hyperparameters that
            RLlib counts in another unit and cannot match exactly.
    """
    if not isinstance(config, PPOAgentConfig | DQNAgentConfig):
        raise InputError(
            f"`algorithm` {config.algorithm} has no counterpart in RLlib: use ppo or dqn"
        )
    values = vars(config)
    env = make_env(config.env_settings(), 1, 0)  # raises if the spaces are not supported at all
    flat = (
        isinstance(env.observation_space, gymnasium.spaces.Box) and len(env.observation_shape) == 1
    )
    env.close()
    if not (flat and env.discrete):
        raise InputError(
            f"`env` {config.env}: the comparison with RLlib needs observations of a Box with one"
            " dimension and discrete actions, for instance CartPole-v1"
        )
    same: dict[str, Any] = {
        "frame_stack": 1,
        "network": None,
        "normalize_observations": False,
        "reward_scale": 1.0,
        "num_workers": 0,
    }
    if config.algorithm == "ppo":
        same |= {"normalize_rewards": False, "normalize_advantages": True, "target_kl": None}
    else:
        same |= {"loss": "huber"}  # RLlib's squared loss lacks the half that ours has
    for name, needed in same.items():
        if values[name] != needed:
            raise InputError(f"`{name}` {values[name]} has no equivalent in RLlib: use {needed}")
    rows = values["segment_length"] * values["envs_per_worker"]
    if config.algorithm == "dqn" and rows % values["update_interval"]:
        raise InputError(
            f"`update_interval` {values['update_interval']} must divide the {rows} steps that are"
            " collected at a time, since RLlib learns a whole number of times after each"
        )
    return config


def _build(config: PPOAgentConfig | DQNAgentConfig, seed: int) -> Any:
    """The algorithm, in this process, without output and without files in the user's home."""
    # Imported here, because it takes seconds and only RLlib's trials need it.
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.tune.registry import register_env

    settings = config.env_settings()
    name = settings.env_id
    vectorized = "sync"
    if settings.env_kwargs or settings.wrapper:
        name = str(settings)
        register_env(name, lambda _: make_single(settings))
    elif gymnasium.spec(name).vector_entry_point is not None:
        vectorized = "vector_entry_point"
    base = PPOConfig() if config.algorithm == "ppo" else DQNConfig()
    built = (
        base.environment(name)
        .framework("torch")
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=config.envs_per_worker,
            rollout_fragment_length=config.segment_length,
            gym_env_vectorize_mode=gymnasium.VectorizeMode(vectorized),
        )
        .learners(num_learners=0, num_gpus_per_learner=0)
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=list(config.hidden_sizes),
                fcnet_activation=config.activation,
                head_fcnet_hiddens=[],
                vf_share_layers=False,
            )
        )
        # RLlib does its bookkeeping after each iteration, so make it as long as can be: from one
        # evaluation to the next.
        .reporting(
            min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=config.eval_interval
        )
        .debugging(seed=seed % 2**31, log_level="ERROR")
    )
    built = built.training(
        **_common(config), **(_ppo(config) if isinstance(config, PPOAgentConfig) else _dqn(config))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("ray.rllib").setLevel(logging.ERROR)
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        algorithm = compat.build_algorithm(built)
    algorithm.learner_group.foreach_learner(_use_our_epsilon)
    return algorithm


def _use_our_epsilon(learner: Any) -> None:
    """Set Adam's epsilon, which RLlib's configuration cannot; it uses PyTorch's default of 1e-8."""
    for module, _ in learner.module.items():
        for _, optimizer in learner.get_optimizers_for_module(module):
            for group in optimizer.param_groups:
                group["eps"] = EPSILON


def _common(config: PPOAgentConfig | DQNAgentConfig) -> dict[str, Any]:
    rate = config.learning_rate
    return {
        "gamma": config.gamma,
        "lr": [[0, rate], [config.total_steps, 0.0]] if config.anneal else rate,
        "grad_clip": config.max_grad_norm,
        "grad_clip_by": "global_norm",
    }


def _ppo(config: PPOAgentConfig) -> dict[str, Any]:
    return {
        "train_batch_size_per_learner": config.segment_length * config.envs_per_worker,
        "minibatch_size": config.batch_size,
        "num_epochs": config.epochs,
        "lambda_": config.gae_lambda,
        "clip_param": config.clip_range,
        "entropy_coeff": config.entropy_coefficient,
        "vf_loss_coeff": config.value_coefficient,
        "vf_clip_param": float("inf"),  # ours does not clip the error of the value function
        "use_kl_loss": False,  # and has no penalty on the KL divergence
    }


def _dqn(config: DQNAgentConfig) -> dict[str, Any]:
    decay = max(1, round(config.epsilon_decay * config.total_steps))
    return {
        "train_batch_size_per_learner": config.batch_size,
        # Rows of training per collected step: one batch every update_interval steps.
        "training_intensity": config.batch_size / config.update_interval,
        "num_steps_sampled_before_learning_starts": config.learning_starts,
        "target_network_update_freq": config.target_interval * config.update_interval,
        "double_q": config.double_q,
        "dueling": False,
        "num_atoms": 1,
        "n_step": config.n_step,
        "td_error_loss_fn": "huber",
        "epsilon": [(0, config.epsilon_start), (decay, config.epsilon_end)],
        "replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": config.replay_size},
    }


def _policy_spec(config: PPOAgentConfig | DQNAgentConfig) -> PolicySpec:
    env = make_env(config.env_settings(), 1, 0)
    sizes = env.observation_shape, env.action_size
    env.close()
    head: Head = "categorical" if config.algorithm == "ppo" else "values"
    return PolicySpec(*sizes, config.hidden_sizes, config.activation, head)


def parameters_of(module: Any) -> np.ndarray:
    """An RLModule's network as a ``Policy`` loads it, float32 and flat.

    That is the weight ``[inputs, outputs]`` and the bias of every layer from the observation to the
    logits or Q values.
    """
    encoder = module.encoder
    if hasattr(encoder, "actor_encoder"):  # PPO, whose value function has its own encoder
        encoder = encoder.actor_encoder
    head = module.pi if hasattr(module, "pi") else module.af
    layers = [
        layer
        for part in (encoder, head)
        for layer in part.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    flat = [part for layer in layers for part in (layer.weight.T, layer.bias)]
    return torch.cat([part.detach().reshape(-1) for part in flat]).float().cpu().numpy()
