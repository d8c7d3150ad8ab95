"""What swapping a normalization does to one place of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Action = Literal["replace", "remove", "insert", "draw", "keep", "can't"]


@dataclass(frozen=True)
class Change:
    """One place of a model, and what happens to it. ``pandas.DataFrame(plan)`` makes a table of a plan.

    Attributes:
        name: the module's name in the model; "" for the model as a whole.
        before: what is there.
        after: what will be there.
        action: "replace" a normalization, "remove" it, "insert" one, "draw" initial weights anew, "keep" what is
            there, or "can't": the place stays as it is although it was meant.
        why: the reason, in a few plain words.
    """

    name: str
    before: str
    after: str
    action: Action
    why: str


#: Places of a kind that a summary names.
SHOWN = 4
_PAST: dict[Action, str] = {
    "replace": "replaced",
    "remove": "removed",
    "insert": "inserted",
    "draw": "with weights drawn anew",
    "keep": "kept",
    "can't": "can't be changed",
}


def summary(changes: Sequence[Change]) -> str:
    """A plan on one line: which places of each kind, and each that stays as it is with its reason.

    >>> summary([Change("a", "", "", "insert", ""), Change("rnn", "LSTM", "LSTM", "can't", "it is fused")])
    "1 inserted (a), 1 can't be changed (rnn: it is fused)"
    """
    words = []
    for action, past in _PAST.items():
        stays = action in ("keep", "can't")
        places = [
            f"{change.name or change.before}: {change.why}" if stays and change.why else change.name or change.before
            for change in changes
            if change.action == action
        ]
        if places:
            shown = ("; " if stays else ", ").join(places[:SHOWN]) + (", ..." if len(places) > SHOWN else "")
            words.append(f"{len(places)} {past} ({shown})")
    return ", ".join(words) or "nothing to change"
