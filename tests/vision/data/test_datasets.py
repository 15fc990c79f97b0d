"""Data sets: what is loaded, how it is split, and what is refused."""

import gzip
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labs.runtime.errors import InputError
from labs.vision.data import downloads
from labs.vision.data.datasets import channel_statistics, load_dataset


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes, dark cats and bright dogs, ten training and three test images each."""
    root = tmp_path / "animals"
    rng = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 3)):
        for name, low, suffix in (("cat", 0, "png"), ("dog", 128, "jpg")):
            for index in range(count):
                pixels = rng.integers(low, low + 100, (12, 12, 3), dtype=np.uint8)
                save(root / part / name / f"{index}.{suffix}", pixels)
    return root


def load(name, data_dir="unused", **options):
    return load_dataset(str(name), Path(data_dir), **options)


def test_digits_are_split_once_and_disjointly():
    data = load("digits")
    parts = (data.train, data.val, data.test)
    assert [len(part) for part in parts] == [1294, 144, 359]
    assert data.in_shape == (1, 8, 8)
    assert data.class_names == tuple("0123456789")
    assert not data.flips_keep_class
    for part in parts:
        assert part.images.dtype == np.uint8 and part.images.flags.c_contiguous
        assert part.labels.dtype == np.int64
        share = np.bincount(part.labels, minlength=10) / len(part)
        assert np.abs(share - 0.1).max() < 0.02  # every class in proportion
    everything = np.concatenate([part.images for part in parts])
    assert everything.max() == 255
    assert len(np.unique(everything.reshape(len(everything), -1), axis=0)) == 1797


def test_the_seed_decides_the_validation_images_and_never_the_test_images():
    first, again, other = load("digits", seed=1), load("digits", seed=1), load("digits", seed=2)
    assert np.array_equal(first.val.images, again.val.images)
    assert not np.array_equal(first.val.images, other.val.images)
    assert np.array_equal(first.test.images, other.test.images)


def test_sizes():
    data = load("digits", train_size=200, test_size=50, val_fraction=0.25, image_size=16)
    assert [len(part) for part in (data.train, data.val, data.test)] == [150, 50, 50]
    assert set(np.bincount(data.test.labels)) == {5}
    assert data.in_shape == (1, 16, 16)
    small = load("digits", train_size=200, test_size=50, val_fraction=0.25)
    shrunk = data.test.images.reshape(50, 1, 8, 2, 8, 2).mean((3, 5))
    assert np.abs(shrunk - small.test.images).mean() < 20
    for options, message in (
        ({"train_size": 5000}, "`train_size` 5000 must lie between 2 and the 1438"),
        ({"test_size": 1}, "`test_size` 1"),
        ({"val_fraction": 1.5}, "`val_fraction` 1.5"),
        ({"train_size": 3}, "3 training and 0 validation images"),
        ({"image_size": 0}, "`image_size` 0"),
    ):
        with pytest.raises(InputError, match=message):
            load("digits", **options)


def test_channel_statistics_are_exact():
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 9, 9), dtype=np.uint8)
    images[:, 1] = 7
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.mean((0, 2, 3)))
    np.testing.assert_allclose(std, [images[:, 0].std(), 1.0, images[:, 2].std()])


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="mnist, fashion-mnist, cifar10, or the path"):
        load("cifar100")


def test_a_folder_of_images(folder):
    data = load(folder, val_fraction=0.2)
    assert data.class_names == ("cat", "dog")
    assert data.flips_keep_class
    assert [len(part) for part in (data.train, data.val, data.test)] == [16, 4, 6]
    assert data.in_shape == (3, 12, 12)
    for part in (data.train, data.val, data.test):
        bright = part.images.mean((1, 2, 3)) > 100
        assert np.array_equal(bright, part.labels == 1)
    cat = np.asarray(Image.open(folder / "test" / "cat" / "0.png")).transpose(2, 0, 1)
    assert np.array_equal(data.test.images[0], cat)


def test_folder_images_of_different_sizes_need_a_common_one(folder):
    odd = folder / "train" / "dog" / "wide.png"
    save(odd, np.tile(np.arange(60, dtype=np.uint8)[None, :, None], (20, 1, 3)))
    with pytest.raises(InputError, match=r"wide.png 60 x 20 pixels.*`image_size`"):
        load(folder)
    data = load(folder, image_size=10, val_fraction=0.2)
    assert data.in_shape == (3, 10, 10)
    images = np.concatenate([data.train.images, data.val.images])
    gradient = min(images, key=lambda image: np.ptp(image[0], axis=0).sum())[0].mean(0)
    np.testing.assert_allclose(gradient, np.linspace(20.5, 38.5, 10), atol=1)  # the middle third


def break_image(folder):
    (folder / "test" / "cat" / "1.png").write_bytes(b"not an image")
    return r"test/cat/1\.png is broken"


def truncate_image(folder):
    path = folder / "train" / "dog" / "3.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return r"train/dog/3\.jpg is broken"


def remove_test(folder):
    (folder / "test").rename(folder / "elsewhere")
    return "is not an image folder: it needs test/<class>"


def remove_class(folder):
    for part in ("train", "test"):
        (folder / part / "cat").rename(folder / f"{part}-cat")
    return "holds only the class 'dog'.*at least two"


def rename_class(folder):
    (folder / "test" / "cat").rename(folder / "test" / "lynx")
    return r"different classes \(cat, lynx in only one"


def empty_class(folder):
    (folder / "train" / "bird").mkdir()
    return "train/bird holds no"


def remove_classes(folder):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / part / name).rename(folder / f"{part}-{name}")
    return "no class folder"


@pytest.mark.parametrize(
    "spoil",
    [
        break_image,
        truncate_image,
        remove_test,
        remove_class,
        rename_class,
        empty_class,
        remove_classes,
    ],
)
def test_folders_that_are_refused(folder, spoil):
    message = spoil(folder)
    with pytest.raises(InputError, match=message):
        load(folder)


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"there is no such folder; .*train/<class>"):
        load(tmp_path / "nowhere")


# --- downloads ------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """The format of the MNIST files (http://yann.lecun.com/exdb/mnist)."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """Forty images in the official format, offered by a file:// mirror; data directory and all."""
    from torchvision.datasets import MNIST

    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(0, 256, (40, 28, 28)),
        "train-labels-idx1-ubyte.gz": np.arange(40) % 10,
        "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (20, 28, 28)),
        "t10k-labels-idx1-ubyte.gz": np.arange(20) % 10,
    }
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    resources = []
    for name, array in arrays.items():
        content = idx(array)
        (mirror / name).write_bytes(content)
        resources.append((name, hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", f"file://{mirror}/"])
    return tmp_path / "data", arrays


def test_downloads_happen_once(tiny_mnist, monkeypatch, capsys):
    data_dir, arrays = tiny_mnist
    data = load("mnist", data_dir, val_fraction=0.25)
    assert capsys.readouterr().out.count("downloading") == 4
    assert np.array_equal(data.test.images[:, 0], arrays["t10k-images-idx3-ubyte.gz"])
    assert np.array_equal(data.test.labels, arrays["t10k-labels-idx1-ubyte.gz"])
    assert len(data.train) == 30 and len(data.val) == 10

    def refuse(*args):
        raise AssertionError("downloaded again")

    monkeypatch.setattr(downloads, "_download", refuse)
    again = load("mnist", data_dir, val_fraction=0.25)
    assert np.array_equal(again.train.images, data.train.images)


@pytest.mark.parametrize("spoil", [lambda content: content[:-5], lambda content: content + b"x"])
def test_altered_files_are_refused(tiny_mnist, spoil):
    data_dir, _ = tiny_mnist
    load("mnist", data_dir)
    path = data_dir / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match="t10k-images-idx3-ubyte.gz is truncated or altered"):
        load("mnist", data_dir)


def test_a_mirror_with_other_content_is_refused(tiny_mnist, tmp_path):
    data_dir, _ = tiny_mnist
    (tmp_path / "mirror" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"<html>login</html>")
    with pytest.raises(InputError, match="cannot download t10k-labels-idx1-ubyte.gz"):
        load("mnist", data_dir)
    assert not (data_dir / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").exists()


@pytest.mark.parametrize("name, part", [("mnist", "MNIST/raw"), ("cifar10", "")])
def test_without_a_network(tmp_path, monkeypatch, name, part):
    from torchvision.datasets import CIFAR10, MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    data_dir = tmp_path / "data"
    with pytest.raises(InputError) as error:
        load(name, data_dir)
    assert "http://127.0.0.1:9/" in str(error.value)
    assert f"put it into {data_dir / part}" in str(error.value)
    assert "`dataset` digits needs no download" in str(error.value)
    assert not data_dir.exists()  # nothing is left behind


def test_a_data_directory_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"`data_dir`: .*file.* cannot be written"):
        load("mnist", tmp_path / "file")


@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch):
    """CIFAR-10's archive with twenty images per batch."""
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(0)
    names = ["plane", *(f"class {n}" for n in range(1, 10))]
    members, md5s = {}, {}
    for file, _ in [*CIFAR10.train_list, *CIFAR10.test_list]:
        data = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        members[file] = pickle.dumps({"data": data, "labels": list(range(10)) * 2})
    members["batches.meta"] = pickle.dumps({"label_names": names})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file, content in members.items():
            md5s[file] = hashlib.md5(content).hexdigest()
            info = tarfile.TarInfo(f"{CIFAR10.base_folder}/{file}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    for kind in ("train_list", "test_list"):
        entries = [[file, md5s[file]] for file, _ in getattr(CIFAR10, kind)]
        monkeypatch.setattr(CIFAR10, kind, entries)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5s["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    archive = data_dir / CIFAR10.filename
    archive.write_bytes(buffer.getvalue())
    return archive, members


def test_cifar10_from_its_archive_or_unpacked(tiny_cifar):
    archive, members = tiny_cifar
    data = load("cifar10", archive.parent)
    assert len(data.train) == 90 and len(data.val) == 10 and len(data.test) == 20
    assert data.class_names[0] == "plane" and data.flips_keep_class
    expected = pickle.loads(members["test_batch"])["data"].reshape(-1, 3, 32, 32)
    assert np.array_equal(data.test.images, expected)
    with tarfile.open(archive) as tar:
        tar.extractall(archive.parent, filter="data")
    archive.unlink()
    again = load("cifar10", archive.parent)
    assert np.array_equal(again.train.images, data.train.images)
    batch = archive.parent / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes() + b"x")
    with pytest.raises(InputError, match="data_batch_2 is truncated or altered"):
        load("cifar10", archive.parent)


def test_an_altered_pickle_is_never_opened(tiny_cifar):
    archive, _ = tiny_cifar
    content = bytearray(archive.read_bytes())
    content[100] ^= 1
    archive.write_bytes(bytes(content))
    with pytest.raises(InputError, match="cifar-10-python.tar.gz is truncated or altered"):
        load("cifar10", archive.parent)
