"""Numbers and text as they are printed: significant digits, x-fold, intervals, p-values."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

from landscape.analysis import Claim, Interval

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
NOTHING = "–"
_SIGNS: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"(?<=[\w)‖>])\^(\d+)(?![\w.])"), lambda found: found[1].translate(SUPERSCRIPT)),
    (re.compile(r"\bgrad (?=L\b)"), "∇"),
    (re.compile(r"(?<![\w.-])lambda(?:_(\d+))?(?!\.?\w|-)"), lambda found: "λ" + (found[1] or "").translate(SUBSCRIPT)),
    (re.compile(r"(?<![\w.-])eta(?!\.?\w|-)(?: (?=‖|[A-Za-z](?![A-Za-z])))?"), "η"),
    (re.compile(r"(?<=[²])\s(?=[A-Za-z](?![A-Za-z]))"), ""),
    (re.compile(r"(?<![\w'])([A-Za-z])'(?![\w'])"), "\\1′"),
    (re.compile(r"(?:(?<=[)‖′])|(?<=\b\w)) - (?=η|‖|min\b|[A-Za-z](?![A-Za-z]))"), " − "),
    (re.compile(r"(?<= )<=(?= )"), "≤"),
    (re.compile(r"(?<= )>=(?= )"), "≥"),
)


def plain(text: object) -> str:
    r"""Any object as text that paper, XML and JSON can hold: control signs and lone surrogates replaced.

    >>> plain("a\x07b")
    'a�b'
    """
    kept = [c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in str(text)]
    return "".join(kept)


def prose(text: object) -> str:
    r"""``plain`` text whose formulas, written on a keyboard, get their own signs. Not for names, code or errors.

    Every sign is replaced only where nothing else can be meant: ``||`` where they come in pairs, ``'`` behind a
    single letter, ``^`` before a number, ``eta`` and ``lambda`` as words of their own.

    >>> prose("max of ||grad L(w - eta D^2 g) - g|| / (eta ||g||)")
    'max of ‖∇L(w − ηD²g) − g‖ / (η‖g‖)'
    """
    found = plain(text)
    if found.count("||") % 2 == 0:
        found = found.replace("||", "‖")
    for pattern, sign in _SIGNS:
        found = pattern.sub(sign, found)
    return found


def number(value: float, digits: int = 3) -> str:
    """A number with ``digits`` significant digits; powers of ten where it is very large or small.

    >>> number(0.01234), number(12345.0), number(2.5e-7), number(float("inf")), number(-3.0)
    ('0.0123', '12,300', '2.5×10⁻⁷', '∞', '−3')
    """
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if not -4 <= exponent < 6:
        mantissa = f"{rounded / 10**exponent:.{digits}g}"
        return f"{mantissa}×10{str(exponent).translate(SUPERSCRIPT)}".replace("-", "−")
    text = f"{rounded:,.{max(0, digits - 1 - exponent)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def fold(dex: float) -> str:
    """A log ratio (dex) as x-fold.

    >>> fold(0.3617), fold(float("inf"))
    ('2.30×', '∞×')
    """
    if math.isnan(dex):
        return NOTHING
    if math.isinf(dex):
        return "∞×" if dex > 0 else "0×"
    if not -3 < dex < 4:
        exponent = math.floor(dex)
        return f"{10 ** (dex - exponent):.1f}×10{str(exponent).translate(SUPERSCRIPT)}×".replace("-", "−")
    value: float = 10.0**dex
    decimals = max(0, 2 - max(0, math.floor(math.log10(value)))) if value >= 1 else 2 - math.floor(dex) - 1
    return f"{value:,.{decimals}f}×"


def effect(claim: Claim, interval: Interval | None) -> str:
    """A claim's effect with its interval, in the unit people read: x-fold or the measure's own unit.

    >>> from landscape.analysis import Measure
    >>> claim = Claim("A", "a", "s", Measure("p", "q"), arm="batch")
    >>> effect(claim, Interval(5, 0.36, 0.1, 0.28, 0.44))
    '2.29× [1.91, 2.75]'
    """
    if interval is None:
        return NOTHING
    mean, low, high = oriented(claim, interval)
    if claim.scale == "log-ratio":
        return f"{fold(mean)} [{fold(low).removesuffix('×')}, {fold(high).removesuffix('×')}]"
    show = _same_decimals(mean, low, high)
    sign = "+" if claim.scale == "difference" and mean > 0 else ""
    return f"{sign}{show(mean)} [{show(low)}, {show(high)}]"


def oriented(claim: Claim, interval: Interval) -> tuple[float, float, float]:
    """Mean, lower and upper as read: a claim about a value is said in the measure's own unit and sign."""
    low, high = sorted((claim.read(interval.lower), claim.read(interval.upper)))
    return claim.read(interval.mean), low, high


def boundary(claim: Claim) -> str:
    """The claim's boundary in the unit of its effect."""
    if claim.scale == "log-ratio":
        return fold(claim.boundary)
    return number(claim.read(claim.boundary))


def p_value(p: float) -> str:
    """A p-value, never smaller than the text can hold.

    >>> p_value(0.0123), p_value(1e-9), p_value(float("nan"))
    ('p = 0.012', 'p < 0.0001', '–')
    """
    if math.isnan(p):
        return NOTHING
    if p < 1e-4:
        return "p < 0.0001"
    return f"p = {float(f'{p:.2g}'):.{max(2, 1 - math.floor(math.log10(p)))}f}"


def _same_decimals(*values: float) -> _Show:
    finite = [v for v in values if math.isfinite(v)]
    width = max(finite) - min(finite) if finite else 0.0
    largest = max((abs(v) for v in finite), default=0.0)
    if largest == 0 or not 1e-4 <= largest < 1e6:
        return _Show(None)
    reference = width / 2 if width > 0 else largest
    return _Show(min(6, max(0, 1 - math.floor(math.log10(reference)))))


class _Show:
    """Prints numbers of one interval with the same number of decimals."""

    def __init__(self, decimals: int | None) -> None:
        self.decimals = decimals

    def __call__(self, value: float) -> str:
        if self.decimals is None or not math.isfinite(value):
            return number(value)
        return f"{value:,.{self.decimals}f}".replace("-", "−")
