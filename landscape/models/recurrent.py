"""Recurrent networks: plain, LSTM and GRU, normalized from input to hidden state, or from state to state as well."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from landscape.errors import UsageError, nearest
from landscape.models.blocks import initialized, output
from landscape.models.sequences import (
    PER_STEP,
    Normalized,
    Setting,
    by_steps,
    mapped,
    outputs,
    over_positions,
    setting,
)
from landscape.normalization import normalization

PLACEMENTS = ("input", "recurrence")
WEIGHTS_ALONE = ("scaled-weight-standardization",)  # in a gated cell, whose tanh and gates stay as they are
State = tuple[Tensor, ...]  # the hidden state h, and an LSTM's cell state c; each (N, H)
Function = Callable[[Tensor], Tensor]


def _rnn(a: Tensor, b: Tensor, state: State, activation: Function) -> State:
    return (activation(a + b),)


def _lstm(a: Tensor, b: Tensor, state: State, tanh: Function) -> State:
    i, f, g, o = (a + b).chunk(4, dim=1)
    c = f.sigmoid() * state[1] + i.sigmoid() * tanh(g)
    return o.sigmoid() * tanh(c), c


def _gru(a: Tensor, b: Tensor, state: State, tanh: Function) -> State:
    (r, z, n), (hidden_r, hidden_z, hidden_n) = a.chunk(3, dim=1), b.chunk(3, dim=1)
    r, z = (r + hidden_r).sigmoid(), (z + hidden_z).sigmoid()
    n = tanh(n + r * hidden_n)
    return (n + z * (state[0] - n),)


# Gates, in torch's order; tensors in the state; the step from a = W x + b and b = U h to the next state.
CELLS: dict[str, tuple[int, int, Callable[[Tensor, Tensor, State, Function], State]]] = {
    "rnn": (1, 1, _rnn),
    "lstm": (4, 2, _lstm),
    "gru": (3, 1, _gru),
}


class Layer(Normalized):
    """h_t = cell(norm(W x_t + b), U h_{t-1}) from h_0 = 0, or with norm(U h_{t-1}).

    Children ``norm``, ``input``, ``hidden``, for the second ``recurrence`` with a ``norm`` of its own, and in a plain
    cell ``activation``.
    """

    def __init__(self, name: str, cell: str, inputs: int, hidden: int, setting: Setting, placement: str) -> None:
        self.gates, self.tensors, self.cell = CELLS[cell]
        super().__init__(name, self.gates * hidden, setting)
        self.input = mapped(nn.Linear(inputs, self.gates * hidden), name)
        self.hidden = mapped(nn.Linear(hidden, self.gates * hidden, bias=False), name)
        self.recurrence = Normalized(name, self.gates * hidden, setting) if placement == "recurrence" else None
        self.activation = _activation(name, hidden) if self.gates == 1 else None
        self.share = _share(name)

    def forward(self, x: Tensor) -> Tensor:
        """(N T, F) to the hidden states (N T, H)."""
        a = by_steps(self._shared(self.normalize(self.input(x))), self.steps)  # (N, T, gates H)
        state: State = (a.new_zeros(len(a), a.shape[2] // self.gates),) * self.tensors
        states, activation = [], torch.tanh if self.activation is None else self.activation
        for step in range(self.steps):
            b = self._shared(self.hidden(state[0]))
            if self.recurrence is not None:
                b = self.recurrence.normalize_step(b, step)
            state = self.cell(a[:, step], b, state, activation)
            states.append(state[0])
        return torch.stack(states, dim=1).flatten(0, 1)

    def _shared(self, y: Tensor) -> Tensor:
        return y if self.share == 1 else self.share * y


def _activation(name: str, features: int) -> nn.Module:
    """A plain cell's tanh, or what the normalization has in its place."""
    own = normalization(name).activation
    return nn.Tanh() if own is None else own(nn.Tanh(), features, 2)


def _share(name: str) -> float:
    """What W x_t + b and U h_{t-1} are multiplied by.

    sqrt(1/2) where a normalization keeps, by weights and nonlinearity, the variance of what comes in: two rows of unit
    length times that are one row of unit length for both inputs, and the sum of both has the variance that is assumed.
    """
    entry = normalization(name)
    keeps = entry.activation is not None and (entry.linear is not None or entry.init is not None)
    return math.sqrt(0.5) if keeps else 1.0


