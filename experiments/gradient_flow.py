"""Do gradients vanish in a deep plain CNN, and do residual connections keep them alive?

The plain and the residual CNN of the same number of convolutions see the same training batches in
the same order, and every weight layer's mean absolute gradient is recorded at every batch.

    python experiments/gradient_flow.py                              # digits, about a minute
    python experiments/gradient_flow.py --dataset cifar10 --depth 11 51 --width 64

Steps in TensorBoard are batches. Written to runs/gradient_flow/<run name>/: ratios.csv (the
classifier's gradient, residual / plain, and first / last convolution within each network),
figures/classifier.png and figures/layers.png, results.csv (a row per trial).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from labs.analysis.report.page import open_run
from labs.runtime.cli import launch
from labs.runtime.loop.console import show_table
from labs.runtime.machine.seeds import trial_seeds
from labs.runtime.options import NameOrPath, RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.sweep import run_grid
from labs.vision.batches import fit_batches
from labs.vision.data.datasets import NAMES, load_dataset
from labs.vision.gradient_flow import summary as gradient_report
from labs.vision.gradient_flow.measurement import GradientFlowConfig, record_gradients
from labs.vision.models import Family

BATCH_SIZE = 30
"""Where none is given. A smaller training set is one batch."""


@dataclass(frozen=True)
class Config:
    """Options of the gradient flow experiment."""

    family: Annotated[tuple[Family, ...], tyro.conf.arg(aliases=["--families"])] = ("cnn", "rescnn")
    """cnn, rescnn or both."""

    depth: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--depths"])] = (11, 21, 25, 51)
    """Convolutions (odd for rescnn)."""

    batches: int = 150
    """Gradient steps per network."""

    batch_size: int | None = None
    """Images per gradient step."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    width: int = 16
    """Channels of a convolution."""

    batch_norm: bool = True
    """Batch norm after every convolution."""

    seeds: tuple[int, ...] = (3,)
    """How many networks per family and depth, each with a seed of its own; several numbers are the seeds themselves."""

    seed: int = 0
    """The run's seed: of the batches, which all networks share, and of the networks."""

    dataset: Annotated[str, NameOrPath(NAMES)] = "digits"
    """digits, mnist, fashion-mnist, cifar10, or a folder {train,test}/<class>/ of images."""

    data_dir: Path = Path("data")
    """Where downloaded data sets are kept."""

    train_size: int | None = None
    """Use only this many training images."""

    image_size: int | None = None
    """Scale the images to this many pixels square. The default is their own size."""

    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def shown_defaults(self) -> dict[str, str]:
        """What ``--help`` shows where an option is not given."""
        return {"batch_size": str(BATCH_SIZE)}

    def trials(self) -> list[GradientFlowConfig]:
        """All networks."""
        return [
            GradientFlowConfig(
                family=family,
                depth=depth,
                width=self.width,
                learning_rate=self.learning_rate,
                batches=self.batches,
                batch_size=BATCH_SIZE if self.batch_size is None else self.batch_size,
                seed=seed,
                batch_seed=self.seed,
                batch_norm=self.batch_norm,
            )
            for depth in self.depth
            for family in self.family
            for seed in trial_seeds(self.seed, self.seeds)
        ]


def main(config: Config) -> int:
    """Run all models over the same batches; leave figures, the table and the sentences."""
    trials = config.trials()
    data = load_dataset(
        config.dataset,
        config.data_dir,
        train_size=config.train_size,
        image_size=config.image_size,
        seed=config.seed,
    )
    trials = fit_batches(trials, lambda trial: data, given=config.batch_size is not None)
    with open_run("gradient_flow", config, config.runtime) as run:
        result = run_grid(
            record_gradients,
            trials,
            run=run,
            objective=Objective(last_step=config.batches),
            shared={"data": data},
            cost=lambda trial: trial.depth,  # all else is the same in all networks
        )
        ratios = gradient_report.ratios(
            gradient_report.trial_gradients(result.history, result.table)
        )
        if len(ratios):
            run.add_table("ratios", ratios)
            show_table(ratios)
            run.add_figure(
                "classifier", gradient_report.classifier_figure(result.history, result.table)
            )
            run.add_figure("layers", gradient_report.layer_figure(result.history, result.table))
            run.answer("findings", gradient_report.findings(ratios))
        run.say_curves()
    return result.exit_status


if __name__ == "__main__":
    launch(main, Config, grows=("family", "depth", "seeds"))
