"""Self-normalizing networks (Klambauer et al. 2017): do activations stay near N(0, 1), and does that train better?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict
from landscape.derived import derived, per_run
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.figures import Panel, at_end, over_layers, over_steps, tally
from landscape.frames import RUN, pick

SOURCE = "Klambauer et al. 2017, arXiv 1706.02515"
DEPTHS = (8, 16, 32, 100)
#: Where theorem 1 maps mean and variance into a smaller domain: |mean| at most, variance from, variance to.
DOMAIN = (0.1, 0.8, 1.5)
OUT: dict[str, Any] = {"probe": "moments", "variant": "nonlinearity output"}
RANDOM = (
    Arm("selu"),
    Arm("selu:0.05"),
    Arm("none", name="relu"),
    Arm("none", name="tanh", options={"activation": "tanh", "init": "lecun"}),
)
TRAINED = (Arm("selu"), Arm("batch", name="relu+batch", options={"placement": "after"}))


def _experiment(name: str, data: str, *, width: int, trained: int, seeds: int, steps: int) -> Experiment:
    def random(depth: int) -> Study:
        return Study(
            name=f"depth{depth}",
            model=Spec("mlp", {"hidden": [width] * depth}),
            data=Spec(data),
            arms=RANDOM,
            learning_rates=(1e-6,),
            primary_rate=1e-6,
            seeds=tuple(range(seeds)),
            steps=1,
            full_batches=1,
            probes=(ProbeSpec("moments", at=(0,)),),
        )

    training = Study(
        name="training",
        model=Spec("mlp", {"hidden": [trained] * 32}),
        data=Spec(data),
        arms=TRAINED,
        learning_rates=(0.001, 0.01),
        primary_rate=0.01,
        seeds=tuple(range(seeds)),
        steps=steps,
        evaluate_every=steps // 10,
        full_batches=4,
        probes=(ProbeSpec("moments", every=steps // 20, arms=("selu",)),),
    )
    return Experiment(name, (*(random(depth) for depth in DEPTHS), training))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """The worst layer of each random network, and how much of training lies in the domain of theorem 1."""
    rows = []
    for study in experiment.studies[:-1]:
        rows.append(per_run(frame, study, "worst_mean", lambda v: v.abs().max(), **OUT, quantity="mean"))
        rows.append(per_run(frame, study, "worst_variance", lambda v: (v - 1).abs().max(), **OUT, quantity="variance"))
    training = experiment.studies[-1]
    own = pick(frame, study=training.name, **OUT, quantity=["mean", "variance"])
    wide = own.pivot_table(index=[*RUN, "step", "layer"], columns="quantity", values="value")
    wide = wide.reindex(columns=["mean", "variance"]).reset_index()
    size, low, high = DOMAIN
    wide["value"] = (wide["mean"].abs() <= size) & wide["variance"].between(low, high)
    rows.append(derived(wide.groupby(RUN)["value"].mean().reset_index(), training, "in_domain"))
    whole = wide.groupby([*RUN, "step"])["value"].all().groupby(RUN).mean().reset_index()
    rows.append(derived(whole, training, "all_in_domain"))
    return pd.concat(rows, ignore_index=True)


def _claim(id: str, statement: str, study: str, quantity: str, **kind: Any) -> Claim:
    plain: dict[str, Any] = {"arm": "selu", "window": "end", "needs_training": False, "source": SOURCE}
    return Claim(id, statement, study, Measure("derived", quantity, batch=""), **plain | kind)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Moments of random networks at each depth, alpha dropout, training against ReLU with batch normalization."""
    return tuple(_claims([len(study.model.options["hidden"]) for study in experiment.studies[:-1]]))


