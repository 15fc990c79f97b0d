"""With token authentication on, as in cluster.yaml, nobody joins without the token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

GUARDED = """
import ray, sys, labs.runtime
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
         configure_logging=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""

JOIN = """
import sys, ray
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
from labs.runtime.session import connect
try:
    with connect(RuntimeOptions(address=sys.argv[1])):
        print("joined", ray.get(ray.remote(lambda: 6 * 7).remote()))
except InputError as error:
    print("refused:", error)
"""


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """Address of a private Ray that has a token."""
    process = subprocess.Popen(
        [sys.executable, "-c", GUARDED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64},
    )
    address = process.stdout.readline().strip()
    assert address, "it did not start"
    yield address
    process.communicate("", timeout=60)


@pytest.mark.parametrize(
    ("mode", "token", "expected"),
    [
        ("token", "a" * 64, "joined 42\n"),
        ("token", "b" * 64, "refused: no Ray cluster answers at {address}: "),
        ("disabled", "a" * 64, "refused: no Ray cluster answers at {address}: "),
    ],
)
def test_who_joins(guarded: str, mode: str, token: str, expected: str) -> None:
    environment = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token}
    done = subprocess.run(
        [sys.executable, "-c", JOIN, guarded],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    assert done.stdout.startswith(expected.format(address=guarded)), done.stdout + done.stderr
    if "refused" in expected:
        assert "authentication failed" in done.stdout
