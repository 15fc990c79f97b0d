"""What a trial leaves in its process is given back before the next one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from labs.runtime.machine import memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_memory_of_a_large_trial_is_released() -> None:
    code = (
        "import torch\n"
        "from labs.runtime.machine.memory import keep_freed_memory, release_memory, resident_bytes\n"
        "assert keep_freed_memory()\n"
        "blocks = [torch.ones(2**20) for _ in range(200)]\n"
        "held = resident_bytes()\n"
        "blocks.clear()\n"
        "kept = resident_bytes()\n"
        "release_memory()\n"
        "print(held, kept, resident_bytes())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    held, kept, left = map(int, done.stdout.split())
    assert kept > held - 100 * 2**20  # the allocator keeps it while a trial runs
    assert left < held - 700 * 2**20


@pytest.mark.slow
def test_each_trial_compiles_as_if_it_were_the_first() -> None:
    """Without a reset Dynamo gives up on a function after its eighth version."""
    compiled = []

    def count(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        compiled.append(len(inputs))
        return module

    def forward(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        return model(x).relu()

    for trial in range(12):
        model = torch.nn.Sequential(*[torch.nn.Linear(3, 3) for _ in range(trial + 1)])
        torch.compile(forward, backend=count, dynamic=False)(model, torch.ones(2, 3))
        memory.release_memory()
    assert len(compiled) == 12


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_peak_is_of_one_trial() -> None:
    memory.reset_peak()
    before = memory.peak_memory()
    block = np.ones(300 * 2**20, dtype=np.uint8)
    high = memory.peak_memory()["host"]
    assert 0.25 < high - before["host"] < 0.35
    assert (before["gpu"], before["gpu_size"]) == (0, 0) or torch.cuda.is_initialized()
    del block
    memory.release_memory()
    assert memory.peak_memory()["host"] >= high - 0.01  # it is the most, not what is held now
    memory.reset_peak()
    assert memory.peak_memory()["host"] < high - 0.2


@pytest.mark.parametrize(
    ("peak", "size", "fit", "share"),
    [
        (4.9, 22.0, 3, 0.3333),  # 20.9 usable, 5.5 each with its context
        (4.6, 22.0, 4, 0.25),  # 5.2 each
        (0.1, 14.6, 19, 0.0526),
        (20.4, 22.0, 0, None),
        (9.9, 22.0, 1, 1.0),
    ],
)
def test_how_many_trials_fit_on_a_gpu(
    peak: float, size: float, fit: int, share: float | None
) -> None:
    assert memory.trials_on_a_gpu(peak, size) == fit
    if share is not None:
        assert memory.share_of_a_gpu(fit) == share


@pytest.mark.parametrize("trials", range(1, 60))
def test_a_share_puts_exactly_so_many_trials_on_a_gpu(trials: int) -> None:
    """Ray counts in ten-thousandths."""
    units = round(memory.share_of_a_gpu(trials) * 10_000)
    assert 10_000 // units == trials


def use(host: float, gpu: float, size: float = 22.0) -> memory.MemoryUse:
    return {"host": host, "gpu": gpu, "gpu_size": size}


def test_the_advice_is_given_where_the_answer_changes() -> None:
    peaks = memory.PeakMemory()
    assert peaks.of(3) is None
    assert peaks.advice(3, "c") is None
    peaks.add(3, use(1.0, 4.6))
    assert peaks.advice(3, "c") == (
        "c took 4.6 of the GPU's 22.0 GiB: 4 such trials would fit (--gpus-per-trial 0.25)"
    )
    peaks.add(1, use(1.0, 4.62))
    assert peaks.advice(1, "a") is None  # four still fit
    peaks.add(0, use(1.0, 2.0))
    assert peaks.advice(0, "x") is None  # a smaller one leaves the share as it is
    peaks.add(2, use(1.0, 12.0))
    assert peaks.advice(2, "b") == (
        "b took 12.0 of the GPU's 22.0 GiB: a second trial like it would not fit on the GPU"
        " (--gpus-per-trial 1)"
    )
    on_cpu = memory.PeakMemory()
    on_cpu.add(0, use(1.0, 0.0, 0.0))
    assert on_cpu.advice(0, "a") is None


def test_the_peak_is_over_all_attempts() -> None:
    peaks = memory.PeakMemory()
    peaks.add(5, use(2.0, 3.0))
    peaks.add(5, use(1.0, 4.0))
    peaks.add(5, use(1.5, 0.0, 0.0))  # died before it came to the GPU
    assert peaks.of(5) == use(2.0, 4.0)
