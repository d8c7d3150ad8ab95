r"""How noisy a mini-batch's gradient is: tr(Sigma), ||G||^2 and their ratio, the noise scale, layer by layer.

With g_i the gradient of mini-batch i of b_i examples, N = sum_i b_i and g = sum_i b_i g_i / N over M mini-batches
of independently drawn examples, E g_i = G and Cov g_i = Sigma / b_i, so that

    tr(Sigma) ~ sum_i b_i ||g_i - g||^2 / (M - 1)        ||G||^2 ~ ||g||^2 - tr(Sigma) / N

are unbiased. For equal b_i they are those of McCandlish et al. 2018 (*An Empirical Model of Large-Batch
Training*, appendix A.1) with B_small = b and B_big = N. Their B_simple = tr(Sigma) / ||G||^2 is the batch size
at which noise and signal are equal; a ratio of unbiased numbers, it is not unbiased itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.objective import Batch, Batches, LossFunction, Objective, as_batches, batch_size
from landscape.parameters import Blocks, Selection
from landscape.preserve import preserved
from landscape.probes.base import Measurement, Moment

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1


@dataclass(frozen=True)
class GradientNoise:
    """The noise of M mini-batch gradients, in float64; l layers, the first of them the whole network.

    Attributes:
        layers: names of the modules that own the parameters; "" for the whole network.
        gradient_norm: ||g||, of the mean gradient. (l,)
        squared_norm: the unbiased estimate of ||G||^2; below zero where noise hides the gradient. (l,)
        variance: the unbiased estimate of tr(Sigma), the variance of one example's gradient. (l,)
        noise_scale: variance / squared_norm, in examples; +inf where squared_norm is not positive. (l,)
        squared_norm_error: standard error, by jackknife over mini-batches; NaN for two of them. (l,)
        variance_error: the same. (l,)
        noise_scale_error: the same; +inf where leaving one mini-batch out makes squared_norm negative. (l,)
        cosine: between the gradients of any two mini-batches, whole network. (M, M)
        mean_cosine: its mean over pairs. ()
        mean_cosine_error: standard error, by jackknife. ()
        examples: b_i. (M,)
    """

    layers: tuple[str, ...]
    gradient_norm: Tensor
    squared_norm: Tensor
    variance: Tensor
    noise_scale: Tensor
    squared_norm_error: Tensor
    variance_error: Tensor
    noise_scale_error: Tensor
    cosine: Tensor
    mean_cosine: Tensor
    mean_cosine_error: Tensor
    examples: Tensor

    def frame(self) -> pd.DataFrame:
        """One row per layer; synchronises."""
        import pandas as pd

        fields = [f.name for f in dataclasses.fields(self)[1:8]]
        return pd.DataFrame({"layer": list(self.layers)} | {name: getattr(self, name).tolist() for name in fields})


def gradient_noise(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Batch,
    *,
    parameters: Selection = None,
    statistics: str = "batch",
) -> GradientNoise:
    r"""Mean, variance and noise scale of the gradient over mini-batches, by layer.

    Networks with batch statistics have a Sigma of their own for each batch size: the estimate holds for
    mini-batches of the size that was given.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, a mean over the batch.
        batches: ``Batches`` or a list of mini-batches, two or more; weights count as shares of all examples.
        parameters: restrict w.
        statistics: "batch" or "running".

    Raises:
        UsageError: fewer than two mini-batches, or one without weight.
        ProbeError: nothing trainable, or a model that can't be probed in one process.

    Cost: M forward+backward passes. Memory: M gradients.

    >>> w = nn.Linear(1, 1, bias=False)
    >>> mean = lambda model, x: model(x).mean()  # the gradient is the mean of x
    >>> noise = gradient_noise(w, mean, Batches([torch.tensor([[1.0]]), torch.tensor([[3.0]])]))
    >>> float(noise.variance[0]), float(noise.squared_norm[0])  # s^2 of 1 and 3; 2^2 - s^2 / 2
    (2.0, 3.0)
    """
    parts = as_batches(batches)
    if len(parts) < 2 or min(parts.weights) <= 0:
        raise UsageError(
            f"a variance takes two mini-batches or more, each with a weight: got {len(parts)} with {parts.weights[:4]}"
        )
    total = sum(batch_size(part) for part in parts.batches)
    with preserved(model) as snapshot, torch.inference_mode(False), torch.enable_grad():
        objective = Objective(model, loss_fn, snapshot, select=parameters, statistics=statistics)
        snapshot.rewind()
        gradients = [objective.parameters.gradient(objective.evaluate(part)) for part in parts.batches]
        layers, grams = _grams(objective.parameters.names, gradients)
    examples = torch.tensor([w * total for w in parts.weights], dtype=torch.float64, device=grams.device)
    return _noise(layers, grams, examples)


def _grams(names: list[str], gradients: list[Blocks]) -> tuple[tuple[str, ...], Tensor]:
    """<g_i, g_j> of the whole network and of each layer, (l, M, M)."""
    owners = [name.split(".parametrizations.")[0] if ".parametrizations." in name else _owner(name) for name in names]
    by_layer: dict[str, Tensor] = {}
    for k, owner in enumerate(owners):
        rows = torch.stack([g[k].reshape(-1) for g in gradients])
        rows = (torch.view_as_real(rows).flatten(1) if rows.is_complex() else rows).double()
        product = rows @ rows.T
        by_layer[owner] = by_layer[owner] + product if owner in by_layer else product
    grams = torch.stack(list(by_layer.values()))
    return ("", *by_layer), torch.cat([grams.sum(0, keepdim=True), grams])


def _owner(name: str) -> str:
    """The module that owns a parameter; the root's own parameters go by their name."""
    return name.rpartition(".")[0] or name


