"""Self-normalizing networks (Klambauer et al. 2017): do activations stay near N(0, 1), and does that train better?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.derived import derived, number, worst_moments
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, grid
from landscape.figures import CURVES, ENDS, MOMENTS, Panel, at_end, over_layers, over_steps
from landscape.frames import OUTPUTS, RUN, pick

SOURCE = "Klambauer et al. 2017, arXiv 1706.02515"
DEPTHS = (8, 16, 32, 100)
#: Where theorem 1 maps mean and variance into a smaller domain: |mean| at most, variance from, variance to.
DOMAIN = (0.1, 0.8, 1.5)
RANDOM = (
    "selu",
    "selu:0.05",
    Arm("none", name="relu"),
    Arm("none", name="tanh", options={"activation": "tanh", "init": "lecun"}),
)
TRAINED = ("selu", Arm("batch", name="relu+batch", options={"placement": "after"}))


def _experiment(name: str, data: str, *, width: int, trained: int, seeds: int, steps: int) -> Experiment:
    once, along = ProbeSpec("moments", at=(0,)), ProbeSpec("moments", every=steps // 20, arms=("selu",))
    random = partial(grid, seeds=seeds, steps=1, full_batches=1, probes=(once,))
    training = grid(
        "training", Spec("mlp", {"hidden": [trained] * 32}), data, TRAINED, (0.001, 0.01), primary_rate=0.01,
        seeds=seeds, steps=steps, evaluate_every=steps // 10, full_batches=4, probes=(along,),
    )  # fmt: skip
    networks = {f"depth{depth}": Spec("mlp", {"hidden": [width] * depth}) for depth in DEPTHS}
    studies = [random(depth, network, data, RANDOM, (1e-6,)) for depth, network in networks.items()]
    return Experiment(name, (*studies, training))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """The worst layer of each random network, and how much of training lies in the domain of theorem 1."""
    *random, training = experiment.studies
    rows = [row for study in random for row in worst_moments(frame, study)]
    own = pick(frame, study=training.name, **OUTPUTS, quantity=["mean", "variance"])
    wide = own.pivot_table(index=[*RUN, "step", "layer"], columns="quantity", values="value")
    wide = wide.reindex(columns=["mean", "variance"])
    size, low, high = DOMAIN
    inside = (wide["mean"].abs() <= size) & wide["variance"].between(low, high)
    whole = inside.groupby([*RUN, "step"]).all()
    for name, values in (("in_domain", inside), ("all_in_domain", whole)):
        rows.append(derived(values.groupby(RUN).mean().rename("value").reset_index(), training, name))
    return pd.concat(rows, ignore_index=True)


CLAIM = partial(Claim, arm="selu", window="end", needs_training=False, source=SOURCE)
ALONE = partial(CLAIM, reference=None, scale="value", kind="threshold")


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Moments of random networks at each depth, alpha dropout, training against ReLU with batch normalization."""
    *random, _ = experiment.studies
    loss, variance = Measure.training("full_loss"), Measure.derived("worst_variance")
    return (
        *(claim for study in random for claim in _moments(study.name, len(study.model.options["hidden"]))),
        CLAIM("E-4", "Alpha dropout of 5 % keeps the variance: in the worst of all layers it is within 0.1 of what it "
              "is without.", random[-1].name, variance, arm="selu:0.05", reference="selu", scale="difference",
              kind="equivalence", boundary=0.1, short="alpha dropout keeps the variance within 0.1"),
        CLAIM("E-5", "A network of 32 SELU layers ends at a lower training loss than one of ReLU with batch "
              "normalization after it.", "training", loss, reference="relu+batch", source=f"{SOURCE}, figure 1",
              short="depth 32: lower loss than ReLU + batch, equal rate",
              published="a lower training loss at depths 8 to 32, SGD at rate 1e-5 over 2,000 epochs (picture only)",
              counter_evidence="A rate of 1e-5 favours what needs no large one; batch normalization bears larger."),
        ALONE("E-6", "While training, at least 90 % of (layer, step) have mean and variance in the domain of theorem "
              "1.", "training", Measure.derived("in_domain"), supports="larger", boundary=0.9,
              short="training stays in theorem 1's domain 90 % of the time",
              note="The domain, |mean| <= 0.1 and 0.8 <= variance <= 1.5, is recalled from the paper and was checked "
              "numerically to be mapped into itself. The theorem speaks of random weights, not of trained ones."),
    )  # fmt: skip


