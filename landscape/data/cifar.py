"""CIFAR-10 and CIFAR-100 from Python pickles, binary files, or the Hugging Face hub's parquet files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landscape.data.base import Dataset
from landscape.data.files import Layout, find, read, verify
from landscape.data.images import Raw, check_counts, images_dataset
from landscape.data.parquet import read_images
from landscape.data.pickles import read_pickle
from landscape.errors import DataError

_PIXELS = 3 * 32 * 32
_PICKLES, _BINARY, _PARQUET = "Python pickles", "binary files", "parquet files"
_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


@dataclass(frozen=True)
class _Kind:
    """What distinguishes the two data sets.

    Attributes:
        name: of the data set.
        classes: how many.
        layouts: where its files lie.
        sums: MD5 of the pickles, as in torchvision.datasets.cifar.
        label: key of the labels in pickles and parquet files, per layout.
        label_bytes: bytes in front of each binary image; the last is the label.
    """

    name: str
    classes: int
    layouts: tuple[Layout, ...]
    sums: dict[str, str]
    label: dict[str, str]
    label_bytes: int


def _layouts(
    name: str, train: list[str], test: str, binary_train: list[str], python: str, binary: str
) -> tuple[Layout, ...]:
    def files(train: list[str], test: str) -> dict[str, tuple[str, ...]]:
        roles = {f"train {i}": file for i, file in enumerate(train)} | {"test": test}
        return {role: (file,) for role, file in roles.items()}

    hub = [f"datasets--{owner}{name}/snapshots/*/{name}" for owner in ("", "uoft-cs--")]
    hub += [
        f"datasets--{owner}{name}/snapshots/*/{folder}"
        for owner in ("", "uoft-cs--")
        for folder in ("plain_text", "data")
    ]
    # Any folder that begins with the name, as in cifar10-jpeg; a further digit would be another data set's.
    dashed = name.replace("cifar", "cifar-")
    any_folder = (name, dashed, f"{name}[!0-9]*", f"{dashed}[!0-9]*", "")
    return (
        Layout(
            _PICKLES,
            (python, f"{name}-batches-py-target/{python}", f"{python}-target/{python}", *any_folder),
            files(train, test),
        ),
        Layout(_BINARY, (binary, *any_folder), files(binary_train, f"{test}.bin")),
        Layout(_PARQUET, (f"{name}/plain_text", *hub, *any_folder), files(["train-*.parquet"], "test-*.parquet")),
    )


_CIFAR10 = _Kind(
    name="cifar10",
    classes=10,
    layouts=_layouts(
        "cifar10", _BATCHES, "test_batch", [f"{b}.bin" for b in _BATCHES], "cifar-10-batches-py", "cifar-10-batches-bin"
    ),
    sums={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    label={_PICKLES: "labels", _PARQUET: "label"},
    label_bytes=1,
)
_CIFAR100 = _Kind(
    name="cifar100",
    classes=100,
    layouts=_layouts("cifar100", ["train"], "test", ["train.bin"], "cifar-100-python", "cifar-100-binary"),
    sums={"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    label={_PICKLES: "fine_labels", _PARQUET: "fine_label"},
    label_bytes=2,
)


def cifar10(
    *,
    data_dir: Path | None = None,
    allow_mismatch: bool = False,
    limit: int | None = None,
    test_limit: int | None = None,
) -> Dataset:
    """Small photographs: ten classes, inputs (3, 32, 32), 50,000 images to train and 10,000 to test.

    Standardized per channel with the training split's mean and standard deviation; no augmentation. Layouts:

    - Python pickles (cifar-10-batches-py): the published MD5 is checked before anything is unpickled, and then
      only numpy arrays and plain values are;
    - binary files (cifar-10-batches-bin);
    - parquet files with an ``img`` and a ``label`` column, as on the Hugging Face hub; these need the extra
      ``landscape-smoothness[parquet]`` and are decoded once, then cached. Where the images are JPEGs the pixels
      are not the published ones, and the data set's note says so.

    All three must hold the published number of images of each class.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Args:
        data_dir: folder searched first.
        allow_mismatch: take files that are not the published ones, and note it.
        limit: keep the first so many training images; all if None.
        test_limit: keep the first so many test images; all if None.

    Raises:
        DataError: files are missing, damaged, or not the published ones.
    """
    return _load(_CIFAR10, data_dir, allow_mismatch, limit, test_limit)


def cifar100(
    *,
    data_dir: Path | None = None,
    allow_mismatch: bool = False,
    limit: int | None = None,
    test_limit: int | None = None,
) -> Dataset:
    """As ``cifar10``, with 100 (fine) classes; folders cifar-100-python, cifar-100-binary and the hub's cifar100."""
    return _load(_CIFAR100, data_dir, allow_mismatch, limit, test_limit)


def _load(kind: _Kind, data_dir: Path | None, allow: bool, limit: int | None, test_limit: int | None) -> Dataset:
    found = find(kind.name, kind.layouts, data_dir)
    notes = list(found.notes)
    splits: dict[str, Raw] = {}
    for split, expected in (("train", 50_000 // kind.classes), ("test", 10_000 // kind.classes)):
        paths = [path for role, paths in found.files.items() if role.startswith(split) for path in paths]
        if found.layout == _PARQUET:
            splits[split], image_format = read_images(paths, kind.label[_PARQUET], kind.classes)
            if image_format != "PNG":
                notes.append(f"{split} pixels decoded from {image_format} images, so not exactly the published ones")
        else:
            parts = []
            for path in paths:
                content = read(path)
                notes += verify(path, content, kind.sums, allow=allow)
                parts.append((_from_pickle if found.layout == _PICKLES else _from_binary)(kind, path, content))
            pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            splits[split] = pixels.reshape(-1, 3, 32, 32), labels
        notes += check_counts(kind.name, split, splits[split][1], [expected] * kind.classes, allow=allow)
    return images_dataset(
        kind.name,
        splits["train"],
        splits["test"],
        classes=kind.classes,
        limit=limit,
        test_limit=test_limit,
        notes=notes,
    )


def _from_pickle(kind: _Kind, path: Path, content: bytes) -> Raw:
    batch = read_pickle(path, content)
    pixels, labels = batch.get("data"), batch.get(kind.label[_PICKLES])
    if not isinstance(pixels, np.ndarray) or pixels.shape[1:] != (_PIXELS,):
        raise DataError(f"{path} has no array of uint8 with {_PIXELS} values per image under 'data'")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise DataError(f"{path} has no list of {len(pixels)} labels under {kind.label[_PICKLES]!r}")
    if not all(isinstance(label, int) and 0 <= label < kind.classes for label in labels):
        raise DataError(f"{path}: a label lies outside 0..{kind.classes - 1}")
    return pixels, np.array(labels, dtype=np.uint8)


def _from_binary(kind: _Kind, path: Path, content: bytes) -> Raw:
    size = kind.label_bytes + _PIXELS
    if not content or len(content) % size:
        raise DataError(
            f"{path} is damaged: {len(content)} bytes is not a multiple of {size}, the bytes of an image; get it again"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    return records[:, kind.label_bytes :], records[:, kind.label_bytes - 1]
