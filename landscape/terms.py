"""How errors name what somebody asked for: in a file, as arguments of a function, or as options of a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Terms:
    """The words of one way to ask.

    Attributes:
        study: what begins an error of a whole study, of {study}.
        arm: an arm, of {study}, {arm} and {norm}.
        plain: the arm without normalization; as any other if "".
        norm: how a normalization is asked for, of {norm}.
        batch_size: how the size of a batch is, of {size}.
        probes: how those of the first order alone are.
        fields: fields of a study by what they are called.
        option: an option of a model or data set, of {field} and {option}.
        entry: one of several values of a field, of {field} and {value}.
        other: any other field, of {field}.
    """

    study: str
    arm: str
    plain: str
    norm: str
    batch_size: str
    probes: str
    fields: Mapping[str, str] = field(default_factory=dict)
    option: str = ""
    entry: str = ""
    other: str = ""

    def of_arm(self, study: str, arm: str, norm: str) -> str:
        """An arm of a study."""
        words = self.plain if self.plain and norm == "none" else self.arm
        return words.format(study=study, arm=arm, norm=norm)

    def of_place(self, place: tuple[str | int, ...], plain: Mapping[str, Any]) -> str:
        """A place in the one study of an experiment, in the shape of ``dataclasses.asdict``.

        >>> OPTIONS.of_place(("studies", 0, "arms", 1, "norm"), {"studies": [{"arms": [{}, {"norm": "bacth"}]}]})
        '--norm bacth'
        >>> ARGUMENTS.of_place(("studies", 0, "steps"), {"studies": [{"steps": 0}]})
        'steps'
        """
        name, *inner = [str(part) if isinstance(part, str) else part for part in place[2:]] or ["studies"]
        known = self.fields.get(str(name)) or self.other.format(field=name)
        if len(inner) > 1 and inner[0] == "options":
            return self.option.format(field=name, option=inner[1])
        if inner and isinstance(inner[0], int):
            value = plain["studies"][place[1]][name][inner[0]]
            value = (value.get("norm") or value.get("name")) if isinstance(value, dict) else value
            return self.entry.format(field=known, value=value)
        return known


FILE = Terms(
    study="study {study!r}: ",
    arm="study {study!r}, arm {arm!r}",
    plain="",
    norm="the arm {norm!r}",
    batch_size="batch_size = {size}",
    probes='probes = ["gradient_path"]',
)
ARGUMENTS = Terms(
    study="",
    arm="norms={norm!r}",
    plain="without normalization",
    norm="{norm!r} of norms",
    batch_size="batch_size={size}",
    probes='fields={"probes": ["gradient_path"]}',
    fields={"model": "build_model", "loss": "loss_fn", "arms": "norms", "learning_rates": "lr", "primary_rate": "lr"}
    | {name: name for name in ("data", "seeds", "steps", "batch_size", "optimizer", "probes", "chance_loss")},
    option="{field}_options[{option!r}]",
    entry="{field}={value!r}",
    other="fields[{field!r}]",
)
OPTIONS = Terms(
    study="",
    arm="--norm {norm}",
    plain="without normalization",
    norm="--norm {norm}",
    batch_size="--batch-size {size}",
    probes="--set 'probes=[\"gradient_path\"]'",
    fields={
        "model": "PKG:MODEL",
        "arms": "--norm",
        "learning_rates": "--lr",
        "primary_rate": "--lr",
        "probes": "--probe",
    }
    | {name: f"--{name}" for name in ("data", "loss", "seeds", "steps", "optimizer")}
    | {"batch_size": "--batch-size", "chance_loss": "--chance-loss"},
    option="--{field}-option {option}",
    entry="{field} {value}",
    other="--set {field}",
)
