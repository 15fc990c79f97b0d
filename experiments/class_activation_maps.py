r"""Where does a network look? Class activation maps, exact, over the original images.

    python experiments/class_activation_maps.py                # trains a small ResCNN on the digits
    python experiments/class_activation_maps.py --run runs/depth_sweep/NAME --index 3 18
    python experiments/class_activation_maps.py --checkpoint best.pt --images photo.jpg \
        --class-name ship --full-resolution
    python experiments/class_activation_maps.py --torchvision resnet18 --images photo.jpg --deletion

For any network that ends in global average pooling and a dense layer (Zhou et al., 2016,
arXiv:1512.04150): the spatial mean of a map plus the bias is the class's logit. --deletion measures
how far to trust a map: the class's probability as the most and the least important pixels are removed.
With a meaningful map it falls faster than with the same map moved elsewhere, which removes areas of the
same shapes. (Scattered random pixels are shown too. They are noise, which upsets some networks more.)

Written to runs/class_activation_maps/<run name>/: figures/ (a PNG per image, also among
TensorBoard's images) and maps.csv (a row per image).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro
from PIL import Image

from labs.analysis.report.page import open_run
from labs.runtime.cli import launch
from labs.runtime.directory.runs import Run
from labs.runtime.errors import InputError, require
from labs.runtime.loop.console import say, show_table
from labs.runtime.machine.devices import resolve_device
from labs.runtime.options import NameOrPath, RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.sweep import run_grid
from labs.vision.cam.figures import deletion_figure, describe, overlay_figure
from labs.vision.cam.maps import CamNetwork, dataset_images, deletion, explain
from labs.vision.cam.networks import best_checkpoint, network_from_checkpoint, torchvision_network
from labs.vision.data.datasets import NAMES, Splits, load_dataset
from labs.vision.data.folders import ImagesDifferInSize
from labs.vision.data.images import read_image
from labs.vision.training import TrainConfig, train_classifier

WITHOUT_TRIALS = ("run_root", "run_name", "resume", "local_mode")
"""Runtime options that have an effect when no network is trained."""


@dataclass(frozen=True)
class Config:
    """Options of the class activation maps."""

    checkpoint: Annotated[str | None, NameOrPath()] = None
    """Checkpoint of a CNN or ResCNN. If no network is given, one is trained on the digits first; only
    this training uses Ray and the options for trials."""

    run: Path | None = None
    """Directory of a depth sweep, whose best CNN or ResCNN is used."""

    torchvision: str | None = None
    """A torchvision ResNet trained on ImageNet, for instance resnet18."""

    weights: Path | None = None
    """File with the weights of --torchvision. The default is to download them."""

    images: tuple[Path, ...] = ()
    """Image files of any size. The default is images of a data set."""

    dataset: Annotated[str | None, NameOrPath(NAMES)] = None
    """digits, mnist, fashion-mnist, cifar10, or a folder {train,test}/<class>/ of images. The
    default is what the network was trained on."""

    index: tuple[int, ...] = (0, 1, 2, 3)
    """Which test images of the data set."""

    data_dir: Path = Path("data")
    """Where downloaded data sets are kept."""

    image_size: int | None = None
    """Scale the images of the data set to this many pixels square. The default is their own size, or
    where they differ in size, that of the images that the network was trained on."""

    class_name: str | None = None
    """Class of the maps. The default is each image's most probable one."""

    top: int = 3
    """How many classes to name with their probabilities."""

    full_resolution: bool = False
    """Keep the images' own size instead of scaling them to the training size: a sharper map."""

    deletion: bool = False
    """Measure how far to trust each map, by removing pixels."""

    device: str = "auto"
    """Where maps and the deletion test are computed: auto (a GPU if there is one), cpu or cuda."""

    seed: int = 0
    """Seed of the network that is trained, and of the random pixels that --deletion removes."""

    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.checkpoint, self.run, self.torchvision)) > 1:
            raise InputError("give only one of --checkpoint, --run and --torchvision")
        if self.weights is not None and self.torchvision is None:
            raise InputError("--weights belong to --torchvision: name the model, such as resnet18")
        if self.deletion and self.full_resolution:
            raise InputError("--deletion works at the training size: leave --full-resolution out")
        if self.torchvision and not self.images and self.dataset is None:
            raise InputError("--torchvision needs --images or --dataset, for instance photo.jpg")
        if self.images and self.dataset is not None:
            raise InputError("--images and --dataset both name images: use only one")
        require("top", self.top, self.top >= 1, "1 or more")
        if self.named:
            self._require_no_trial_options()
        elif self.dataset not in (None, "digits"):
            raise InputError(
                f"--dataset {self.dataset} needs a network that was trained on it: use --checkpoint or"
                " --run; without one a network is trained on the digits, for these"
            )

    @property
    def named(self) -> bool:
        """Whether a network is given, so that none is trained."""
        return any(given is not None for given in (self.checkpoint, self.run, self.torchvision))

    def _require_no_trial_options(self) -> None:
        """A network that is given is explained in this process, without Ray and without trials."""
        default = RuntimeOptions()
        for option in dataclasses.fields(RuntimeOptions):
            name = option.name
            if name in WITHOUT_TRIALS or getattr(self.runtime, name) == getattr(default, name):
                continue
            raise InputError(
                f"--{name.replace('_', '-')} has no effect: a network is given, and no trial is run"
            )

    def network(self) -> CamNetwork | None:
        """The network that was named, if any."""
        if self.torchvision is not None:
            return torchvision_network(self.torchvision, self.weights)
        if self.run is not None:
            return network_from_checkpoint(best_checkpoint(self.run))
        if self.checkpoint is not None:
            return network_from_checkpoint(self.checkpoint)
        return None


