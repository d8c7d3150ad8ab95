"""How often the rule holds between runs of one arm: an autocorrelated, heavy-tailed pool where nothing is there."""

from __future__ import annotations

import dataclasses
import functools
import math
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from landscape.analysis import Claim, Measure
from landscape.errors import DataError, UsageError
from landscape.statistics import decide_values, false_holds

BETA = Measure("gradient_path", "effective_smoothness", variant="gradient/scaled", layers=("a", "b"))
CLAIM = Claim("null", "one arm is smoother than itself", "null", BETA, arm="batch", matched=True)
KINDS = {
    "superiority": CLAIM,
    "one layer, by step": dataclasses.replace(
        CLAIM, measure=dataclasses.replace(BETA, layers=("a",)), matched=False, window="early"
    ),
    "margin": dataclasses.replace(CLAIM, boundary=math.log10(1.5), supports="larger"),
    "non-inferiority": dataclasses.replace(CLAIM, kind="non-inferiority", boundary=-0.2, matched=False),
    "difference": dataclasses.replace(CLAIM, scale="difference", reduce="mean", matched=False, window="late"),
    "threshold": dataclasses.replace(
        CLAIM, scale="value", reference=None, kind="threshold", boundary=2.0, matched=False, supports="larger"
    ),
}


@functools.cache
def pool(runs: int = 20, steps: int = 40) -> tuple[pd.DataFrame, ...]:
    """Runs of one arm: a seed's own level, AR(1) noise with Student-t(2) shocks over steps, now and then an inf."""
    generator = np.random.default_rng(3)
    tables = []
    for seed in range(runs):
        at = np.arange(steps) * 10
        loss = 2.0 * np.exp(-0.01 * at * generator.uniform(0.8, 1.2)) * np.exp(generator.normal(0, 0.03, steps))
        rows = [pd.DataFrame({"step": at, "value": loss, "quantity": "full_loss"})]
        rows.append(pd.DataFrame({"step": [0], "value": [math.log(10)], "quantity": ["chance_loss"]}))
        parts = [frame.assign(probe="training", variant="", batch="", layer="") for frame in rows]
        for layer in BETA.layers:
            log_beta = np.empty(steps)
            log_beta[0] = 0.0
            for t in range(1, steps):
                log_beta[t] = 0.9 * log_beta[t - 1] + 0.1 * generator.standard_t(2)
            beta = loss * np.exp(log_beta + generator.normal(0.0, 0.3))
            beta[generator.uniform(size=steps) < 0.01] = np.inf
            parts.append(
                pd.DataFrame({"step": at, "value": beta, "quantity": BETA.quantity}).assign(
                    probe=BETA.probe, variant=BETA.variant, batch=BETA.batch, layer=layer
                )
            )
        who = {"study": "null", "arm": "batch", "learning_rate": 0.1, "seed": seed}
        tables.append(pd.concat(parts).assign(index=0, statistics="batch", **who))
    return tuple(tables)


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_at_most_ten_false_holds_in_two_hundred(kind: str, n: int) -> None:
    assert false_holds(pool(), KINDS[kind], n=n) <= 10


def test_equivalence_at_its_edge_keeps_the_size_of_its_two_one_sided_tests() -> None:
    # Made for .05, not .025: 10 expected in 200; 22 is four standard errors above.
    claim = dataclasses.replace(KINDS["one layer, by step"], kind="equivalence", boundary=5.0)
    assert 0 < false_holds(pool(), claim) <= 22


def test_the_rate_is_the_one_that_the_rule_was_made_for() -> None:
    """2.5 % and no more; but not none either, as a count that can't rise would be."""
    claim = KINDS["one layer, by step"]
    found = false_holds(pool(), claim, comparisons=2000)
    assert 0 < found <= 2000 * 0.025 + 4 * math.sqrt(2000 * 0.025)


def test_comparisons_draw_distinct_runs_and_repeat_with_their_seed() -> None:
    claim = KINDS["one layer, by step"]
    counts = [false_holds(pool(), claim, comparisons=400, n=3, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert counts[0] == counts[1]
    assert len(set(counts)) > 1
    with pytest.raises(UsageError, match="draws 10 distinct"):
        false_holds(pool()[:9], claim, n=5)


def test_a_pool_without_the_measure_calibrates_nothing() -> None:
    absent = dataclasses.replace(CLAIM, measure=dataclasses.replace(BETA, quantity="secant_slope"))
    with pytest.raises(DataError, match="store it in the pool"):
        false_holds(pool(), absent)
    with pytest.raises(UsageError, match="holds 2 runs"):
        false_holds([pd.concat(pool()[:2]), *pool()[2:]], CLAIM)


def test_the_pool_gives_what_the_rule_gives_by_hand() -> None:
    """One comparison of all of a six-run pool, whatever the pairing: every s is a median of log10 quotients."""
    constant = []
    for k, frame in enumerate(pool()[:6]):
        values = frame["value"].where(frame["quantity"] != BETA.quantity, 10.0 ** (0.1 * k))
        constant.append(frame.assign(value=values))
    claim = dataclasses.replace(KINDS["one layer, by step"], boundary=0.0, window="all")
    # Every draw of three ordered pairs, enumerated: the share that holds by the rule itself.
    held = [
        decide_values({i: 0.1 * (p[i + 3] - p[i]) for i in range(3)}, None, claim).verdict == "holds"
        for p in permutations(range(6))
    ]
    expected, trials = float(np.mean(held)), 3000
    found = false_holds(constant, claim, comparisons=trials, n=3) / trials
    assert 0.0 < expected < 0.1
    assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / trials)
