"""What swapping a normalization does to one place of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["replace", "remove", "insert", "keep", "can't"]


@dataclass(frozen=True)
class Change:
    """One place of a model, and what happens to it. ``pandas.DataFrame(plan)`` makes a table of a plan.

    Attributes:
        name: the module's name in the model; "" for the model as a whole.
        before: what is there.
        after: what will be there.
        action: "replace" a normalization, "remove" it, "insert" one, "keep" what is there, or "can't": the place
            stays as it is although it was meant.
        why: the reason, in a few plain words.
    """

    name: str
    before: str
    after: str
    action: Action
    why: str