def _claims(depths: list[int]) -> Iterator[Claim]:
    below: dict[str, Any] = {"reference": None, "scale": "value", "kind": "threshold"}
    for depth in depths:
        of = f"of a random SELU network with {depth} hidden layers"
        yield _claim(f"E-3-mean-{depth}", f"In every layer {of} the activations' mean is within 0.05 of 0.",
                     f"depth{depth}", "worst_mean", boundary=-0.05, short=f"depth {depth}: mean within 0.05 of 0",
                     **below)  # fmt: skip
        yield _claim(f"E-3-var-{depth}", f"In every layer {of} the activations' variance is within 0.2 of 1.",
                     f"depth{depth}", "worst_variance", boundary=-0.2, short=f"depth {depth}: variance within 0.2 of 1",
                     **below)  # fmt: skip
        for other in ("relu", "tanh"):
            yield _claim(
                f"E-3-{other}-{depth}",
                f"The variance {of} stays nearer to 1 than that of a {other} network, each in its worst layer.",
                f"depth{depth}",
                "worst_variance",
                reference=other,
                short=f"depth {depth}: variance nearer to 1 than with {other}",
            )
    yield _claim(
        "E-4",
        "Alpha dropout of 5 % keeps the variance: in the worst of all layers it is within 0.1 of what it is without.",
        f"depth{depths[-1]}",
        "worst_variance",
        arm="selu:0.05",
        reference="selu",
        scale="difference",
        kind="equivalence",
        boundary=0.1,
        short="alpha dropout keeps the variance within 0.1",
    )
    yield Claim(
        "E-5",
        "A network of 32 SELU layers ends at a lower training loss than one of ReLU with batch normalization after it.",
        "training",
        Measure("training", "full_loss", batch=""),
        "selu",
        reference="relu+batch",
        window="end",
        needs_training=False,
        short="depth 32: lower loss than ReLU + batch, equal rate",
        source=f"{SOURCE}, figure 1",
        published="a lower training loss at depths 8 to 32, SGD at rate 1e-5 over 2,000 epochs (picture only)",
        counter_evidence="A rate of 1e-5 favours what needs no large one; batch normalization bears larger.",
    )
    yield _claim(
        "E-6",
        "While training, at least 90 % of (layer, step) have mean and variance in the domain of theorem 1.",
        "training",
        "in_domain",
        **below | {"supports": "larger", "boundary": 0.9},
        short="training stays in theorem 1's domain 90 % of the time",
        note="The domain, |mean| <= 0.1 and 0.8 <= variance <= 1.5, is recalled from the paper and was checked "
        "numerically to be mapped into itself. The theorem speaks of random weights, not of trained ones.",
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Random networks by depth; one depth in training."""
    *random, training = experiment.studies
    ids = [claim.id for claim in claims(experiment)]
    moments = [
        Panel("mean of activations", OUT | {"quantity": "mean"}, guide=0.0),
        Panel("variance of activations", OUT | {"quantity": "variance"}, guide=1.0, log=True),
    ]
    ends = {name: {"probe": "derived", "quantity": name} for name in ("worst_mean", "worst_variance")}
    domain = {name: {"probe": "derived", "quantity": name} for name in ("in_domain", "all_in_domain")}
    panels = [
        Panel("full loss", {"probe": "training", "quantity": "full_loss"}, log=True),
        Panel("test accuracy", {"probe": "training", "quantity": "test_accuracy"}),
        *(Panel(f"{q}, layer {k}", OUT | {"quantity": q, "layer": f"fc{k}.activation"}) for k in (1, 32)
          for q in ("mean", "variance")),
    ]  # fmt: skip
    return (
        Section(
            "Random networks",
            "Mean and variance over all units and samples of a layer's output, before any training. Inputs are "
            "standardized by one mean and deviation over all pixels. With dropout the network is in training mode.",
            claims=tuple(id for id in ids if id.startswith(("E-3", "E-4"))),
            figures=tuple(
                over_layers(f"moments-{study.name}", study, frame, moments, step=0, title=f"By layer, {study.name}")
                for study in random[:-1]
            ),
            tables=tuple(at_end(f"worst-{s.name}", f"The worst layer, {s.name}", s, frame, ends) for s in random),
        ),
        Section(
            "Training at depth 32",
            "SELU against ReLU with batch normalization after it, as in the authors' code, at equal learning rates.",
            claims=("E-5", "E-6"),
            figures=(over_steps("training", training, frame, panels, title="Training, and the moments meanwhile"),),
            tables=(at_end("ends", "At the end", training, frame, {"full loss": panels[0].rows,
                    "test accuracy": panels[1].rows, "(layer, step) in domain": domain["in_domain"],
                    "steps with all layers in it": domain["all_in_domain"]}),),
        ),
    )  # fmt: skip


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Mean and variance through the deepest random network."""
    study = experiment.studies[-2]
    panels = [
        Panel("mean of activations", OUT | {"quantity": "mean"}, guide=0.0),
        Panel("variance of activations", OUT | {"quantity": "variance"}, guide=1.0, log=True),
    ]
    return over_layers("headline", study, frame, panels, step=0, title=f"Random networks, {study.name}")


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Counted."""
    return tally(verdicts)


SELF_NORMALIZING = Analysis(
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
    answer=answer,
    derive=derive,
    definitions={
        "worst layer": "of a network's layers, the one whose activations are farthest from mean 0 (or variance 1).",
        "domain of theorem 1": "|mean| <= 0.1 and 0.8 <= variance <= 1.5, over units and samples of a layer's output.",
    },
)
