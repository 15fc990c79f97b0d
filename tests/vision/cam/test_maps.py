"""Class activation maps: the identity, a planted patch, any image, and what is refused."""

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from labs.experiment import sweep
from labs.runtime.checkpoints import load_checkpoint, save_checkpoint
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Checkpoint, Report
from labs.vision.cam import maps as class_activation
from labs.vision.cam.figures import deletion_figure, describe, overlay, overlay_figure
from labs.vision.cam.maps import (
    CamNetwork,
    activation_maps,
    dataset_images,
    deletion,
    explain,
    upsample,
)
from labs.vision.cam.networks import (
    best_checkpoint,
    network_from_checkpoint,
    resnet_features,
    torchvision_network,
)
from labs.vision.data.datasets import Images, Splits, channel_statistics
from labs.vision.depth.study import DepthTrial
from labs.vision.training import TrainConfig, train_classifier

NAMES = ("dark", "patch")


def stirred(model: nn.Module) -> nn.Module:
    """Running statistics as after training, so that evaluation mode is not the identity."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def patches(count: int, seed: int) -> tuple[Images, np.ndarray]:
    """Grey noise 16 x 16, half of it with a bright 3 x 3 patch; and the patch's centre."""
    rng = np.random.default_rng(seed)
    images = rng.integers(40, 90, (count, 1, 16, 16), dtype=np.uint8)
    labels = np.arange(count) % 2
    centres = rng.integers(2, 14, (count, 2))
    for image, label, (row, column) in zip(images, labels, centres, strict=True):
        if label:
            image[0, row - 1 : row + 2, column - 1 : column + 2] = 250
    return Images(images, labels.astype(np.int64)), centres


@pytest.fixture(scope="module")
def patch_data() -> Splits:
    train, _ = patches(400, seed=0)
    val, _ = patches(40, seed=1)
    test, _ = patches(60, seed=2)
    mean, std = channel_statistics(train.images)
    return Splits("patches", NAMES, True, train, val, test, mean, std)


@pytest.fixture(scope="module")
def checkpoint(patch_data, tmp_path_factory):
    """A ResCNN that has learned to find the patch."""
    config = TrainConfig("rescnn", 3, 8, 1e-2, epochs=6, batch_size=40)
    *_, last = train_classifier(config, data=patch_data)
    assert last.metrics["test/accuracy"] > 0.97
    path = tmp_path_factory.mktemp("cam") / "best.pt"
    save_checkpoint(path, last.checkpoint())
    return path


@pytest.fixture(scope="module")
def network(checkpoint) -> CamNetwork:
    return network_from_checkpoint(checkpoint)


def as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[0]).convert("RGB")


def test_mean_of_the_map_plus_bias_is_the_logit(network):
    torch.manual_seed(0)
    network = copy.deepcopy(network)
    stirred(network.features)
    images = torch.randn(5, 1, 16, 21)
    classes = torch.tensor([0, 1, 1, 0, 1])
    maps, logits = activation_maps(network, images, classes)
    assert maps.shape == (5, 16, 21)
    with torch.no_grad():
        pooled = network.features(images).mean((2, 3))
    expected = pooled @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    rebuilt = maps.mean((1, 2)) + network.classifier.bias[classes]
    torch.testing.assert_close(rebuilt, expected[torch.arange(5), classes], atol=1e-5, rtol=1e-5)


def test_the_identity_on_a_network_of_torchvision():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = stirred(resnet18(num_classes=7))
    names = tuple("abcdefg")
    network = CamNetwork(
        "r18", resnet_features(model), model.fc, names, 3, 64, (0.0,) * 3, (1.0,) * 3
    )
    images = torch.randn(2, 3, 96, 64)
    maps, logits = activation_maps(network, images)
    with torch.no_grad():
        expected = model(images)  # torchvision's own forward pass
    assert maps.shape == (2, 3, 2)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    rebuilt = maps.mean((1, 2)) + model.fc.bias[expected.argmax(1)]
    torch.testing.assert_close(rebuilt, expected.amax(1), atol=1e-4, rtol=1e-4)


