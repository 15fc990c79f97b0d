"""MNIST, Fashion-MNIST and CIFAR-10: downloaded once, verified, read."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labs.runtime.directory.download import download_once, read_url
from labs.runtime.errors import InputError
from labs.vision.data.folders import RawSplits


def load_mnist(data_dir: Path, name: str) -> RawSplits:
    """MNIST or Fashion-MNIST from ``data_dir/<name>/raw/*.gz``, downloaded where absent.

    Args:
        data_dir: torchvision's root.
        name: ``MNIST`` or ``FashionMNIST``, torchvision's class names.

    Raises:
        InputError: a file is truncated or altered, cannot be downloaded, or cannot be written.
    """
    from torchvision import datasets  # takes seconds, and only the driver needs it

    source = getattr(datasets, name)
    folder = data_dir / name / "raw"
    content = {
        file: fetch(folder / file, [mirror + file for mirror in source.mirrors], md5)
        for file, md5 in source.resources
    }

    def parse(file: str, ndim: int) -> np.ndarray:
        """The uint8 array of ``ndim`` dimensions in an IDX file."""
        raw = gzip.decompress(content[f"{file}-ubyte.gz"])
        shape = np.frombuffer(raw, ">i4", count=ndim, offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)

    return RawSplits(
        parse("train-images-idx3", 3)[:, None],
        parse("train-labels-idx1", 1).astype(np.int64),
        parse("t10k-images-idx3", 3)[:, None],
        parse("t10k-labels-idx1", 1).astype(np.int64),
        tuple(source.classes) if name == "FashionMNIST" else tuple("0123456789"),
    )


def load_cifar10(data_dir: Path) -> RawSplits:
    """CIFAR-10 from ``data_dir/cifar-10-python.tar.gz``, or unpacked beside it as torchvision does.

    The batches are pickles: they are read only after their checksum has been verified.

    Raises:
        InputError: a file is truncated or altered, cannot be downloaded, or cannot be written.
    """
    from torchvision.datasets import CIFAR10

    unpacked = data_dir / CIFAR10.base_folder
    meta = CIFAR10.meta
    listed = [*CIFAR10.train_list, *CIFAR10.test_list, [meta["filename"], meta["md5"]]]
    archive_path = data_dir / CIFAR10.filename
    if unpacked.is_dir() and not archive_path.exists():
        content = {file: fetch(unpacked / file, [], md5) for file, md5 in listed}
    else:
        archive = fetch(archive_path, [CIFAR10.url], CIFAR10.tgz_md5)
        content = _read_members(archive, CIFAR10.base_folder, [file for file, _ in listed])

    def batches(files: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [N, 3, 32, 32] and labels int64 [N] of all these files."""
        entries = [pickle.loads(content[file], encoding="latin1") for file, _ in files]
        images = np.concatenate([entry["data"] for entry in entries]).reshape(-1, 3, 32, 32)
        return images, np.concatenate([entry["labels"] for entry in entries]).astype(np.int64)

    names = pickle.loads(content[meta["filename"]], encoding="latin1")[meta["key"]]
    return RawSplits(
        *batches(CIFAR10.train_list),
        *batches(CIFAR10.test_list),
        tuple(names),
    )


def _read_members(archive: bytes, folder: str, files: Sequence[str]) -> dict[str, bytes]:
    content = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for file in files:
            member = tar.extractfile(f"{folder}/{file}")
            assert member is not None  # the archive's checksum is right, so this is a file
            content[file] = member.read()
    return content


def fetch(path: Path, urls: Sequence[str], md5: str) -> bytes:
    """The verified content of ``path``, downloaded from the first of ``urls`` that answers.

    However many processes ask at once, one downloads; the file appears when it is complete.

    Raises:
        InputError: the file is altered, cannot be downloaded, or cannot be written.
    """
    if urls:
        try:
            download_once(path, lambda: _download(path, urls, md5))
        except OSError as error:
            raise InputError(
                f"`data_dir`: {error.filename or path.parent} cannot be written"
                f" ({error.strerror or error}); name a directory that can, or use `dataset` digits,"
                " which needs none"
            ) from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    if hashlib.md5(content).hexdigest() != md5:
        raise InputError(
            f"{path} is truncated or altered (its MD5 checksum is not {md5}): remove"
            f" {path if urls else path.parent}, and it is downloaded again"
        )
    return content


def _download(path: Path, urls: Sequence[str], md5: str) -> bytes:
    print(f"downloading {path.name} into {path.parent}", flush=True)
    for url in urls:
        try:
            content = read_url(url)
        except OSError:
            continue
        if hashlib.md5(content).hexdigest() == md5:
            return content
    raise InputError(
        f"cannot download {path.name}: without a network, get {' or '.join(urls)} elsewhere"
        f" and put it into {path.parent}; `dataset` digits needs no download"
    )