class Recurrent(nn.Module):
    """Children ``embedding`` (of tokens), ``layers`` and ``output``."""

    def __init__(self, setting: Setting, embedding: nn.Module, layers: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.setting = setting
        self.embedding, self.layers, self.output = embedding, layers, last

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, T) or vectors (N, T, F) to (N, C, T) in language, (N, C) in classification."""
        y: Tensor = self.layers(self.embedding(x).flatten(0, 1))
        if self.setting.task == "classification":
            y = by_steps(y, self.setting.steps)[:, -1]
        return outputs(self.output(y), self.setting)


def recurrent(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    cell: str = "lstm",
    layers: int = 2,
    hidden: int = 64,
    placement: str = "input",
    task: str | None = None,
    vocabulary: int | None = None,
    init: str | None = None,
) -> nn.Module:
    """Layers of a plain recurrent network, an LSTM or a GRU, and a linear output layer.

    The normalization is of W x_t + b, from input to hidden state, as in Laurent et al. 2016 (arXiv 1510.01378): all
    steps are there before the recurrence begins, so statistics over all steps ("batch", their sequence-wise) and of
    each step ("batch-per-step", their frame-wise) both exist. With ``placement="recurrence"`` U h_{t-1} has a second
    one, the same gamma and beta at each step, as in Cooijmans et al. 2017 (arXiv 1603.09025) and Ba et al. 2016; what
    they do to an LSTM's cell state besides, and the former's gamma of 0.1 at the start, is left out. Over all
    steps there are no statistics there. All gates are one layer.

    A normalization of weights is of W and of U. One that replaces the activation function replaces a plain cell's
    tanh; the two that keep variances by constants ("norm-propagation", "scaled-weight-standardization") and "selu"
    have W x_t + b and U h_{t-1} multiplied by sqrt(1/2), so that their sum has the variance of one layer's. In an
    LSTM and a GRU what leaves is a product with gates, for which no such constants are known: "evonorm-s0",
    "norm-propagation" and "selu" are refused, and "scaled-weight-standardization" is of the weights alone.

    In "language" there are outputs at each step: (N, C, T), for torch's cross-entropy with targets (N, T); tokens are
    embedded in ``hidden`` units. In "classification" they are those of the last step.

    Args:
        input_shape: (steps,) of tokens, or (steps, features) of vectors.
        output_size: number of outputs, at each step or of each sequence.
        norm: the normalization.
        seed: of the initial weights.
        cell: "rnn" (tanh), "lstm" or "gru", with torch's equations and one bias per unit.
        layers: how many.
        hidden: units of the state.
        placement: the normalization is of the "input" to the state, or of that and in the "recurrence".
        task: "language" or "classification"; None: language for tokens, classification for vectors.
        vocabulary: how many different tokens; None: as many as outputs.
        init: "he", "glorot" or "lecun"; the normalization's own if None, else "glorot".

    Raises:
        UsageError: the data are no sequences, an option is not valid, or the normalization acts by replacing the
            activation function of a gated cell, is over all steps and asked for in the recurrence, or would let a
            step see later ones.

    >>> net = recurrent(input_shape=(8, 8), output_size=10, cell="gru", norm="batch")
    >>> net(torch.zeros(3, 8, 8)).shape
    torch.Size([3, 10])
    """
    if cell not in CELLS:
        raise UsageError(f"there is no cell {cell!r}; {nearest(str(cell), list(CELLS))}")
    if placement not in PLACEMENTS:
        raise UsageError(f"there is no placement {placement!r}; {nearest(str(placement), list(PLACEMENTS))}")
    for name, value in (("layers", layers), ("hidden", hidden)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} has to be a positive whole number, got {value!r}")
    _refuse_activation(norm, cell)
    over = normalization(norm).over
    if placement == "recurrence" and norm not in PER_STEP and (over.startswith("batch") or over_positions(norm)):
        raise UsageError(
            f"the normalization {norm!r} is over {over}, and in the recurrence later steps are not there yet: use "
            "'batch-per-step', or placement 'input'"
        )
    read = setting(input_shape, output_size, task, vocabulary)
    embedding = read.embedding(hidden) if read.tokens else nn.Identity()
    stack: OrderedDict[str, nn.Module] = OrderedDict(
        (f"layer{k}", Layer(norm, cell, read.size if k == 1 and read.size else hidden, hidden, read, placement))
        for k in range(1, layers + 1)
    )
    last = output(hidden, output_size)
    return initialized(Recurrent(read, embedding, nn.Sequential(stack), last), init, seed, "glorot")


def _refuse_activation(norm: str, cell: str) -> None:
    """Refuse a normalization that replaces the activation function of a gated cell."""
    if CELLS[cell][0] > 1 and norm not in WEIGHTS_ALONE and not isinstance(_activation(norm, 8), nn.Tanh):
        raise UsageError(
            f"the normalization {norm!r} replaces the activation function of a layer, and what leaves the cell "
            f"{cell!r} is a product with gates, for which its source has no formula: use cell 'rnn', or a "
            "normalization of activations or weights alone, as 'layer' or 'weight'"
        )
