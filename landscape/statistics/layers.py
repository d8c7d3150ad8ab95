"""Seeds joined into a layer's decision, and the layers' decisions into one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from landscape.analysis import Claim
from landscape.statistics.pairs import SeedValue
from landscape.statistics.rule import Decision, decide_values

_RANK = {"fails": 0, "undecided": 1, "holds": 2}


def measured(by_seed: Mapping[int, SeedValue]) -> dict[int, SeedValue]:
    """The seeds that have a number."""
    return {seed: value for seed, value in by_seed.items() if value.state == "measured"}


def decide_seeds(claim: Claim, by_seed: Mapping[int, SeedValue]) -> Decision:
    """The rule on the measured seeds of one layer."""
    used = measured(by_seed)
    by_step = {seed: value.by_step for seed, value in used.items()}
    at_loss = {seed: v.at_matched_loss for seed, v in used.items() if v.at_matched_loss is not None}
    few = sum(value.unmatched == "few" for value in used.values())
    return decide_values(by_step, at_loss if claim.matched else None, claim, few=few)


def joined(decisions: Mapping[str, Decision]) -> tuple[str, str, float]:
    """Several layers as one (intersection-union): verdict and name of the worst layer, and the largest p-value.

    The p-value is NaN where a layer was not tested. A layer that fails is worse than one that is undecided, and that
    worse than one that holds; among equals the one with the larger p-value. So all must hold, and any that fails
    decides.
    """
    p_values = {name: decision.p_value for name, decision in decisions.items()}
    untested = {name for name, p in p_values.items() if math.isnan(p)}
    worst = {name: 1.0 if name in untested else p for name, p in p_values.items()}
    layer = min(decisions, key=lambda name: (_RANK.get(decisions[name].verdict, -1), -worst[name]))
    return decisions[layer].verdict, layer, float("nan") if untested else max(worst.values())
