"""The claims of Santurkar et al. 2018, declared before anything is run.

Candidates come from the paper's figures; each is put so that data can contradict it, and so that two
identical arms do not pass for free. Where a claim is true of identical arms by its nature ("about the
same"), it is an equivalence with a margin, and its note says so.
"""

from __future__ import annotations

import math
from typing import Any

from landscape.analysis import Claim, Measure
from landscape.experiment import Experiment

PAPER = "Santurkar et al. 2018 (arXiv 1805.11604)"
SHALLOW = "Yao et al. 2020 (PyHessian): batch normalization does not necessarily smooth, least in shallow nets."
RATES = "De & Smith 2020: at small batch the best rates with and without it are similar."
SCALE = "Raw distances depend on the scale of the weights; read the scale-invariant claim beside this one."
GHORBANI = "Ghorbani et al. 2019: the effect is tied to mini-batch statistics; with population statistics it goes."
EXPLODE = "Yang et al. 2019: batch normalization causes gradient explosion at initialization."
MARGIN_FOLD = math.log10(2.0)
POINTS = 0.03
#: The claims in a few words, for the verdict table on page one.
SHORT = {
    "A-speed": "trains faster (mean training accuracy)",
    "A-acc": "ends at a higher test accuracy",
    "A-lr": "lower training loss at the largest rate",
    "A-noisy1": "noisy batch norm. trains better than none",
    "A-noisy1b": "noisy batch norm. ends within 3 points of batch",
    "A-noisy3": "noise alone stops the standard net",
    "A-range": "loss varies less along the gradient, early",
    "A-pred": "gradient more predictive, early",
    "A-beta": "smaller effective beta",
    "A-beta-inv": "smaller beta, scale-invariant",
    "A-pred-held": "gradient more predictive on a held-out batch",
    "A-thm41": "Theorem 4.1 is an identity (error below 1e-6)",
    "A-thm42": "Theorem 4.2 is an identity (error below 1e-6)",
    "A-ICS": "larger internal covariate shift",
    "A-drift": "activations drift as much, within a factor 2",
    "A-noisy2": "noisy batch norm. drifts more than none",
    "A-ICS-DLN1": "deep linear, none: cosine of G, G′ above 0.9",
    "A-ICS-DLN2": "deep linear, batch: cosine of G, G′ below 0.6",
    "A-ICS-DLN3": "deep linear: lower loss with batch",
    "A-lp-DLN": "deep linear: lower loss with lp:1 than batch",
    "A-l1-acc": "lp:1 ends within 3 points of batch (test)",
    "A-l1-beta": "lp:1 smooths too: smaller beta than none",
    "A-l2-acc": "lp:2 ends within 3 points of batch (test)",
    "A-l2-beta": "lp:2 smooths too: smaller beta than none",
    "A-linf-acc": "lp:inf ends within 3 points of batch (test)",
    "A-linf-beta": "lp:inf smooths too: smaller beta than none",
    "A-range-DLN": "deep linear: loss varies less along the gradient",
    "A-pred-DLN": "deep linear: gradient more predictive",
    "A-beta-DLN": "deep linear: smaller effective beta",
}


def path(quantity: str, variant: str = "gradient/scaled", batch: str = "same") -> Measure:
    """A quantity of the sweep along the gradient."""
    return Measure("gradient_path", quantity, variant=variant, batch=batch)


def training_claims() -> tuple[Claim, ...]:
    """How well each arm trains."""

    def accuracy(id: str, statement: str, quantity: str, arm: str = "batch", **rest: Any) -> Claim:
        settings: dict[str, Any] = {"supports": "larger", "scale": "difference", "window": "end"}
        settings |= {"needs_training": False, "source": f"{PAPER}, figures 1, 2 and 13"}
        return Claim(id, statement, "conv", Measure.training(quantity), arm, **(settings | rest))

    same = "About the same is also true of identical arms: an equivalence within 3 points."
    return (
        accuracy(
            "A-speed",
            "Batch normalization trains faster: higher training accuracy, averaged over steps.",
            "train_accuracy",
            window="all",
            reduce="mean",
            published="a large gap at both rates (figure 1)",
            counter_evidence=RATES,
        ),
        accuracy(
            "A-acc",
            "Batch normalization ends at a higher test accuracy.",
            "test_accuracy",
            published="+3 points: 83 % against 80 % on CIFAR-10, no augmentation",
            counter_evidence="De & Smith 2020: SkipInit reaches 94.3 % against 94.6 % with batch normalization.",
        ),
        Claim(
            "A-lr",
            "At the largest rate, batch normalization ends at a lower training loss.",
            "conv",
            Measure.training("full_loss"),
            "batch",
            window="end",
            needs_training=False,
            rate="largest",
            source=f"{PAPER}, figure 1",
            counter_evidence=RATES,
        ),
        accuracy(
            "A-noisy1",
            "Noisy batch normalization still trains better than the standard net: higher mean training accuracy.",
            "train_accuracy",
            "noisy-batch",
            window="all",
            reduce="mean",
        ),
        accuracy(
            "A-noisy1b",
            "Noisy batch normalization ends within 3 points of training accuracy of batch normalization.",
            "train_accuracy",
            "noisy-batch",
            reference="batch",
            kind="equivalence",
            boundary=POINTS,
            note=same,
        ),
        accuracy(
            "A-noisy3",
            "The same noise stops the standard net from training: at most chance + 5 points.",
            "train_accuracy",
            "noise",
            reference=None,
            supports="smaller",
            scale="value",
            kind="threshold",
            boundary=-0.15,
            published="the standard net with noise does not train at all",
        ),
        *(
            accuracy(
                f"A-{name}-acc",
                f"{norm} normalization ends within 3 points of test accuracy of batch normalization.",
                "test_accuracy",
                norm,
                reference="batch",
                kind="equivalence",
                boundary=POINTS,
                note=same,
            )
            for name, norm in (("l1", "lp:1"), ("l2", "lp:2"), ("linf", "lp:inf"))
        ),
    )


