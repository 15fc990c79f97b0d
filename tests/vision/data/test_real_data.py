"""MNIST and CIFAR-10 themselves, from the test data beside the repository."""

import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from labs.vision.data.datasets import load_dataset
from labs.vision.training import TrainConfig, train_classifier


def test_mnist(shared_data):
    data = load_dataset("mnist", shared_data / "mnist", train_size=12_000)
    assert [len(part) for part in (data.train, data.val, data.test)] == [10_800, 1_200, 10_000]
    assert data.in_shape == (1, 28, 28)
    assert data.test.labels[:8].tolist() == [
        7,
        2,
        1,
        0,
        4,
        1,
        4,
        9,
    ]  # known to all who have seen it
    known = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.test.labels).tolist() == known
    assert data.mean[0] / 255 == pytest.approx(0.1307, abs=0.002)
    assert data.std[0] / 255 == pytest.approx(0.3081, abs=0.002)
    *_, last = train_classifier(TrainConfig("mlp", 2, 128, 1e-3, epochs=3), data=data)
    assert last.metrics["test/accuracy"] > 0.92


@pytest.fixture(scope="module")
def cifar10(shared_data, tmp_path_factory) -> Path:
    """The first 200 training and 40 test images of each class, as an image folder."""
    root = tmp_path_factory.mktemp("cifar10")
    seen: Counter[str] = Counter()
    with tarfile.open(shared_data / "cifar10_jpeg.tar.xz") as tar:
        for member in tar:
            if member.name.endswith(".jpg"):
                _, part, name, file = member.name.split("/")
                seen[f"{part}/{name}"] += 1
                if seen[f"{part}/{name}"] <= {"train": 200, "test": 40}[part]:
                    member.name = f"{part}/{name}/{file}"
                    tar.extract(member, root, filter="data")
    return root


def test_cifar10_as_an_image_folder(cifar10):
    data = load_dataset(str(cifar10), Path("unused"))
    assert [len(part) for part in (data.train, data.val, data.test)] == [1800, 200, 400]
    assert data.in_shape == (3, 32, 32)
    assert len(data.class_names) == 10 and "ship" in data.class_names
    assert set(np.bincount(data.test.labels)) == {40}
    np.testing.assert_allclose(np.array(data.mean) / 255, [0.491, 0.482, 0.447], atol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cnn", "rescnn"])
def test_convolutional_models_learn_cifar10(cifar10, family):
    data = load_dataset(str(cifar10), Path("unused"))
    config = TrainConfig(family, 5, 12, 5e-3, epochs=5, batch_size=50)
    *_, last = train_classifier(config, data=data)
    assert last.metrics["test/accuracy"] > 0.22  # chance is 0.10; four standard deviations are 0.06
