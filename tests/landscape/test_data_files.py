"""IDX, pickled, binary and parquet layouts, written here byte by byte, and what is said about broken ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

import landscape.data.cache as cache
import landscape.data.parquet as parquet
from landscape.data import load_data
from landscape.data.files import find, verify
from landscape.data.idx import _MNIST
from landscape.data.pickles import read_pickle
from landscape.errors import DataError, UsageError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees, or writes to, the real home, cache or working directory."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("LANDSCAPE_DATA", "KERAS_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    return folder


def pixels(n: int, *shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return RNG.integers(0, 256, (n, *shape), dtype=np.uint8)


def labels(n: int, classes: int = 10) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return (np.arange(n) % classes).astype(np.uint8)


def standardized(train: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The documented formula in float64, written the direct way."""
    t = train.astype(np.float64)
    mean, std = t.mean((0, 2, 3), keepdims=True), t.std((0, 2, 3), keepdims=True)
    return np.asarray((x - mean) / std)


# --- IDX


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, *, packed: bool) -> dict[str, np.ndarray[Any, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train-images-idx3-ubyte": pixels(20, 28, 28),
        "train-labels-idx1-ubyte": labels(20),
        "t10k-images-idx3-ubyte": pixels(10, 28, 28),
        "t10k-labels-idx1-ubyte": labels(10),
    }
    for name, array in arrays.items():
        content = idx_bytes(array)
        (folder / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    return arrays


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw"), ("mnist", "")]
)
def test_idx_files_are_read_and_standardized(tmp_path: Path, packed: bool, name: str, folder: str) -> None:
    arrays = write_idx(tmp_path / "d" / folder, packed=packed)
    data = load_data(name, data_dir=tmp_path / "d", allow_mismatch=True)
    x = arrays["train-images-idx3-ubyte"][:, None]
    np.testing.assert_allclose(data.train[0].numpy(), standardized(x, x), atol=1e-6)
    np.testing.assert_allclose(
        data.test[0].numpy(), standardized(x, arrays["t10k-images-idx3-ubyte"][:, None]), atol=1e-6
    )
    assert data.train[1].tolist() == arrays["train-labels-idx1-ubyte"].tolist()
    assert (data.input_shape, data.classes, data.output_size) == ((1, 28, 28), 10, 10)
    assert data.chance_loss == pytest.approx(2.302585092994046)
    assert ("md5" in data.note) == packed
    assert "20 images (published: 60000)" in data.note


def test_the_checksum_is_of_the_data_not_of_its_packing(tmp_path: Path) -> None:
    arrays = write_idx(tmp_path / "plain", packed=False)
    (tmp_path / "packed").mkdir()
    for name, array in arrays.items():
        (tmp_path / "packed" / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    plain, packed = (load_data("mnist", data_dir=tmp_path / d, allow_mismatch=True) for d in ("plain", "packed"))
    short = load_data("mnist", data_dir=tmp_path / "plain", allow_mismatch=True, limit=3)
    assert plain.checksum == packed.checksum == short.checksum
    changed = arrays["train-labels-idx1-ubyte"][::-1]
    (tmp_path / "plain" / "train-labels-idx1-ubyte").write_bytes(idx_bytes(changed))
    assert load_data("mnist", data_dir=tmp_path / "plain", allow_mismatch=True).checksum != packed.checksum


def test_keras_archive(home: Path) -> None:
    folder = home / ".keras" / "datasets"
    folder.mkdir(parents=True)
    x = pixels(20, 28, 28)
    np.savez(folder / "mnist.npz", x_train=x, y_train=labels(20), x_test=x[:10], y_test=labels(10))
    with pytest.raises(DataError, match="sha256"):
        load_data("mnist")
    data = load_data("mnist", allow_mismatch=True)
    np.testing.assert_allclose(data.train[0].numpy(), standardized(x[:, None], x[:, None]), atol=1e-6)


def test_keras_archive_of_objects_is_not_unpickled(home: Path, tmp_path: Path) -> None:
    folder = home / ".keras" / "datasets"
    folder.mkdir(parents=True)
    flag = tmp_path / "executed"
    evil = np.array([Evil(flag)], dtype=object)
    np.savez(folder / "mnist.npz", x_train=evil, y_train=evil, x_test=evil, y_test=evil)
    with pytest.raises(DataError, match="not Keras' archive"):
        load_data("mnist", allow_mismatch=True)
    assert not flag.exists()


def test_published_idx_is_required_unless_allowed(tmp_path: Path) -> None:
    write_idx(tmp_path / "d", packed=False)
    with pytest.raises(DataError, match=r"20 images \(published: 60000\).*allow_mismatch=True"):
        load_data("mnist", data_dir=tmp_path / "d")
    write_idx(tmp_path / "g", packed=True)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz has md5 .*f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        load_data("mnist", data_dir=tmp_path / "g")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], r"damaged: its header says \(20, 28, 28\), it holds 15679"),
        (lambda b: b + b"x", "damaged"),
        (lambda b: b[:9], "damaged"),
        (lambda b: b"", "not an IDX file"),
        (lambda b: b"\x00\x00\x0d\x03" + b[4:], "starts with 00000d03, not 00000803"),
        (lambda b: b"\x00\x00\x08\x01" + b[4:], "starts with 00000801"),
        (lambda b: b"\x00\x00\x08\x03" + b"\xff" * 12 + b[16:], "damaged"),
    ],
)
def test_broken_idx_is_refused_even_if_a_mismatch_is_allowed(tmp_path: Path, change: Any, message: str) -> None:
    write_idx(tmp_path / "d", packed=False)
    path = tmp_path / "d" / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        load_data("mnist", data_dir=tmp_path / "d", allow_mismatch=True)


