"""The spectrum of the Hessian: outliers, and the gradient's share in them, under batch and under running statistics."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict, tally
from landscape.derived import derived, number
from landscape.experiment import Experiment, ProbeSpec, Spec, grid
from landscape.figures import ENDS, at_end
from landscape.frames import RUN, pick, stacked
from landscape.krylov.density import Quadrature

CLASSES = 10
MODES = ("batch", "running")
EIGENPAIRS: dict[str, Any] = {"probe": "hessian_eigenpairs", "variant": "hessian/largest", "batch": "full"}
GHORBANI = "Ghorbani, Krishnan & Xiao 2019, arXiv 1901.10159"


def _experiment(name: str, data: str, channels: list[Any], *, seeds: int, steps: int, draws: int) -> Experiment:
    probes = [ProbeSpec("curvature", at=(steps - 1,))]
    for mode in MODES:  # without batch statistics both are the same
        only = None if mode == "batch" else ("batch",)
        solve = {"k": CLASSES, "on": "full", "statistics": mode}
        density = {"draws": draws, "steps": 30, "on": "full", "statistics": mode}
        probes.append(ProbeSpec("hessian_eigenpairs", at=(steps - 1,), arms=only, options=solve))
        probes.append(ProbeSpec("spectral_density", at=(steps - 1,), arms=only, options=density))
    study = grid(
        "net", Spec("convnet", {"channels": channels}), data, ("none", "batch"), (0.1,), seeds=seeds, steps=steps,
        evaluate_every=max(1, steps // 10), full_batches=2, probes=tuple(probes),
    )  # fmt: skip
    return Experiment(name, (study,))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Per run and statistics mode: lambda_1 over lambda_10, the gradient's share; and running over batch."""
    (study,) = experiment.studies
    rows, ratios, shares = [], {}, {}
    for mode in MODES:
        own = pick(frame, study=study.name, statistics=mode, **EIGENPAIRS)
        ends = [pick(own, quantity="eigenvalue", index=k).set_index(RUN)["value"] for k in (0, CLASSES - 1)]
        ratios[mode] = ends[0] / ends[1].where(ends[1] > 0.0)
        shares[mode] = pick(own, quantity="gradient_energy").set_index(RUN)["value"]
        for name, values in (("outlier_ratio", ratios[mode]), ("energy", shares[mode]), ("top", ends[0])):
            rows.append(derived(values.reset_index(), study, f"{name}_{mode}"))
    returned = np.log10(ratios["running"] / ratios["batch"]).dropna()
    rows.append(derived(returned.reset_index(), study, "outliers_return"))
    rows.append(derived((shares["running"] - shares["batch"]).dropna().reset_index(), study, "energy_returns"))
    return pd.concat(rows, ignore_index=True)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Fewer outliers and less gradient in them with batch statistics; both back with running ones; a smaller top."""
    claim = partial(Claim, study="net", arm="batch", window="end", needs_training=False)
    alone = partial(claim, reference=None, scale="value", supports="larger", source=GHORBANI)
    return (
        claim(
            "H-outliers",
            "With batch normalization the largest eigenvalue stands out less: lambda_1 / lambda_10 is smaller.",
            measure=Measure.derived("outlier_ratio_batch"),
            short="smaller lambda_1/lambda_10",
            source=GHORBANI,
            published="outliers almost absent with batch normalization",
            note="There are 10 classes, hence about 10 outliers: lambda_10 stands for the edge of the bulk.",
        ),
        claim(
            "H-energy",
            "With batch normalization less of the gradient lies in the space of the ten largest eigenvalues.",
            measure=Measure.derived("energy_batch"),
            scale="difference",
            short="less gradient energy in the top 10",
            source=GHORBANI,
            published="gradients concentrated in outliers without batch normalization, not with it",
        ),
        alone(
            "H-running",
            "With running instead of batch statistics the outliers of the same network stand out more.",
            measure=Measure.derived("outliers_return"),
            short="batch: larger lambda_1/lambda_10 with running statistics",
            published="outliers return where statistics are those of all the data",
            note="log10 of the ratio with running over the ratio with batch statistics. Trained with "
            "batch statistics; theirs was also trained with the others.",
        ),
        alone(
            "H-energy-running",
            "With running instead of batch statistics more of the gradient lies in the top ten's space.",
            measure=Measure.derived("energy_returns"),
            short="batch: more gradient energy in the top 10 with running statistics",
            note="Difference of the shares.",
        ),
        claim(
            "H-top",
            "With batch normalization the largest eigenvalue of the Hessian is smaller.",
            measure=Measure("hessian_eigenpairs", "eigenvalue", "hessian/largest", "full"),
            landscape=True,
            short="smaller largest eigenvalue",
            source="Santurkar et al. 2018, arXiv 1805.11604",
            counter_evidence="Yao et al. 2020 (PyHessian): batch normalization does not necessarily smooth",
        ),
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Outliers and energy, mode by mode; the densities stand on page one."""
    (study,) = experiment.studies
    ids = tuple(claim.id for claim in claims(experiment))
    columns = {
        f"{words}, {mode}": number(f"{name}_{mode}")
        for name, words in (
            ("top", "lambda_1"),
            ("outlier_ratio", "lambda_1/lambda_10"),
            ("energy", "top 10 energy"),
        )
        for mode in MODES
    }
    return (
        Section(
            "Outliers and the gradient",
            "Ten eigenvalues by Lanczos, checked by residuals and by a second search. Energy is the part of ||g||^2 "
            "that lies in their space. Running statistics are fixed numbers, so the loss is then another function of "
            "the same weights: that of evaluation. Without batch normalization there are no statistics.",
            claims=ids,
            tables=(
                at_end("outliers", "At the end of training", study, frame, columns),
                at_end("training", "Training", study, frame, ENDS),
            ),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The density of eigenvalues of each arm, by statistics mode, with the ten largest marked."""
    (study,) = experiment.studies
    arrays = frame.attrs["arrays"]
    nodes, weights = (arrays("spectral_density", quantity) for quantity in ("nodes", "weights"))
    joined = nodes.merge(weights, on=[*RUN, "statistics"], suffixes=("", "_weights"))
    ends = [end for nodes in joined["value"] for end in (nodes.min(), nodes.max())] or [0.0]
    low, high = min(ends), max(ends)
    width = 0.01 * (high - low)
    grid = np.linspace(low - 5 * width, high + 5 * width, 400)
    parts = [
        pd.DataFrame({"position": grid, "arm": arm, "panel": panel} | _over_seeds(rows, grid, width))
        for (arm, panel), rows in _by_panel(joined)
    ]
    tops = pick(frame, quantity="eigenvalue", seed=min(study.seeds), **EIGENPAIRS)
    marked: dict[str, dict[str, list[float]]] = {}
    for (arm, panel), rows in _by_panel(tops):
        marked.setdefault(panel, {})[arm] = rows["value"].tolist()
    return Figure(
        name="headline",
        kind="spectrum",
        frame=stacked(parts),
        title="The spectrum of the Hessian at the end of training",
        caption=f"Stochastic Lanczos quadrature, Gaussians of standard deviation {width:.3g}. Mean over seeds; the "
        "band runs from the smallest to the largest. Marks: the ten largest eigenvalues of one seed. The standard "
        "network has no statistics, and is the same in both panels.",
        alt="Densities of Hessian eigenvalues on a logarithmic axis, with batch and with running statistics.",
        options={
            "x_label": "eigenvalue",
            "y_label": "density",
            "panels": [f"{mode} statistics" for mode in MODES],
            "outliers": marked,
            "arms": [arm.label for arm in study.arms],
        },
    )


def _by_panel(rows: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Rows by arm and panel; the standard network's, which has no statistics, in both."""
    plain = rows[rows["arm"] == "none"].assign(statistics="running")
    groups = pd.concat([rows, plain]).groupby(["arm", "statistics"], sort=False)
    return [((str(arm), f"{mode} statistics"), own) for (arm, mode), own in groups]


def _over_seeds(rows: pd.DataFrame, grid: np.ndarray[Any, np.dtype[np.float64]], width: float) -> dict[str, Any]:
    each = [
        Quadrature(torch.tensor(n), torch.tensor(w), 0).density(torch.tensor(grid), width).mean(dim=0).numpy()
        for n, w in zip(rows["value"], rows["value_weights"], strict=True)
    ]
    return {"density": np.mean(each, axis=0), "low": np.min(each, axis=0), "high": np.max(each, axis=0)}


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Counted, and what batch and running statistics do."""
    by = {v.claim.id: v.verdict for v in verdicts}
    return (
        f"{tally(verdicts)} Batch normalization suppresses outliers: {by.get('H-outliers', 'not measured')}; they "
        f"return with running statistics: {by.get('H-running', 'not measured')}."
    )


ANALYSIS = Analysis(
    name="hessian-spectrum",
    title="The spectrum of the Hessian",
    question="Does batch normalization remove the outliers of the Hessian, and the gradient's concentration in them?",
    paper=GHORBANI,
    presets={
        "quick": lambda: _experiment("hessian-spectrum-quick", "digits", [8, "M", 16], seeds=5, steps=400, draws=2),
        "standard": lambda: _experiment(
            "hessian-spectrum-standard", "cifar10", [32, "M", 64, "M", 128], seeds=5, steps=2000, draws=8
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    derive=derive,
    definitions={
        "lambda_1/lambda_10": "largest over tenth largest eigenvalue of the Hessian of the full loss.",
        "energy in top 10": "sum of <v_i, g>^2 over ||g||^2, over the eigenvectors of the ten largest eigenvalues.",
    },
)
