"""Samples per second of our trainer against the usual loop: the same model on the same batches.

The usual loop is a torchvision data set with ToTensor and Normalize, a ``DataLoader`` with four
workers, float32 and contiguous memory. Ours keeps the images as one uint8 tensor on the device and
chooses its precision. Both train the same seeded model on the same batches in the same order, in turns,
each in its own process, without evaluation. Their mean training losses are compared, to check that both
compute the same. Each row has the ratio of the speeds, the ratio of the processor times per sample, which
other programs on the machine hardly change, and the share of the rate of matrix products or convolutions,
measured on this machine in the same minute.

    python benchmarks/vision_training.py --data-dir data             # MLP on MNIST, CNN on noise
    python benchmarks/vision_training.py --models cnn --cnn-images 1024
"""

from __future__ import annotations

import dataclasses
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, get_start_method, set_start_method
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from labs.runtime.machine.devices import resolve_device, resolve_precision
from labs.runtime.machine.memory import keep_freed_memory
from labs.vision.data.datasets import Images, Splits, channel_statistics, load_dataset
from labs.vision.training import TrainConfig, new_model, train_classifier

# isort: split
# After labs, which lets torchvision import beside a CPU-only build of torch.
from torchvision import transforms
from torchvision.datasets import CIFAR10, MNIST, VisionDataset

WORKERS = 4


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    models: tuple[Literal["mlp", "cnn"], ...] = ("mlp", "cnn")
    """mlp: depth 2 on MNIST, batch 2048. cnn: depth 20, width 64, 32 x 32 colour images."""
    data_dir: Path = Path("data")
    """Directory with MNIST."""
    rounds: int = 3
    """Epochs of each loop, in turns; medians are compared."""
    cnn_images: int = 256
    """Training images per epoch of the CNN."""
    cnn_batch_size: int = 64
    """Images per gradient step of the CNN."""


class Speed(NamedTuple):
    """The speed of a loop."""

    samples: float
    """Samples per second of wall time."""
    processor: float
    """Processor time per sample in seconds, over all cores."""


def in_memory(split: Images, transform: Callable[[Image], Tensor]) -> MNIST | CIFAR10:
    """A torchvision data set with images that are already in memory, read item by item as usual."""
    kind = MNIST if split.images.shape[1] == 1 else CIFAR10
    dataset = kind.__new__(kind)  # its own constructor would read files
    VisionDataset.__init__(dataset, root="", transform=transform)
    if kind is MNIST:
        dataset.data = torch.from_numpy(split.images[:, 0])
        dataset.targets = torch.tensor(split.labels)
    else:
        dataset.data = np.ascontiguousarray(split.images.transpose(0, 2, 3, 1))
        dataset.targets = split.labels.tolist()
    return dataset