def _noise(layers: tuple[str, ...], grams: Tensor, b: Tensor) -> GradientNoise:
    count = len(b)
    squared, variance = _estimates(grams, b)
    others = [torch.tensor([i for i in range(count) if i != left], device=b.device) for left in range(count)]
    without = [_estimates(grams[:, keep][:, :, keep], b[keep]) for keep in others] if count > 2 else []
    each = [torch.stack(column) for column in zip(*without, strict=True)] if without else [squared.new_empty(0)] * 2
    size = grams[0].diagonal().sqrt()
    cosine = grams[0] / (size[:, None] * size)
    return GradientNoise(
        layers=layers,
        gradient_norm=torch.einsum("lij,i,j->l", grams, b, b).clamp_min(0.0).sqrt() / b.sum(),
        squared_norm=squared,
        variance=variance,
        noise_scale=_ratio(variance, squared),
        squared_norm_error=_jackknife(each[0], squared),
        variance_error=_jackknife(each[1], squared),
        noise_scale_error=_jackknife(_ratio(each[1], each[0]), squared),
        cosine=cosine,
        mean_cosine=_mean_of_pairs(cosine),
        mean_cosine_error=_jackknife(
            torch.stack([_mean_of_pairs(cosine[keep][:, keep]) for keep in others]) if count > 2 else each[0][:0],
            cosine.sum(),
        ),
        examples=b,
    )


def _estimates(grams: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """||G||^2 and tr(Sigma), unbiased, from inner products; (l,) each."""
    total = b.sum()
    mean_squared = torch.einsum("lij,i,j->l", grams, b, b) / total**2
    scatter = torch.einsum("lii,i->l", grams, b) - total * mean_squared
    variance = scatter / (len(b) - 1)
    return mean_squared - variance / total, variance


def _ratio(variance: Tensor, squared: Tensor) -> Tensor:
    return torch.where(squared > 0, variance / squared, torch.inf)


def _mean_of_pairs(cosine: Tensor) -> Tensor:
    count = len(cosine)
    return (cosine.sum() - cosine.diagonal().sum()) / (count * (count - 1))


def _jackknife(leave_one_out: Tensor, like: Tensor) -> Tensor:
    """Efron's standard error over the first axis; NaN without replicates, +inf where one of them is infinite."""
    count = len(leave_one_out)
    if count == 0:
        return torch.full_like(like, torch.nan)
    spread = (leave_one_out - leave_one_out.mean(0)).square().sum(0)
    return torch.nan_to_num(((count - 1) / count * spread).sqrt(), nan=torch.inf)


class GradientNoiseProbe:
    """``gradient_noise`` inside a training loop.

    Args:
        on: the named batch with several mini-batches.
        statistics: "batch" or "running".
    """

    name = "gradient_noise"
    version = VERSION

    def __init__(self, on: str = "full", statistics: str = "batch") -> None:
        self.on, self.statistics = on, statistics

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        return float(full)

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """The noise at this moment, of the whole network and of every layer."""
        batches = moment.named(self.on)
        if not isinstance(batches, Batches):
            raise UsageError(f"the gradient_noise probe needs several mini-batches: make {self.on!r} a Batches([...])")
        noise = gradient_noise(moment.model, moment.loss_fn, batches, statistics=self.statistics)

        def row(quantity: str, value: float, layer: str = "") -> Measurement:
            return Measurement(
                self.name,
                quantity,
                value,
                layer=layer,
                batch=self.on,
                statistics=self.statistics,
                dtype="float64",
                version=VERSION,
            )

        for item in dataclasses.fields(noise)[1:8]:
            for layer, value in zip(noise.layers, getattr(noise, item.name).tolist(), strict=True):
                yield row(item.name, value, layer)
        yield row("mean_cosine", float(noise.mean_cosine))
        yield row("mean_cosine_error", float(noise.mean_cosine_error))