def test_the_map_peaks_at_the_planted_patch(network, patch_data):
    test, centres = patches(60, seed=2)
    hits = []
    for index in range(1, 60, 2):
        found = explain(network, as_image(test.images[index]), "patch")
        assert found.activation.shape == (16, 16)
        peak = np.unravel_index(found.activation.argmax(), (16, 16))
        hits.append(np.abs(np.array(peak) - centres[index]).max() <= 2)
    assert np.mean(hits) > 0.9


def test_removing_the_patch_removes_the_class(network):
    test, _ = patches(60, seed=2)
    found = explain(network, as_image(test.images[1]), "patch")
    deleted = deletion(network, found, steps=16, seed=3)
    assert deleted.fractions[[0, -1]].tolist() == [0, 1]
    for curve in deleted.curves.values():
        assert len(curve) == 17
        assert curve[0] == pytest.approx(found.probabilities[1], abs=1e-5)
        assert curve[-1] == pytest.approx(deleted.curves["most"][-1], abs=1e-6)
    assert deleted.curves["most"][2] < 0.5 < deleted.curves["least"][2]  # an eighth removed
    assert deleted.area("most") < deleted.area("random") < deleted.area("least")
    assert deleted.area("most") < deleted.area("moved") < deleted.area("least")
    steps, curve = deleted.fractions, deleted.curves["most"]
    by_hand = sum((curve[i] + curve[i + 1]) / 2 * (steps[i + 1] - steps[i]) for i in range(16))
    assert deleted.area("most") == pytest.approx(by_hand)
    again = deletion(network, found, steps=16, seed=3)
    for order in ("random", "moved"):
        assert np.array_equal(deleted.curves[order], again.curves[order])
    (panel,) = deletion_figure(deleted, "patch").axes
    lines = {line.get_label(): line.get_ydata() for line in panel.get_lines()}
    area = deleted.area("most")
    assert np.array_equal(lines[f"most important first: area {area:.3f}"], curve)


def test_the_moved_map_removes_the_same_shapes_elsewhere(network, monkeypatch):
    """A map that is all in one corner, on an image of 16 x 21 pixels."""
    found = explain(network, as_image(patches(2, seed=4)[0].images[1]), "patch")
    activation = np.zeros((16, 21), np.float32)
    activation[1:4, 2:6] = np.arange(1, 13).reshape(3, 4)
    inputs = torch.zeros(1, 1, 16, 21)
    found = dataclasses.replace(found, activation=activation, inputs=inputs)
    orders = []

    def keep(network, explanation, order, fractions):
        orders.append(order)
        return np.zeros(len(fractions))

    monkeypatch.setattr(class_activation, "_removal_curve", keep)
    deletion(network, found, random_orders=50, seed=1)
    most, *moved = (order[:12] for order in orders[:51])
    rows, columns = most // 21, most % 21
    assert (rows[0], columns[0]) == (3, 5) and (rows[-1], columns[-1]) == (1, 2)
    shifts = set()
    for order in moved:
        down, right = (order // 21 - rows) % 16, (order % 21 - columns) % 21
        assert len(set(down)) == len(set(right)) == 1  # the same shape, pixel by pixel
        assert 4 <= down[0] <= 12 and 5 <= right[0] <= 15
        shifts.add((down[0], right[0]))
    assert len(shifts) > 20


@pytest.mark.parametrize("tile", [8, 512])
def test_everything_is_computed_on_the_device_of_the_network(network, monkeypatch, tile):
    """``meta`` stands for a GPU: it holds no numbers, but refuses tensors of the CPU as a GPU does."""
    monkeypatch.setattr(class_activation, "_TILE", tile)  # the smaller one: in tiles
    moved = dataclasses.replace(
        network,
        features=copy.deepcopy(network.features),
        classifier=copy.deepcopy(network.classifier),
    ).to(torch.device("meta"))
    assert (network.device.type, moved.device.type) == ("cpu", "meta")
    images = torch.rand(3, network.channels, 16, 16)
    for classes in (None, torch.tensor([0, 1, 0])):
        maps, logits = activation_maps(moved, images, classes)
        here = activation_maps(network, images, classes)
        assert (maps.device.type, logits.device.type) == ("meta", "meta")
        assert (maps.shape, logits.shape) == (here[0].shape, here[1].shape)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_maps_of_the_cpu(network, patch_data):
    on_gpu = dataclasses.replace(
        network,
        features=copy.deepcopy(network.features),
        classifier=copy.deepcopy(network.classifier),
    ).to(torch.device("cuda"))
    ((_, image),) = dataset_images(patch_data, [1])
    found, expected = explain(on_gpu, image, "patch"), explain(network, image, "patch")
    np.testing.assert_allclose(found.activation, expected.activation, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-3)
    curves = deletion(on_gpu, found, seed=3).curves
    for order, curve in deletion(network, expected, seed=3).curves.items():
        np.testing.assert_allclose(curves[order], curve, atol=2e-3)


def test_tiles_are_exact(network, monkeypatch):
    torch.manual_seed(1)
    images = torch.randn(2, 1, 75, 101)
    whole, logits = activation_maps(network, images)
    monkeypatch.setattr(class_activation, "_TILE", 32)
    tiled, tiled_logits = activation_maps(network, images)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tiled_logits, logits, atol=1e-5, rtol=1e-4)
    careless = dataclasses.replace(network, receptive_radius=0)
    assert not torch.allclose(activation_maps(careless, images)[0], whole, atol=1e-3)


