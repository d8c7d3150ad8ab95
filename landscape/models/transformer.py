"""Transformers of Vaswani et al. 2017, small, with the normalization before or after each residual sum."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from landscape.errors import UsageError, nearest
from landscape.models.blocks import initialized, output
from landscape.models.sequences import Normalized, Setting, by_steps, mapped, outputs, setting

PLACEMENTS = ("pre", "post")  # of the normalization, seen from the branch of a residual sum


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V in ``heads`` heads of d units; Q, K, V and what leaves are linear maps.

    Children ``query``, ``key``, ``value`` and ``out``. Written out, so that it can be differentiated twice.
    """

    def __init__(self, features: int, heads: int, steps: int, causal: bool, norm: str) -> None:
        super().__init__()
        self.heads, self.steps, self.causal = heads, steps, causal
        self.query = mapped(nn.Linear(features, features), norm)
        self.key = mapped(nn.Linear(features, features), norm)
        self.value = mapped(nn.Linear(features, features), norm)
        self.out = mapped(nn.Linear(features, features), norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N T, F) to (N T, F)."""
        q, k, v = (
            linear(x).reshape(len(x) // self.steps, self.steps, self.heads, -1).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )  # (N, heads, T, d)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if self.causal:
            later = torch.ones(self.steps, self.steps, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        attended: Tensor = self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2).flatten(0, 1))
        return attended


class Residual(Normalized):
    """pre: x + branch(norm(x)); post: norm(x + branch(x)). Children ``norm`` and ``branch``."""

    def __init__(self, name: str, features: int, setting: Setting, branch: nn.Module, placement: str) -> None:
        super().__init__(name, features, setting)
        self.branch, self.placement = branch, placement

    def forward(self, x: Tensor) -> Tensor:
        """(N T, F) to (N T, F)."""
        if self.placement == "pre":
            y: Tensor = x + self.branch(self.normalize(x))
            return y
        return self.normalize(x + self.branch(x))


class Transformer(nn.Module):
    """Children ``embedding``, ``position``, ``layers``, ``final`` (a normalization where it is pre) and ``output``."""

    def __init__(self, setting: Setting, features: int, layers: nn.Module, final: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.setting = setting
        self.embedding = setting.embedding(features)
        self.position = nn.Embedding(setting.steps, features)
        self.layers, self.final, self.output = layers, final, last

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, T) or vectors (N, T, F) to (N, C, T) in language, (N, C) in classification."""
        position = self.position(torch.arange(self.setting.steps, device=x.device))
        y = self.final(self.layers((self.embedding(x) + position).flatten(0, 1)))
        if self.setting.task == "classification":
            y = by_steps(y, self.setting.steps).mean(1)
        return outputs(self.output(y), self.setting)


def transformer(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    layers: int = 2,
    features: int = 64,
    heads: int = 4,
    placement: str = "pre",
    task: str | None = None,
    vocabulary: int | None = None,
    activation: str = "relu",
    init: str | None = None,
) -> nn.Module:
    """Layers of attention and a network F-4F-F, each in a residual sum with its normalization.

    Vaswani et al. 2017 normalize after the sum ("post"); "pre" is that of GPT-2 and of Xiong et al. 2020 (arXiv
    2002.04745), with one more normalization before the output. Without normalization (``norm="none"``) both are the
    same network. Positions are learned; embeddings start as N(0, 1); no dropout.

    In "language" a position sees itself and those before it, and there are outputs at each: (N, C, T), for torch's
    cross-entropy with targets (N, T). In "classification" positions see each other and are averaged. Batch
    statistics are over all positions of a batch, later ones too, in training. "instance", over the positions of a
    sample, would see them in evaluation too, and is for classification.

    Args:
        input_shape: (steps,) of tokens, or (steps, features) of vectors.
        output_size: number of outputs, at each position or of each sequence.
        norm: the normalization, of each token's units unless it is defined otherwise.
        seed: of the initial weights.
        layers: how many.
        features: units of a token; a multiple of ``heads``.
        heads: of the attention.
        placement: "pre" (before a branch) or "post" (after its sum).
        task: "language" or "classification"; None: language for tokens, classification for vectors.
        vocabulary: how many different tokens; None: as many as outputs.
        activation: "relu", "tanh", "sigmoid" or "identity".
        init: "he", "glorot" or "lecun"; the normalization's own if None, else "glorot".

    Raises:
        UsageError: the data are no sequences, an option is not valid, or the normalization would let a position see
            later ones.

    >>> net = transformer(input_shape=(16,), output_size=27, norm="layer", features=8, heads=2)
    >>> net(torch.zeros(3, 16, dtype=torch.long)).shape
    torch.Size([3, 27, 16])
    """
    if placement not in PLACEMENTS:
        raise UsageError(f"there is no placement {placement!r}; {nearest(str(placement), list(PLACEMENTS))}")
    for name, value in (("layers", layers), ("features", features), ("heads", heads)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} has to be a positive whole number, got {value!r}")
    if features % heads:
        raise UsageError(f"features are shared out among heads: {features} is no multiple of {heads}")
    read = setting(input_shape, output_size, task, vocabulary)

    def residual(branch: nn.Module) -> Residual:
        return Residual(norm, features, read, branch, placement)

    def layer() -> nn.Sequential:
        expand = mapped(nn.Linear(features, 4 * features), norm, activation)
        contract = mapped(nn.Linear(4 * features, features), norm)
        attention = Attention(features, heads, read.steps, read.task == "language", norm)
        network = nn.Sequential(OrderedDict(expand=expand, contract=contract))
        return nn.Sequential(OrderedDict(attention=residual(attention), network=residual(network)))

    stack = nn.Sequential(OrderedDict((f"layer{number}", layer()) for number in range(1, layers + 1)))
    final = Normalized(norm, features, read) if placement == "pre" else nn.Identity()
    return initialized(Transformer(read, features, stack, final, output(features, output_size)), init, seed, "glorot")