def smoothness_claims(experiment: Experiment) -> tuple[Claim, ...]:
    """How smooth the landscape is along the gradient."""

    def smoother(id: str, statement: str, measure: Measure, window: str, arm: str = "batch", **rest: Any) -> Claim:
        settings: dict[str, Any] = {"matched": True, "landscape": True, "window": window}
        settings |= {"source": f"{PAPER}, figure 4", "counter_evidence": SHALLOW}
        return Claim(id, statement, "conv", measure, arm, **(settings | rest))

    return (
        smoother(
            "A-range",
            "The loss varies less along the gradient, early in training.",
            path("loss_range"),
            "early",
            note="A large drop counts as variation too; the report shows rise and drop apart.",
        ),
        smoother(
            "A-pred",
            "The gradient is more predictive, early in training: it changes less along its own direction.",
            path("predictiveness"),
            "early",
            published="close to two orders of magnitude, early in training",
            note=SCALE,
        ),
        smoother("A-beta", "The effective smoothness is better (smaller beta).", path("effective_smoothness"), "all"),
        smoother(
            "A-beta-inv",
            "Beta is smaller when measured so that rescaling the weights can't change it.",
            path("effective_smoothness", "scale-invariant/scaled"),
            "all",
            source="scale-invariant form of figure 4c; not in the paper",
            counter_evidence=f"{SHALLOW} {EXPLODE}",
        ),
        smoother(
            "A-pred-held",
            "The gradient of a held-out batch changes less, too, along the mini-batch gradient.",
            path("predictiveness", batch="held-out"),
            "early",
            source="figure 4b on another batch; not in the paper",
            counter_evidence=GHORBANI,
        ),
        *(
            Claim(
                f"A-thm{theorem}",
                f"Theorem 4.{theorem[1]} holds on live activations, as an identity: relative error below 1e-6.",
                "conv",
                Measure("theorems", f"error_{theorem}", layers=predeclared(experiment, "conv", "theorems", "layer")),
                "batch",
                reference=None,
                supports="smaller",
                scale="value",
                kind="threshold",
                boundary=-1e-6,
                needs_training=False,
                source=f"{PAPER}, Theorem 4.{theorem[1]}, with eps kept and 1/m in the last term",
                note="Algebra, not evidence: it speaks of one layer's activations, with gamma and beta held fixed.",
            )
            for theorem in ("41", "42")
        ),
        *(
            smoother(
                f"A-{name}-beta",
                f"{norm} normalization smooths too: smaller beta than without normalization.",
                path("effective_smoothness"),
                "all",
                norm,
                source=f"{PAPER}, figures 11 and 12",
            )
            for name, norm in (("l1", "lp:1"), ("l2", "lp:2"), ("linf", "lp:inf"))
        ),
    )


def shift_claims(experiment: Experiment) -> tuple[Claim, ...]:
    """How much gradients shift and activations drift."""
    layers = predeclared(experiment, "conv", "covariate_shift")
    sites = tuple(f"{layer.removesuffix('.linear')}.activation" for layer in layers)
    drift = Measure("activations", "shift_previous", variant="nonlinearity input", batch="fixed", layers=sites)
    return (
        Claim(
            "A-ICS",
            "Batch normalization does not reduce internal covariate shift: it is larger, relative to the gradient.",
            "conv",
            Measure("covariate_shift", "relative", layers=layers),
            "batch",
            supports="larger",
            matched=True,
            source=f"{PAPER}, figure 3a and Definition 2.1",
            published="similar or larger with batch normalization",
            note="Put as strictly larger: 'similar' would be true of identical arms. Required in every layer named.",
        ),
        Claim(
            "A-drift",
            "Activation distributions drift about as much with batch normalization: within a factor of 2.",
            "conv",
            drift,
            "batch",
            supports="larger",
            kind="equivalence",
            boundary=MARGIN_FOLD,
            source=f"{PAPER}, figure 1c",
            published="only mildly different, judged by eye",
            counter_evidence="Ioffe & Szegedy 2015: percentiles move far less with batch normalization.",
            note="About the same is also true of identical arms: an equivalence within a factor of 2.",
        ),
        Claim(
            "A-noisy2",
            "Noisy batch normalization has less stable activations than the standard net.",
            "conv",
            drift,
            "noisy-batch",
            supports="larger",
            source=f"{PAPER}, figures 2 and 7",
            published="the least stable distributions of all three",
        ),
    )


def predeclared(experiment: Experiment, study: str, probe: str, option: str = "layers") -> tuple[str, ...]:
    """The layers that a study's probe was told to measure: they are fixed before the run."""
    for one in experiment.studies:
        for spec in one.probes if one.name == study else ():
            named = spec.options.get(option)
            if spec.name == probe and named:
                return (named,) if isinstance(named, str) else tuple(named)
    return ("",)
