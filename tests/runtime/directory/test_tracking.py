"""TensorBoard files read back: tags, steps, hyperparameters, texts, images."""

from __future__ import annotations

import io
import resource
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.utils.tensorboard.summary import scalar

from labs.runtime.directory.events import EventFile
from labs.runtime.directory.runs import open_run
from labs.runtime.directory.tracking import HparamsPage, TrialLog, read_history, read_state
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Objective


def rows(steps: range, slope: float = 1.0) -> list[dict]:
    return [
        {"step": s, "seconds": 0.1 * s, "metrics": {"train/loss": slope / s, "val/accuracy": 0.5}}
        for s in steps
    ]


def events(directory: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def scalars(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(directory).Scalars(tag)]


def test_tags_steps_values_and_hyperparameters(tmp_path: Path) -> None:
    log = TrialLog(tmp_path, {"family": "cnn", "depth": 3, "learning_rate": 0.5, "none": None})
    report = rows(range(1, 2))[0]
    report["texts"] = {"sample": "Nel mezzo"}
    report["histograms"] = {"gradients/conv_first": np.arange(10.0)}
    log.add([report])
    log.add(rows(range(2, 4)))
    assert scalars(tmp_path, "train/loss")[-1][0] == 3  # live: there before the trial has ended
    log.finish("done")
    read = events(tmp_path)
    assert set(read.Tags()["scalars"]) == {"train/loss", "val/accuracy"}
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 0.5), (3, np.float32(1 / 3))]
    assert read.Tags()["histograms"] == ["gradients/conv_first"]
    assert read.Tensors("sample/text_summary")[0].tensor_proto.string_val[0] == b"Nel mezzo"
    plugin = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(plugin).session_start_info
    assert start.hparams["family"].string_value == "cnn"
    assert start.hparams["depth"].number_value == 3
    assert start.hparams["learning_rate"].number_value == 0.5
    plugin = read.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    end = plugin_data_pb2.HParamsPluginData.FromString(plugin).session_end_info
    assert end.status == 1  # success
    assert read_state(tmp_path) == {"status": "done", "error": "", "best_step": None}


def test_the_hparams_page_shows_the_row_of_the_table(tmp_path: Path) -> None:
    """The values of the step that was selected, with that step."""
    log = TrialLog(tmp_path, {"width": 8, "depth": 3}, Objective("val/loss", "min"))
    for step, loss in enumerate([0.5, 0.25, 0.75, 0.125, 2.0], 1):
        metrics = {"train/loss": 10.0 * step, "val/loss": loss}
        report = {"step": step, "seconds": 0.0, "attempt": "a", "metrics": metrics}
        log.add([report], best_step={1: 1, 2: 2, 3: 2}.get(step, 2))  # 4 had no checkpoint
    log.finish("done", best_step=2)
    assert scalars(tmp_path, "best/val/loss") == [(1, 0.5), (2, 0.25)]
    assert scalars(tmp_path, "best/train/loss")[-1] == (2, 20.0)
    assert scalars(tmp_path, "best/step")[-1] == (2, 2.0)


def columns(directory: Path) -> tuple[list[tuple[str, bool]], list[str]]:
    """Names of the hyperparameters, each with whether it varies, and tags of the metrics."""
    plugin = events(directory).SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(plugin).experiment
    names = [(info.name, info.differs) for info in experiment.hparam_infos]
    return names, [info.name.tag for info in experiment.metric_infos]


def test_the_columns_of_the_hparams_page(tmp_path: Path) -> None:
    """Also of configs of several types, of a metric that comes late, and on a disk that was full."""
    configs = [
        {"width": 8, "rate": 0.5, "size": None},
        {"width": 8, "rate": 0.1, "depth": 3, "size": 2},
    ]
    page = HparamsPage(tmp_path, configs, ["rate", "depth"], "eval/score")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        page.add(["train/loss"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    page.add(["train/loss"])
    fields = [("rate", True), ("width", False), ("size", False), ("depth", True)]
    assert columns(tmp_path) == (fields, ["best/eval/score", "best/train/loss"])
    page.add(["eval/score", "b/late"])
    assert columns(tmp_path)[1] == ["best/eval/score", "best/train/loss", "best/b/late"]
    assert len(list(tmp_path.iterdir())) == 1
    HparamsPage(tmp_path, configs, [], None).add(["train/loss"])  # nothing selects
    assert columns(tmp_path) == (
        [(name, False) for name in ("width", "rate", "size", "depth")],
        ["train/loss"],
    )


def test_events_are_written_completely_or_not_at_all(tmp_path: Path) -> None:
    written = EventFile(tmp_path)
    (path,) = tmp_path.iterdir()
    written.add(scalar("a/b", 0.5), 1)
    written.flush()
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 70, limits[1]))  # room for one and a half
    try:
        written.add(scalar("a/b", 0.25), 2)
        written.add(scalar("a/b", 0.75), 3)
        with pytest.raises(OSError, match="File too large"):
            written.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.stat().st_size == size
    written.flush()
    written.close()
    assert scalars(tmp_path, "a/b") == [(1, 0.5), (2, 0.25), (3, 0.75)]


