"""An analysis of one's own: does depth roughen the landscape, and does layer normalization undo it?

landscape run own_analysis.py
"""

from landscape.analysis import Analysis, Claim, Measure, Section
from landscape.experiment import Arm, Experiment, ProbeSpec, grid
from landscape.figures import LOSS, Panel, at_end, over_steps

BETA = {"probe": "gradient_path", "quantity": "effective_smoothness"}
DEEP = {"hidden": [32, 32, 32]}


def quick():
    arms = (Arm("none", "shallow", {"hidden": [32]}), Arm("none", "deep", DEEP), Arm("layer", "deep+layer", DEEP))
    path = ProbeSpec("gradient_path", every=10)
    return Experiment(
        "depths-quick", (grid("depths", "mlp", "digits", arms, (0.1,), seeds=3, steps=40, probes=(path,)),)
    )


def claims(experiment):
    return tuple(
        Claim(
            id=f"D-{a}",
            statement=f"The {a} network has a smaller effective smoothness than the deep one.",
            study="depths",
            measure=Measure("gradient_path", "effective_smoothness", "gradient/scaled"),
            arm=a,
            reference="deep",
            landscape=True,
        )
        for a in ("shallow", "deep+layer")
    )


def figure(experiment, frame):
    panels = [Panel("full loss", LOSS, log=True), Panel("max beta", BETA, log=True)]
    return over_steps("headline", experiment.studies[0], frame, panels, title="Depths")


def sections(experiment, frame):
    table = at_end("end", "At the last step", experiment.studies[0], frame, {"full loss": LOSS})
    return (Section("Depths", "Same batches.", claims=("D-shallow", "D-deep+layer"), tables=(table,)),)


ANALYSIS = Analysis(
    name="depths",
    question="Does depth roughen the landscape, and does layer normalization undo it?",
    paper="",
    presets={"quick": quick},
    claims=claims,
    sections=sections,
    headline=figure,
)
