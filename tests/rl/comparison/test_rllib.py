"""RLlib beside ours: the same network, the same episodes, the same settings."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.utils.replay_buffers import EpisodeReplayBuffer

from labs.rl.agents.config import AgentConfig
from labs.rl.agents.networks.adam import EPSILON
from labs.rl.agents.policies import Policy
from labs.rl.comparison import rllib
from labs.rl.comparison.rllib import check_rllib, parameters_of, train_rllib
from labs.rl.comparison.settings import AGENTS, RunConfig, check_run, plan_runs
from labs.rl.evaluation import evaluation_metrics
from labs.rl.training import train_agent
from labs.runtime.errors import InputError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("private_ray")]


def runs(env: str = "CartPole-v1", steps: int = 600) -> dict[str, RunConfig]:
    configs = plan_runs([env], AGENTS, [3], steps={env: steps}, evaluations=2, eval_episodes=10)
    return {config.agent: config for config in configs}


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    """An algorithm of each kind, built once: it takes seconds."""
    return {
        name: rllib._build(config, 1)
        for name, config in runs().items()
        if config.library == "rllib"
    }


@pytest.mark.parametrize("name", ["rllib-ppo", "rllib-dqn"])
def test_the_network_is_copied_exactly(built: dict[str, Any], name: str) -> None:
    config, module = runs()[name], built[name].get_module()
    policy = Policy(rllib._policy_spec(config))
    policy.load(parameters_of(module))
    observations = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    batch = {"obs": torch.from_numpy(observations)}
    with torch.no_grad():
        if name == "rllib-ppo":
            expected = module.forward_inference(batch)["action_dist_inputs"]
        else:
            expected = module.compute_q_values(batch)["qf_preds"]
    np.testing.assert_allclose(policy.outputs(observations), expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["rllib-ppo", "rllib-dqn"])
def test_every_setting_is_in_the_algorithm_that_is_built(built: dict[str, Any], name: str) -> None:
    """RLlib takes unknown words of some kinds in silence, and resolves others later."""
    config, theirs = runs()[name], built[name].config
    own = rllib._ppo(config) if name == "rllib-ppo" else rllib._dqn(config)
    for key, value in (rllib._common(config) | own).items():
        found = getattr(theirs, key)
        if isinstance(value, dict):  # the kind of replay is a class by now
            assert value["capacity"] == found["capacity"]
            assert found["type"] is EpisodeReplayBuffer or found["type"] == value["type"]
        else:
            assert found == value, key
    model = theirs.model_config
    model = model if isinstance(model, dict) else dataclasses.asdict(model)
    assert tuple(model["fcnet_hiddens"]) == config.hidden_sizes
    assert model["fcnet_activation"] == config.activation
    assert (model["head_fcnet_hiddens"], model["vf_share_layers"]) == ([], False)
    assert theirs.num_envs_per_env_runner == config.envs_per_worker == 8
    assert theirs.rollout_fragment_length == config.segment_length
    assert theirs.min_sample_timesteps_per_iteration == config.eval_interval
    assert (theirs.seed, theirs.min_time_s_per_iteration) == (1, 0)


@pytest.mark.parametrize("name", ["rllib-ppo", "rllib-dqn"])
def test_both_libraries_have_the_same_adam(built: dict[str, Any], name: str) -> None:
    def optimizers(learner: Any) -> list[tuple[str, dict[str, Any]]]:
        return [
            (type(optimizer).__name__, {k: v for k, v in group.items() if k != "params"})
            for module, _ in learner.module.items()
            for _, optimizer in learner.get_optimizers_for_module(module)
            for group in optimizer.param_groups
        ]

    (found,) = (r.get() for r in built[name].learner_group.foreach_learner(optimizers))
    assert [kind for kind, _ in found] == ["Adam"]
    options = found[0][1]
    assert options["eps"] == EPSILON == 1e-5
    assert options["betas"] == (0.9, 0.999) and options["weight_decay"] == 0


def test_settings_reach_the_trainer(built: dict[str, Any]) -> None:
    ours, theirs = runs()["rllib-ppo"], built["rllib-ppo"].config
    assert theirs.train_batch_size_per_learner == 8 * ours.segment_length == 256
    assert (theirs.minibatch_size, theirs.num_epochs) == (ours.batch_size, ours.epochs) == (256, 20)
    assert (theirs.gamma, theirs.lambda_, theirs.clip_param) == (0.98, 0.8, 0.2)
    assert theirs.entropy_coeff == ours.entropy_coefficient == 0.0
    assert theirs.lr == [[0, 1e-3], [600, 0.0]]
    assert theirs.num_env_runners == theirs.num_learners == 0  # one process, one core
    ours, theirs = runs()["rllib-dqn"], built["rllib-dqn"].config
    # one batch of 64 every 2 steps, as ours; target copies every 128 batches
    assert theirs.training_intensity / theirs.train_batch_size_per_learner == 1 / 2
    assert theirs.target_network_update_freq == 128 * 2
    assert theirs.lr == ours.learning_rate == 2.3e-3
    assert (theirs.n_step, theirs.double_q) == (ours.n_step, ours.double_q) == (1, False)
    assert theirs.epsilon == [(0, 1.0), (96, 0.04)]


def test_every_agent_gets_the_same_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash of the observations that the policies get to see first in each evaluation."""
    starts: dict[str, list[str]] = {}

    class Watched:
        def __init__(self, policy: Any) -> None:
            self._policy, self._begun = policy, False

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self._policy, attribute)

        def act(self, observations: np.ndarray, *rest: Any, **options: Any) -> Any:
            if not self._begun:
                self._begun = True
                starts[name].append(hashlib.sha256(observations.tobytes()).hexdigest())
            return self._policy.act(observations, *rest, **options)

    def spy(policy: Any, *rest: Any) -> dict[str, float]:
        return evaluation_metrics(Watched(policy), *rest)

    monkeypatch.setattr("labs.rl.training.evaluation_metrics", spy)
    monkeypatch.setattr("labs.rl.comparison.rllib.evaluation_metrics", spy)
    for name, config in runs(steps=256).items():
        starts[name] = []
        train = train_rllib if config.library == "rllib" else train_agent
        list(train(config))
    assert all(len(found) >= 1 for found in starts.values())
    assert len({start for found in starts.values() for start in found}) == 1
    name = "another seed"
    starts[name] = []
    list(train_agent(dataclasses.replace(runs(steps=256)["labs-ppo"], seed=4)))
    assert starts[name][0] != starts["labs-ppo"][0]


