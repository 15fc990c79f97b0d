"""Does more depth help a plain CNN, and does it help one with residual connections?

Trains a grid of image classifiers, {MLP, CNN, ResCNN} x depths x learning rates x seeds, as parallel
Ray Tune trials. Depth is the number of convolutions in both CNN and ResCNN, so that like is compared
with like.

    python experiments/depth_sweep.py                       # digits, minutes on a laptop, no download
    python experiments/depth_sweep.py --preset paper        # MNIST and CIFAR-10, for GPUs
    python experiments/depth_sweep.py --dataset cifar10 --family cnn rescnn --depth 3 11 21
    python experiments/depth_sweep.py --resume runs/depth_sweep/NAME

What to expect of the default run (54 trials, three seeds each): the plain CNN falls from 97% test
accuracy at 3 convolutions to about 40% at 51, the residual one stays at 96 to 99%. On CIFAR-10 the
reference course saw the same: a plain CNN of 56 convolutions does worse than one of 20, while a
ResCNN of 21 does better than one of 11. --preset paper --family mlp reaches 91.6% on MNIST.

Steps in TensorBoard are epochs. Written to runs/depth_sweep/<run name>/: results.csv (a row per
trial), summary.csv (a row per model), figures/, checkpoints/ (best.pt and last.pt per trial).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from labs.analysis.answers import take_look
from labs.analysis.decisions import ALPHA, Decision
from labs.analysis.report.page import open_run
from labs.rounds import max_seeds, run_until_decided
from labs.runtime.cli import launch
from labs.runtime.directory.runs import Run
from labs.runtime.errors import InputError
from labs.runtime.loop.console import show_table
from labs.runtime.machine.devices import Precision
from labs.runtime.machine.seeds import trial_seeds
from labs.runtime.options import NameOrPath, RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid
from labs.vision.batches import fit_batches
from labs.vision.data.datasets import NAMES, Splits, load_dataset
from labs.vision.depth import figures
from labs.vision.depth import study as depth
from labs.vision.depth.study import DepthTrial, FamilyPlan
from labs.vision.models import FAMILIES, Family

DIGITS = FamilyPlan("digits", (3, 11, 51), (1e-3, 3e-3), epochs=10, batch_size=64, width=16)
CIFAR = FamilyPlan("cifar10", (20, 56), (4e-4,), epochs=30, batch_size=256, width=64)
PLANS: dict[str, dict[Family, FamilyPlan]] = {
    "quick": {
        "mlp": dataclasses.replace(DIGITS, depths=(1, 2, 8), width=128),
        "cnn": DIGITS,
        "rescnn": DIGITS,
    },
    "paper": {
        "mlp": FamilyPlan("mnist", (2,), (1e-4,), epochs=15, batch_size=2048, width=128),
        "cnn": CIFAR,
        "rescnn": dataclasses.replace(CIFAR, depths=(11, 21)),
    },
}

PLANNED = {"depth": "depths", "learning_rate": "learning_rates"} | {
    name: name for name in ("dataset", "epochs", "batch_size", "width")
}
"""Options, and the fields of a plan that they replace."""


@dataclass(frozen=True)
class Config:
    """Options of the depth sweep. Where a value is not given, the preset has one per family."""

    preset: str = "quick"
    """quick (digits, minutes on two cores) or paper (the reference runs on MNIST and CIFAR-10)."""

    family: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--families"])] = FAMILIES
    """Any of mlp, cnn, rescnn."""

    dataset: Annotated[str | None, NameOrPath(NAMES)] = None
    """digits, mnist, fashion-mnist, cifar10, or a folder {train,test}/<class>/ of images."""

    data_dir: Path = Path("data")
    """Where downloaded data sets are kept."""

    depth: Annotated[tuple[int, ...] | None, tyro.conf.arg(aliases=["--depths"])] = None
    """Hidden layers of an MLP, convolutions of a CNN or ResCNN (odd for the latter)."""

    learning_rate: Annotated[
        tuple[float, ...] | None, tyro.conf.arg(aliases=["--learning-rates"])
    ] = None
    """Learning rates of Adam; one trial each."""

    seeds: tuple[int, ...] = (3,)
    """How many seeds each model and learning rate runs with; several numbers are the seeds themselves."""

    until_decided: Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="[MAX]")] = None
    """Add seeds in rounds, to the models that may still be the best on validation data, until one is shown
    to be the best or each has this many. The default number is 20. The probability that any verdict is
    wrong is at most 5% over all rounds."""

    seed: int = 0
    """The run's seed: of the split and of every trial."""

    epochs: int | None = None
    """Passes over the training images."""

    batch_size: int | None = None
    """Images per gradient step."""

    width: int | None = None
    """Channels of a convolution, units of an MLP's hidden layer."""

    train_size: int | None = None
    """Use only this many training images."""

    test_size: int | None = None
    """Use only this many test images."""

    val_fraction: float = 0.1
    """Share of the training images that is held out for validation, which chooses the best."""

    image_size: int | None = None
    """Scale the images to this many pixels square. The default is their own size."""

    precision: Precision = "auto"
    """auto (bfloat16 where the device is faster for it), float32 or bfloat16."""

    augment: bool = False
    """Shift the training images, and mirror them where that keeps the class."""

    batch_norm: bool = True
    """Batch norm after every convolution. MLPs have none."""

    compile: bool = False
    """Compile the models with torch.compile."""

    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def shown_defaults(self) -> dict[str, str]:
        """The preset's values for options that are not given, for ``--help``."""
        plans = PLANS[self.preset]
        shown = {}
        for option, name in PLANNED.items():
            by_value: dict[str, list[str]] = {}
            for family, plan in plans.items():
                value = getattr(plan, name)
                text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                by_value.setdefault(text, []).append(family)
            texts = [f"{value} for {', '.join(families)}" for value, families in by_value.items()]
            shown[option] = "; ".join(texts) if len(by_value) > 1 else next(iter(by_value))
        return shown

    def plans(self) -> dict[Family, FamilyPlan]:
        """The preset's plan of each family, with the options that were given."""
        options = {name: getattr(self, option) for option, name in PLANNED.items()}
        given: dict[str, Any] = {k: value for k, value in options.items() if value is not None}
        plans = PLANS[self.preset]
        chosen: dict[Family, FamilyPlan] = {}
        for name in self.family:
            family = next((known for known in plans if known == name), None)
            if family is None:
                raise InputError(f"`family` {name} is unknown: use {', '.join(plans)}")
            chosen[family] = dataclasses.replace(plans[family], **given)
        if not self.batch_norm and "mlp" in chosen:
            raise InputError("`batch_norm` has no effect on mlp: use --family cnn rescnn")
        return chosen


