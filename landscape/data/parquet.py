"""CIFAR images from parquet files as the Hugging Face hub lays them out: encoded images and labels."""

from __future__ import annotations

import hashlib
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from landscape.data.cache import cached
from landscape.data.files import read
from landscape.data.images import Pixels, Raw
from landscape.errors import DataError

_TAG = 8  # bytes at the head of a cached entry: the image formats met, e.g. b"JPEG    "
_SHAPE = (3, 32, 32)


def read_images(paths: list[Path], label: str, classes: int) -> tuple[Raw, str]:
    """All images of some parquet files, in order, decoded or from the cache of decoded images.

    Columns: ``img``, a struct with ``bytes``, each a PNG or JPEG of 32x32; and the labels, int64. The cache's
    key is the SHA-256 of the files, so a hit needs neither pyarrow nor pillow.

    Args:
        paths: the files.
        label: the column of labels.
        classes: labels lie in 0..classes-1.

    Returns:
        Pixels (N, 3, 32, 32) and labels (N,), uint8; and the image format, "PNG", "JPEG" or "MIXED".

    Raises:
        DataError: a file is damaged, lacks a column, or holds something else than 32x32 images; or pyarrow or
            pillow is not installed.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(read(path)).digest())
    key = f"parquet-v1-{label}-{digest.hexdigest()}"
    entry = cached(key, lambda: _decode(paths, label, classes))
    data = np.frombuffer(entry, dtype=np.uint8, offset=_TAG)
    number = len(data) // (1 + int(np.prod(_SHAPE)))
    return (data[number:].reshape(-1, *_SHAPE), data[:number]), entry[:_TAG].decode().strip()


def _decode(paths: list[Path], label: str, classes: int) -> bytes:
    labels: list[int] = []
    pixels: list[Pixels] = []
    formats: set[str] = set()
    for path in paths:
        for row, (encoded, value) in enumerate(_rows(path, label)):
            if not isinstance(value, int) or not 0 <= value < classes:
                raise DataError(f"{path}, row {row}: label {value!r} lies outside 0..{classes - 1}")
            image, kind = _image(path, row, encoded)
            labels.append(value)
            pixels.append(image)
            formats.add(kind)
    if not labels:
        raise DataError(f"{', '.join(map(str, paths))}: no rows")
    tag = formats.pop() if len(formats) == 1 else "MIXED"
    return tag.ljust(_TAG).encode() + bytes(labels) + np.stack(pixels).tobytes()


def _rows(path: Path, label: str) -> list[tuple[Any, Any]]:
    arrow = _extra("pyarrow", path)
    parquet = _extra("pyarrow.parquet", path)
    try:
        table = parquet.read_table(path, columns=["img", label])
        missing = {"img", label} - set(table.column_names)
        if missing:
            raise DataError(f"{path} has no column {sorted(missing)}; expected img and {label}")
        images, labels = table["img"].to_pylist(), table[label].to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path} can't be read as parquet ({error}); get it again") from error
    encoded = [image.get("bytes") if isinstance(image, dict) else None for image in images]
    return list(zip(encoded, labels, strict=True))


def _image(path: Path, row: int, encoded: Any) -> tuple[Pixels, str]:
    image_module = _extra("PIL.Image", path)
    if not isinstance(encoded, bytes):
        raise DataError(f"{path}, row {row}: no image bytes in img.bytes; only embedded images can be read")
    try:
        with image_module.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
            if image.size != _SHAPE[1:]:  # before any pixel is decoded
                raise DataError(f"{path}, row {row}: the image is {image.size[0]}x{image.size[1]}, not 32x32")
            array = np.asarray(image.convert("RGB"), dtype=np.uint8)
            return array.transpose(2, 0, 1), str(image.format)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}, row {row}: the image can't be decoded ({error}); get the file again") from error


def _extra(module: str, path: Path) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DataError(
            f"reading {path} needs {error.name}, which is not installed: pip install 'landscape-smoothness[parquet]'"
        ) from error
