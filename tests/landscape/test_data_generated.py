"""Sources for one question each: bands, scales, characters, words; their closed forms, recomputed here."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from landscape.data import load_data
from landscape.data.wideband import band_parts, function, recombined
from landscape.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("name", "options", "fixed"),
    [
        ("digit-rows", {}, True),
        ("gaussian-inputs", {}, False),
        ("two-features", {}, False),
        ("wideband", {"samples": 512}, True),
        ("text", {}, True),
        ("bag-of-words", {}, True),
    ],
)
def test_data_repeat_for_a_seed_and_leave_random_states_alone(name, options, fixed):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    one, same, other = (load_data(name, seed=seed, **options) for seed in (1, 1, 2))
    assert one.checksum == same.checksum
    assert (one.checksum == other.checksum) is fixed
    for a, b in zip((*one.train, *one.test), (*same.train, *same.test), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


# --- wideband ---------------------------------------------------------------------------------------


def grid(n: int) -> np.ndarray:
    return -np.pi + 2 * np.pi * np.arange(n) / n


@pytest.mark.parametrize("n", [600, 601])
@pytest.mark.parametrize("width", [7, 20])
def test_the_bands_add_up_to_the_function_exactly(n, width):
    x = grid(n)
    centres = [float(width * j) for j in range(300 // width + 2)]
    parts = band_parts(function(x), x, centres, width)
    assert parts.shape == (n, 2 * len(centres) - 1)
    np.testing.assert_allclose(recombined(parts, x, centres), function(x), atol=1e-10)


def test_a_shifted_part_has_its_frequencies_around_zero():
    x = grid(600)
    wave = 2 * np.cos(137 * x) - 3 * np.sin(140 * x)  # e^{3ix} around 137: A = 2 - 3 sin 3x, B = -3 cos 3x
    A, B = band_parts(wave, x, [137.0], 10).T
    np.testing.assert_allclose(A, 2 - 3 * np.sin(3 * x), atol=1e-10)
    np.testing.assert_allclose(B, -3 * np.cos(3 * x), atol=1e-10)
    np.testing.assert_allclose(band_parts(wave, x, [0.0, 60.0], 30), 0, atol=1e-10)
    slow = 5 + np.cos(2 * x)
    np.testing.assert_allclose(band_parts(slow, x, [0.0], 10)[:, 0], slow, atol=1e-10)


def test_wideband_is_its_formula_and_its_parts_say_what_they_leave_out():
    data = load_data("wideband", samples=512)
    x, y = data.train[0][:, 0].double(), data.train[1][:, 0].double()
    left = 10 * (x.sin() + (3 * x).sin())
    right = 10 * ((23 * x).sin() + (137 * x).sin() + (203 * x).sin())
    torch.testing.assert_close(y, torch.where(x <= 0, left, right), atol=2e-3, rtol=0)  # float32 of 203 x
    torch.testing.assert_close(data.test[0], data.train[0] + math.pi / 512)
    parts = load_data("wideband", samples=512, frequencies=(0, 23, 137, 203))
    assert parts.output_size == 7
    f = function(grid(512))
    back = recombined(parts.train[1].double().numpy(), grid(512), (0, 23, 137, 203))
    left_out = float(parts.note.split("but for ")[1].rstrip("%")) / 100
    assert np.linalg.norm(f - back) / np.linalg.norm(f) == pytest.approx(left_out, abs=6e-4)
    assert 0 < left_out < 0.1


# --- scales -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "condition"), [({"scale": 30.0}, 900.0), ({"standardize": True}, 1.0)])
def test_two_features_have_the_stated_hessian(options, condition):
    data = load_data("two-features", **options)
    for x, y in (data.train, data.test):
        x, y = x.double(), y.double()
        eigenvalues = torch.linalg.eigvalsh(2 * x.T @ x / len(x))
        assert (eigenvalues[1] / eigenvalues[0]).item() == pytest.approx(condition, rel=1e-5)
        assert x.mean(0).abs().max().item() < 1e-5
        best = torch.linalg.lstsq(x, y).solution
        torch.testing.assert_close(x @ best, y, atol=1e-5, rtol=0)
    assert data.chance_loss == pytest.approx(2, rel=1e-5)  # the variance of z_1 + z_2


def test_gaussian_inputs_are_standard_normal_with_labels_that_say_nothing():
    data = load_data("gaussian-inputs", samples=2000, shape=(2, 5), classes=4)
    x, y = data.train
    assert x.shape == (2000, 2, 5)
    n = x.numel()
    assert abs(x.mean().item()) < 4 / math.sqrt(n)
    assert abs(x.square().mean().item() - 1) < 4 * math.sqrt(2 / n)
    assert ((y.bincount() - 500).abs() < 4 * math.sqrt(2000 * 3 / 16)).all()
    assert data.chance_loss == math.log(4)
    means = torch.stack([x[y == c].mean(0) for c in range(4)])
    assert (means.abs() < 5 / math.sqrt(450)).all()


def test_digit_rows_are_the_digits():
    rows, images = load_data("digit-rows", limit=50), load_data("digits", limit=50)
    assert torch.equal(rows.train[0], images.train[0][:, 0])
    assert (rows.input_shape, rows.classes, rows.checksum) == ((8, 8), 10, images.checksum)


# --- text -------------------------------------------------------------------------------------------


def entropy(tokens: list[int], order: int) -> float:
    """The empirical entropy of a token given the ``order`` before it, in nats."""
    contexts = Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order))
    pairs = Counter(tuple(tokens[i : i + order + 1]) for i in range(len(tokens) - order))
    total = sum(pairs.values())
    return -sum(n / total * math.log(n / contexts[pair[:order]]) for pair, n in pairs.items())


def test_generated_text_has_the_entropy_it_says():
    data = load_data("text", context=50)
    tokens = torch.cat([data.train[0].flatten(), data.test[0].flatten()]).tolist()
    stated = float(data.note.split("entropy of ")[1].split(" ")[0])
    assert stated == pytest.approx(math.log(2) * (0.5 * 1 + 0.25 * 2 + 0.25 * 3), abs=1e-4)
    # -ln p has standard deviation 0.57 under the source; fitting 256 x 3 numbers takes 768 / 2n off.
    n = len(tokens)
    assert abs(entropy(tokens, 2) + 384 / n - stated) < 4 * 0.57 / math.sqrt(n)
    assert entropy(tokens, 1) > stated + 0.2  # one letter back is not enough
    assert data.chance_loss == pytest.approx(math.log(16))
    followers = Counter(p[:2] for p in {tuple(tokens[i : i + 3]) for i in range(n - 2)})
    assert sum(count > 4 for count in followers.values()) <= 2  # where the two splits are joined


def test_a_users_text_is_cut_into_windows_with_the_next_character_as_target(tmp_path, monkeypatch):
    content = "Grüße, " * 20
    (tmp_path / "mine.txt").write_text(content, encoding="utf-8")
    data = load_data("text", path="mine.txt", context=10, data_dir=tmp_path)
    letters = sorted(set(content))
    assert data.classes == len(letters) == 7
    assert data.note == ""

    def spelled(tensor):
        return "".join(letters[k] for k in tensor.flatten().tolist())

    assert spelled(data.train[0]) == content[:120]
    assert spelled(data.train[1]) == content[1:121]
    assert spelled(data.test[0]) == content[126:136]
    monkeypatch.chdir(tmp_path)
    assert load_data("text", path="mine.txt", context=10).checksum == data.checksum


def test_texts_that_cant_be_used_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"there is no gone\.txt; looked for .*gone\.txt"):
        load_data("text", path="gone.txt")
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(DataError, match=r"9 characters, 6 of them different, are too few.*give 330 or more"):
        load_data("text", path=str(tmp_path / "short.txt"))
    (tmp_path / "latin.txt").write_bytes("größer".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8"):
        load_data("text", path=str(tmp_path / "latin.txt"))


# --- words ------------------------------------------------------------------------------------------


def test_generated_documents_can_be_told_apart_as_well_as_the_note_says():
    data = load_data("bag-of-words")
    stated = float(data.note.split("gets ")[1].split("%")[0]) / 100
    (x, y), (x_test, y_test) = data.train, data.test
    assert x.square().mean().item() == pytest.approx(1, rel=1e-5)
    unit = x[x > 0].min() / math.log(2)  # the smallest count is one
    counts, held = (torch.expm1(t / unit).round() for t in (x, x_test))
    assert (counts.sum(1) == 40).all()
    assert (held.sum(1) == 40).all()
    log_p = torch.stack([(counts[y == c].sum(0) + 0.5) / (counts[y == c].sum() + 200) for c in range(4)]).log()
    naive = ((held @ log_p.T).argmax(1) == y_test).float().mean().item()
    # Naive Bayes with 12,000 words a topic comes close to the rule that knows them, and can't be far above it.
    assert abs(naive - stated) < 0.03
    assert 0.9 < stated < 1


def test_a_users_folders_become_classes_and_their_frequent_words_features(tmp_path):
    for name, word in (("cats", "Meow"), ("dogs", "woof")):
        (tmp_path / name).mkdir()
        for k in range(6):
            (tmp_path / name / f"{k}.txt").write_text(f"The {name} say {word} " + f"{word}! " * k)
    data = load_data("bag-of-words", path=str(tmp_path), words=3)
    assert (data.classes, data.input_shape, len(data.train[0]), len(data.test[0])) == (2, (3,), 10, 2)
    x, y = data.train
    assert sorted(y.tolist()) == [0] * 5 + [1] * 5
    unit = x[x > 0].min() / math.log(2)
    counts = torch.expm1(x / unit).round().int()
    # The three most frequent: meow and woof, one for each class, and "say", before "the" in the alphabet.
    assert (counts[:, 2] == 1).all()
    own = [counts[y == c][:, :2] for c in (0, 1)]
    assert sorted(own[c].amax(0).gt(0).tolist() for c in (0, 1)) == [[False, True], [True, False]]
    assert all(len(set(rows.amax(1).tolist()) & set(range(1, 7))) == 5 for rows in own)


def test_folders_that_cant_be_used_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no nowhere"):
        load_data("bag-of-words", path="nowhere")
    with pytest.raises(DataError, match="has 0 folders; give one for each of 2 or more classes"):
        load_data("bag-of-words", path=str(tmp_path))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_text("alone")
    with pytest.raises(DataError, match="one has 1 files; a class needs 2 or more"):
        load_data("bag-of-words", path=str(tmp_path))
    with pytest.raises(DataError, match="is a file, not a folder"):
        load_data("bag-of-words", path=str(tmp_path / "one" / "a.txt"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wideband", {"samples": 400}, "above 406"),
        ("wideband", {"frequencies": [3, 23], "width": 30}, "overlap or are empty: the closest centres are 20 apart"),
        ("wideband", {"frequencies": []}, r"list of numbers from 0 on.*got \[\]"),
        ("two-features", {"samples": 2}, "from 3 on"),
        ("two-features", {"scale": 0}, "above 0"),
        ("gaussian-inputs", {"shape": 5}, "must be a list"),
        ("gaussian-inputs", {"shape": [0]}, "shape=0 must be a whole number from 1"),
        ("gaussian-inputs", {"classes": 1}, "classes=1 must be a whole number from 2"),
        ("text", {"context": 1}, "from 2 on"),
        ("bag-of-words", {"words": 0}, "positive whole number"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        load_data(name, **options)
