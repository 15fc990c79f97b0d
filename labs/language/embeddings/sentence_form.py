"""How an encoder's token vectors become one vector: what a sentence-transformers directory says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labs.runtime.errors import InputError

Pooling = Literal["mean", "cls"]
PoolingChoice = Literal["auto", "mean", "cls"]


@dataclass(frozen=True)
class SentenceForm:
    """What follows the transformer.

    Attributes:
        pooling: ``mean`` over the real tokens, or ``cls``, the first token.
        normalise: whether vectors are divided by their length.
        refusal: why the directory's own form cannot be applied here; "" if it can.
    """

    pooling: Pooling = "mean"
    normalise: bool = False
    refusal: str = ""


def read_sentence_form(directory: Path) -> SentenceForm:
    """The form that ``modules.json`` names; without such a file the plain mean.

    Understood are a transformer in the directory itself, then a pooling by mean or by the first token,
    then possibly a normalisation. Anything else is given back as a ``refusal``.
    """
    if not (directory / "modules.json").is_file():
        return SentenceForm()
    try:
        modules = [
            (str(module["type"]).rsplit(".", 1)[-1], str(module["path"]))
            for module in _read(directory / "modules.json")
        ]
        prompt = _setting(directory / "config_sentence_transformers.json", "default_prompt_name")
        lower = _setting(directory / "sentence_bert_config.json", "do_lower_case")
        kinds = [kind for kind, _ in modules]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            return SentenceForm(refusal=f"its modules are {', '.join(kinds)}")
        if modules[0][1]:
            return SentenceForm(
                refusal=f"its transformer is in a folder of its own, {modules[0][1]}"
            )
        if prompt is not None:
            return SentenceForm(refusal=f"it puts the prompt {prompt!r} before every text")
        if lower:
            return SentenceForm(refusal="it puts every text into lower case first")
        modes = _pooling_modes(_read(directory / modules[1][1] / "config.json"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return SentenceForm(refusal=f"its modules cannot be read ({type(error).__name__}: {error})")
    if modes not in (["mean"], ["cls"]):
        return SentenceForm(refusal=f"its pooling is {' and '.join(modes) or 'unknown'}")
    return SentenceForm("cls" if modes == ["cls"] else "mean", "Normalize" in kinds)


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _setting(path: Path, name: str) -> Any:
    return _read(path).get(name) if path.is_file() else None


def _pooling_modes(config: dict[str, Any]) -> list[str]:
    """The names of the poolings: newer files have a word, older ones a truth value for each."""
    if "pooling_mode" in config:
        mode = config["pooling_mode"]
        return [mode] if isinstance(mode, str) else [str(name) for name in mode]
    names = {"cls_token": "cls", "mean_tokens": "mean"}
    chosen = [key.removeprefix("pooling_mode_") for key, value in config.items() if value is True
              and key.startswith("pooling_mode_")]  # fmt: skip
    return [names.get(name, name) for name in chosen]


def choose_form(form: SentenceForm, pooling: PoolingChoice, encoder: str) -> SentenceForm:
    """The encoder's own form, or the plain transformer with the pooling that the user wants.

    Raises:
        InputError: the encoder's own form is wanted, and cannot be applied here.
    """
    if pooling != "auto":
        return SentenceForm(pooling)
    if form.refusal:
        raise InputError(
            f"`encoder` {encoder} is a sentence-transformers directory that is not applied as it is"
            f" meant: {form.refusal}; use `pooling` mean or cls for its transformer alone"
        )
    return form
