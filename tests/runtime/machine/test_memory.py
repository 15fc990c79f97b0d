"""What a trial leaves in its process is given back before the next one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from labs.runtime.machine import memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_memory_of_a_large_trial_is_given_back() -> None:
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
    before, gpu = memory.peak_gib()
    block = np.ones(300 * 2**20, dtype=np.uint8)
    high, _ = memory.peak_gib()
    assert 0.25 < high - before < 0.35
    assert gpu == 0 or torch.cuda.is_initialized()
    del block
    memory.release_memory()
    assert memory.peak_gib()[0] >= high - 0.01  # it is the most, not what is held now
    memory.reset_peak()
    assert memory.peak_gib()[0] < high - 0.2
