"""The generic analysis: which claims a grid gets, and figures and tables from a long table made by hand."""

from __future__ import annotations

import dataclasses

import pandas as pd

from landscape.analysis import Claim
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.statistics import decide_claims
from landscape_analyses import ANALYSES

PAIRS = ANALYSES["pairs"]()
STUDY = Study(
    name="s",
    model=Spec("mlp"),
    data=Spec("digits"),
    arms=(Arm("none"), Arm("batch"), Arm("layer")),
    learning_rates=(0.1,),
    primary_rate=0.1,
    seeds=(0, 1, 2),
    steps=20,
    probes=(ProbeSpec("gradient_path"),),
)


def claims(*studies: Study) -> dict[str, Claim]:
    return {claim.id: claim for claim in PAIRS.claims(Experiment("e", studies))}


def long_table(smaller: float) -> pd.DataFrame:
    """Three arms, three seeds; the measures of "batch" are ``smaller`` times those of the others."""
    rows = []
    for arm in ("none", "batch", "layer"):
        factor = smaller if arm == "batch" else 1.0
        for seed in (0, 1, 2):
            for step in (0, 10, 20):
                training = {"full_loss": 2.0 - step / 20 - 0.01 * seed, "test_accuracy": 0.5 + step / 50}
                training |= {"chance_loss": 2.3} if step == 0 else {}
                common = {"study": "s", "arm": arm, "learning_rate": 0.1, "seed": seed, "step": step, "version": 1}
                common |= {"statistics": "batch", "dtype": "float32", "layer": ""}
                for quantity, value in training.items():
                    own = {"probe": "training", "variant": "", "batch": "", "quantity": quantity, "index": 0}
                    rows.append(common | own | {"value": value})
                for quantity in ("loss_range", "predictiveness", "effective_smoothness", "loss", "gradient_distance"):
                    for index in range(2 if quantity in ("loss", "gradient_distance") else 1):
                        own = {"probe": "gradient_path", "variant": "gradient/scaled", "batch": "same"}
                        own |= {"quantity": quantity, "index": index}
                        value = factor * (1 + index) * (1 + 0.01 * seed + 0.002 * step)
                        rows.append(common | own | {"value": value})
    return pd.DataFrame(rows)


def test_every_arm_is_compared_with_the_one_without() -> None:
    found = claims(STUDY)
    names = ("range", "pred", "beta", "loss", "acc")
    assert set(found) == {f"{arm}-{name}" for arm in ("batch", "layer") for name in names}
    assert {claim.reference for claim in found.values()} == {"none"}


def test_without_none_the_first_arm_is_the_reference() -> None:
    found = claims(dataclasses.replace(STUDY, arms=(Arm("layer"), Arm("batch"))))
    assert {claim.reference for claim in found.values()} == {"layer"}
    assert found["batch-range"].statement == "With batch, the loss varies less along the gradient than with layer."


def test_only_what_is_measured_is_claimed() -> None:
    assert set(claims(dataclasses.replace(STUDY, probes=()))) == {
        f"{arm}-{name}" for arm in ("batch", "layer") for name in ("loss", "acc")
    }
    limited = dataclasses.replace(STUDY, probes=(ProbeSpec("gradient_path", arms=("none", "batch")),))
    assert "batch-range" in claims(limited)
    assert "layer-range" not in claims(limited)
    invariant = ProbeSpec("gradient_path", options={"direction": "scale-invariant"})
    found = claims(dataclasses.replace(STUDY, probes=(invariant,)))
    assert found["batch-beta-inv"].measure.variant == "scale-invariant/scaled"
    assert "batch-beta" not in found
    assert "batch-acc" not in claims(dataclasses.replace(STUDY, data=Spec("gaussian-regression")))


def test_claims_of_several_studies_do_not_share_ids() -> None:
    found = PAIRS.claims(Experiment("e", (STUDY, dataclasses.replace(STUDY, name="t"))))
    assert len({claim.id for claim in found}) == len(found) == 20


def test_a_smaller_measure_holds_and_an_equal_one_does_not() -> None:
    experiment = Experiment("e", (STUDY,))
    verdicts = decide_claims(PAIRS.claims(experiment), experiment, long_table(0.5))
    by_id = {v.claim.id: v.verdict for v in verdicts}
    assert [by_id[f"batch-{name}"] for name in ("range", "pred", "beta")] == ["holds"] * 3
    assert "holds" not in {by_id[f"layer-{name}"] for name in ("range", "pred", "beta", "loss", "acc")}
    assert PAIRS.answer(verdicts).startswith("batch: smoother (3 of 3 measures hold, 0 fail)")


def test_figures_and_tables_say_what_was_measured() -> None:
    experiment, frame = Experiment("e", (STUDY,)), long_table(0.5)
    headline = PAIRS.headline(experiment, frame)
    assert headline is not None
    rows = headline.frame[(headline.frame["panel"] == "loss along the gradient") & (headline.frame["x"] == 0)]
    # Middle seed 1: 1.01 and 2.02 along the sweep, half of it with batch.
    assert dict(zip(rows["arm"], zip(rows["low"], rows["high"], strict=True), strict=True)) == {
        "none": (1.01, 2.02),
        "layer": (1.01, 2.02),
        "batch": (0.505, 1.01),
    }
    along, training = PAIRS.sections(experiment, frame)
    assert along.claims == tuple(f"{arm}-{name}" for arm in ("batch", "layer") for name in ("range", "pred", "beta"))
    last = training.tables[0].frame.set_index("arm")
    assert last.loc["none", "full loss"] == "0.99"
    assert last.loc["none", "test accuracy"] == "0.9"


def test_nothing_measured_is_no_crash() -> None:
    experiment, frame = Experiment("e", (STUDY,)), long_table(0.5).iloc[:0]
    assert PAIRS.headline(experiment, frame) is not None
    assert len(PAIRS.sections(experiment, frame)) == 2


def test_presets_build() -> None:
    for build in PAIRS.presets.values():
        experiment = build()
        assert Experiment.from_json(experiment.to_json()) == experiment
        assert len(PAIRS.claims(experiment)) == 6


def test_what_was_not_decided_is_not_called_mixed() -> None:
    flat = long_table(0.5)
    flat.loc[flat["quantity"] == "full_loss", "value"] = 2.3  # nobody left the plateau
    answer = PAIRS.answer(decide_claims(PAIRS.claims(Experiment("e", (STUDY,))), Experiment("e", (STUDY,)), flat))
    assert "batch: not decided, untrained (0 of 3 measures hold, 0 fail)" in answer