def test_a_report_that_is_sent_again_is_skipped_and_one_of_another_attempt_is_not(
    tmp_path: Path,
) -> None:
    log = TrialLog(tmp_path, {})
    first = [row | {"attempt": "a"} for row in rows(range(1, 6))]
    log.add(first)
    log.add(first[2:4])
    assert [row["step"] for row in log.history] == [1, 2, 3, 4, 5]
    second = [row | {"attempt": "b"} for row in rows(range(3, 5), slope=3.0)]
    log.add([*first[1:2], *second])
    log.finish("done")
    assert [(r["step"], r["attempt"]) for r in read_history(tmp_path)] == [
        *((1, "a"), (2, "a"), (3, "b"), (4, "b"))
    ]
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == [1, 2, 3, 4]


def test_a_step_back_replaces_what_came_after_it(tmp_path: Path) -> None:
    log = TrialLog(tmp_path, {})
    log.add(rows(range(1, 6)))
    log.add(rows(range(3, 5), slope=3.0))  # the trial went back to its checkpoint after step 2
    log.finish("done")
    expected = [(1, 1.0), (2, 0.5), (3, 1.0), (4, 0.75)]
    assert scalars(tmp_path, "train/loss") == expected
    history = read_history(tmp_path)
    assert [(r["step"], r["metrics"]["train/loss"]) for r in history] == expected


def test_many_steps_back_in_one_second_leave_the_last_course(tmp_path: Path) -> None:
    """Each begins a file, and TensorBoard reads a directory's files by name."""
    log = TrialLog(tmp_path, {})
    log.add(rows(range(1, 4)))
    for course in range(12):
        log.add(rows(range(2, 4), slope=10.0 + course))
    log.finish("done")
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 10.5), (3, 7.0)]


def test_a_new_driver_continues_where_the_old_one_was_killed(tmp_path: Path) -> None:
    first = TrialLog(tmp_path, {})
    first.add(rows(range(1, 4)))
    first.close()
    with open(tmp_path / "reports.jsonl", "a") as file:
        file.write('{"step": 4, "sec')
    second = TrialLog(tmp_path, {})
    assert [row["step"] for row in second.history] == [1, 2, 3]
    second.add(rows(range(3, 6), slope=3.0))
    second.finish("done")
    assert [s for s, _ in scalars(tmp_path, "train/loss")] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2, 3, 4, 5]


def test_figures_tables_texts_and_animations(tmp_path: Path) -> None:
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([1, 2])
    frames = [np.full((8, 12, 3), value, dtype=np.uint8) for value in (0, 100, 200)]
    with open_run("test", RuntimeOptions(), RuntimeOptions(run_root=str(tmp_path))) as run:
        run.add_figure("curve", figure)
        numbers = pd.DataFrame({"a": [1, 2], "b": ["x|y", "null"], "error": ["", float("nan")]})
        run.add_table("numbers", numbers)
        run.add_text("answer", "forty-two")
        run.add_animation("robot", frames)
    plt.close(figure)
    read = events(run.path / "tensorboard" / "summary")
    assert set(read.Tags()["images"]) == {"figures/curve", "videos/robot"}
    png = Image.open(run.path / "figures" / "curve.png")
    shown = Image.open(io.BytesIO(read.Images("figures/curve")[0].encoded_image_string))
    assert png.size == shown.size
    assert Image.open(run.path / "figures" / "robot.gif").n_frames == 3
    assert read.Images("videos/robot")[0].encoded_image_string[:3] == b"GIF"
    assert (run.path / "numbers.csv").read_text() == "a,b,error\n1,x|y,\n2,null,\n"
    text = read.Tensors("numbers/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "x\\|y" in text and "error" not in text
    assert read.Tensors("answer/text_summary")[0].tensor_proto.string_val[0] == b"forty-two"
