"""evaluate_agent.py as a user runs it, on an agent whose behaviour is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scripts import load_script, run_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labs.rl.agents.policies import Policy, PolicySpec, policy_state
from labs.runtime.checkpoints import save_checkpoint
from labs.runtime.cli import parse
from labs.runtime.errors import InputError

SPEC = PolicySpec((19,), 3, (4,), "tanh", "values")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of zeros: every value is equal, so it always takes the first action, forward."""
    parameters = np.zeros(Policy(SPEC).num_parameters, dtype=np.float32)
    path = tmp_path_factory.mktemp("agent") / "best.pt"
    save_checkpoint(
        path,
        {
            "kind": "rl.dqn",
            "env_id": "labs/NavigationGoal-v1",
            "frame_stack": 1,
            "step": 1234,
            "policy": policy_state(SPEC, parameters),
        },
    )
    return path


def test_prints_intervals_and_leaves_tables_and_a_video(checkpoint: Path, tmp_path: Path) -> None:
    status, out, err = run_script(
        "evaluate_agent",
        *("--checkpoint", checkpoint, "--episodes", 80, "--films", 3),
        *("--run-root", tmp_path, "--run-name", "first"),
    )
    assert status == 0, err
    assert "1234 steps" in out and "collision" in out
    run = tmp_path / "evaluate_agent" / "first"
    episodes = pd.read_csv(run / "episodes.csv")
    assert len(episodes) == 80 and set(episodes["outcome"]) <= {"success", "collision"}
    summary = pd.read_csv(run / "summary.csv").set_index("measure")
    assert summary.loc["collision", "mean"] == pytest.approx(
        (episodes["outcome"] == "collision").mean()
    )
    assert summary.loc["return", "mean"] == pytest.approx(episodes["return"].mean())
    assert summary.loc["return", "mean_low"] < episodes["return"].mean()
    with Image.open(run / "figures" / "episodes.gif") as video:
        assert video.size == (400, 424) and video.n_frames > 20
    events = EventAccumulator(str(run / "tensorboard" / "summary"), size_guidance={"images": 0})
    events.Reload()
    (shown,) = events.Images("videos/episodes")
    assert shown.encoded_image_string == (run / "figures" / "episodes.gif").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "absent.pt"], "absent.pt does not exist"),
        (["--env", "CartPole-v1"], r"observation shape is \(4,\), the agent's is \(19,\)"),
        (["--env", "CartPoel-v1"], "did you mean CartPole-v1"),
        (["--stochastic"], "`stochastic` has no effect: dqn learns values"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    arguments: list[str], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    script = load_script("evaluate_agent")
    given = ["--run-root", str(tmp_path / "runs"), *arguments]
    if "--checkpoint" not in given:
        given += ["--checkpoint", str(checkpoint)]
    with pytest.raises(InputError, match=message):
        script.main(parse(script.Config, {}, given))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("episodes", 0), ("seed", -1), ("fps", 0.0), ("fps", 99.0), ("films", -1)]
)
def test_values_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"`{option}` {value}"):
        load_script("evaluate_agent").Config("best.pt", **{option: value})
