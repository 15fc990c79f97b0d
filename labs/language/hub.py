"""Find and load pre-trained models: in a directory, the hub's cache, or on the hub."""

from __future__ import annotations

import contextlib
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labs.runtime.errors import InputError
from labs.runtime.options import expand_user

TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
WEIGHTS = ("*.safetensors", "*.bin")


def find_pretrained(name: str, field: str, *, weights: bool = True) -> Path:
    """The directory that holds a model's files, downloaded from the hub if necessary.

    Args:
        name: a directory, or a name on the hub.
        field: the field that gave the name, for the messages.
        weights: whether the weights are needed, or only the tokenizer.

    Raises:
        InputError: no such model exists locally or on the hub, or the hub cannot be reached; the
            message says how to get it.
    """
    directory = expand_user(name)
    if directory.is_dir():
        _require_files(directory, field, weights)
        return directory.resolve()
    if directory.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(
            f"`{field}` {name} is not a directory: use one with a model, or a hub name"
        )
    return _in_cache(name, weights) or _from_hub(name, field, weights)


def _require_files(directory: Path, field: str, weights: bool) -> None:
    present = ", ".join(sorted(path.name for path in directory.iterdir())[:8]) or "nothing"
    if weights and not ((directory / "config.json").is_file() and _has(directory, WEIGHTS)):
        raise InputError(
            f"`{field}` {directory} has no model: config.json and model.safetensors are needed, and"
            f" it has {present}"
        )
    if not _has(directory, TOKENIZER_FILES):
        raise InputError(f"`{field}` {directory} has no tokenizer: it has {present}")


def _has(directory: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(directory.glob(pattern), None) for pattern in patterns)


def _in_cache(name: str, weights: bool) -> Path | None:
    """What an earlier download left, if it is complete."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        path = Path(snapshot_download(name, local_files_only=True))
    except (OSError, HFValidationError):
        return None
    return path if _has(path, WEIGHTS if weights else TOKENIZER_FILES) else None


def _from_hub(name: str, field: str, weights: bool) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    advice = (
        f"on a machine with a network run: hf download {name} --local-dir DIR, bring that directory"
        f" here, and use `{field}` DIR"
    )
    if not _reachable(constants):  # the hub's own client would retry for half a minute
        raise InputError(
            f"`{field}` {name} is not a directory and not in the hub's cache"
            f" ({constants.HF_HUB_CACHE}), and the hub cannot be reached: {advice}"
        )
    patterns = [*TOKENIZER_FILES, *(["*.safetensors"] if weights else [])]
    try:
        path = _download(name, patterns)
        if weights and not _has(path, WEIGHTS):  # older models have only .bin
            path = _download(name, [*patterns, "*.bin"])
    except GatedRepoError:
        raise InputError(f"`{field}` {name} needs permission: hf auth login, or {advice}") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(
            f"`{field}` {name} is unknown to the hub: use a name as on its pages"
        ) from None
    except (OSError, HfHubHTTPError) as error:
        raise InputError(
            f"`{field}` {name} cannot be downloaded ({first_line(error)}): {advice}"
        ) from None
    _require_files(path, field, weights)
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


def load_tokenizer(path: Path, field: str) -> Any:
    """The tokenizer in a directory: a whole one, or GPT-2's ``vocab.json`` and ``merges.txt``.

    Raises:
        InputError: there is no usable tokenizer.
    """
    transformers = quiet_transformers()
    names = {file.name for file in path.iterdir()}
    bare = {"vocab.json", "merges.txt"} <= names and not {"tokenizer.json", "config.json"} & names
    with explained(f"`{field}` {path}: its tokenizer cannot be used"):
        loader = transformers.GPT2Tokenizer if bare else transformers.AutoTokenizer
        return loader.from_pretrained(path, local_files_only=True)


def load_causal_model(path: Path, field: str, dtype: Any) -> Any:
    """The causal language model in a directory, on the CPU, in evaluation mode.

    Raises:
        InputError: there is no usable model. Code that comes with a model is never run.
    """
    transformers = quiet_transformers()
    with explained(f"`{field}` {path} is not a usable causal language model"):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, dtype=dtype
        )
    return model.eval()


def quiet_transformers() -> Any:
    """The transformers package, without its warnings and progress bars."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


@contextlib.contextmanager
def explained(complaint: str) -> Iterator[None]:
    """Turn what loading a model's files raises into an InputError that begins with ``complaint``.

    Every kind of file fails in its own way (damaged, cut off, unknown architecture, wrong JSON), so
    all errors are caught. One that began in an import is not the model's fault, since code that comes
    with a model is never run: then a package of this installation is broken, and that is said.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if (broken := _failed_import(error)) is not None:
            raise InputError(
                f"this Python installation cannot load models: {first_line(broken)}"
                f" ({type(broken).__name__}, raised while importing a package); reinstall that package"
                " together with torch, torchvision and transformers in the versions of this project"
            ) from error
        raise InputError(f"{complaint}: {first_line(error)}") from None


def _failed_import(error: BaseException) -> BaseException | None:
    """The error, among ``error`` and its causes, that was raised while a module was imported."""
    found, current = None, error.__cause__ or error.__context__
    if isinstance(error, ImportError) or any(
        frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ):
        found = error
    deeper = _failed_import(current) if current is not None else None
    return deeper or found


def first_line(error: BaseException) -> str:
    """An error's message, or its name, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
