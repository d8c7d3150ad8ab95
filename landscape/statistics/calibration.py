"""How often the rule says "holds" when nothing is there: claims decided between runs of one and the same arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from landscape.analysis import Claim
from landscape.errors import DataError, UsageError
from landscape.statistics.layers import decide_seeds, joined
from landscape.statistics.pairs import SeedValue, seed_value
from landscape.statistics.rule import check_claim
from landscape.statistics.runs import RunData, cut, quantities

if TYPE_CHECKING:
    import pandas as pd


def false_holds(
    pool: Sequence[pd.DataFrame], claim: Claim, *, comparisons: int = 200, n: int = 5, seed: int = 0
) -> int:
    """How many of ``comparisons`` null comparisons the rule calls "holds".

    Each comparison draws 2 n distinct runs of the pool, pairs them at random, computes s of each pair
    exactly as a decision does, and adds the claim's own boundary: the truth then lies exactly at the
    boundary, of whatever kind the claim is (for equivalence at its upper edge), and every "holds" is false.
    A claim about a value has no pair: n runs are drawn, and s is centred on its mean over the pool.

    Args:
        pool: one long table per run; runs of the same arm and rate that differ in the seed alone.
        claim: its measure, window, kind, boundary, layers and matching are used; its study and arms are not.
        comparisons: how many.
        n: seeds per comparison.
        seed: of the draws.

    Raises:
        UsageError: fewer runs than one comparison draws.
        DataError: the pool holds too little of the claim's measure for any comparison to be decided.
    """
    check_claim(claim)
    drawn = n if claim.reference is None else 2 * n
    if len(pool) < drawn:
        raise UsageError(f"the pool has {len(pool)} runs, and a comparison of {n} seeds draws {drawn} distinct ones")
    runs = [_only_run(frame, claim, place) for place, frame in enumerate(pool)]
    known: dict[tuple[str, int, int], SeedValue] = {}

    def value(layer: str, a: int, b: int) -> SeedValue:
        if (layer, a, b) not in known:
            known[layer, a, b] = seed_value(claim, layer, runs[a], None if claim.reference is None else runs[b])
        return known[layer, a, b]

    shift = {layer: claim.boundary - _null(claim, runs, layer) for layer in claim.measure.layers}
    generator = np.random.default_rng(seed)
    held = decided = 0
    for _ in range(comparisons):
        chosen = generator.permutation(len(runs))[:drawn].tolist()
        pairs = list(zip(chosen[:n], chosen[-n:], strict=True))
        decisions = {
            layer: decide_seeds(claim, {i: _shifted(value(layer, *pair), by) for i, pair in enumerate(pairs)})
            for layer, by in shift.items()
        }
        verdict, *_ = joined(decisions)
        held += verdict == "holds"
        decided += verdict != "not measured"
    if decided == 0:
        raise DataError(
            f"claim {claim.id!r} can't be calibrated: no comparison of {n} seeds of the pool has "
            f"{claim.measure.probe}/{claim.measure.quantity} off the plateau in 3 seeds; store it in the pool"
        )
    return int(held)


def _only_run(frame: pd.DataFrame, claim: Claim, place: int) -> RunData:
    runs = cut(frame, quantities((claim,)))
    if len(runs) > 1:
        raise UsageError(f"table {place} of the pool holds {len(runs)} runs, and has to hold one")
    return next(iter(runs.values()), RunData())


def _null(claim: Claim, runs: Sequence[RunData], layer: str) -> float:
    """The value of s where nothing is there: 0 between runs of one arm; a value's own mean over the pool."""
    if claim.reference is not None:
        return 0.0
    values = [seed_value(claim, layer, run, None).by_step for run in runs]
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else 0.0


def _shifted(value: SeedValue, by: float) -> SeedValue:
    matched = None if value.at_matched_loss is None else value.at_matched_loss + by
    return SeedValue(value.state, value.by_step + by, matched, value.overlap, value.span)
