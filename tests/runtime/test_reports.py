"""What a report refuses: in the trial, which fails alone, and not in the driver, which all trials share."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labs.runtime.directory.tracking import TrialLog
from labs.runtime.errors import InputError
from labs.runtime.loop.failures import describe
from labs.runtime.reports import Objective, Report


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"step": 1.5}, ValueError, "step 1.5 is not a whole number"),
        ({"step": 2**63}, ValueError, "is not a whole number"),
        ({"metrics": {"loss": 1.0}}, ValueError, "'loss' is not of the form <split>/<metric>"),
        ({"metrics": {3: 1.0}}, ValueError, "3 is not of the form"),
        ({"metrics": {"val/\udc80": 1.0}}, ValueError, "is not of the form"),
        ({"metrics": {"val/a\n": 1.0}}, ValueError, "is not of the form"),
        ({"metrics": {"val/a": "0.5"}}, ValueError, "'val/a' is str: it must be one number"),
        ({"metrics": {"val/a": None}}, ValueError, "'val/a' is NoneType: it must be one number"),
        ({"metrics": {"val/a": {"b": 1.0}}}, ValueError, "'val/a' is dict: it must be one number"),
        ({"metrics": {"val/a": 1j}}, ValueError, "'val/a' is complex"),
        ({"metrics": {"val/a": np.ones(3)}}, ValueError, "'val/a' is ndarray of shape (3,)"),
        ({"metrics": {"val/a": torch.ones(2, 1)}}, ValueError, "'val/a' is Tensor of shape (2, 1)"),
        ({"checkpoint": torch.nn.Linear(1, 1)}, ValueError, "the checkpoint is Linear: it must be"),
        ({"checkpoint": {"epoch": 1}}, ValueError, "the checkpoint is dict: it must be a function"),
        ({"metrics": {"val/a": float("nan")}}, FloatingPointError, "'val/a' is nan at step 7"),
        ({"texts": {"val/note": 5}}, ValueError, "text 'val/note' is int: it must be a str"),
        ({"texts": {"": "x"}}, ValueError, "text ''"),
        (
            {"histograms": {"h": np.zeros((0, 3))}},
            ValueError,
            "'h' is not an array of at least one",
        ),
        ({"histograms": {"h": np.array(["a"])}}, ValueError, "'h' is not an array of at least one"),
        ({"histograms": {"h": [1.0, np.inf]}}, FloatingPointError, "'h' holds NaN or infinite"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    parts: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        Report(**{"step": 7, "metrics": {"val/b": 1.0}, **parts})
    assert message in str(raised.value)


def test_a_metric_becomes_a_float_without_its_graph(recwarn: pytest.WarningsRecorder) -> None:
    loss = torch.tensor([[2.5]], requires_grad=True) * 3
    metrics = {"a/tensor": loss, "a/numpy": np.float32(0.1), "a/array": np.array(7), "a/whole": 4}
    report = Report(1, metrics | {"a/truth": np.True_})
    assert report.metrics == {
        "a/tensor": 7.5,
        "a/numpy": float(np.float32(0.1)),
        "a/array": 7.0,
        "a/whole": 4.0,
        "a/truth": 1.0,
    }
    assert {type(value) for value in report.metrics.values()} == {float}
    assert not recwarn.list


def test_what_is_accepted_can_be_recorded(tmp_path: Path) -> None:
    shapes = [np.arange(6).reshape(2, 3), np.float16([2.5]), np.array(3, np.uint8), [0.0, -1e30]]
    report = Report(
        np.int64(2**62),
        {"val/a b": np.float32(0.5), "é/ü/ß": True},
        texts={"note": "Nel mezzo \N{SNOWMAN}\0"},
        histograms={f"h{index}": array for index, array in enumerate(shapes)},
    )
    log = TrialLog(tmp_path, {})
    row = {
        "step": int(report.step),
        "seconds": 0.0,
        "metrics": {t: float(v) for t, v in report.metrics.items()},
    }
    arrays = {tag: np.asarray(values) for tag, values in report.histograms.items()}
    log.add([row | {"texts": report.texts, "histograms": arrays}])
    log.finish("done")
    read = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in read.Scalars("é/ü/ß")] == [2**62]
    assert set(read.Tags()["histograms"]) == {"h0", "h1", "h2", "h3"}


def test_an_error_about_a_file_with_an_odd_name_can_be_written() -> None:
    name = b"caf\xe9.txt".decode(sys.getfilesystemencoding(), "surrogateescape")
    described = describe(FileNotFoundError(name))
    assert described["error"] == "FileNotFoundError: caf\\udce9.txt"
    for text in described.values():
        text.encode()


def test_an_error_is_one_line_of_readable_length() -> None:
    text = "CUDA error:\n  out of\tmemory \x1b[31m\x07" + "".join(f" layer.{k}" for k in range(400))
    described = describe(RuntimeError(text))
    assert described["error"].startswith("RuntimeError: CUDA error: out of memory [31m layer.0 ")
    assert described["error"].endswith("...") and len(described["error"]) == 500
    assert "layer.399" in described["traceback"]


def test_the_last_step_is_a_number_or_a_field_that_holds_one() -> None:
    config = SimpleNamespace(epochs=12, name="x")
    given = (None, 7, "epochs")
    assert [Objective(last_step=last).last_step_of(config) for last in given] == [None, 7, 12]
    for field in ("epohcs", "name"):
        with pytest.raises(InputError, match=f"`last_step` '{field}' is not the name of a field"):
            Objective(last_step=field).last_step_of(config)