def _moments(study: str, depth: int) -> Iterator[Claim]:
    of = f"of a random SELU network with {depth} hidden layers"
    mean, variance = Measure.derived("worst_mean"), Measure.derived("worst_variance")
    yield ALONE(f"E-3-mean-{depth}", f"In every layer {of} the activations' mean is within 0.05 of 0.", study, mean,
                boundary=-0.05, short=f"depth {depth}: mean within 0.05 of 0")  # fmt: skip
    yield ALONE(f"E-3-var-{depth}", f"In every layer {of} the activations' variance is within 0.2 of 1.", study,
                variance, boundary=-0.2, short=f"depth {depth}: variance within 0.2 of 1")  # fmt: skip
    for other in ("relu", "tanh"):
        closer = f"The variance {of} stays nearer to 1 than that of a {other} network, each in its worst layer."
        yield CLAIM(f"E-3-{other}-{depth}", closer, study, variance, reference=other,
                    short=f"depth {depth}: variance nearer to 1 than with {other}")  # fmt: skip


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Random networks by depth; one depth in training."""
    *random, training = experiment.studies
    before = [claim.id for claim in claims(experiment) if claim.study != "training"]
    worst = {name: number(name) for name in ("worst_mean", "worst_variance")}
    moments = [
        Panel(f"{quantity}, layer {k}", OUTPUTS | {"quantity": quantity, "layer": f"fc{k}.activation"})
        for k in (1, 32)
        for quantity in ("mean", "variance")
    ]
    domain = {"(layer, step) in domain": number("in_domain"), "steps with all layers in it": number("all_in_domain")}
    panels = [*CURVES, *moments]
    return (
        Section(
            "Random networks",
            "Mean and variance over all units and samples of a layer's output, before any training. Inputs are "
            "standardized by one mean and deviation over all pixels. With dropout the network is in training mode.",
            claims=tuple(before),
            figures=tuple(
                over_layers(f"moments-{study.name}", study, frame, MOMENTS, step=0, title=f"By layer, {study.name}")
                for study in random[:-1]
            ),
            tables=tuple(at_end(f"worst-{s.name}", f"The worst layer, {s.name}", s, frame, worst) for s in random),
        ),
        Section(
            "Training at depth 32",
            "SELU against ReLU with batch normalization after it, as in the authors' code, at equal learning rates.",
            claims=("E-5", "E-6"),
            figures=(over_steps("training", training, frame, panels, title="Training, and the moments meanwhile"),),
            tables=(at_end("ends", "At the end", training, frame, ENDS | domain),),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Mean and variance through the deepest random network."""
    study = experiment.studies[-2]
    return over_layers("headline", study, frame, MOMENTS, step=0, title=f"Random networks, {study.name}")


ANALYSIS = Analysis(
    name="self-normalizing",
    title="Self-normalizing networks",
    question="Do SELU networks keep their activations near mean 0 and variance 1, and does that train them better?",
    paper=SOURCE,
    presets={
        "quick": lambda: _experiment("self-normalizing-quick", "digits", width=256, trained=64, seeds=5, steps=200),
        "standard": lambda: _experiment(
            "self-normalizing-standard", "fashion-mnist", width=784, trained=784, seeds=5, steps=4000
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    derive=derive,
    definitions={
        "worst layer": "of a network's layers, the one whose activations are farthest from mean 0 (or variance 1).",
        "domain of theorem 1": "|mean| <= 0.1 and 0.8 <= variance <= 1.5, over units and samples of a layer's output.",
    },
)
