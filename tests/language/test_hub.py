"""Finding a pre-trained model: directories, a hub on this machine, and no hub at all."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from tiny_bert import make_tiny_bert
from tiny_gpt2 import save_tiny_gpt2

from labs.language.hub import explained, find_pretrained, load_causal_model, load_tokenizer
from labs.runtime.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_gpt2(tmp_path_factory.mktemp("model"))


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def serve(files: dict[str, bytes], requests: list[str]) -> http.server.ThreadingHTTPServer:
    """A hub with one model, ``ann/poet``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            name = self.path.rsplit("/", 1)[-1]
            if self.path == "/":
                self._answer(b"welcome")
            elif self.path.startswith("/api/models/ann/poet/tree/"):
                entries = [
                    {"type": "file", "path": file, "size": len(content), "oid": sha1(content)}
                    for file, content in files.items()
                ]
                self._answer(json.dumps(entries).encode())
            elif self.path.startswith("/api/models/ann/poet"):
                siblings = [{"rfilename": file} for file in files]
                self._answer(
                    json.dumps({"id": "ann/poet", "sha": COMMIT, "siblings": siblings}).encode()
                )
            elif self.path.startswith("/ann/poet/resolve/") and name in files:
                self._answer(files[name])
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET

        def _answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("ETag", f'"{sha1(content)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub on this machine: the paths that it was asked for. Its clients' cache is in tmp_path."""
    requests: list[str] = []
    server = serve({path.name: path.read_bytes() for path in model.iterdir()}, requests)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    constants = huggingface_hub.constants
    endpoint = f"http://127.0.0.1:{server.server_port}"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield requests
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_directory_is_used_as_it_is(model: Path) -> None:
    assert find_pretrained(str(model), "model") == model
    loaded = load_causal_model(model, "model", torch.float32)
    assert loaded.config.n_layer == 2
    assert not loaded.training


def test_a_model_is_fetched_once_and_then_found_without_the_hub(
    hub: list[str], model: Path
) -> None:
    path = find_pretrained("ann/poet", "model")
    names = {"config.json", "model.safetensors", "tokenizer.json"}
    assert names <= {file.name for file in path.iterdir()}
    assert (path / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    asked = len(hub)
    assert find_pretrained("ann/poet", "model") == path
    assert len(hub) == asked


def test_a_tokenizer_alone_does_not_bring_the_weights(
    hub: list[str],
) -> None:
    path = find_pretrained("ann/poet", "`tokenizer`", weights=False)
    assert not (path / "model.safetensors").exists()
    assert load_tokenizer(path, "tokenizer")("ciao")["input_ids"] == [3, 9, 1, 15]
    assert (find_pretrained("ann/poet", "model") / "model.safetensors").exists()


def test_a_name_that_the_hub_does_not_know(
    hub: list[str],
) -> None:
    with pytest.raises(InputError, match="`model` ann/nobody is unknown to the hub"):
        find_pretrained("ann/nobody", "model")


def test_without_a_hub_the_error_says_how_to_get_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match="cannot be reached.*hf download gpt2 --local-dir DIR.*`model` DIR"
    ):
        find_pretrained("gpt2", "model")


def test_directories_without_a_model_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a directory"):
        find_pretrained(str(tmp_path / "none"), "model")
    with pytest.raises(InputError, match="no model: .*it has nothing"):
        find_pretrained(str(tmp_path), "model")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, tmp_path)
    with pytest.raises(InputError, match="model.safetensors are needed"):
        find_pretrained(str(tmp_path), "model")
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    path = find_pretrained(str(tmp_path), "model")
    with pytest.raises(InputError, match="`model` .* is not a usable causal language model"):
        load_causal_model(path, "model", torch.float32)


def test_a_bare_vocabulary_is_a_tokenizer(shared_data: Path, tmp_path: Path) -> None:
    path = find_pretrained(str(shared_data / "tokenizers" / "gpt2"), "`tokenizer`", weights=False)
    assert load_tokenizer(path, "tokenizer")("ciao mondo")["input_ids"] == [66, 13481, 285, 22311]
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(InputError, match="tokenizer cannot be used"):
        load_tokenizer(tmp_path, "tokenizer")


@pytest.mark.slow
def test_a_broken_package_is_not_blamed_on_the_model(model: Path, tmp_path: Path) -> None:
    """A torchvision that does not fit its torch, for a model and for an encoder of the user's own."""
    encoder = make_tiny_bert(tmp_path / "bert")
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from labs.language.embeddings.encoders import load_model, resolve_encoder\n"
        "from labs.language.hub import load_causal_model\n"
        "from labs.runtime.errors import InputError\n"
        "loads = [lambda: load_causal_model(Path(sys.argv[1]), 'model', torch.float32),\n"
        "         lambda: load_model(resolve_encoder(sys.argv[2])[0], torch.float32)]\n"
        "for load in loads:\n"
        "    try: load()\n"
        "    except InputError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model), str(encoder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr
    for line in lines:
        assert line.startswith("this Python installation cannot load models: ")
        assert "operator torchvision::nms does not exist (RuntimeError" in line
        assert str(model) not in line and str(encoder) not in line


def test_what_the_files_are_to_blame_for_is_said_of_them() -> None:
    with (
        pytest.raises(InputError, match="`model` x is bad: a wrong header$"),
        explained("`model` x is bad"),
    ):
        raise ValueError("a wrong header\nand more")
    with pytest.raises(InputError, match="^as it is$"), explained("`model` x is bad"):
        raise InputError("as it is")
