"""Characters to predict from those before them: the user's text, or a generated one of known entropy."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from landscape.data.base import Dataset, Split, make_dataset, sha256_of
from landscape.data.files import own_path, read_text
from landscape.errors import DataError, UsageError
from landscape.streams import stream

_LETTERS = 16
_SUCCESSORS = (0.5, 0.25, 0.125, 0.125)  # probabilities of the four letters that can follow: 7/4 bits
_LENGTH = 40_000
ENTROPY = 1.75 * math.log(2)  # nats per character of the generated text


def text(*, path: str | None = None, context: int = 32, order: int = 2, data_dir: Path | None = None) -> Dataset:
    """Windows of ``context`` characters, each with the same window one character later as targets.

    Inputs are int64 (windows, context), targets the same; the classes are the characters that occur, in the order of
    their code points. Windows don't overlap; the first nine tenths of the text are for training, the last for the test.

    Without ``path`` the text is generated, the same for every seed: 40,000 letters of a Markov source over 16 letters,
    in which any two letters are followed by four others with probabilities 1/2, 1/4, 1/8, 1/8. So its entropy is 7/4
    bits, 1.2130 nats, per letter: no loss is below that but by chance, and none of a model that sees one letter back
    reaches it, unless ``order`` is 1: then one letter decides about the next.

    Args:
        path: a text file in UTF-8, looked for as it is and then in the folders of data files.
        context: characters of a window, 2 or more.
        order: of the generated source: 1 or 2 letters decide about the next.
        data_dir: searched first.

    Raises:
        UsageError: ``context`` is not a whole number from 2 on, or ``order`` is not 1 or 2.
        DataError: there is no such file, it is no UTF-8, or too short.

    >>> data = text(context=20)
    >>> data.train[0].shape, data.classes
    (torch.Size([1799, 20]), 16)
    """
    if isinstance(context, bool) or not isinstance(context, int) or context < 2:
        raise UsageError(f"context={context!r} must be a whole number of characters from 2 on")
    if isinstance(order, bool) or order not in (1, 2):
        raise UsageError(f"order={order!r}: one letter decides about the next, or 2 do")
    content = _generated(order) if path is None else read_text("text", own_path("text", path, data_dir))
    characters = sorted(set(content))
    if len(content) < 10 * (context + 1) or len(characters) < 2:
        raise DataError(
            f"data 'text': {len(content)} characters, {len(characters)} of them different, are too few for windows of "
            f"{context}: give {10 * (context + 1)} or more, or a smaller context"
        )
    number = {character: k for k, character in enumerate(characters)}
    indices = torch.tensor([number[character] for character in content])
    cut = len(indices) * 9 // 10
    note = "" if path else f"generated letters with an entropy of {ENTROPY:.4f} nats each"
    return make_dataset(
        "text",
        _windows(indices[:cut], context),
        _windows(indices[cut:], context),
        classes=len(characters),
        checksum=sha256_of([torch.tensor([ord(c) for c in characters]).numpy(), indices.numpy()]),
        note=note,
    )


def _windows(indices: Tensor, context: int) -> Split:
    count = (len(indices) - 1) // context
    return indices[: count * context].view(count, context), indices[1 : count * context + 1].view(count, context)


def _generated(order: int) -> str:
    generator = stream(0, "data/text/source")
    seen = (_LETTERS if order == 2 else 1, _LETTERS, _LETTERS)
    table = torch.rand(seen, generator=generator).argsort(-1)[..., :4].tolist()
    ranks = torch.tensor(_SUCCESSORS).multinomial(_LENGTH, replacement=True, generator=generator).tolist()
    before, last, letters = 0, 0, []
    for rank in ranks:
        before, last = last, table[before if order == 2 else 0][last][rank]
        letters.append(chr(ord("a") + last))
    return "".join(letters)
