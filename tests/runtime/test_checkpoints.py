"""Checkpoints: whole or absent, never executable, refused with one clear sentence."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from labs.runtime.checkpoints import load_checkpoint, save_checkpoint
from labs.runtime.directory import storage
from labs.runtime.errors import InputError


def test_round_trip(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    saved = {"kind": "test", "weights": torch.arange(5.0), "state": generator.get_state(), "n": 3}
    save_checkpoint(tmp_path / "deep" / "a.pt", saved)
    loaded = load_checkpoint(tmp_path / "deep" / "a.pt", "test")
    assert torch.equal(loaded["weights"], saved["weights"])
    restored = torch.Generator()
    restored.set_state(loaded["state"])
    expected = torch.rand(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.rand(3, generator=restored), expected)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"kind": "test", "n": 1})

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"kind": "test", "n": 2})
    assert load_checkpoint(path)["n"] == 1
    assert list(tmp_path.iterdir()) == [path]


class Evil:
    def __reduce__(self) -> tuple:
        return (os.mkdir, ("evil-was-here",))


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickled_code_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    if writer == "torch":
        torch.save({"kind": "test", "evil": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"kind": "test", "evil": Evil()}))
    with pytest.raises(InputError, match="evil.pt"):
        load_checkpoint(path)
    assert not (tmp_path / "evil-was-here").exists()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_checkpoint(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "text.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "empty.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="not a checkpoint of this project"):
        load_checkpoint(tmp_path / "list.pt")
    save_checkpoint(tmp_path / "good.pt", {"kind": "rl.ppo", "w": torch.zeros(1000)})
    with pytest.raises(InputError, match=r"kind rl\.ppo, vision\.classifier is needed"):
        load_checkpoint(tmp_path / "good.pt", "vision.classifier")
    content = (tmp_path / "good.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged|not a checkpoint"):
        load_checkpoint(tmp_path / "cut.pt")
    with pytest.raises(InputError, match="is a directory: name a file, in a run's directory check"):
        load_checkpoint(tmp_path)
