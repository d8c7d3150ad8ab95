"""MNIST and Fashion-MNIST from IDX files, gzipped or not, or Keras' mnist.npz."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from landscape.data.base import Dataset
from landscape.data.files import Found, Layout, find, read, verify
from landscape.data.images import Pixels, Raw, check_counts, images_dataset
from landscape.errors import DataError

_FILES = {
    f"{split} {what}": (
        f"{prefix}-{what}-idx{rank}-ubyte.gz",
        f"{prefix}-{what}-idx{rank}-ubyte",
        f"{prefix}-{what}.idx{rank}-ubyte",
    )
    for split, prefix in (("train", "train"), ("test", "t10k"))
    for what, rank in (("images", 3), ("labels", 1))
}
_MNIST = (
    Layout("IDX files", ("MNIST/raw", "MNIST", "mnist", ""), _FILES),
    Layout("Keras' archive", (".", ""), {"all": ("mnist.npz",)}),
)
_FASHION = (Layout("IDX files", ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion_mnist", ""), _FILES),)

# MD5 as in torchvision.datasets.mnist, SHA-256 as in keras.datasets.mnist.
_MNIST_SUMS = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "mnist.npz": "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
}
_FASHION_SUMS = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
# Images of each class: the two data sets use the same file names, and plain files have no published checksum.
_MNIST_COUNTS = (
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
)
_FASHION_COUNTS = ((6000,) * 10, (1000,) * 10)


def mnist(
    *,
    data_dir: Path | None = None,
    allow_mismatch: bool = False,
    limit: int | None = None,
    test_limit: int | None = None,
) -> Dataset:
    """Handwritten digits: ten classes, inputs (1, 28, 28), 60,000 images to train and 10,000 to test.

    Read from the four IDX files (gzipped or not; torchvision's MNIST/raw, MNIST, mnist, or a folder named by the
    user) or from Keras' mnist.npz. Standardized by one mean and one standard deviation of the training split.

    Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits.

    Args:
        data_dir: folder searched first.
        allow_mismatch: take files that are not the published ones, and note it.
        limit: keep the first so many training images; all if None.
        test_limit: keep the first so many test images; all if None.

    Raises:
        DataError: files are missing, damaged, or not the published ones.
    """
    found = find("mnist", _MNIST, data_dir)
    return _load("mnist", found, _MNIST_SUMS, _MNIST_COUNTS, allow_mismatch, limit, test_limit)


def fashion_mnist(
    *,
    data_dir: Path | None = None,
    allow_mismatch: bool = False,
    limit: int | None = None,
    test_limit: int | None = None,
) -> Dataset:
    """Images of clothes: ten classes, inputs (1, 28, 28), 60,000 images to train and 10,000 to test.

    Read from the four IDX files in torchvision's FashionMNIST/raw, Keras' fashion-mnist, or a folder named by
    the user. Arguments and errors as for ``mnist``.

    Source: H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST", 2017.
    """
    found = find("fashion-mnist", _FASHION, data_dir)
    return _load("fashion-mnist", found, _FASHION_SUMS, _FASHION_COUNTS, allow_mismatch, limit, test_limit)


def read_idx(path: Path, content: bytes, rank: int) -> Pixels:
    """The array in an IDX file of unsigned bytes.

    The format: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each dimension as a big-endian
    32-bit number, then the values in C order.

    Args:
        path: of the file, for messages; unpacked if it ends in .gz.
        content: its bytes.
        rank: the number of dimensions it must have.

    Raises:
        DataError: not an IDX file of bytes and that rank, or truncated, or longer than it says.

    >>> read_idx(Path("labels"), bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), 1)
    array([7, 9], dtype=uint8)
    """
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is not a complete gzip file ({error}); get it again") from error
    magic = bytes([0, 0, 8, rank])
    head = 4 + 4 * rank
    if content[:4] != magic:
        raise DataError(
            f"{path} is not an IDX file of bytes with {rank} dimension(s): "
            f"it starts with {content[:4].hex()}, not {magic.hex()}"
        )
    shape = tuple(np.frombuffer(content[4:head], dtype=">u4").tolist()) if len(content) >= head else ()
    if len(content) < head or len(content) - head != math.prod(shape):
        raise DataError(
            f"{path} is damaged: its header says {shape}, it holds {max(len(content) - head, 0)} bytes of data; "
            "get it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape)


def _load(
    name: str,
    found: Found,
    sums: dict[str, str],
    counts: tuple[tuple[int, ...], tuple[int, ...]],
    allow: bool,
    limit: int | None,
    test_limit: int | None,
) -> Dataset:
    notes = list(found.notes)
    contents = {}
    for role, (path, *_) in found.files.items():
        contents[role] = read(path)
        notes += verify(path, contents[role], sums, allow=allow)
    if "all" in contents:
        train, test = _from_npz(found.files["all"][0])
    else:
        arrays = {
            role: read_idx(found.files[role][0], contents[role], 3 if "images" in role else 1) for role in contents
        }
        train, test = ((arrays[f"{split} images"], arrays[f"{split} labels"]) for split in ("train", "test"))
    for split, raw, expected in (("train", train, counts[0]), ("test", test, counts[1])):
        if raw[0].shape[1:] != (28, 28):
            raise DataError(f"data {name!r}, {split} split: images are {raw[0].shape[1:]}, not (28, 28)")
        if len(raw[0]) != len(raw[1]):
            raise DataError(f"data {name!r}, {split} split: {len(raw[0])} images but {len(raw[1])} labels")
        notes += check_counts(name, split, raw[1], expected, allow=allow)
    return images_dataset(
        name,
        (train[0][:, None], train[1]),
        (test[0][:, None], test[1]),
        classes=10,
        limit=limit,
        test_limit=test_limit,
        notes=notes,
    )


def _from_npz(path: Path) -> tuple[Raw, Raw]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[key] for key in ("x_train", "y_train", "x_test", "y_test")]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not Keras' archive of MNIST ({error}); get it again") from error
    for array, rank in zip(arrays, (3, 1, 3, 1), strict=True):
        if array.dtype != np.uint8 or array.ndim != rank:
            raise DataError(
                f"{path} holds an array of {array.dtype}, shape {array.shape}; expected uint8 of {rank} dimension(s)"
            )
    x_train, y_train, x_test, y_test = arrays
    return (x_train, y_train), (x_test, y_test)