def test_large_photographs_are_mapped_at_training_size_or_their_own(network):
    image = Image.fromarray(np.full((90, 120, 3), 60, np.uint8))
    image.paste((255, 255, 255), (100, 20, 104, 24))
    small = explain(network, image)
    assert small.inputs.shape == (1, 1, 16, 21) and small.activation.shape == (16, 21)
    sharp = explain(network, image, "patch", full_resolution=True)
    assert sharp.activation.shape == (90, 120)
    row, column = np.unravel_index(sharp.activation.argmax(), (90, 120))
    assert abs(row - 21.5) <= 4 and abs(column - 101.5) <= 4
    assert overlay(small).shape == overlay(sharp).shape == (90, 120, 3)


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (1, 1)])
@pytest.mark.parametrize("full", [False, True])
def test_images_one_pixel_wide(network, size, full):
    found = explain(network, Image.new("RGB", size, "white"), full_resolution=full)
    assert found.probabilities.sum() == pytest.approx(1)
    assert overlay(found).shape == (size[1], size[0], 3)
    overlay_figure(found, NAMES).savefig("/dev/null", format="png")


def test_the_overlay_is_hot_where_the_map_is(network):
    test, _ = patches(60, seed=2)
    found = explain(network, as_image(test.images[1]), "patch")
    pixels = overlay(found).astype(int)
    peak = np.unravel_index(found.activation.argmax(), (16, 16))
    low = np.unravel_index(found.activation.argmin(), (16, 16))
    grey = np.asarray(found.image.convert("L"), float)
    for place, turbo in ((peak, (122, 4, 3)), (low, (48, 18, 59))):  # the ends of the colour map
        expected = 0.45 * grey[place] + 0.55 * np.array(turbo)
        np.testing.assert_allclose(pixels[place], expected, atol=1.5)
    figure = overlay_figure(found, NAMES, top=2)
    assert figure.get_suptitle() == describe(found, NAMES, 2)
    first, second = np.sort(found.probabilities)[::-1]
    assert describe(found, NAMES, 2) == f"{first:.3f} patch, {second:.3f} dark"


def test_upsampling_is_bilinear_between_centres():
    doubled = upsample(np.array([[0.0, 4.0]], np.float32), 1, 4)
    np.testing.assert_allclose(doubled, [[0, 1, 3, 4]])


def test_images_of_a_data_set(network, patch_data):
    data = dataclasses.replace(patch_data, name="patches")
    trained = dataclasses.replace(network, dataset="patches")
    ((name, image),) = dataset_images(data, [3], trained)
    assert name == "0003-patch"
    assert np.array_equal(np.asarray(image)[..., 1], patch_data.test.images[3, 0])
    with pytest.raises(InputError, match="`index` 60 is outside .* use 0 to 59"):
        dataset_images(data, [60], trained)
    other = dataclasses.replace(data, class_names=("cat", "dog"))
    with pytest.raises(InputError, match="cat, dog, and ResCNN trained on patches knows dark"):
        dataset_images(other, [0], trained)
    with pytest.raises(InputError, match="'cat' is not a class of .*: use dark, patch"):
        explain(network, image, "cat")


