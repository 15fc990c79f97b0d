"""How long would a sweep take on the machines of cluster.yaml, and what would it cost?

Nothing is started. The times come from an earlier run, preferably of a single epoch, or from
--seconds-per-epoch:

    python experiments/depth_sweep.py --preset paper --epochs 1 --seeds 1 --run-name one-epoch
    python experiments/plan_sweep.py --run runs/depth_sweep/one-epoch --epochs 30 --repeat 3
    python experiments/plan_sweep.py --trials 10000 --epochs 30 --seconds-per-epoch 12 --nodes 1 8 500

What to expect: a row per kind of machine and number of them, with the time when the longest trials
start first (as sweeps that know their trials' cost do), in grid order, and at best, and the price at
on-demand rates of the date that is printed. Spot instances cost less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labs.cluster.file import default_file
from labs.cluster.plan import measured_durations
from labs.planning import NODE_START, say_prices
from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.machine.resources import Resources


@dataclass(frozen=True)
class Config:
    """Options of the plan."""

    run: Path | None = None
    """Directory of a measured run; its trials are planned."""

    trials: int = 1
    """Number of equal trials, where no run is given."""

    seconds_per_epoch: float | None = None
    """Seconds that one epoch of a trial takes, where no run is given."""

    epochs: int | None = None
    """Epochs (or other steps) per trial. The default is as many as the run had, else 1."""

    repeat: int = 1
    """Plan every trial this many times, for instance for more seeds than were measured."""

    speedup: float = 1.0
    """How many times faster the cluster's machines are than the one that was measured."""

    cpus_per_trial: float = 1.0
    """Cores that each trial asks for."""

    gpus_per_trial: float = 1.0
    """GPUs that each trial asks for, fractions allowed."""

    nodes: tuple[int, ...] = ()
    """Numbers of machines to plan for. The default is 1, 2, 4, ... up to the file's limit."""

    node_start: float = NODE_START
    """Seconds from asking for a machine to its first trial: starting it and installing on it."""

    file: Path = field(default_factory=default_file)
    """The cluster file. The default is cluster.yaml in this directory, else the project's own."""

    def __post_init__(self) -> None:
        if (self.run is None) == (self.seconds_per_epoch is None):
            raise InputError("give either `run` or `seconds_per_epoch`")
        for name, value in (
            ("trials", self.trials),
            ("repeat", self.repeat),
            ("epochs", 1 if self.epochs is None else self.epochs),
            *(("nodes", count) for count in self.nodes),
        ):
            if value < 1:
                raise InputError(f"`{name}` {value} is too small: use 1 or more")
        seconds = 1.0 if self.seconds_per_epoch is None else self.seconds_per_epoch
        for name, number, least in (
            ("seconds_per_epoch", seconds, 0.0),
            ("speedup", self.speedup, 0.0),
            ("cpus_per_trial", self.cpus_per_trial, 0.0),
            ("gpus_per_trial", self.gpus_per_trial, -1e-9),  # 0 is a trial without a GPU
            ("node_start", self.node_start, -1e-9),
        ):
            if not least < number < float("inf"):
                raise InputError(f"`{name}` {number} is not possible: use a positive number")

    def durations(self) -> list[float]:
        """Seconds of each trial, in grid order."""
        if self.run is not None:
            once = measured_durations(self.run, self.epochs)
        else:
            once = [(self.seconds_per_epoch or 0.0) * (self.epochs or 1)] * self.trials
        return [seconds / self.speedup for seconds in once for _ in range(self.repeat)]


def main(config: Config) -> int:
    """Print how long the planned sweep takes, and what it costs."""
    request = Resources(config.cpus_per_trial, config.gpus_per_trial)
    counts = config.nodes or None
    say_prices(config.durations(), request, config.file, counts, config.node_start)
    return 0


if __name__ == "__main__":
    launch(main, Config)
