"""What swapping a normalization does to one place of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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


_PAST: dict[Action, str] = {
    "replace": "replaced",
    "remove": "removed",
    "insert": "inserted",
    "keep": "kept",
    "can't": "can't be changed",
}


def summary(changes: Sequence[Change]) -> str:
    """A plan on one line: how many places of each kind, and each that can't be changed with its reason.

    >>> summary([Change("a", "", "", "insert", ""), Change("rnn", "LSTM", "LSTM", "can't", "it is fused")])
    "1 inserted, 1 can't be changed (rnn: it is fused)"
    """
    counts = Counter(change.action for change in changes)
    words = ", ".join(f"{counts[action]} {past}" for action, past in _PAST.items() if counts[action])
    refused = [f"{change.name or change.before}: {change.why}" for change in changes if change.action == "can't"]
    shown = "; ".join(refused[:3]) + ("; ..." if len(refused) > 3 else "")
    return f"{words} ({shown})" if refused else words or "nothing to change"
