"""PhaseDNN of Cai, Li & Liu 2020: small networks, each for one band of frequencies that is shifted down to zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from landscape.errors import UsageError, nearest
from landscape.models.blocks import fully_connected, initialized

FORMS = ("coupled", "parallel")


class PhaseDNN(nn.Module):
    """f(x) = sum_m A_m(x) cos(w_m x) + B_m(x) sin(w_m x), A_m and B_m networks: children ``cosine1``, ``sine1``, ...

    At frequency 0 there is no B. The parts are in the order A_1, B_1, A_2, B_2, ...
    """

    def __init__(self, frequencies: Sequence[float], form: str, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.frequencies, self.form = tuple(frequencies), form
        waiting = iter(networks)
        for number, frequency in enumerate(frequencies, start=1):
            self.add_module(f"cosine{number}", next(waiting))
            if frequency:
                self.add_module(f"sine{number}", next(waiting))

    def waves(self, x: Tensor) -> Tensor:
        """cos(w_m x) and sin(w_m x) at x (N, 1), in the order of the parts: (N, parts)."""
        columns = [wave(w * x) for w in self.frequencies for wave in (torch.cos, torch.sin)[: 2 if w else 1]]
        return torch.cat(columns, dim=1)

    def parts(self, x: Tensor) -> Tensor:
        """A_m(x) and B_m(x) at x (N, 1): (N, parts)."""
        return torch.cat([network(x) for network in self.children()], dim=1)

    def recombined(self, x: Tensor) -> Tensor:
        """f at x (N, 1): (N, 1)."""
        return (self.parts(x) * self.waves(x)).sum(1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 1) to f (N, 1) if coupled, to the parts (N, parts) if parallel."""
        return self.recombined(x) if self.form == "coupled" else self.parts(x)


def phase_dnn(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    frequencies: Sequence[float] = (0, 23, 137, 203),
    form: str = "coupled",
    hidden: Sequence[int] = (40, 40, 40, 40),
    activation: str = "tanh",
    init: str | None = None,
) -> nn.Module:
    """Networks 1-40-40-40-40-1, two for each frequency, for functions of one variable (arXiv 1905.01389).

    "coupled" trains all of them on f together; its output is f. "parallel" trains each on its own part of f, which
    the data have to give as targets (``wideband`` with the same frequencies): the squared errors of the
    parts add up and share no parameter, so each network is trained as if it were alone.

    The paper's activation, learning rate and number of epochs were not found; tanh is a choice. Widths are those
    of its experiment with a differential equation.

    Args:
        input_shape: (1,).
        output_size: 1 if coupled; two for each frequency but 0, which has one, if parallel.
        norm: the normalization of each hidden layer.
        seed: of the initial weights.
        frequencies: the centres w_m of the bands, in radians per unit of x; not negative, each once.
        form: "coupled" or "parallel".
        hidden: widths of each network's hidden layers.
        activation: "relu", "tanh", "sigmoid" or "identity".
        init: "he", "glorot" or "lecun"; the normalization's own if None, else "glorot".

    Raises:
        UsageError: the data have more than one variable or another number of targets, or an option is not valid.

    >>> net = phase_dnn(input_shape=(1,), output_size=1, frequencies=(0, 5), hidden=(3,))
    >>> [name for name, _ in net.named_children()], net(torch.zeros(7, 1)).shape
    (['cosine1', 'cosine2', 'sine2'], torch.Size([7, 1]))
    """
    if form not in FORMS:
        raise UsageError(f"there is no form {form!r}; {nearest(str(form), list(FORMS))}")
    numbers = isinstance(frequencies, (list, tuple)) and all(
        isinstance(w, (int, float)) and not isinstance(w, bool) and 0 <= w < float("inf") for w in frequencies
    )
    if not numbers or not frequencies or len(set(frequencies)) < len(frequencies):
        raise UsageError(f"frequencies is a list of numbers from 0 on, each once, as in [0, 23], got {frequencies!r}")
    if not isinstance(hidden, (list, tuple)):
        raise UsageError(f"hidden is a list of widths, as in [40, 40], got {hidden!r}")
    count = sum(2 if w else 1 for w in frequencies)
    expected = 1 if form == "coupled" else count
    if tuple(input_shape) != (1,) or output_size != expected:
        raise UsageError(
            f"this network takes inputs (1,) and, {form} with {len(frequencies)} frequencies, gives {expected} "
            f"output(s); the data have inputs {tuple(input_shape)} and {output_size} target(s): 'wideband' gives one, "
            "or with the same frequencies those of the parallel form"
        )
    networks = [nn.Sequential(fully_connected([1, *hidden, 1], norm, activation)) for _ in range(count)]
    return initialized(PhaseDNN(frequencies, form, networks), init, seed, "glorot")
