"""What networks for sequences share: what goes in and comes out, and normalization token by token.

A token is one position (time step) of one sequence. Activations are (N T, F), one row per token, so that each
normalization sees tokens as it sees the samples of a fully connected network: "layer" and "rms" take the
units of a token, "batch" takes a unit over all sequences and all positions. "batch-per-step" and "instance" see the
sequences: a unit at one position of all sequences, and a unit over all positions of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from landscape.errors import UsageError, nearest
from landscape.models.blocks import Block, block
from landscape.normalization import normalization

TASKS = ("language", "classification")
PER_STEP = ("batch-per-step",)  # normalizations with statistics of their own at each position


@dataclass(frozen=True)
class Setting:
    """What a network for sequences takes and gives.

    Attributes:
        task: "language", an output at each position, or "classification", one for the sequence.
        steps: positions T.
        tokens: how many different tokens there are; 0 where inputs are vectors.
        size: numbers in each vector; 0 where inputs are tokens.
    """

    task: str
    steps: int
    tokens: int
    size: int

    def embedding(self, features: int) -> nn.Module:
        """The map of each token or vector to ``features`` units."""
        return nn.Embedding(self.tokens, features) if self.tokens else nn.Linear(self.size, features)


def setting(input_shape: Sequence[int], output_size: int, task: str | None, vocabulary: int | None) -> Setting:
    """Read inputs (T,) as tokens and (T, F) as vectors.

    Args:
        input_shape: of one sample.
        output_size: number of outputs at each position or of each sequence.
        task: "language", "classification", or None: language for tokens, classification for vectors.
        vocabulary: how many different tokens; None: as many as there are outputs.

    Raises:
        UsageError: the shape is neither, or an option is not valid.
    """
    if len(input_shape) not in (1, 2):
        raise UsageError(
            f"this network takes sequences, (steps,) of tokens or (steps, features), the data's shape is "
            f"{tuple(input_shape)}; digit-rows has images row by row"
        )
    if task is None:
        task = "language" if len(input_shape) == 1 else "classification"
    if task not in TASKS:
        raise UsageError(f"there is no task {task!r}; {nearest(str(task), list(TASKS))}")
    if len(input_shape) == 2:
        return Setting(task, input_shape[0], 0, input_shape[1])
    tokens = output_size if vocabulary is None else vocabulary
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise UsageError(f"vocabulary is the number of different tokens, got {vocabulary!r}")
    return Setting(task, input_shape[0], tokens, 0)


def by_steps(x: Tensor, steps: int) -> Tensor:
    """(N T, F) as (N, T, F)."""
    return x.reshape(-1, steps, x.shape[-1])


def over_positions(name: str) -> bool:
    """Whether a normalization has nothing to act on in one token, as "instance", which is over time.

    >>> over_positions("instance"), over_positions("layer"), over_positions("weight")
    (True, False, False)
    """
    entry = normalization(name)
    elsewhere = entry.linear is not None or entry.activation is not None
    return name != "none" and not elsewhere and isinstance(entry.build(8, 2), nn.Identity)


class Normalized(nn.Module):
    """The normalization called ``name`` for tokens (N T, F) of ``features`` units; child ``norm``.

    Raises:
        UsageError: it acts over the positions of a sample, and there is one, or none may see a later one.
    """

    def __init__(self, name: str, features: int, setting: Setting) -> None:
        super().__init__()
        self.steps, positions = setting.steps, over_positions(name)
        if positions and (setting.task == "language" or self.steps < 2):
            why = "a position would see later ones by its statistics" if self.steps > 1 else "there is one position"
            raise UsageError(
                f"the normalization {name!r} is over {normalization(name).over}, and {why}: use it in classification "
                "of sequences, or another normalization"
            )
        self.sequences = positions or name in PER_STEP
        self.norm = normalization(name).build(features, 3 if self.sequences else 2)

    def normalize(self, x: Tensor) -> Tensor:
        """(N T, F) to (N T, F)."""
        if not self.sequences:
            y: Tensor = self.norm(x)
            return y
        y = self.norm(by_steps(x, self.steps).transpose(1, 2))
        return y.transpose(1, 2).flatten(0, 1)

    def normalize_step(self, x: Tensor, step: int) -> Tensor:
        """The tokens (N, F) of one position, for those that come to be one after the other."""
        y: Tensor = self.norm(x[:, :, None], step)[:, :, 0] if self.sequences else self.norm(x)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """(N T, F) to (N T, F)."""
        return self.normalize(x)


def mapped(linear: nn.Linear, norm: str, activation: str | None = None) -> Block:
    """A block without normalization of its outputs, for one that stands elsewhere or acts on weights."""
    made = block(linear, norm, linear.out_features, 2, activation)
    made.norm = nn.Identity()
    entry = normalization(norm)
    if entry.linear is None and entry.activation is None:
        made.normalized_by = "none"
    return made


def outputs(logits: Tensor, setting: Setting) -> Tensor:
    """(N T, C) as (N, C, T), where torch's cross-entropy has its classes; (N, C) as they are."""
    return by_steps(logits, setting.steps).transpose(1, 2) if setting.task == "language" else logits