def train_on_digits(data: Splits, seed: int, run: Run) -> CamNetwork | None:
    """A small ResCNN; None where its training failed."""
    say("no --checkpoint, --run or --torchvision: training a small ResCNN on the digits first")
    plan = TrainConfig("rescnn", 11, 16, 3e-3, epochs=10, batch_size=64, seed=seed)
    result = run_grid(
        train_classifier,
        [plan],
        run=run,
        objective=Objective("val/accuracy"),
        shared={"data": data},
    )
    checkpoint = result.checkpoint(0)
    if result.exit_status or checkpoint is None:
        return None
    say(f"its test accuracy is {100 * result.table['test/accuracy'].iloc[0]:.1f}%")
    return network_from_checkpoint(checkpoint)


def chosen_images(
    config: Config, network: CamNetwork | None
) -> tuple[list[tuple[str, Image.Image]], str]:
    """The images with their names, and the name of their data set (empty for files)."""
    if config.images:
        return [(path.stem, read_image(path)) for path in config.images], ""
    source = config.dataset or (network.dataset if network else None) or "digits"
    load = partial(load_dataset, source, config.data_dir, seed=config.seed)
    try:
        data = load(image_size=config.image_size)
    except ImagesDifferInSize:
        if network is None:
            raise
        data = load(image_size=network.size)
    return dataset_images(data, config.index, network), source


def main(config: Config) -> int:
    """Draw the maps of all images, and the deletion curves if requested."""
    device = resolve_device(config.device)
    given = config.network()
    origin = given or load_dataset("digits", config.data_dir, seed=config.seed)
    pictures, source = chosen_images(config, given)
    known = origin.class_names
    if config.class_name is not None and config.class_name not in known:
        raise InputError(
            f"--class-name {config.class_name} is unknown: use {', '.join(known[:10])}"
        )
    with open_run("class_activation_maps", config, config.runtime) as run:
        if isinstance(origin, CamNetwork):
            network = origin
        elif (trained := train_on_digits(origin, config.seed, run)) is not None:
            network = trained
        else:
            return 1
        network = network.to(device)
        images = f"{len(pictures)} image{'s' * (len(pictures) != 1)}"
        say(f"{network.name}: maps of {images}{source and ' of ' + source}, into {run.path}")
        rows = [draw_image(config, network, run, *entry) for entry in enumerate(pictures)]
        table = pd.DataFrame(rows)
        run.add_table("maps", table)
        show_table(table)
    return 0


def draw_image(
    config: Config, network: CamNetwork, run: Run, number: int, picture: tuple[str, Image.Image]
) -> dict[str, Any]:
    """Save the figures of one named image in the run; returns its row of the table."""
    name, image = picture
    label = f"{number:03d}-{name}"
    found = explain(network, image, config.class_name, config.full_resolution)
    path = run.add_figure(label, overlay_figure(found, network.class_names, config.top))
    row: dict[str, Any] = {
        "image": name,
        "top": describe(found, network.class_names, config.top),
        "map_of": network.class_names[found.class_index],
    }
    if config.deletion:
        deleted = deletion(network, found, seed=config.seed)
        run.add_figure(f"{label}-deletion", deletion_figure(deleted, row["map_of"]))
        row |= {f"area_{order}": deleted.area(order) for order in deleted.curves}
    say(f"{name}: {row['top']} -> {path}")
    return row


if __name__ == "__main__":
    launch(main, Config)
