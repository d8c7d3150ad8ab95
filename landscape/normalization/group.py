"""Group normalization ("group:8": 8 groups) and instance normalization, torch's both.

Within a sample: any batch size, alike in train and eval. Group: (N, F) over the units of a group, sequences (N, F, T)
over the units of a group at one step, images over a group's channels and space. Where G does not divide the units the
largest number of groups below G that does is taken: 10 units under "group:8" make 5 groups. Without space a group of
one unit would leave a constant, so groups there have two units at least: 8 units under "group:8" make 8 groups in
images, and 4 in vectors and sequences.

Instance: per unit over space or time, so it has nothing to act on in (N, F): there it is the identity, and a network
without space anywhere is refused. One position (1x1) is refused: its variance is 0.
"""

from __future__ import annotations

from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.normalization.base import Normalization, by_dimensions, require_two_units
from landscape.normalization.layout import EachStep


def groups_of(features: int, groups: int, units: int = 2) -> int:
    """How many groups of ``units`` or more units: the largest divisor of ``features`` up to ``groups``; at least 1.

    >>> groups_of(64, 8), groups_of(10, 8), groups_of(8, 8), groups_of(7, 8)
    (8, 5, 4, 1)
    >>> groups_of(8, 8, units=1)
    8
    """
    return max([g for g in range(1, min(groups, features // units) + 1) if features % g == 0], default=1)


def group_norm(features: int, ndim: int, groups: int) -> nn.Module:
    """torch's group normalization for activations of ``ndim`` dimensions.

    Raises:
        UsageError: one unit without space.
    """
    if ndim < 4:
        require_two_units(features, "group normalization")
    norm = nn.GroupNorm(groups_of(features, groups, 2 if ndim < 4 else 1), features)
    return EachStep(norm) if ndim == 3 else norm


def group(argument: str) -> Normalization:
    """Group normalization with ``argument`` groups.

    Raises:
        UsageError: ``argument`` is not a whole number from 1 on.

    >>> group("8").build(64, 4).num_groups
    8
    """
    if not argument.isascii() or not argument.isdigit() or int(argument) < 1:
        raise UsageError(
            f"normalization 'group:{argument}': the number of groups has to be a whole number from 1 on, "
            "as in 'group:8'"
        )
    groups = int(argument)
    return Normalization(
        name=f"group:{groups}",
        formula="z = gamma (y - mean) / sqrt(var + 1e-5) + beta",
        source="Wu & He 2018, arXiv 1803.08494",
        over=f"the units of a group of one sample (and space), {groups} groups or the largest divisor below; without "
        "space, groups of two units or more",
        needs="nothing (any batch size)",
        build=lambda features, ndim: group_norm(features, ndim, groups),
    )


class _OverSpace(nn.modules.instancenorm._InstanceNorm):
    """What the instance normalizations of each dimension share: torch's own, with a refusal that says what to do."""

    def _check_input_dim(self, input: Tensor) -> None:
        super()._check_input_dim(input)  # type: ignore[no-untyped-call]  # untyped in torch
        units_dim = input.ndim - self._get_no_batch_dim()  # type: ignore[no-untyped-call]  # a sample may come alone
        if input.shape[units_dim + 1 :].numel() == 1:
            raise UsageError(
                f"{type(self).__name__} takes statistics over the positions of one sample and got one per unit, shape "
                f"{tuple(input.shape)}: the variance of one value is 0, and its deviation from the mean too. Use "
                "larger inputs or fewer pools before it, or a normalization over units ('layer', 'group:8')"
            )


class InstanceNorm1d(_OverSpace, nn.InstanceNorm1d):
    """torch's instance normalization of (N, C, L)."""


class InstanceNorm2d(_OverSpace, nn.InstanceNorm2d):
    """torch's instance normalization of (N, C, H, W)."""


class InstanceNorm3d(_OverSpace, nn.InstanceNorm3d):
    """torch's instance normalization of volumes."""


def _instance(features: int, ndim: int) -> nn.Module:
    if ndim == 2:
        return nn.Identity()
    classes = {3: InstanceNorm1d, 4: InstanceNorm2d, 5: InstanceNorm3d}
    affine = {key: lambda features, cls=cls: cls(features, affine=True) for key, cls in classes.items()}
    return by_dimensions(affine, features, ndim, "instance normalization")


INSTANCE = Normalization(
    name="instance",
    formula="z = gamma (y - mean) / sqrt(var + 1e-5) + beta",
    source="Ulyanov, Vedaldi & Lempitsky 2016, arXiv 1607.08022",
    over="space (or time) of one sample, per unit; layers without space are left as they are",
    needs="at least 2 positions in space or time: convolutional layers, sequences",
    build=_instance,
)
