"""The rule by which claims are decided, in the words that the report prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from landscape.analysis import Verdict
from landscape.statistics import expected_false_holds
from landscape_reports.formats import number

RULE = (
    (
        "one number per seed",
        "Seeds are the only replicates. s is the median (or mean) over the claim's window of the comparison of the arm "
        "with its reference, oriented so that positive s supports the claim. Intervals are two-sided 95 % t intervals "
        "of the mean of s over seeds.",
    ),
    (
        "holds",
        "the lower end lies above the claim's boundary, by step and, where the claim asks for it, at matched full "
        "loss too. An equivalence claim holds when its 90 % interval lies inside ± its boundary.",
    ),
    ("fails", "an upper end lies below the boundary, by step or at matched loss."),
    ("undecided", "neither."),
    ("not measured", "fewer than three seeds have every number."),
    (
        "untrained",
        "no step is left at which the full loss of both arms is below 95 % of the loss of chance; where that is not "
        "known (a loss of one's own), below 95 % of each run's own loss before training.",
    ),
    (
        "confounded",
        "the step size, not the landscape, sets a measure of smoothness in both arms, or in the smoother one only.",
    ),
    (
        "matched loss",
        "compares at equal full loss inside the range that both arms pass through. It does not correct the "
        "comparison by step, since the loss is itself moved by the arm: both are shown.",
    ),
    (
        "rates",
        "the verdict is the one at equal learning rate; the one at each arm's best learning rate stands beside it.",
    ),
    (
        "effect",
        "log ratios are printed as x-fold (2.3× reads: 2.3 times in the direction that the claim states), "
        "others in the unit of the measure. Reasons give log ratios in dex, powers of ten: 0.3 dex is 2×. Where a "
        "claim holds by step and at matched loss, its reason gives the interval that reaches lower.",
    ),
)
"""Verdict or notion -> its meaning."""


def rule(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """The rule as rows; none where no claim is decided by it."""
    if not verdicts:
        return []
    return [*([name, text] for name, text in RULE), ["false holds", false_holds(verdicts)]]


def false_holds(verdicts: Sequence[Verdict]) -> str:
    """How many of the claims that were tested would be expected to hold falsely, in a sentence."""
    count = sum(not math.isnan(v.equal.p_value) for v in verdicts)
    word = "tested claim" if count == 1 else "tested claims"
    return (
        f"{count} {word}: were each exactly at its boundary, {number(expected_false_holds(verdicts), 2)} would be "
        "expected to hold falsely (0.025 each, an equivalence 0.05). Holm's adjustment over all of them stands beside "
        "each p-value and changes no verdict."
    )