@pytest.mark.parametrize("change", [lambda b: b[: len(b) // 2], lambda b: b"plain", lambda b: b[:-8] + bytes(8)])
def test_broken_gzip_is_refused(tmp_path: Path, change: Any) -> None:
    write_idx(tmp_path / "d", packed=True)
    path = tmp_path / "d" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match="not a complete gzip file"):
        load_data("mnist", data_dir=tmp_path / "d", allow_mismatch=True)


def test_idx_of_other_sizes_lengths_and_labels(tmp_path: Path) -> None:
    for name, array, message in (
        ("train-images-idx3-ubyte", pixels(20, 14, 14), r"not \(28, 28\)"),
        ("train-labels-idx1-ubyte", labels(19), "20 images but 19 labels"),
        ("train-labels-idx1-ubyte", labels(20) + 5, r"label 14 lies outside 0\.\.9"),
        ("train-images-idx3-ubyte", np.zeros((20, 28, 28), np.uint8), "channel 0 are equal"),
    ):
        write_idx(tmp_path / "d", packed=False)
        (tmp_path / "d" / name).write_bytes(idx_bytes(array))
        with pytest.raises(DataError, match=message):
            load_data("mnist", data_dir=tmp_path / "d", allow_mismatch=True)


# --- finding files


def test_missing_files_say_where_was_searched_and_what_for(tmp_path: Path, home: Path) -> None:
    (tmp_path / "mine" / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "mine" / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_data("mnist", data_dir=tmp_path / "mine")
    text = str(caught.value)
    for part in (
        "--data-dir",
        str(tmp_path / "mine"),
        str(home / "data"),
        str(home / ".keras" / "datasets"),
        str(home / ".cache" / "huggingface" / "hub"),
        "t10k-labels-idx1-ubyte.gz",
        "MNIST/raw",
        f"Incomplete: {tmp_path / 'mine' / 'MNIST' / 'raw'} lacks train-labels-idx1-ubyte.gz",
    ):
        assert part in text


def test_a_named_folder_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"--data-dir is .*nowhere, which is not a folder"):
        load_data("cifar10", data_dir=tmp_path / "nowhere")
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"\$LANDSCAPE_DATA"):
        load_data("cifar10")


def test_roots_are_searched_in_order_and_another_than_asked_for_is_noted(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [home / ".keras/datasets/mnist", home / "data" / "mnist", tmp_path / "env", tmp_path / "named"]
    checksums = []
    for folder in folders:  # the last root first: each one found later has to win
        write_idx(folder, packed=False)
        if folder.name == "env":
            monkeypatch.setenv("LANDSCAPE_DATA", str(folder))
        named = folder if folder.name == "named" else None
        checksums.append(load_data("mnist", data_dir=named, allow_mismatch=True).checksum)
    assert len(set(checksums)) == 4
    (tmp_path / "empty").mkdir()
    data = load_data("mnist", data_dir=tmp_path / "empty", allow_mismatch=True)
    assert data.checksum == checksums[2]
    assert f"not found in {tmp_path / 'empty'}; taken from {tmp_path / 'env'}" in data.note


def test_bare_files_count_only_in_a_folder_that_was_named(home: Path) -> None:
    write_idx(home / "data", packed=False)  # MNIST's or Fashion-MNIST's? their names are the same
    with pytest.raises(DataError, match="not found"):
        load_data("fashion-mnist")
    assert find("mnist", _MNIST, home / "data").layout == "IDX files"


def test_verify_accepts_the_published_file_only() -> None:
    sums = {"a": hashlib.md5(b"content").hexdigest(), "b": hashlib.sha256(b"content").hexdigest()}
    for name in sums:
        assert verify(Path(name), b"content", sums, allow=False) == []
        with pytest.raises(DataError, match="the published file has"):
            verify(Path(name), b"other", sums, allow=False)
        assert len(verify(Path(name), b"other", sums, allow=True)) == 1


# --- CIFAR


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]  # the pure Python one, which can be extended
    """Writes byte strings as Python 2 did, as in the published files."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, obj: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(obj)) + obj)

    dispatch[bytes] = save_bytes


def python2_pickle(value: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


class Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.flag,)


def batch(n: int, x: Any, y: Any) -> dict[bytes, Any]:
    return {b"batch_label": b"training batch", b"labels": [int(v) for v in y], b"data": x.reshape(n, -1)}


def write_cifar10(folder: Path, layout: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Five training batches of 4 images and a test batch of 10; returns all 30 images and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (30, 3, 32, 32), dtype=np.uint8), labels(30)
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        part = slice(4 * i, 4 * i + (4 if i < 5 else 10))
        number = len(y[part])
        if layout == "binary":
            records = np.concatenate([y[part, None], x[part].reshape(number, -1)], axis=1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            dump = python2_pickle if layout == "python 2" else pickle.dumps
            (folder / name).write_bytes(dump(batch(number, x[part], y[part])))
    return x, y


@pytest.mark.parametrize("layout", ["python 2", "python 3", "binary"])
def test_cifar10_layouts_give_the_same_data(tmp_path: Path, layout: str) -> None:
    folder = "cifar-10-batches-bin" if layout == "binary" else "cifar-10-batches-py"
    x, y = write_cifar10(tmp_path / "d" / folder, "pickle" if layout == "python 3" else layout)
    data = load_data("cifar10", data_dir=tmp_path / "d", allow_mismatch=True)
    np.testing.assert_allclose(data.train[0].numpy(), standardized(x[:20], x[:20]), atol=1e-6)
    np.testing.assert_allclose(data.test[0].numpy(), standardized(x[:20], x[20:]), atol=1e-6)
    assert data.train[1].tolist() + data.test[1].tolist() == y.tolist()
    assert data.train[0].dtype == torch.float32
    write_cifar10(tmp_path / "b", "binary")
    assert load_data("cifar10", data_dir=tmp_path / "b", allow_mismatch=True).checksum == data.checksum


@pytest.mark.parametrize("order", ["C", "F"])
def test_array_pickles(tmp_path: Path, order: Literal["C", "F"]) -> None:
    array = np.array(pixels(3, 4), order=order)
    for protocol in (3, 4):
        loaded = read_pickle(tmp_path / "x", pickle.dumps({"data": array}, protocol=protocol))
        np.testing.assert_array_equal(loaded["data"], array)


def test_limits_keep_the_first_images_and_the_whole_splits_scale(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "d", "binary")
    whole = load_data("cifar10", data_dir=tmp_path / "d", allow_mismatch=True)
    part = load_data("cifar10", data_dir=tmp_path / "d", allow_mismatch=True, limit=7, test_limit=2)
    assert torch.equal(part.train[0], whole.train[0][:7])
    assert torch.equal(part.test[0], whole.test[0][:2])
    assert torch.equal(part.train[1], whole.train[1][:7])
    for wrong in (0, -1, 21, 2.5, True, "7"):
        with pytest.raises(UsageError, match=r"limit=.* from 1 to 20"):
            load_data("cifar10", data_dir=tmp_path / "d", allow_mismatch=True, limit=wrong)


def test_checksum_is_verified_before_anything_is_unpickled(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "d", "pickle")
    (tmp_path / "d" / "data_batch_1").write_bytes(pickle.dumps(Evil(tmp_path / "executed")))
    with pytest.raises(DataError, match=r"data_batch_1 has md5 .* c99cafc152244af753f735de768cd75f"):
        load_data("cifar10", data_dir=tmp_path / "d")
    assert not (tmp_path / "executed").exists()


def test_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "d", "pickle")
    flag = tmp_path / "executed"
    pickle.loads(pickle.dumps(Evil(flag)))
    assert flag.exists()  # the attack works on the ordinary unpickler
    flag.unlink()
    for attack in (Evil(flag), {b"data": Evil(flag)}, {b"data": np.array([Evil(flag)], dtype=object)}):
        (tmp_path / "d" / "data_batch_3").write_bytes(pickle.dumps(attack, protocol=4))
        with pytest.raises(DataError, match=r"data_batch_3 was not loaded: it names .*could run code"):
            load_data("cifar10", data_dir=tmp_path / "d", allow_mismatch=True)
        assert not flag.exists()
    with pytest.raises(DataError, match=r"names os\.system|names posix\.system|names nt\.system"):
        read_pickle(Path("x"), b"cos\nsystem\n(S'true'\ntR.")


def test_damaged_pickles_end_in_a_data_error(tmp_path: Path) -> None:
    good = pickle.dumps({"data": pixels(2, 8), "labels": [1, 2]}, protocol=4)
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(500):
        bad = bytearray(good[: rng.integers(1, len(good) + 1)])
        bad[rng.integers(len(bad))] = rng.integers(256)
        try:
            read_pickle(tmp_path / "x", bytes(bad))
        except DataError:
            refused += 1
    assert refused > 300


def test_wrong_contents_of_cifar_files(tmp_path: Path) -> None:
    x, y = pixels(4, 3, 32, 32), labels(4)
    for content, message in (
        (["a list"], "a list, not a dictionary"),
        (batch(4, x.astype(np.float32), y), "not of uint8"),
        (batch(4, x[:, :2], y), "no array of uint8"),
        (batch(4, x, y[:3]), "no list of 4 labels"),
        (batch(4, x, y + 7), r"outside 0\.\.9"),
    ):
        write_cifar10(tmp_path / "d", "pickle")
        (tmp_path / "d" / "data_batch_2").write_bytes(pickle.dumps(content, protocol=4))
        with pytest.raises(DataError, match=message):
            load_data("cifar10", data_dir=tmp_path / "d", allow_mismatch=True)
    write_cifar10(tmp_path / "b", "binary")
    path = tmp_path / "b" / "test_batch.bin"
    for damaged in (path.read_bytes()[:-1], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="not a multiple of 3073"):
            load_data("cifar10", data_dir=tmp_path / "b", allow_mismatch=True)


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    x, fine = pixels(100, 3, 32, 32), labels(100, 100)
    coarse = fine // 5
    (tmp_path / "py" / "cifar-100-python").mkdir(parents=True)
    (tmp_path / "bin" / "cifar-100-binary").mkdir(parents=True)
    for name in ("train", "test"):
        plain = {"data": x.reshape(100, -1), "fine_labels": fine.tolist(), "coarse_labels": coarse.tolist()}
        (tmp_path / "py" / "cifar-100-python" / name).write_bytes(pickle.dumps(plain, protocol=4))
        records = np.concatenate([coarse[:, None], fine[:, None], x.reshape(100, -1)], axis=1)
        (tmp_path / "bin" / "cifar-100-binary" / f"{name}.bin").write_bytes(records.tobytes())
    first, second = (load_data("cifar100", data_dir=tmp_path / d, allow_mismatch=True) for d in ("py", "bin"))
    assert first.train[1].tolist() == second.train[1].tolist() == fine.tolist()
    assert first.checksum == second.checksum
    assert (first.classes, first.chance_loss) == (100, pytest.approx(4.605170185988092))


# --- parquet and its cache


def write_parquet(folder: Path, kind: str = "PNG", *, size: int = 32, **columns: Any) -> np.ndarray[Any, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(3).integers(0, 256, (30, size, size, 3), dtype=np.uint8)
    encoded = []
    for image in x:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format=kind)
        encoded.append({"bytes": file.getvalue(), "path": "x"})
    for name, part in (("train", slice(0, 20)), ("test", slice(20, 30))):
        table = {"img": encoded[part], "label": labels(30)[part].astype(np.int64)} | columns
        pq.write_table(pa.table(table), folder / f"{name}-00000-of-00001.parquet")
    return x.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "cifar10",
        "cifar10-jpeg",
        "cifar-10 of mine",
        ".cache/huggingface/hub/datasets--uoft-cs--cifar10/snapshots/0b2714/plain_text",
    ],
)
def test_parquet_of_pngs_is_exact(home: Path, folder: str) -> None:
    x = write_parquet(home / folder)
    data = load_data("cifar10", data_dir=home, allow_mismatch=True)
    np.testing.assert_allclose(data.train[0].numpy(), standardized(x[:20], x[:20]), atol=1e-6)
    assert data.test[1].tolist() == labels(30)[20:].tolist()
    assert "decoded from" not in data.note


def test_cifar100_is_not_taken_for_cifar10(home: Path) -> None:
    write_parquet(home / "cifar100-png")
    with pytest.raises(DataError, match="'cifar10' was not found"):
        load_data("cifar10", data_dir=home, allow_mismatch=True)


def test_parquet_of_jpegs_is_noted(home: Path) -> None:
    write_parquet(home / "cifar10", "JPEG")
    for _ in range(2):  # also when it comes from the cache
        note = load_data("cifar10", data_dir=home, allow_mismatch=True).note
        assert "train pixels decoded from JPEG" in note


def test_second_load_comes_from_the_cache(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(home / "cifar10")
    first = load_data("cifar10", data_dir=home, allow_mismatch=True)
    entries = sorted((tmp_path / "cache" / "landscape").iterdir())
    assert len(entries) == 2  # one per split, nothing left over
    monkeypatch.setattr(parquet, "_decode", lambda *_: pytest.fail("decoded again"))
    second = load_data("cifar10", data_dir=home, allow_mismatch=True)
    assert torch.equal(first.train[0], second.train[0])
    assert first.checksum == second.checksum


def test_changed_files_are_decoded_anew(home: Path) -> None:
    write_parquet(home / "cifar10")
    first = load_data("cifar10", data_dir=home, allow_mismatch=True).checksum
    write_parquet(home / "cifar10", "JPEG")
    assert load_data("cifar10", data_dir=home, allow_mismatch=True).checksum != first


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"", lambda b: b[:100] + b"\xff\x00" + b[102:]])
def test_damaged_cache_is_rebuilt(home: Path, tmp_path: Path, damage: Any) -> None:
    write_parquet(home / "cifar10")
    first = load_data("cifar10", data_dir=home, allow_mismatch=True)
    for entry in (tmp_path / "cache" / "landscape").iterdir():
        good = entry.read_bytes()
        entry.write_bytes(damage(good))
        again = load_data("cifar10", data_dir=home, allow_mismatch=True)
        assert torch.equal(first.train[0], again.train[0])
        assert entry.read_bytes() == good


def test_cache_that_cannot_be_written_is_not_fatal(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(home / "cifar10")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # a file where a folder has to be
    with pytest.warns(RuntimeWarning, match="could not be kept"):
        data = load_data("cifar10", data_dir=home, allow_mismatch=True)
    assert len(data.train[0]) == 20


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert cache.cached("key", lambda: b"made") == b"made"
    assert list((tmp_path / "cache" / "landscape").iterdir()) == []


def test_parquet_needs_its_extra(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(home / "cifar10")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'landscape-smoothness\[parquet\]'"):
        load_data("cifar10", data_dir=home, allow_mismatch=True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": None}, "label"),
        ({"label": [77] * 10}, r"label 77 lies outside 0\.\.9"),
        ({"img": [{"bytes": b"no image"}] * 10}, r"row 0: the image can't be decoded"),
        ({"img": [{"bytes": None, "path": "a.png"}] * 10}, "only embedded images"),
        ({"img": [1] * 10}, "only embedded images"),
    ],
)
def test_wrong_parquet_contents(home: Path, columns: dict[str, Any], message: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_parquet(home / "cifar10")
    path = home / "cifar10" / "test-00000-of-00001.parquet"
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.drop_columns([name])
        if values is not None:
            table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)
    with pytest.raises(DataError, match=message):
        load_data("cifar10", data_dir=home, allow_mismatch=True)


def test_parquet_of_other_sizes_and_damaged_files(home: Path) -> None:
    write_parquet(home / "cifar10", size=16)
    with pytest.raises(DataError, match="16x16, not 32x32"):
        load_data("cifar10", data_dir=home, allow_mismatch=True)
    path = home / "cifar10" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="can't be read as parquet"):
        load_data("cifar10", data_dir=home, allow_mismatch=True)
