"""Where a pre-trained model's files are: a directory, the hub's cache, or the hub."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from labs.runtime.errors import InputError

TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
WEIGHTS = ("*.safetensors", "*.bin")


def find_pretrained(name: str, option: str, *, weights: bool = True) -> Path:
    """The directory that holds a model's files, which are fetched from the hub if need be.

    Args:
        name: a directory, or a name on the hub.
        option: what gave the name, for the messages.
        weights: whether the weights are needed, or only the tokenizer.

    Raises:
        InputError: there is no such model here or there, or the hub cannot be reached; the message
            says how to get it.
    """
    directory = Path(name).expanduser()
    if directory.is_dir():
        _require_files(directory, option, weights)
        return directory.resolve()
    if directory.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"{option} {name} is no directory: use one with a model, or a hub name")
    return _in_cache(name, weights) or _from_hub(name, option, weights)


def _require_files(directory: Path, option: str, weights: bool) -> None:
    present = ", ".join(sorted(path.name for path in directory.iterdir())[:8]) or "nothing"
    if weights and not ((directory / "config.json").is_file() and _has(directory, WEIGHTS)):
        raise InputError(
            f"{option} {directory} has no model: config.json and model.safetensors are needed, and"
            f" it has {present}"
        )
    if not _has(directory, TOKENIZER_FILES):
        raise InputError(f"{option} {directory} has no tokenizer: it has {present}")


def _has(directory: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(directory.glob(pattern), None) for pattern in patterns)


def _in_cache(name: str, weights: bool) -> Path | None:
    """What an earlier download left, where it is complete."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        path = Path(snapshot_download(name, local_files_only=True))
    except (OSError, HFValidationError):
        return None
    return path if _has(path, WEIGHTS if weights else TOKENIZER_FILES) else None


def _from_hub(name: str, option: str, weights: bool) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    advice = (
        f"on a machine with a network run: hf download {name} --local-dir DIR, bring that directory"
        f" here, and use {option} DIR"
    )
    if not _reachable(constants):  # the hub's own client would try again for half a minute
        raise InputError(
            f"{option} {name} is no directory and not in the hub's cache"
            f" ({constants.HF_HUB_CACHE}), and the hub cannot be reached: {advice}"
        )
    patterns = [*TOKENIZER_FILES, *(["*.safetensors"] if weights else [])]
    try:
        path = _download(name, patterns)
        if weights and not _has(path, WEIGHTS):  # weights of before safetensors
            path = _download(name, [*patterns, "*.bin"])
    except GatedRepoError:
        raise InputError(f"{option} {name} needs permission: hf auth login, or {advice}") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(
            f"{option} {name} is unknown to the hub: use a name as on its pages"
        ) from None
    except (OSError, HfHubHTTPError) as error:
        raise InputError(
            f"{option} {name} cannot be fetched ({_first_line(error)}): {advice}"
        ) from None
    _require_files(path, option, weights)
    return path


def _download(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import constants, snapshot_download

    return Path(snapshot_download(name, allow_patterns=patterns, endpoint=constants.ENDPOINT))


def _reachable(constants: Any) -> bool:
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=10).close()
    except urllib.error.HTTPError:
        return True  # it answers
    except OSError:
        return False
    return True


def load_tokenizer(path: Path, option: str) -> Any:
    """The tokenizer in a directory: a whole one, or GPT-2's ``vocab.json`` and ``merges.txt``.

    Raises:
        InputError: there is none that can be used.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    names = {file.name for file in path.iterdir()}
    bare = {"vocab.json", "merges.txt"} <= names and not {"tokenizer.json", "config.json"} & names
    loader = transformers.GPT2TokenizerFast if bare else transformers.AutoTokenizer
    try:
        return loader.from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise InputError(
            f"{option} {path}: its tokenizer cannot be used: {_first_line(error)}"
        ) from None


def load_causal_model(path: Path, option: str, dtype: Any) -> Any:
    """The causal language model in a directory, on the CPU, in evaluation mode.

    Raises:
        InputError: there is none that can be used. Code that comes with a model is never run.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, dtype=dtype
        )
    except Exception as error:
        raise InputError(
            f"{option} {path} is no causal language model that can be used: {_first_line(error)}"
        ) from None
    return model.eval()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
