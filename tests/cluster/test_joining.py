"""Joining a cluster: there must be one, and with token authentication on (as in cluster.yaml) nobody
joins without the token."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from labs.runtime.errors import InputError
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions

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
from labs.runtime.machine.session import connect
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


@pytest.mark.ray
def test_only_a_driver_with_the_token_joins(guarded: str) -> None:
    """All at once, and with few tries: by default Ray takes 20 seconds to refuse one."""
    joining = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN, guarded],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "RAY_AUTH_MODE": mode,
                "RAY_AUTH_TOKEN": token,
                "RAY_NUM_REDIS_GET_RETRIES": "4",
            },
        )
        for mode, token in (("token", "a" * 64), ("token", "b" * 64), ("disabled", "a" * 64))
    ]
    knows, guesses, has_none = (process.communicate(timeout=200)[0] for process in joining)
    assert knows.startswith("joined 42\n"), knows
    for said in (guesses, has_none):
        assert said.startswith(f"refused: no Ray cluster answers at {guarded}: "), said
        assert "authentication failed" in said


@pytest.mark.ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_without_a_cluster(without_ray: None, address: str) -> None:
    with (
        pytest.raises(InputError, match=f"no Ray cluster answers at {address}"),
        connect(RuntimeOptions(address=address)),
    ):
        pass


@pytest.mark.ray
@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n<html>", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_the_port_of_another_server(without_ray: None, answer: bytes) -> None:
    """For instance the dashboard's, 8265; Ray alone would wait for minutes."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        began = time.monotonic()
        with (
            pytest.raises(InputError, match="no Ray cluster answers at .*: that is another server"),
            connect(RuntimeOptions(address=f"127.0.0.1:{server.server_address[1]}")),
        ):
            pass
        assert time.monotonic() - began < 10
        server.shutdown()
