"""Spectral bias: as many parameters in both networks, and a short real run."""

import pandas as pd
import pytest

from landscape.models import build_model
from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES
from landscape_analyses.spectral_bias import derive

ANALYSIS = ANALYSES["spectral-bias"]()


@pytest.fixture(scope="module")
def report(trained, shorter):
    def cut(study):
        return shorter(study, 25, learning_rates=(study.primary_rate,))

    return trained(ANALYSIS, cut)


def test_a_short_run_is_decided(report, assert_decided):
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)
    assert_decided(report)


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_plain_and_shifted_networks_have_as_many_parameters_within_one_percent(preset):
    study = ANALYSIS.presets[preset]().study("coupled")
    plain, phase = (
        sum(
            p.numel()
            for p in build_model(
                "phase_dnn", input_shape=(1,), output_size=1, norm="none", **study.model.options | arm.options
            ).parameters()
        )
        for arm in (study.arms[0], study.arms[-1])
    )
    assert plain == pytest.approx(phase, rel=0.01)


def test_orders_of_bands_by_hand():
    # Bands 0 and 1 are learned at steps 20 and 40, the others never; errors at the end 1, 2, 3, 4, 5 hundredths x 10.
    experiment = ANALYSIS.presets["quick"]()
    study = experiment.study("coupled")
    values = {20: [0.1, 0.5, 0.5, 0.5, 0.5], 40: [0.05, 0.1, 0.3, 0.4, 0.5]}
    rows = [
        ("coupled", "none", 0.01, 0, step, "bands", "error", str(k), k, value)
        for step, errors in values.items()
        for k, value in enumerate(errors)
    ]
    names = ["study", "arm", "learning_rate", "seed", "step", "probe", "quantity", "layer", "index", "value"]
    frame = pd.DataFrame(rows, columns=names)
    found = derive(type(experiment)(experiment.name, (study,)), frame)
    steps = found[found["quantity"] == "steps_to_learn"].sort_values("index")["value"].tolist()
    one = found.set_index("quantity")["value"]
    assert steps == [20, 40, 1000, 1000, 1000]
    assert one["spread"] == pytest.approx(1.0)
    assert one["error_rank"] == pytest.approx(1.0)
    assert one["order"] == pytest.approx(8 / (10 * 8) ** 0.5)  # ranks 1, 2, 4, 4, 4 against 1 to 5