def test_an_mlp_has_no_map(patch_data, tmp_path):
    *_, last = train_classifier(TrainConfig("mlp", 1, 8, epochs=1), data=patch_data)
    save_checkpoint(tmp_path / "mlp.pt", last.checkpoint())
    with pytest.raises(
        InputError, match="of an MLP, for which no class activation map exists, since"
    ):
        network_from_checkpoint(tmp_path / "mlp.pt")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize(
    "load", [network_from_checkpoint, lambda p: torchvision_network("resnet18", p)]
)
def test_pickled_code_does_not_run(load, tmp_path):
    torch.save(
        {"kind": "vision.classifier", "x": Trap(str(tmp_path / "sprung"))}, tmp_path / "a.pt"
    )
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(InputError, match="could run code"):
            load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    save_checkpoint(tmp_path / "other.pt", {"kind": "rl.agent"})
    for name, message in (
        ("none.pt", "does not exist"),
        ("text.pt", "checkpoint"),
        ("other.pt", "of kind rl.agent, vision.classifier is needed"),
    ):
        with pytest.raises(InputError, match=message):
            network_from_checkpoint(tmp_path / name)


def scored(config: DepthTrial, resume: Checkpoint | None = None) -> Iterator[Report]:
    """Stands for a training: its accuracy is 1000 times its learning rate, and epoch 2 fails."""
    accuracy = 1000 * config.learning_rate
    yield Report(1, {"val/accuracy": accuracy}, lambda: {"accuracy": accuracy})
    if config.epochs > 1:
        raise RuntimeError("fails")


def run_of(root: Path, *trials: tuple[str, float, int]) -> Path:
    configs = [
        DepthTrial(family=family, depth=3, learning_rate=accuracy / 1000, epochs=epochs)
        for family, accuracy, epochs in trials
    ]
    options = RuntimeOptions(local_mode=True, run_root=str(root), run_name="run", max_failures=0)
    sweep(scored, configs, metric="val/accuracy", options=options)
    return root / "scored" / "run"


@pytest.mark.slow
def test_the_best_checkpoint_of_a_run(tmp_path: Path, without_ray: None) -> None:
    """Neither an MLP, which has no map, nor a trial that failed, nor where the run was before."""
    trials = [("mlp", 0.99, 1), ("cnn", 0.5, 1), ("rescnn", 0.9, 1), ("rescnn", 0.95, 2)]
    moved = run_of(tmp_path / "made", *trials).rename(tmp_path / "moved")
    path = best_checkpoint(moved)
    assert Path(path).is_relative_to(moved)
    assert load_checkpoint(path)["accuracy"] == pytest.approx(0.9)


def test_a_run_without_a_network_that_can_be_explained(tmp_path: Path, without_ray: None) -> None:
    with pytest.raises(InputError, match="has no CNN or ResCNN that has ended"):
        best_checkpoint(run_of(tmp_path, ("mlp", 0.9, 1), ("cnn", 0.8, 2)))
    with pytest.raises(InputError, match="there is no run .*nowhere"):
        best_checkpoint(tmp_path / "nowhere")


def test_torchvision_weights_from_a_file(tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18().eval()
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    network = torchvision_network("resnet18", tmp_path / "resnet18.pth")
    assert len(network.class_names) == 1000 and network.class_names[0] == "tench"
    image = Image.effect_noise((300, 260), 80).convert("RGB")
    found = explain(network, image)
    assert found.inputs.shape == (1, 3, 224, 258)
    pixels = np.asarray(image.resize((258, 224), Image.Resampling.BILINEAR)) / 255
    normalised = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        logits = model(torch.tensor(normalised.transpose(2, 0, 1)[None], dtype=torch.float32))
    np.testing.assert_allclose(found.probabilities, logits.softmax(1)[0], atol=1e-5)
    with pytest.raises(InputError, match="are not those of a resnet34"):
        torchvision_network("resnet34", tmp_path / "resnet18.pth")
    with pytest.raises(InputError, match="`torchvision` alexnet is not a ResNet.*resnet18"):
        torchvision_network("alexnet")
    with pytest.raises(InputError, match="does not exist"):
        torchvision_network("resnet18", tmp_path / "none.pth")


def test_weights_that_cannot_be_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url",
        lambda *args, **options: (_ for _ in ()).throw(OSError("no route")),
    )
    with pytest.raises(
        InputError, match=r"https://.*resnet18.*\.pth elsewhere and name.*`weights`"
    ):
        torchvision_network("resnet18")
