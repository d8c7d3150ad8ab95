r"""The noise of Santurkar et al. 2018, after batch normalization ("noisy-batch") or alone ("noise").

For each layer and forward pass in training mode

    mu ~ U(-0.5, 0.5),  sigma ~ U(1, 1.25)                                once per layer
    m_ij ~ U(mu - 0.1, mu + 0.1),  s_ij ~ N(sigma, 0.1),  a_ij <- s_ij a_ij + m_ij

for sample i and unit j; in eval mode nothing is drawn and nothing changes. The draws are new at every
step, so the distribution that the next layer sees is never stable.

Readings chosen where the paper leaves a choice: 0.1 in N(sigma, 0.1) is the standard deviation; the
unit of a convolution is the channel, so (N, C, H, W) gets one draw per sample and channel, constant
over space; the noise follows the affine part gamma, beta.

Draws come from torch's global generator of the activation's device: the training loop seeds it, and a
probe rewinds it before every evaluation, so that all points of a sweep see the same noise.

"noise" takes any batch; "noisy-batch" refuses one value per unit in training, and evaluates as batch norm does.
(N, F): a draw per sample and unit; sequences and images: constant over steps and space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.normalization.base import TWO_PER_UNIT, Normalization, by_dimensions, require_two_values

_SOURCE = "Santurkar et al. 2018, arXiv 1805.11604, section 2.1"


def noisy(a: Tensor) -> Tensor:
    """``s * a + m`` with fresh draws, for activations ``a`` of shape (N, units, ...).

    >>> noisy(torch.zeros(4, 3)).abs().max() <= 0.6
    tensor(True)
    """
    units = (*a.shape[:2], *[1] * (a.ndim - 2))  # (N, C, 1, 1)
    mu = torch.rand((), dtype=a.dtype, device=a.device) - 0.5
    sigma = 1 + 0.25 * torch.rand((), dtype=a.dtype, device=a.device)
    m = mu - 0.1 + 0.2 * torch.rand(units, dtype=a.dtype, device=a.device)
    s = sigma + 0.1 * torch.randn(units, dtype=a.dtype, device=a.device)
    return s * a + m


class Noise(nn.Module):
    """The noise alone, without normalization: the control of the noisy batch normalization."""

    def forward(self, a: Tensor) -> Tensor:
        """Noise in training mode, ``a`` itself in eval mode."""
        return noisy(a) if self.training else a


class _Noisy(nn.modules.batchnorm._BatchNorm):
    """What the noisy batch normalizations of each dimension share."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize, then, in training mode, add the noise.

        Raises:
            UsageError: one value per unit in training mode: the batch has no variance.
        """
        require_two_values(self, input)
        normalized = super().forward(input)
        return noisy(normalized) if self.training else normalized


class NoisyBatchNorm1d(_Noisy, nn.BatchNorm1d):
    """Batch normalization with the noise after it, for (N, F) and (N, C, L)."""


class NoisyBatchNorm2d(_Noisy, nn.BatchNorm2d):
    """Batch normalization with the noise after it, for (N, C, H, W)."""


class NoisyBatchNorm3d(_Noisy, nn.BatchNorm3d):
    """Batch normalization with the noise after it, for volumes."""


def _noise(features: int, ndim: int) -> nn.Module:
    return Noise()


def _noisy_batch(features: int, ndim: int) -> nn.Module:
    classes = {2: NoisyBatchNorm1d, 3: NoisyBatchNorm1d, 4: NoisyBatchNorm2d, 5: NoisyBatchNorm3d}
    return by_dimensions(classes, features, ndim, "noisy batch normalization")


NOISE = Normalization(
    name="noise",
    formula="z = s y + m in training; s_ij ~ N(sigma, 0.1), m_ij ~ U(mu - 0.1, mu + 0.1), mu and sigma per step",
    source=_SOURCE,
    over="nothing",
    needs="nothing",
    build=_noise,
)

NOISY_BATCH = Normalization(
    name="noisy-batch",
    formula="z = s BN(y) + m in training; s_ij ~ N(sigma, 0.1), m_ij ~ U(mu - 0.1, mu + 0.1), mu and sigma per step",
    source=_SOURCE,
    over="batch and space, per unit",
    needs=TWO_PER_UNIT,
    build=_noisy_batch,
)
