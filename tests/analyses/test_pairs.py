"""The generic analysis: which claims a grid gets, and figures and tables from a long table made by hand."""

from __future__ import annotations

import dataclasses

import pandas as pd

from landscape.analysis import Claim, Comparison, Interval, Verdict
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
    said = PAIRS.answer(verdicts)
    assert said.startswith("With batch, the landscape is smoother by all 3 measures; whether training ends at ")
    assert "With layer, it is open whether the landscape is smoother, as the seeds do not agree well enough;" in said
    assert said.endswith("To decide what is open, try more seeds (--seeds).")


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


def test_what_was_not_decided_says_why_and_what_to_try() -> None:
    flat, experiment = long_table(0.5), Experiment("e", (STUDY,))
    flat.loc[flat["quantity"] == "full_loss", "value"] = 2.3  # nobody left the plateau
    answer = PAIRS.answer(decide_claims(PAIRS.claims(experiment), experiment, flat))
    assert (
        "With batch and layer, it is open whether the landscape is smoother, as an arm never began to learn" in answer
    )
    assert "more steps (--steps) or another rate (--lr)" in answer
    late = PAIRS.recorded(experiment, flat)
    assert late == "At learning rate 0.1, the networks with no normalization, batch and layer never began to learn."


def test_an_arm_that_learns_late_is_named_with_its_step() -> None:
    table = long_table(0.5)
    waits = (table["quantity"] == "full_loss") & (table["arm"] == "batch") & (table["step"] < 20)
    table.loc[waits, "value"] = 2.3
    said = PAIRS.recorded(Experiment("e", (STUDY,)), table)
    assert said == "At learning rate 0.1, the network with batch began to learn only at step 20 of 20."
    assert PAIRS.recorded(Experiment("e", (STUDY,)), long_table(0.5)) == ""
    unfinished = table[table["step"] < 20]
    assert PAIRS.recorded(Experiment("e", (STUDY,)), unfinished) == ""


def test_without_a_measure_of_the_landscape_the_answer_says_so() -> None:
    assert PAIRS.answer(()) == "No measure of the landscape was recorded."


def test_the_answer_tells_what_came_out_from_what_is_open() -> None:
    def verdict(name: str, word: str, **changes: bool) -> Verdict:
        claim = dataclasses.replace(claims(STUDY)[f"batch-{name}"], **changes)
        return Verdict(claim, Comparison(0.1, 0.1, word, "", Interval(3, 1.0, 1.0, -1.0, 3.0)))

    found = [verdict("range", "holds"), verdict("pred", "fails"), verdict("beta", "undecided")]
    found += [verdict("loss", "holds"), verdict("acc", "undecided")]
    assert PAIRS.answer(tuple(found)) == (
        "With batch, the landscape is smoother by variation of the loss, not smoother by change of the gradient, and "
        "by beta it is open, as too little was measured at equal loss; training ends at a lower loss, whether it "
        "ends at a higher accuracy is open. To decide what is open, try more steps (--steps), or measuring more often; "
        "more seeds (--seeds)."
    )
