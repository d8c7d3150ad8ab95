"""Passes counted beforehand are those that a model sees."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from landscape.cost import count_layers, moments
from landscape.errors import UsageError
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.plan import plan
from landscape.store import RunStore
from landscape.training import train

COUNTING = """
from torch import nn
COUNTS = {"forward": 0, "backward": 0}

class Counting(nn.Sequential):
    def forward(self, x):
        COUNTS["forward"] += 1
        y = super().forward(x)
        if y.requires_grad:
            y.register_hook(self.count)
        return y
    def count(self, gradient):
        COUNTS["backward"] += 1

def build(input_shape, output_size, norm):
    return Counting(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, output_size))
"""


def study(model: str, *probes: ProbeSpec, **changes: object) -> Study:
    settings: dict[str, object] = {"steps": 12, "batch_size": 64, "evaluate_every": 4, "full_batches": 2}
    return Study(
        name="s",
        model=Spec(model),
        data=Spec("digits", {"limit": 256, "test_limit": 64}),
        arms=(Arm("none"),),
        learning_rates=(0.1,),
        primary_rate=0.1,
        seeds=(0,),
        probes=probes,
        **(settings | changes),  # type: ignore[arg-type]  # chosen by the test
    )


@pytest.mark.parametrize(
    "probes",
    [
        (),
        (ProbeSpec("gradient_path", every=5),),
        (ProbeSpec("gradient_path", at=(0, 7, 99), options={"on": "held-out", "multiples": [1.0, 2.0]}),),
        (ProbeSpec("gradient_path", every=6, options={"on": "full", "step_sizes": [0.1]}),),
        (ProbeSpec("covariate_shift", every=6),),
    ],
)
def test_counted_passes_are_those_that_happen(tmp_path: Path, probes: tuple[ProbeSpec, ...]) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    one = study(f"{tmp_path / 'counting.py'}:build", *probes)
    expected = plan(Experiment("e", (one,)))[0].passes["none"]
    counts = next(
        m.COUNTS for name, m in sys.modules.items() if name.startswith("counting_") and str(tmp_path) in str(m)
    )
    counts.update(forward=0, backward=0)
    with RunStore(tmp_path / "run") as store:
        train(next(one.runs()), store)
        store.finish()
    # The first probe evaluates the loss twice to see whether it repeats, and layers are traced by a forward.
    forwards = counts["forward"]
    seen = forwards / 3 + counts["backward"] * 2 / 3
    extra = 2 / 3 if probes else 0.0
    if probes and probes[0].name == "covariate_shift":
        extra += 2 / 3
    assert seen == pytest.approx(expected + extra, abs=1e-9)
    assert store.costs()["passes"] == pytest.approx(expected)


def test_moments_of_a_probe() -> None:
    assert moments(ProbeSpec("curvature", every=10), 21) == 3
    assert moments(ProbeSpec("curvature", at=(0, 5, 5, 30)), 21) == 2


def test_layers_own_a_trainable_matrix() -> None:
    from landscape.models import build_model

    assert count_layers(build_model("convnet", norm="batch", input_shape=(1, 8, 8), output_size=10)) == 7


def test_a_plan_says_what_a_run_would_fail_with() -> None:
    with pytest.raises(UsageError, match="batch_size 5000 with 256 training examples"):
        plan(Experiment("e", (study("mlp", batch_size=5000),)))
    with pytest.raises(UsageError, match="no optimizer 'sgdd'"):
        plan(Experiment("e", (study("mlp", optimizer=Spec("sgdd")),)))
    with pytest.raises(UsageError, match="has no option 'widht'"):
        plan(Experiment("e", (dataclasses.replace(study("mlp"), model=Spec("mlp", {"widht": 3})),)))


def test_a_model_that_does_not_fit_the_data(tmp_path: Path) -> None:
    (tmp_path / "narrow.py").write_text("from torch import nn\ndef build():\n    return nn.Linear(3, 10)\n")
    with pytest.raises(UsageError, match="can't take inputs"):
        plan(Experiment("e", (study(f"{tmp_path / 'narrow.py'}:build"),)))


def test_timing_gives_seconds_for_every_arm() -> None:
    timed = plan(Experiment("e", (study("mlp"),)), timed=True)[0]
    assert timed.seconds is not None
    assert timed.seconds > 0
    assert timed.total_passes == timed.passes["none"]