def test_reports_count_steps_and_seconds() -> None:
    config = runs(steps=1024)["rllib-ppo"]
    reports = list(train_rllib(config))
    steps = [report.step for report in reports]
    assert len(steps) == 2
    # at the first iteration (256 steps and a few of restarts) from each evaluation's step on
    assert 512 <= steps[0] < 512 + 300
    assert 1024 <= steps[1] < 1024 + 300
    seconds = [report.metrics["time/training_seconds"] for report in reports]
    assert 0 < seconds[0] < seconds[1]
    rate = reports[1].metrics["time/steps_per_second"]
    assert rate == pytest.approx(steps[1] / seconds[1])
    checkpoint = reports[1].checkpoint()
    assert checkpoint["kind"] == "rl.ppo"
    assert list(train_rllib(config, resume=checkpoint)) == []  # it is done


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "Pendulum-v1"}, "the comparison with RLlib needs observations of a Box"),
        ({"env": "FrozenLake-v1"}, "the comparison with RLlib needs observations of a Box"),
        ({"env": "CartPol-v1"}, "did you mean CartPole-v1"),
        (
            {"normalize_observations": True},
            "`normalize_observations` True has no equivalent in RLlib",
        ),
        ({"normalize_rewards": True}, "`normalize_rewards` True has no equivalent in RLlib"),
        ({"frame_stack": 4}, "`frame_stack` 4 has no equivalent in RLlib: use 1"),
        ({"algorithm": "dqn", "update_interval": 7}, "`update_interval` 7 must divide the"),
        (
            {"algorithm": "dqn", "loss": "squared"},
            "`loss` squared has no equivalent in RLlib: use huber",
        ),
    ],
)
def test_settings_without_an_equivalent_are_refused(change: dict[str, Any], message: str) -> None:
    same = {"env": "CartPole-v1", "normalize_observations": False}
    if "algorithm" not in change:
        same["normalize_rewards"] = False
    with pytest.raises(InputError, match=message):
        check_rllib(AgentConfig(**{**same, **change}))


def test_dqn_with_continuous_actions_and_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="`algorithm` dqn needs discrete actions"):
        check_run(runs("Pendulum-v1")["labs-dqn"])
    with pytest.raises(InputError, match="`agents` sb3-ppo is unknown: use labs-ppo, rllib"):
        plan_runs(["CartPole-v1"], ["sb3-ppo"], [0], steps={}, evaluations=1, eval_episodes=1)
