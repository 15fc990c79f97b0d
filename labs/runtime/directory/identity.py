"""Identity of trials (by their resolved configs) and of data (by their content). No Ray."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from labs.runtime.directory.storage import short_name
from labs.runtime.errors import InputError

RESERVED = (
    *("trial", "name", "status", "error", "step", "seconds", "checkpoint"),
    *("peak_gib", "peak_gpu_gib"),
)
"""Columns of the results table; a config must not have fields with these names."""


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """A trial in ``config.json``. Its number and name are fixed when it is created."""

    number: int
    name: str
    identity: str
    config: dict[str, Any]


def plain(value: Any, field: str = "config") -> Any:
    """A value in JSON's types: tuples as lists, absolute paths, enums by value, NumPy as Python.

    Args:
        field: the name in an error message.

    Raises:
        InputError: a value has no such form, for instance a function or a model.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        return {name: plain(getattr(value, name), name) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(part, field) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), field)
    if isinstance(value, (list, tuple)):
        return [plain(part, field) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(part, field) for part in value), key=repr)
    return _plain_scalar(value, field)


def _plain_scalar(value: Any, field: str) -> Any:
    if isinstance(value, enum.Enum):
        return plain(value.value, field)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, PurePath):
        return os.path.abspath(value)
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    raise InputError(
        f"`{field}` is a {type(value).__name__}, which is not allowed in a config: use numbers,"
        " strings, tuples and dataclasses of these"
    )


