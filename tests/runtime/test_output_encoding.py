"""Output that the terminal's encoding cannot show is replaced, and the run goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = r"""
from dataclasses import dataclass
from labs.runtime.cli import launch
from labs.runtime.loop.console import say
from labs.runtime.errors import InputError

@dataclass(frozen=True)
class Config:
    fail: bool = False

def main(config):
    if config.fail:
        raise InputError("no class \u732b")
    say("perch\u00e9 \u732b \U0001f600 \udc80")
    print("plain")
    return 0

launch(main, Config)
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_cannot_be_encoded_is_replaced(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    shown = "perché 猫 😀 \udc80".encode(encoding, "replace")
    assert done.stdout.split(b"\n") == [shown, b"plain", b""]
    failed = subprocess.run([*command, "--fail"], capture_output=True, env=environment, check=False)
    assert failed.returncode == 2
    assert failed.stderr == "error: no class 猫\n".encode(encoding, "replace")
