"""The classifier's training: it learns, repeats itself, resumes, and refuses."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from labs.runtime.checkpoints import save_checkpoint
from labs.runtime.errors import InputError
from labs.vision.data import preprocessing
from labs.vision.data.datasets import Images, Splits, load_dataset
from labs.vision.data.preprocessing import DeviceImages, Preprocessor, augment
from labs.vision.training import TrainConfig, load_classifier, train_classifier

SMALL = TrainConfig(family="rescnn", depth=3, width=8, learning_rate=1e-2, epochs=4, batch_size=32)


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load_dataset("digits", Path("unused"), train_size=300, test_size=100)


def frozen_copy(split: Images) -> Images:
    """As the object store hands it to a trial: read-only."""
    images, labels = split.images.copy(), split.labels.copy()
    images.flags.writeable = labels.flags.writeable = False
    return Images(images, labels)


def metrics(reports):
    """Without the speed, which is never the same twice."""
    return [
        {tag: value for tag, value in report.metrics.items() if not tag.startswith("time/")}
        for report in reports
    ]


@pytest.mark.parametrize(
    "family, depth, width, learning_rate",
    [("mlp", 2, 64, 1e-2), ("cnn", 5, 16, 1e-2), ("rescnn", 5, 16, 1e-2)],
)
def test_every_family_overfits_32_images(digits, family, depth, width, learning_rate):
    few = Images(digits.train.images[:32], digits.train.labels[:32])
    data = dataclasses.replace(digits, train=few, val=few)
    config = TrainConfig(
        family, depth, width, learning_rate=learning_rate, epochs=100, batch_size=32
    )
    *_, last = train_classifier(config, data=data)
    assert last.metrics["train/accuracy"] == 1.0
    assert last.metrics["train/loss"] < 0.02
    assert last.metrics["val/accuracy"] == 1.0  # in evaluation mode, with the running statistics


@pytest.mark.parametrize("augmented", [False, True])
def test_same_seed_same_numbers(digits, augmented):
    config = dataclasses.replace(SMALL, augment=augmented)
    state = torch.get_rng_state()
    first = metrics(train_classifier(config, data=digits))
    torch.manual_seed(99)  # whatever else the process draws
    second = metrics(train_classifier(config, data=digits))
    other = metrics(train_classifier(dataclasses.replace(config, seed=1), data=digits))
    assert first == second
    assert first != other
    torch.set_rng_state(state)
    list(train_classifier(config, data=digits))
    assert torch.equal(torch.get_rng_state(), state)


def test_resuming_equals_an_uninterrupted_training(digits, tmp_path):
    config = dataclasses.replace(SMALL, augment=True)
    whole = list(train_classifier(config, data=digits))
    assert [report.step for report in whole] == [1, 2, 3, 4]
    final = whole[-1].checkpoint()

    half = train_classifier(config, data=digits)
    next(half)
    save_checkpoint(tmp_path / "second", next(half).checkpoint())
    checkpoint = torch.load(tmp_path / "second", weights_only=True)
    for _ in range(2):  # the checkpoint itself stays as it was
        rest = list(train_classifier(config, checkpoint, data=digits))
        assert [report.step for report in rest] == [3, 4]
        assert metrics(rest) == metrics(whole[2:])
    for name, weights in rest[-1].checkpoint()["weights"].items():
        assert torch.equal(weights, final["weights"][name]), name
    assert list(train_classifier(config, final, data=digits)) == []


def test_resuming_refuses_another_model(digits):
    *_, last = train_classifier(SMALL, data=digits)
    deeper = dataclasses.replace(SMALL, depth=5)
    with pytest.raises(InputError, match="'depth': 3"):
        next(train_classifier(deeper, last.checkpoint(), data=digits))


def test_without_batch_norm_it_is_another_model(digits, tmp_path):
    config = dataclasses.replace(SMALL, batch_norm=False, epochs=2, learning_rate=3e-3)
    *_, last = train_classifier(config, data=digits)
    path = tmp_path / "last.pt"
    save_checkpoint(path, last.checkpoint())
    loaded = load_classifier(path)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in loaded.model.modules())
    with pytest.raises(InputError, match="'batch_norm': False"):
        next(train_classifier(SMALL, last.checkpoint(), data=digits))


def test_a_checkpoint_that_does_not_name_batch_norm_has_it(digits):
    _, *rest = metrics(train_classifier(SMALL, data=digits))
    checkpoint = next(train_classifier(SMALL, data=digits)).checkpoint()
    del checkpoint["model"]["batch_norm"]
    assert metrics(train_classifier(SMALL, checkpoint, data=digits)) == rest


def test_read_only_arrays_are_used_as_they_are(digits, recwarn):
    data = dataclasses.replace(digits, train=frozen_copy(digits.train))
    on_device = DeviceImages(data.train, torch.device("cpu"))
    assert on_device.images.data_ptr() == data.train.images.ctypes.data
    assert metrics(train_classifier(SMALL, data=data)) == metrics(
        train_classifier(SMALL, data=digits)
    )
    assert not recwarn.list


def test_images_without_room_on_the_device_stay_on_the_host(digits, monkeypatch):
    asked = []

    def mem_get_info(device):
        asked.append(device)
        return 1000, 80_000

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    cuda = torch.device("cuda")
    assert [preprocessing.has_room(size, cuda) for size in (500, 501)] == [True, False]
    assert preprocessing.has_room(10**15, torch.device("cpu")) and asked == [cuda, cuda]
    sizes = []

    def no_room(size, device):
        sizes.append(size)
        return False

    monkeypatch.setattr(preprocessing, "has_room", no_room)
    away = DeviceImages(digits.train, torch.device("meta"))  # any device that is not this one
    assert sizes == [digits.train.images.nbytes]
    assert (away.images.device.type, away.labels.device.type) == ("cpu", "cpu")
    for part in (*away.take(torch.tensor([3, 1])), *next(away.batches(5))):
        assert part.device.type == "meta"
    here = DeviceImages(digits.train, torch.device("cpu"))
    rows = np.random.default_rng(0).permutation(len(here))[:9]
    images, labels = here.take(torch.from_numpy(rows))
    np.testing.assert_array_equal(images, digits.train.images[rows])
    np.testing.assert_array_equal(labels, digits.train.labels[rows])
    parts = list(here.batches(100))
    assert max(len(labels) for _, labels in parts) == 100
    np.testing.assert_array_equal(torch.cat([p[0] for p in parts]), digits.train.images)
    np.testing.assert_array_equal(torch.cat([p[1] for p in parts]), digits.train.labels)


def test_reported_numbers_are_those_of_the_checkpoint(digits, tmp_path):
    config = dataclasses.replace(SMALL, precision="float32")  # as the network is used below
    *_, last = train_classifier(config, data=digits)
    save_checkpoint(tmp_path / "model", last.checkpoint())
    classifier = load_classifier(tmp_path / "model")
    assert classifier.class_names == digits.class_names
    assert classifier.in_shape == (1, 8, 8)
    assert classifier.dataset == "digits"
    mean, std = np.array(classifier.mean), np.array(classifier.std)
    for name, split in (("val", digits.val), ("test", digits.test)):
        pixels = (split.images - mean[:, None, None]) / std[:, None, None]
        with torch.no_grad():
            logits = classifier.model(torch.tensor(pixels, dtype=torch.float32))
        labels = torch.tensor(split.labels)
        accuracy = (logits.argmax(1) == labels).double().mean()
        assert last.metrics[f"{name}/accuracy"] == pytest.approx(float(accuracy))
        loss = float(cross_entropy(logits, labels))
        assert last.metrics[f"{name}/loss"] == pytest.approx(loss, rel=1e-4)


def test_load_classifier_refuses_a_checkpoint_without_a_model(tmp_path):
    save_checkpoint(tmp_path / "model", {"kind": "vision.classifier", "model": {"family": "cnn"}})
    with pytest.raises(InputError, match="damaged"):
        load_classifier(tmp_path / "model")


def test_a_loss_that_is_not_finite_names_epoch_batch_and_learning_rate(digits):
    config = dataclasses.replace(SMALL, family="mlp", learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"epoch 1, batch [2-9] at learning rate 1e\+30"):
        list(train_classifier(config, data=digits))


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), float("inf")])
def test_learning_rates_that_are_refused(rate):
    with pytest.raises(InputError, match="`learning_rate`"):
        TrainConfig(learning_rate=rate)


def test_preprocessing_normalises_each_channel():
    images = torch.randint(0, 256, (64, 3, 5, 7), dtype=torch.uint8)
    mean = images.double().mean((0, 2, 3))
    std = images.double().std((0, 2, 3), correction=0)
    preprocess = Preprocessor(tuple(mean.tolist()), tuple(std.tolist()), torch.device("cpu"))
    normalised = preprocess(images)
    expected = (images.double() - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(normalised.double(), expected, atol=1e-5, rtol=1e-5)
    assert normalised.is_contiguous(memory_format=torch.channels_last)


def test_augmentation_shifts_and_flips_but_keeps_pixels():
    images = torch.zeros(400, 1, 16, 16, dtype=torch.uint8)
    images[:, :, 8, 5] = 255
    generator = torch.Generator().manual_seed(0)
    shifted = augment(images, generator, flip=False)
    assert (shifted.flatten(1).sum(1) == 255).all()
    rows, columns = shifted[:, 0].nonzero()[:, 1], shifted[:, 0].nonzero()[:, 2]
    assert set(rows.tolist()) == set(range(6, 11))  # by up to 16 // 8 = 2 either way
    assert set(columns.tolist()) == set(range(3, 8))
    flipped = augment(images, generator, flip=True)[:, 0].nonzero()[:, 2]
    assert set(flipped.tolist()) == set(range(3, 8)) | set(range(8, 13))
    assert 140 < int((flipped >= 8).sum()) < 260  # half of them


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights(digits):
    config = dataclasses.replace(SMALL, precision="bfloat16", epochs=3)
    *_, low = train_classifier(config, data=digits)
    *_, full = train_classifier(dataclasses.replace(config, precision="float32"), data=digits)
    assert low.metrics["train/loss"] != full.metrics["train/loss"]
    assert low.metrics["train/loss"] == pytest.approx(full.metrics["train/loss"], rel=0.1)
    assert low.checkpoint()["weights"]["classifier.weight"].dtype == torch.float32