def identity(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of SHA-256 of a plain config with sorted fields; 1 and 1.0 are equal."""
    text = json.dumps(_canonical(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(part) for key, part in value.items()}
    return [_canonical(part) for part in value] if isinstance(value, list) else value


def require_configs(configs: Sequence[Any]) -> None:
    """Raise if these configs cannot be the trials of a grid.

    Raises:
        InputError: there are none, one is not a frozen dataclass, a field has the name of a column, or
            a value is not hashable.
    """
    if not configs:
        raise InputError("the grid is empty: give every option at least one value")
    for kind in {type(config): None for config in configs}:
        if not dataclasses.is_dataclass(kind):
            raise InputError(f"a config must be a frozen dataclass, not a {kind.__name__}")
        if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # not in typeshed
            raise InputError(
                f"{kind.__name__} is not frozen: decorate it with @dataclass(frozen=True)"
            )
        for field in dataclasses.fields(kind):
            if field.name in RESERVED:
                raise InputError(
                    f"`{field.name}` is a column of every results table: rename the field"
                )
    for config in configs:
        _require_hashable(config)


def _require_hashable(config: Any) -> None:
    """Raise if a value can be changed, since the config must stay what the trial ran with."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        try:
            hash(value)
        except TypeError:
            raise InputError(
                f"`{field.name}` is {_short(value)}, which can be changed after the config was made:"
                " use numbers, strings, tuples and frozen dataclasses of these"
            ) from None


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"a {type(value).__name__}"


def match_trials(
    recorded: Sequence[TrialRecord], configs: Sequence[Any]
) -> tuple[list[TrialRecord], list[Any]]:
    """The trials of a grid, in the order of their numbers, and the config of each.

    A config that is already recorded keeps its number and name. The others get the next numbers, and
    names from the fields that vary within ``configs``.

    Raises:
        InputError: the grid is empty or has a trial twice, or a recorded trial is not in it.
    """
    require_configs(configs)
    plains = [plain(config) for config in configs]
    identities = [identity(config) for config in plains]
    if len(set(identities)) < len(identities):
        raise InputError("the grid has the same trial twice: give no value twice")
    known = {record.identity: record for record in recorded}
    for record in recorded:
        if record.identity not in identities:
            new = [p for p, i in zip(plains, identities, strict=True) if i not in known]
            raise InputError(_missing(record, new))
    labels = _labels(configs, plains)
    width = max(3, len(str(len(configs) - 1)))
    records = list(recorded)
    for config, key, label in zip(plains, identities, labels, strict=True):
        if key not in known:
            number = len(records)
            records.append(TrialRecord(number, f"{number:0{width}d}-{label}", key, config))
    by_identity = dict(zip(identities, configs, strict=True))
    return records, [by_identity[record.identity] for record in records]


def varying_fields(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that differ within a grid, in the order of the dataclass."""
    return [key for key in rows[0] if any(row.get(key) != rows[0][key] for row in rows)]


def _labels(configs: Sequence[Any], plains: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each config: its property ``label``, or what varies in the grid: ``cnn-depth=20-seed=1``."""
    varying = varying_fields(plains)
    labels = []
    for config, row in zip(configs, plains, strict=True):
        parts = [
            row[key] if isinstance(row[key], str) else f"{key}={_word(row[key])}"
            for key in varying
            if key in row
        ]
        own = None if "label" in row else getattr(config, "label", None)  # a property, not a value
        label = own or "-".join(parts) or "trial"
        plain_label = "".join(c if c.isalnum() or c in "-_.=+" else "_" for c in label)
        labels.append(short_name(plain_label[:100]))
    return labels


def _word(value: Any) -> str:
    """A value in a name: several numbers, such as the sizes of layers, are joined by hyphens."""
    return "-".join(map(_word, value)) if isinstance(value, list) else str(value)


def difference_of_grids(then: Sequence[TrialRecord], now: Sequence[TrialRecord]) -> str | None:
    """A sentence if the trials differ from those of the run that is repeated (``then``), else None."""
    before, here = ({record.identity: record for record in records} for records in (then, now))
    lost = [record for record in then if record.identity not in here]
    new = [record.config for record in now if record.identity not in before]
    if not then or not (lost or new):
        return None
    if lost and new:
        field, earlier, later = min((differences(lost[0].config, c) for c in new), key=len)[0]
        example = f"`{field}` is {later} here and {earlier} in its trial {lost[0].name}"
        return f"the trials are not those of the run that is repeated: {example}"
    return f"the run that is repeated has {len(then)} trials, and this one has {len(now)}"


_MISSING = "missing"
_KEEPS = "a run keeps its trials: {}, or start a new run"


def _missing(record: TrialRecord, candidates: Sequence[Mapping[str, Any]]) -> str:
    """An error for a recorded trial that is not in the grid: how it differs from the closest config."""
    advice = "give its values as well as the new ones"
    nearest = min(
        (differences(record.config, candidate) for candidate in candidates), key=len, default=None
    )
    if nearest is None:
        return f"trial {record.name} of the run is not in this grid: {_KEEPS.format(advice)}"
    field, then, now = nearest[0]
    more = f" (and {len(nearest) - 1} more fields differ)" if len(nearest) > 1 else ""
    if _MISSING in (now, then):
        advice = "do not change that"
    found = f"`{field}` is {now} here and {then} in trial {record.name} of the run{more}"
    return f"{found}; {_KEEPS.format(advice)}"


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The fields in which two plain configs differ, each with both values as strings."""
    found: list[tuple[str, str, str]] = []
    for key in [*now, *(key for key in then if key not in now)]:
        old, new = then.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new)
        elif key not in then or key not in now or _canonical(old) != _canonical(new):
            before, after = (repr(s[key]) if key in s else _MISSING for s in (then, now))
            found.append((key, before, after))
    return found


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits that identify data by their content, whatever file they come from."""
    digest = hashlib.blake2b(digest_size=8)
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: hashlib.blake2b, value: Any) -> None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    if isinstance(value, Mapping):
        digest.update(f"mapping{len(value)}".encode())
        for key in sorted(value, key=repr):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, (list, tuple)) or (
        isinstance(value, np.ndarray) and value.dtype.hasobject
    ):
        digest.update(f"sequence{len(value)}".encode())
        for part in value:
            _feed(digest, part)
    else:
        _feed_leaf(digest, value)


def _feed_leaf(digest: hashlib.blake2b, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(f"tensor{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray):
        digest.update(f"array{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif isinstance(value, (str, bytes)):
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        digest.update(f"{type(value).__name__}{len(content)}".encode() + content)
    elif value is None or isinstance(value, (int, float, np.generic, enum.Enum, PurePath)):
        digest.update(f"{type(value).__name__}:{value}".encode())
    else:
        digest.update(type(value).__qualname__.encode())
        try:
            digest.update(pickle.dumps(value))
        except Exception:  # only its type is part of the fingerprint
            return
