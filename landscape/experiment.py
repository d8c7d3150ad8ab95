"""What to train: a declarative grid of arms x learning rates x seeds, as plain data.

An ``Experiment`` holds one or more ``Study`` grids; each expands to ``Run`` objects, which are plain
JSON-able data: a worker process is handed a run's dictionary and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from landscape.errors import UsageError

Options = dict[str, Any]

_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


@dataclass(frozen=True)
class Spec:
    """Something built by name: a model, a data set, an optimizer.

    Attributes:
        name: a shipped name, or the user's own ``package:function`` (or ``file.py:function``).
        options: keyword arguments for it.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One network of a pair: the normalization, and what else differs from the study's model.

    Attributes:
        norm: a name of NORMALIZATIONS, e.g. "batch" or "lp:1".
        name: what tables and figures call it; the normalization's name if empty.
        options: model options that replace the study's.
        learning_rates: the rates of this arm; the study's if None.
        data: data options that replace the study's; inputs and targets keep their shapes.
        warmup: steps over which the learning rate rises to its value, in equal parts.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT

    norm: str
    name: str = ""
    options: Options = field(default_factory=dict)
    learning_rates: tuple[float, ...] | None = None
    data: Options = field(default_factory=dict)
    warmup: int = 0

    @property
    def label(self) -> str:
        """The arm's name in every table and figure."""
        return self.name or self.norm


@dataclass(frozen=True)
class ProbeSpec:
    """A probe of a study, and when it measures.

    Attributes:
        name: a name of PROBES, e.g. "gradient_path".
        every: measure every so many steps.
        at: measure at these steps instead, if given.
        arms: only on these arms, if given.
        options: keyword arguments of the probe.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str
    every: int = 10
    at: tuple[int, ...] | None = None
    arms: tuple[str, ...] | None = None
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """One grid: a model and data, arms that differ in the normalization, learning rates and seeds.

    Attributes:
        name: short name, e.g. "vgg".
        model: the network; its options never contain the normalization.
        data: the data set.
        arms: what is compared.
        learning_rates: every arm is trained at each (unless the arm says otherwise).
        primary_rate: the rate that claims at equal rate are decided at.
        seeds: the replicates.
        steps: updates per run.
        batch_size: mini-batch size, or None for full-batch gradient descent.
        optimizer: "sgd" with options of torch.optim.SGD, or another of torch.optim by class name.
        probes: what is measured.
        evaluate_every: full loss and accuracies every so many steps.
        full_batches: how many fixed mini-batches the full loss L_m averages over; None for all.
        loss: the user's own ``loss_fn(model, batch)``, as ``package:function`` or ``file.py:function``; "" for
            the one that the model returns, else cross-entropy, or the squared error where the data has no classes.
        chance_loss: the loss that no learning reaches, where the loss is the user's own or the model's; if None, a
            run counts as untrained until its loss has fallen by a twentieth.
        accuracy: whether claims are made about accuracy; not where the data has no classes.
        data_dir: where data files lie; not part of the experiment's identity.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str
    model: Spec
    data: Spec
    arms: tuple[Arm, ...]
    learning_rates: tuple[float, ...]
    primary_rate: float
    seeds: tuple[int, ...]
    steps: int
    batch_size: int | None = 128
    optimizer: Spec = field(default_factory=lambda: Spec("sgd"))
    probes: tuple[ProbeSpec, ...] = ()
    evaluate_every: int = 10
    full_batches: int | None = None
    loss: str = ""
    chance_loss: float | None = None
    accuracy: bool = True

    def runs(self) -> Iterator[Run]:
        """One run per seed, learning rate and arm; seeds vary slowest, so that pairs finish together."""
        for seed in self.seeds:
            for arm in self.arms:
                for rate in arm.learning_rates or self.learning_rates:
                    yield Run(study=self, arm=arm, learning_rate=rate, seed=seed)


