"""The device and the arithmetic that a trial uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from labs.runtime.directory.runs import open_run
from labs.runtime.errors import InputError
from labs.runtime.machine.devices import (
    autocast,
    hidden_gpus,
    resolve_device,
    resolve_precision,
    same_numbers,
)
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Checkpoint, Report
from labs.runtime.sweep import run_grid

CPU = torch.device("cpu")


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == CPU
    with pytest.raises(InputError, match="`device` abacus is not a valid device"):
        resolve_device("abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(InputError, match="`device` cuda: there is no GPU here"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx2": True}, torch.float32),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_precision_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16
    assert resolve_precision("float32", CPU) == torch.float32


def test_autocast() -> None:
    matrix = torch.eye(4)
    with autocast(CPU, torch.bfloat16):
        assert (matrix @ matrix).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert (matrix @ matrix).dtype == torch.float32


@pytest.mark.parametrize("compiled", [True, False])
def test_auto_precision_on_a_gpu(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    """A T4 emulates bfloat16, which does not count."""

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        return including_emulation or compiled

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    expected = torch.bfloat16 if compiled else torch.float32
    assert resolve_precision("auto", torch.device("cuda")) == expected


def test_a_trial_in_this_process_that_asked_for_no_gpu_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with hidden_gpus(False):
        assert resolve_device() == resolve_device("cuda") == torch.device("cuda")
        with hidden_gpus():
            assert resolve_device() == CPU
            with pytest.raises(InputError, match="there is no GPU here"):
                resolve_device("cuda:0")
        assert resolve_device().type == "cuda"


@pytest.fixture(autouse=True)
def fresh_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process: RLlib, which other tests run in this one, leaves it deterministic."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)


def test_cudnn_is_deterministic_within_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with same_numbers():
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.deterministic


def test_a_fixed_workspace_for_cublas() -> None:
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@dataclass(frozen=True)
class Where:
    seed: int = 0


def tell_where(config: Where, resume: Checkpoint | None = None) -> Iterator[Report]:
    is_gpu = float(resolve_device().type == "cuda")
    yield Report(
        1, {"on/gpu": is_gpu, "is/deterministic": float(torch.backends.cudnn.deterministic)}
    )


@pytest.mark.parametrize(("gpus", "expected"), [(0, 0.0), (0.5, 1.0), (None, 1.0)])
def test_local_mode_has_the_gpu_that_it_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: float | None, expected: float
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    options = RuntimeOptions(run_root=str(tmp_path), local_mode=True, gpus_per_trial=gpus)
    with open_run("where", Where(), options) as run:
        result = run_grid(tell_where, [Where()], run=run)
    assert list(result.history["on/gpu"]) == [expected]
    assert list(result.history["is/deterministic"]) == [1.0]
    assert not torch.backends.cudnn.deterministic
