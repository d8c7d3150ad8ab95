"""Where a key stands in a TOML text: tomllib tells no line numbers, and an error should."""

from __future__ import annotations

import re
from collections import Counter

from landscape.rules import Place

_HEADER = re.compile(r"^\s*(\[\[?)\s*([\w.\-\s]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*([\w\-]+(?:\s*\.\s*[\w\-]+)*)\s*=")


def lines_of(text: str) -> dict[Place, int]:
    r"""Place -> line, counted from 1, of every table and key; the first study is ("studies", 0).

    >>> lines_of('name = "x"\n[study]\nsteps = 5')[("studies", 0, "steps")]
    3
    """
    found: dict[Place, int] = {}
    counts: Counter[str] = Counter()
    table: Place = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            dotted = ".".join(part.strip() for part in header[2].split("."))
            if header[1] == "[[":
                counts[dotted] += 1
                for inner in [name for name in counts if name.startswith(f"{dotted}.")]:
                    del counts[inner]  # the arrays of the table before are not this one's
            table = _place(dotted, counts)
            found.setdefault(table, number)
        elif key:
            inner_place: Place = tuple(part.strip() for part in key[1].split("."))
            found.setdefault((*table, *inner_place), number)
    return found


def line_of(place: Place, lines: dict[Place, int]) -> int | None:
    """The line of a place, or of the innermost table or key around it; None where there is none."""
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return None


def _place(dotted: str, counts: Counter[str]) -> Place:
    place: list[str | int] = []
    name = ""
    for part in dotted.split("."):
        name = f"{name}.{part}".lstrip(".")
        place.append("studies" if name == "study" else part)
        if name in counts or name == "study":
            place.append(max(counts[name], 1) - 1)
    return tuple(place)
