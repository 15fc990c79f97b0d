"""The range of every hyperparameter: its ends are allowed, and what lies beyond is refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from labs.rl.agents.config import AgentConfig
from labs.rl.trainers import DQNAgentConfig, PPOAgentConfig
from labs.runtime.errors import InputError

LEAST: dict[str, float] = {
    **dict.fromkeys(("total_steps", "envs_per_worker", "frame_stack", "eval_episodes"), 1),
    **dict.fromkeys(("num_workers", "seed", "gamma"), 0),
    "batch_size": 1,
}
OF_PPO: dict[str, float] = {
    "segment_length": 1, "epochs": 1, "gae_lambda": 0, "entropy_coefficient": 0, "value_coefficient": 0,
}  # fmt: skip
OF_DQN: dict[str, float] = {
    **dict.fromkeys(("replay_size", "update_interval", "target_interval", "n_step"), 1),
    **dict.fromkeys(("learning_starts", "epsilon_start", "epsilon_end", "epsilon_decay"), 0),
    "segment_length": 3,  # as many as n_step
}
MOST = {
    PPOAgentConfig: {"gamma": 1, "gae_lambda": 1},
    DQNAgentConfig: {
        **dict.fromkeys(("gamma", "target_rate", "epsilon_start", "epsilon_end"), 1),
        **{"epsilon_decay": 1, "n_step": 8, "batch_size": 100_000},
    },
}
ABOVE_0 = {
    PPOAgentConfig: ("clip_range", "action_std_start", "action_std_end", "target_kl"),
    DQNAgentConfig: ("target_rate",),
}
FINITE = {PPOAgentConfig: LEAST | OF_PPO, DQNAgentConfig: LEAST | OF_DQN}
EVERYWHERE = ("learning_rate", "max_grad_norm", "reward_scale")

CASES = [
    *((kind, name, end, end - 1) for kind, ends in FINITE.items() for name, end in ends.items()),
    *((kind, name, end, end + 1) for kind, ends in MOST.items() for name, end in ends.items()),
    *((kind, n, 1e-9, 0) for kind, names in ABOVE_0.items() for n in (*names, *EVERYWHERE)),
]


def config(kind: type[AgentConfig], **values: Any) -> AgentConfig:
    return kind(**{"batch_size": 1, **values})  # a batch may not be larger than what is collected


@pytest.mark.parametrize(
    ("kind", "name", "end", "beyond"), CASES, ids=[f"{c[0].algorithm} {c[1]} {c[3]}" for c in CASES]
)
def test_the_end_is_allowed_and_beyond_it_is_refused(
    kind: type[AgentConfig], name: str, end: float, beyond: float
) -> None:
    made = config(kind, **{name: end})
    assert getattr(made, name) == end
    with pytest.raises(InputError, match=f"`(?:{name}|segment_length)` "):
        config(kind, **{name: beyond})


@pytest.mark.parametrize("kind", [PPOAgentConfig, DQNAgentConfig])
def test_no_number_is_without_a_case(kind: type[AgentConfig]) -> None:
    numbers = {
        field.name
        for field in dataclasses.fields(kind)
        if str(field.type).split(" ")[0] in ("int", "float")
    }
    assert numbers - {case[1] for case in CASES if case[0] is kind} == {
        "eval_interval",
        "report_interval",
    }


def test_a_layer_has_units() -> None:
    assert PPOAgentConfig(hidden_sizes=(1, 2)).hidden_sizes == (1, 2)
    with pytest.raises(InputError, match="`hidden_sizes` 64 0 "):
        PPOAgentConfig(hidden_sizes=(64, 0))