class UsualLoop:
    """What most training scripts do."""

    def __init__(self, config: TrainConfig, data: Splits) -> None:
        normalize = transforms.Normalize([m / 255 for m in data.mean], [s / 255 for s in data.std])
        transform = transforms.Compose([transforms.ToTensor(), normalize])
        self.dataset = in_memory(data.train, transform)
        self.device = resolve_device("auto")
        self.batch_size = config.batch_size
        self.model, self.generator = new_model(config, data)
        self.model.to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)

    def epoch(self) -> tuple[float, float]:
        """Mean loss and samples per second of one pass, in the same order as ours."""
        started = time.perf_counter()
        order = torch.randperm(len(self.dataset), generator=self.generator).tolist()
        loader: DataLoader[Any] = DataLoader(
            self.dataset,
            batch_size=self.batch_size,
            sampler=order,
            num_workers=WORKERS,
            pin_memory=self.device.type == "cuda",
        )
        total = 0.0
        self.model.train()
        for images, labels in loader:
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = cross_entropy(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(labels)
        return total / len(order), len(order) / (time.perf_counter() - started)


def processor_seconds() -> float:
    """Processor time of this process and of its child processes that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class LoopProcess:
    """One of the two loops in its own process, because the memory settings are those of a process."""

    def __init__(self, kind: Literal["ours", "usual"], config: TrainConfig, data: Splits) -> None:
        self._process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._process.submit(_begin, kind, config, data, get_start_method()).result()

    def epoch(self) -> tuple[float, Speed]:
        """Mean training loss and speed of the next epoch."""
        return self._process.submit(_epoch).result()

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()


_next_epoch: Callable[[], tuple[float, float]]  # the loop of this process
_count: int


def _begin(kind: str, config: TrainConfig, data: Splits, start_method: str) -> None:
    global _next_epoch, _count
    set_start_method(start_method, force=True)  # otherwise the loader's workers are spawned, too
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more than the cores
    _count = len(data.train)
    if kind == "usual":
        _next_epoch = UsualLoop(config, data).epoch
        return
    keep_freed_memory()  # as every trial does
    reports = train_classifier(config, data=data)

    def ours() -> tuple[float, float]:
        metrics = next(reports).metrics
        return metrics["train/loss"], metrics["time/samples_per_second"]

    _next_epoch = ours


def _epoch() -> tuple[float, Speed]:
    begun = processor_seconds()
    loss, samples = _next_epoch()
    return loss, Speed(samples, (processor_seconds() - begun) / _count)


def compare(config: TrainConfig, data: Splits, rounds: int) -> tuple[Speed, Speed]:
    """Medians of ours and of the usual loop, after one epoch to warm up.

    Raises:
        RuntimeError: the two do not compute the same.
    """
    few = Images(data.val.images[:32], data.val.labels[:32])  # so that evaluation takes no time
    data = dataclasses.replace(data, val=few, test=few)
    loops = [LoopProcess("ours", config, data), LoopProcess("usual", config, data)]
    turns = [[loop.epoch() for loop in loops] for _ in range(rounds + 1)]
    for loop in loops:
        loop.close()
    (ours, _), (usual, _) = turns[0]
    # They differ in precision and in the order of additions, so the losses are only close.
    if abs(usual - ours) > 0.02 * usual:
        raise RuntimeError(f"losses differ: {ours} and {usual}")
    ours_speeds, usual_speeds = (
        [speed for _, speed in side] for side in zip(*turns[1:], strict=True)
    )
    return median_speed(ours_speeds), median_speed(usual_speeds)


def median_speed(speeds: list[Speed]) -> Speed:
    """The median of each of the two numbers."""
    return Speed(
        statistics.median(speed.samples for speed in speeds),
        statistics.median(speed.processor for speed in speeds),
    )


def rate(work: Callable[[], object], flops: float, seconds: float = 2.0) -> float:
    """Operations per second, the best of many repetitions."""
    device, best, end = resolve_device("auto"), float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return flops / best


def machine_rate(kind: str) -> float:
    """FLOP/s of a large matrix product, or of the CNN's convolution, measured in our precision."""
    device = resolve_device("auto")
    options: dict[str, Any] = {"device": device, "dtype": resolve_precision("auto", device)}
    if kind == "mlp":
        left, right = torch.randn(2048, 1024, **options), torch.randn(1024, 1024, **options)
        return rate(lambda: left @ right, 2 * 2048 * 1024 * 1024)
    images = torch.randn(64, 64, 32, 32, **options).to(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3, **options).to(memory_format=torch.channels_last)
    return rate(lambda: conv2d(images, weight, padding=1), 2 * 64 * 64 * 9 * 64 * 32 * 32)


def training_flops(model: nn.Module, in_shape: tuple[int, int, int]) -> float:
    """Operations for one image, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, *in_shape)).sum().backward()
    return counter.get_total_flops() / 2


def noise(count: int) -> Splits:
    """Random 32 x 32 colour images: a CNN trains on them as fast as on CIFAR-10."""
    rng = np.random.default_rng(0)
    sizes = {"train": count, "val": 32, "test": 32}
    splits = {
        name: Images(rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, n))
        for name, n in sizes.items()
    }
    mean, std = channel_statistics(splits["train"].images)
    return Splits("noise", tuple("0123456789"), True, **splits, mean=mean, std=std)


def main(config: Config) -> None:
    """Print one row per model: both speeds, their ratio, and the share of the machine's rate."""
    device = resolve_device("auto")
    precision = str(resolve_precision("auto", device)).removeprefix("torch.")
    print(
        f"{device.type}, {torch.get_num_threads()} threads, {precision}, torch {torch.__version__}"
    )
    print(
        "model, ours samples/s, usual samples/s, ratio, GFLOP/s of training, share of the machine's"
    )
    for name in config.models:
        if name == "mlp":
            data = load_dataset("mnist", config.data_dir)
            plan = TrainConfig("mlp", 2, 128, 1e-4, batch_size=2048, epochs=config.rounds + 1)
        else:
            data = noise(config.cnn_images)
            plan = TrainConfig(
                "cnn", 20, 64, 4e-4, batch_size=config.cnn_batch_size, epochs=config.rounds + 1
            )
        ours, usual = compare(plan, data, config.rounds)
        reached = ours.samples * training_flops(new_model(plan, data)[0], data.in_shape)
        machine = machine_rate(name)
        print(
            f"{name}, {ours.samples:,.0f}, {usual.samples:,.0f},"
            f" {ours.samples / usual.samples:.1f}x, {usual.processor / ours.processor:.1f}x,"
            f" {reached / 1e9:.1f},"
            f" {reached / machine:.0%} of {machine / 1e9:.1f}",
            flush=True,
        )
        if name == "cnn" and device.type == "cpu" and precision == "float32":
            print("this CPU has no bfloat16 instructions: 3x is asked only of those that have")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
