"""Documents as bags of words: the user's folders of text files, or generated ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from landscape.data.base import Dataset, Split, make_dataset, sha256_of
from landscape.data.files import own_path, read_text
from landscape.errors import DataError, UsageError
from landscape.streams import stream

_WORD = re.compile(r"\w+")
_TOPICS, _VOCABULARY, _WORDS = 4, 400, 40
_TRAIN, _TEST = 1200, 300


def bag_of_words(*, path: str | None = None, words: int = 1000, data_dir: Path | None = None) -> Dataset:
    """How often each word of a vocabulary occurs in a document; the class is the folder that it lies in.

    A feature is ln(1 + count), all divided by one number so that their root mean square over the training split is 1.

    ``path`` is a folder with a folder of text files for each class, in UTF-8, as the 20 newsgroups come. Words are
    runs of letters, digits and _ in lower case; the vocabulary is the ``words`` most frequent ones of the training
    split, equal ones in the order of the alphabet. A fifth of each class, drawn once for all seeds, is for the test.

    Without ``path`` the documents are generated, the same for every seed: 4 topics, 1200 documents to train and 300 to
    test, 40 words each, drawn independently. Word k = 0 ... 399 has a probability proportional to exp(g / 2) / (k + 3),
    with g ~ N(0, 1) drawn for each topic and word. The note says how many of the test documents the best possible rule,
    which knows these probabilities, gets right.

    Args:
        path: the folder, looked for as it is and then in the folders of data files.
        words: size of the vocabulary at most; generated documents have 400.
        data_dir: searched first.

    Raises:
        UsageError: ``words`` is not a positive whole number.
        DataError: there is no such folder, it has fewer than two classes of two documents, or a file is no UTF-8.

    >>> data = bag_of_words()
    >>> data.train[0].shape, data.classes
    (torch.Size([1200, 400]), 4)
    """
    if isinstance(words, bool) or not isinstance(words, int) or words < 1:
        raise UsageError(f"words={words!r} must be a positive whole number")
    (counts, labels), (test_counts, test_labels), classes, note = (
        _generated() if path is None else _counted(own_path("bag-of-words", path, data_dir), words)
    )
    train, test = counts.float().log1p(), test_counts.float().log1p()
    scale = train.double().square().mean().sqrt().float()
    return make_dataset(
        "bag-of-words",
        (train / scale, labels),
        (test / scale, test_labels),
        classes=classes,
        checksum=sha256_of(t.numpy() for t in (counts, labels, test_counts, test_labels)),
        note=note,
    )


def _generated() -> tuple[Split, Split, int, str]:
    generator = stream(0, "data/bag-of-words/source")
    logits = 0.5 * torch.randn(_TOPICS, _VOCABULARY, generator=generator, dtype=torch.float64)
    logits -= (torch.arange(_VOCABULARY, dtype=torch.float64) + 3).log()
    probabilities = logits.softmax(1)

    def draw(documents: int) -> Split:
        topics = torch.randint(_TOPICS, (documents,), generator=generator)
        drawn = probabilities[topics].multinomial(_WORDS, replacement=True, generator=generator)
        counts = torch.zeros(documents, _VOCABULARY, dtype=torch.int64).scatter_add_(1, drawn, torch.ones_like(drawn))
        return counts, topics

    train, test = draw(_TRAIN), draw(_TEST)
    best = (test[0].double() @ probabilities.log().T).argmax(1)
    right = float((best == test[1]).double().mean())
    return train, test, _TOPICS, f"generated documents; the best possible rule gets {right:.1%} of the test split right"


def _counted(folder: Path, words: int) -> tuple[Split, Split, int, str]:
    train: list[tuple[Counter[str], int]] = []
    test: list[tuple[Counter[str], int]] = []
    if not folder.is_dir():
        raise DataError(f"data 'bag-of-words': {folder} is a file, not a folder with a folder for each class")
    classes = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    for label, child in enumerate(classes):
        files = sorted(file for file in child.iterdir() if file.is_file() and not file.name.startswith("."))
        if len(files) < 2:
            raise DataError(f"data 'bag-of-words': {child} has {len(files)} files; a class needs 2 or more")
        order = torch.randperm(len(files), generator=stream(0, f"data/bag-of-words/{child.name}")).tolist()
        documents = [(_words(files[k]), label) for k in order]
        held = max(1, len(documents) // 5)
        test += documents[:held]
        train += documents[held:]
    if len(classes) < 2:
        raise DataError(
            f"data 'bag-of-words': {folder} has {len(classes)} folders; give one for each of 2 or more classes"
        )
    total: Counter[str] = Counter()
    for document, _ in train:
        total.update(document)
    vocabulary = sorted(total, key=lambda word: (-total[word], word))[:words]
    if not vocabulary:
        raise DataError(f"data 'bag-of-words': the files in {folder} hold no words")
    return _table(train, vocabulary), _table(test, vocabulary), len(classes), ""


def _words(file: Path) -> Counter[str]:
    return Counter(_WORD.findall(read_text("bag-of-words", file).lower()))


def _table(documents: Sequence[tuple[Counter[str], int]], vocabulary: Sequence[str]) -> tuple[Tensor, Tensor]:
    counts = torch.tensor([[document[word] for word in vocabulary] for document, _ in documents])
    return counts, torch.tensor([label for _, label in documents])