def grid(
    name: str,
    model: Spec | str,
    data: Spec | str,
    arms: Iterable[Arm | str],
    rates: Sequence[float],
    *,
    seeds: int,
    steps: int,
    **more: Any,
) -> Study:
    """A study in its short form, as a TOML file has it.

    Args:
        name: the study's name.
        model: a network, by name where it has no options.
        data: a data set, likewise.
        arms: the arms, by normalization where nothing else differs.
        rates: learning rates.
        seeds: how many, from 0 on.
        steps: updates per run.
        **more: other fields of Study; the primary rate is the first rate unless it is given.

    >>> grid("s", "mlp", "digits", ["none", "batch"], [0.1, 1.0], seeds=3, steps=50).primary_rate
    0.1
    """
    model, data = (Spec(one) if isinstance(one, str) else one for one in (model, data))
    labelled = tuple(Arm(arm) if isinstance(arm, str) else arm for arm in arms)
    fields: Options = {"primary_rate": rates[0], "seeds": tuple(range(seeds)), "steps": steps} | more
    return Study(name, model, data, labelled, tuple(rates), **fields)


@dataclass(frozen=True)
class Run:
    """One training of one arm at one learning rate with one seed."""

    study: Study
    arm: Arm
    learning_rate: float
    seed: int

    @property
    def key(self) -> str:
        """The run's folder name, e.g. ``vgg-batch-lr0.1-seed3``."""
        arm = self.arm.label.replace(":", "")
        return f"{self.study.name}-{arm}-lr{self.learning_rate:g}-seed{self.seed}"

    def to_json(self) -> str:
        """This run as JSON, for a worker process."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Run:
        """The run that ``to_json`` wrote."""
        plain = json.loads(text)
        return Run(
            study=_study(plain["study"]),
            arm=_arm(plain["arm"]),
            learning_rate=plain["learning_rate"],
            seed=plain["seed"],
        )


@dataclass(frozen=True)
class Experiment:
    """Everything that one command trains: one or more studies.

    Attributes:
        name: e.g. "santurkar-quick".
        studies: the grids.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str
    studies: tuple[Study, ...]

    def runs(self) -> list[Run]:
        """All runs of all studies."""
        return [run for study in self.studies for run in study.runs()]

    def study(self, name: str) -> Study:
        """The study called ``name``."""
        for study in self.studies:
            if study.name == name:
                return study
        raise UsageError(f"experiment {self.name!r} has no study {name!r}; it has {[s.name for s in self.studies]}")

    def to_json(self) -> str:
        """This experiment as JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1)

    @staticmethod
    def from_json(text: str) -> Experiment:
        """The experiment that ``to_json`` wrote."""
        plain = json.loads(text)
        return Experiment(plain["name"], tuple(_study(study) for study in plain["studies"]))

    def identity(self) -> dict[str, Any]:
        """What makes two experiments the same: everything but seeds, rates and which arms there are.

        More seeds, arms or rates extend a folder; an arm of the same label must be the same arm.
        """
        identity: dict[str, Any] = {}
        for study in self.studies:
            plain = json.loads(json.dumps(dataclasses.asdict(study)))
            for key in ("seeds", "learning_rates", "primary_rate"):
                del plain[key]
            arms = {arm.label: json.loads(json.dumps(dataclasses.asdict(arm))) for arm in study.arms}
            for arm in arms.values():
                del arm["learning_rates"]
            identity[study.name] = plain | {"arms": arms}
        return identity


def _arm(plain: dict[str, Any]) -> Arm:
    rates = plain["learning_rates"]
    return Arm(**plain | {"learning_rates": None if rates is None else tuple(rates)})


def _probe(plain: dict[str, Any]) -> ProbeSpec:
    tuples = {key: None if plain[key] is None else tuple(plain[key]) for key in ("at", "arms")}
    return ProbeSpec(**plain | tuples)


def _study(plain: dict[str, Any]) -> Study:
    return Study(
        **plain
        | {
            "model": Spec(**plain["model"]),
            "data": Spec(**plain["data"]),
            "optimizer": Spec(**plain["optimizer"]),
            "arms": tuple(_arm(arm) for arm in plain["arms"]),
            "probes": tuple(_probe(probe) for probe in plain["probes"]),
            "learning_rates": tuple(plain["learning_rates"]),
            "seeds": tuple(plain["seeds"]),
        }
    )
