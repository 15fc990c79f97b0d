"""Plans: the scheduling rule against its bounds and by hand, prices, and a real run."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import pytest
from procedures import TimedConfig, timed

from labs.cluster.file import default_file
from labs.cluster.plan import (
    INSTANCES,
    ClusterFile,
    longest_first,
    lower_bound,
    measured_durations,
    plan,
    read_cluster_file,
    simulate,
)
from labs.runtime.directory.runs import open_run
from labs.runtime.errors import InputError
from labs.runtime.machine.resources import Resources
from labs.runtime.options import RuntimeOptions
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid

ROOT = Path(__file__).parent.parent.parent
UNEQUAL = [1.0, 1.0, 1.5, 1.0, 2.0, 1.5, 5.0]


def test_schedules_by_hand() -> None:
    assert simulate([1, 1, 1, 1, 4], 2, 1).makespan == 6  # the long one is left alone at the end
    assert simulate([4, 1, 1, 1, 1], 2, 1).makespan == 4
    assert simulate([3, 2, 2], 1, 2).node_ends == [3, 4]
    assert simulate([3], 4, 2).node_ends == [3, 0]
    assert simulate([2, 2], 2, 2).node_ends == [2, 2]  # spread, not packed
    # Graham's example of the worst case: 4/3 - 1/(3 m) of the best time.
    assert simulate([5, 5, 4, 4, 3, 3, 3], 1, 3).makespan == 11
    assert lower_bound([5, 5, 4, 4, 3, 3, 3], 3) == 9


def test_longest_first_keeps_grahams_bound_and_beats_the_grid_order_on_average() -> None:
    generator = random.Random(0)
    ratios = []
    for _ in range(200):
        durations = [generator.lognormvariate(0, 1) for _ in range(generator.randint(3, 40))]
        slots, nodes = generator.randint(1, 3), generator.randint(1, 4)
        bound = lower_bound(durations, slots * nodes)
        sorted_ = simulate(longest_first(durations), slots, nodes).makespan
        unsorted = simulate(durations, slots, nodes).makespan
        assert bound - 1e-9 <= sorted_
        assert bound - 1e-9 <= unsorted <= (2 - 1 / (slots * nodes)) * bound + 1e-9
        ratios.append(sorted_ / unsorted)
    assert sum(ratios) / len(ratios) < 0.93


def test_the_best_order_of_few_trials_is_not_beaten_by_much() -> None:
    durations = [7, 6, 5, 4, 3, 2]
    best = min(simulate(order, 2, 1).makespan for order in itertools.permutations(durations))
    assert simulate(longest_first(durations), 2, 1).makespan <= 4 / 3 * best


def test_ten_thousand_trials_on_five_hundred_nodes_within_a_second_of_work() -> None:
    cluster = read_cluster_file(ROOT / "cluster.yaml")
    durations = [60.0 + index % 977 for index in range(10_000)]
    begun = time.process_time()  # what others do on this machine does not count
    table = plan(durations, Resources(1, 0.5), cluster, [500])
    assert time.process_time() - begun < 1
    row = table[table["kind"] == "t4"].iloc[0]
    assert row["at_once"] == 1000
    assert row["hours"] * 3600 == pytest.approx(lower_bound(durations, 1000), rel=0.05)


def test_the_price_by_hand() -> None:
    """Two machines, an hour and half an hour of work, five idle minutes and six to start, each."""
    cluster = ClusterFile(
        INSTANCES["m6i.large"], {"t4": INSTANCES["g4dn.xlarge"]}, {"t4": 2}, 300.0
    )
    table = plan([1800.0, 3600.0], Resources(1, 1), cluster, [2], node_start=360.0)
    row = table.iloc[0]
    assert row["hours"] == pytest.approx(1.1)
    assert row["node_hours"] == pytest.approx(1.5 + 2 * 11 / 60)
    assert row["dollars"] == pytest.approx(0.526 * (1.5 + 22 / 60) + 0.096 * 1.1)


def test_the_clusters_file_and_what_fits() -> None:
    cluster = read_cluster_file(ROOT / "cluster.yaml")
    assert cluster.idle_seconds == 300
    table = plan([10.0] * 9, Resources(1, 1), cluster)
    assert list(table.loc[table["kind"] == "t4", "nodes"]) == [1, 2, 4, 8]
    assert list(table.loc[table["kind"] == "a10g_x4", "at_once"]) == [4, 8]
    assert set(plan([10.0], Resources(1, 4), cluster)["kind"]) == {"a10g_x4"}
    with pytest.raises(InputError, match="1 CPU and 9 GPU, and fits on no kind"):
        plan([10.0], Resources(1, 9), cluster)


def test_without_a_file_of_its_own_a_directory_has_the_project_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_file() == ROOT / "cluster.yaml"
    (tmp_path / "cluster.yaml").touch()
    assert default_file().resolve() == tmp_path / "cluster.yaml"


def test_a_file_with_an_unknown_type_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "cluster.yaml").read_text().replace("g5.xlarge", "x9.huge")
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match="x9.huge.*use one of"):
        read_cluster_file(tmp_path / "c.yaml")
    with pytest.raises(InputError, match="No such file"):
        read_cluster_file(tmp_path / "d.yaml")


def run_timed(tmp_path: Path, name: str, **arguments: object) -> GridResult:
    """Run ``UNEQUAL`` two at a time, by a clock of their own."""
    configs = [
        TimedConfig(i, seconds, str(tmp_path / f"{name}.clock"), len(UNEQUAL))
        for i, seconds in enumerate(UNEQUAL)
    ]
    runtime = RuntimeOptions(run_root=str(tmp_path), run_name=name, max_concurrent=2)
    with open_run("timed", configs[0], runtime) as run:
        result = run_grid(timed, configs, run=run, **arguments)
    assert result.exit_status == 0
    return result


@pytest.mark.slow
@pytest.mark.usefixtures("private_ray")
def test_the_plan_agrees_with_a_real_run_and_longest_first_shortens_it(tmp_path: Path) -> None:
    in_order = run_timed(tmp_path, "grid-order").table
    assert in_order["clock/now"].max() == simulate(UNEQUAL, 2, 1).makespan == 9
    begun = in_order.set_index("trial")["clock/begun"]
    assert set(begun[begun == 0].index) == {0, 1}
    assert begun.idxmax() == 6
    by_cost = run_timed(tmp_path, "sorted", cost=lambda config: config.duration).table
    assert list(by_cost["trial"]) == list(range(len(UNEQUAL)))  # rows stay in grid order
    assert by_cost["clock/now"].max() == simulate(longest_first(UNEQUAL), 2, 1).makespan == 7
    begun = by_cost.set_index("trial")["clock/begun"]
    assert set(begun[begun == 0].index) == {6, 4}


def test_epochs_scale_what_was_measured(tmp_path: Path) -> None:
    for index, (step, seconds) in enumerate([(2, 3.0), (4, 8.0)]):
        trial = tmp_path / "tensorboard" / f"{index:03d}-x"
        trial.mkdir(parents=True)
        (trial / "reports.jsonl").write_text(
            f'{{"step": {step}, "seconds": {seconds}, "metrics": {{}}}}\n'
        )
    assert measured_durations(tmp_path) == [3.0, 8.0]
    assert measured_durations(tmp_path, steps=30) == [45.0, 60.0]
    with pytest.raises(InputError, match="no trial that has reported"):
        measured_durations(tmp_path / "tensorboard")