def main(config: Config) -> int:
    """Train the grid; leave tables, figures and the answers."""
    plans = config.plans()
    most = max_seeds(config.until_decided)
    trials = depth.grid(
        plans,
        trial_seeds(config.seed, config.seeds),
        precision=config.precision,
        augment=config.augment,
        compile=config.compile,
        batch_norm=config.batch_norm,
    )
    data = {
        name: load_dataset(
            name,
            config.data_dir,
            train_size=config.train_size,
            test_size=config.test_size,
            val_fraction=config.val_fraction,
            image_size=config.image_size,
            seed=config.seed,
        )
        for name in dict.fromkeys(plan.dataset for plan in plans.values())
    }
    trials = fit_batches(
        trials, lambda trial: data[trial.dataset], given=config.batch_size is not None
    )

    def run_once(
        trials: Sequence[DepthTrial], runtime: RuntimeOptions
    ) -> tuple[GridResult, Decision | None, Path]:
        with open_run("depth_sweep", config, runtime) as run:
            result = run_grid(
                depth.train,
                trials,
                run=run,
                objective=Objective(
                    depth.METRIC, last_step="epochs", within=("dataset", "family", "depth")
                ),
                shared={"data": data},
                cost=partial(depth.cost, data=data),
            )
            decision = None
            if most is not None:
                configs = depth.group_models(result.table, depth.METRIC)
                decision = take_look(run, configs, "max", planned=most)
            report(result, run, data, ALPHA if decision is None else decision.alpha)
        return result, decision, run.path

    if most is None:
        return run_once(trials, config.runtime)[0].exit_status
    return run_until_decided(run_once, trials, config.runtime, most).exit_status


def report(result: GridResult, run: Run, data: Mapping[str, Splits], alpha: float) -> None:
    """Leave the table, the figures and the answers, whose verdicts are wrong with probability alpha."""
    summary = depth.summarise(result.table, data)
    run.add_table("summary", summary)
    show_table(summary, intervals=("val_accuracy", "test_accuracy"))
    if not result.finished.empty:
        run.add_figure("curves", figures.curves(result.history, result.table))
        run.add_figure("accuracy_against_depth", figures.accuracy_against_depth(result.table))
    test_images = {name: len(splits.test) for name, splits in data.items()}
    sentences = depth.answers(result.table, test_images, alpha)
    best = depth.best_sentence(result.table)
    if best is not None:
        sentences.append(best)
    run.answer("answers", sentences)
    run.say_curves()


if __name__ == "__main__":
    launch(
        main,
        Config,
        presets={name: Config(preset=name) for name in PLANS},
        grows=("family", "depth", "learning_rate", "seeds", "until_decided"),
    )
