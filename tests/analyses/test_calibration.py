"""How often the santurkar claims "hold" where nothing is there: real runs of one arm, paired with each other.

The pool (tests/data/make_null_pool.py) has 20 seeds of the standard and of the batch-normalized net. In each of
200 comparisons 10 distinct runs of one arm are paired, shifted to the claim's own boundary, and decided by the
very rule of the report; every "holds" is false. The rule is made for 2.5 % (5 % for equivalence).
"""

from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import binom

from landscape.statistics import false_holds
from landscape.statistics.rule import size_of
from landscape_analyses.santurkar import ANALYSIS as SANTURKAR

CLAIMS = [c for c in SANTURKAR.claims(SANTURKAR.presets["quick"]()) if not c.id.startswith("A-thm")]
COMPARISONS = 200


@pytest.fixture(scope="module")
def pools():
    frame = pd.read_csv(Path(__file__).parents[1] / "data" / "null_pool.csv.gz", keep_default_na=False)
    frame["value"] = frame["value"].astype(float)
    return {key: [run for _, run in rows.groupby("seed")] for key, rows in frame.groupby(["study", "arm"])}


@pytest.mark.parametrize("arm", ["none", "batch"])
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_at_most_ten_of_two_hundred_null_comparisons_hold(pools, claim, arm):
    held = false_holds(pools[claim.study, arm], claim, comparisons=COMPARISONS, n=5, seed=0)
    # An equivalence is made for 5 %: 10 of 200 is what to expect, so its ceiling is three standard errors above.
    ceiling = 10 if size_of(claim) == 0.025 else int(binom.ppf(0.9987, COMPARISONS, size_of(claim)))
    assert held <= ceiling


def test_the_pool_is_twenty_seeds_of_each(pools):
    assert {key: len(runs) for key, runs in pools.items()} == {
        (study, arm): 20 for study in ("conv", "dln") for arm in ("none", "batch")
    }
