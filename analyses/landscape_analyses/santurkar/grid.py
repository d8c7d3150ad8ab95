"""What is trained: the pairs of Santurkar et al. 2018, at three sizes.

Rates and initialization are chosen so that both arms train: an untrained net is flat and would look
smooth. He initialization, since Glorot leaves the plain net on a plateau for over a hundred steps on
digits; the paper preset keeps the paper's Glorot.
"""

from __future__ import annotations

from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study

#: Three step sizes of [1/2, 4] x lr where a full sweep would cost too much.
THREE = (0.5, 2.0**0.5, 4.0)
#: The deep linear net's range in the paper, [1/100, 30] x lr.
LINEAR = (0.01, 0.1, 1.0, 5.0, 10.0, 30.0)
PAIR = ("none", "batch")
#: Measured half as often as the pair; the noise arms are compared by accuracy and drift alone.
NORMS = ("lp:1", "lp:2", "lp:inf")


def quick() -> Experiment:
    """Digits and a small convolutional net: minutes on two cores."""
    conv = _conv(
        Spec("convnet"), Spec("digits"), rates=(0.03, 0.1, 0.3), layers=("conv3", "conv5"), steps=200, seeds=5, every=10
    )
    return Experiment(
        "santurkar-quick", (conv, _linear((1e-5, 1e-4, 1e-3), 1e-4, steps=1000, every=50, seeds=5, norms=("lp:1",)))
    )


def standard() -> Experiment:
    """CIFAR-10 and a narrow VGG-A: most of an hour on two cores, minutes on a GPU."""
    conv = _conv(
        Spec("vgg", {"width": 8}),
        Spec("cifar10"),
        rates=(0.03, 0.1, 0.3),
        layers=("conv5", "fc2"),
        steps=1500,
        seeds=5,
        every=75,
        full_batches=10,
    )
    return Experiment("santurkar-standard", (conv, _linear((1e-5, 1e-4, 1e-3), 1e-4, steps=3000, every=150, seeds=5)))


def paper() -> Experiment:
    """The paper's settings: full VGG-A, 15,000 steps, Glorot; the deep linear net at 1e-6. For a GPU."""
    conv = _conv(
        Spec("vgg", {"init": "glorot"}),
        Spec("cifar10"),
        rates=(0.03, 0.1, 0.5),
        layers=("conv5", "fc2"),
        steps=15000,
        seeds=5,
        every=250,
        full_batches=50,
    )
    return Experiment(
        "santurkar-paper", (conv, _linear((1e-6, 1e-5, 1e-4, 1e-3), 1e-5, steps=10000, every=500, seeds=5))
    )


def _conv(
    model: Spec,
    data: Spec,
    *,
    rates: tuple[float, ...],
    layers: tuple[str, str],
    steps: int,
    seeds: int,
    every: int,
    full_batches: int | None = None,
) -> Study:
    """The convolutional study: the pair at every rate, the other arms at the primary one."""
    primary = 0.1
    fixed = tuple(primary * m for m in THREE)
    weights = [f"{layer}.linear" for layer in layers]

    def path(every: int, at: tuple[int, ...] | None = None, **options: object) -> ProbeSpec:
        return ProbeSpec("gradient_path", every=every, at=at, arms=PAIR, options=options)

    return Study(
        name="conv",
        model=model,
        data=data,
        arms=(
            Arm("none"),
            Arm("batch"),
            *(Arm(norm, learning_rates=(primary,)) for norm in ("noisy-batch", "noise", *NORMS)),
        ),
        learning_rates=rates,
        primary_rate=primary,
        seeds=tuple(range(seeds)),
        steps=steps,
        batch_size=128,
        evaluate_every=every,
        full_batches=full_batches,
        probes=(
            path(every),
            ProbeSpec("gradient_path", every=2 * every, arms=NORMS),
            ProbeSpec("curvature", every=every, arms=PAIR),
            ProbeSpec("curvature", every=2 * every, arms=NORMS),
            path(4 * every, step_sizes=fixed),
            path(2 * every, on="held-out", multiples=THREE),
            path(2 * every, direction="scale-invariant", multiples=THREE),
            path(8 * every, direction="random", multiples=THREE),
            path(1, at=tuple(round(steps * k / 4 / every) * every for k in range(4)), on="full", multiples=(1.0,)),
            ProbeSpec("covariate_shift", every=2 * every, arms=PAIR, options={"layers": weights}),
            ProbeSpec("updates", every=2 * every, arms=PAIR),
            ProbeSpec("theorems", at=(0, steps // 2), arms=("batch",), options={"layer": f"{layers[0]}.norm"}),
            ProbeSpec("activations", every=every, arms=(*PAIR, "noisy-batch"), options={"layers": list(layers)}),
        ),
    )


def _linear(
    rates: tuple[float, ...], primary: float, *, steps: int, every: int, seeds: int, norms: tuple[str, ...] = NORMS
) -> Study:
    """The deep linear net by full-batch gradient descent, over the window of learning rates."""
    return Study(
        name="dln",
        model=Spec("deep_linear"),
        data=Spec("gaussian-regression"),
        arms=(
            Arm("none"),
            Arm("batch"),
            *(Arm(norm, learning_rates=(primary,)) for norm in norms),
        ),
        learning_rates=rates,
        primary_rate=primary,
        seeds=tuple(range(seeds)),
        steps=steps,
        batch_size=None,
        evaluate_every=every,
        probes=(
            ProbeSpec("gradient_path", every=every, arms=PAIR, options={"multiples": LINEAR}),
            ProbeSpec("curvature", every=every, arms=PAIR),
            ProbeSpec("covariate_shift", every=every, arms=PAIR, options={"layers": ["fc9.linear", "fc17.linear"]}),
        ),
    )
