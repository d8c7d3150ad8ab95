"""How a claim is decided: seeds paired, one number each, a t interval, and a rule calibrated on null runs.

Seeds are the only replicates. ``rule`` holds the rule itself; ``pairs`` makes one number per seed;
``matched`` compares at equal full loss; ``limits`` looks for smoothness that the step size set;
``decide`` joins them; ``calibration`` counts how often the rule is wrong when nothing is there.
"""

from landscape.statistics.calibration import false_holds
from landscape.statistics.decide import best_rates, decide, decide_claims, expected_false_holds
from landscape.statistics.intervals import holm, interval
from landscape.statistics.matched import matched_log_ratio
from landscape.statistics.rule import Decision, decide_values

__all__ = [
    "Decision",
    "best_rates",
    "decide",
    "decide_claims",
    "decide_values",
    "expected_false_holds",
    "false_holds",
    "holm",
    "interval",
    "matched_log_ratio",
]
