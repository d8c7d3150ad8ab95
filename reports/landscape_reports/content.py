"""A report as the template's data: every number already text, every text plain, no markup anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from landscape.analysis import Claim, Comparison, Figure, Interval, Report, Section, Table, Verdict
from landscape_reports.figures import caption, is_empty
from landscape_reports.formats import NOTHING, boundary, effect, fold, number, p_value, plain
from landscape_reports.theme import verdict_style

Data = dict[str, Any]

RULE = (
    (
        "one number per seed",
        "Seeds are the only replicates. s is the median (or mean) over the claim's window of the comparison of the arm "
        "with its reference, oriented so that positive s supports the claim. Intervals are two-sided 95 % t intervals "
        "of the mean of s over seeds.",
    ),
    (
        "holds",
        "the lower end lies above the claim's boundary, by step and, where the claim asks for it, at matched full "
        "loss too. An equivalence claim holds when its 90 % interval lies inside ± its boundary.",
    ),
    ("fails", "an upper end lies below the boundary, by step or at matched loss."),
    ("undecided", "neither."),
    ("not measured", "fewer than three seeds."),
    ("untrained", "no step is left at which the full loss of both arms is below 95 % of the loss of chance."),
    (
        "confounded",
        "the step size, not the landscape, sets a measure of smoothness in both arms, or in the smoother one only.",
    ),
    (
        "matched loss",
        "compares at equal full loss inside the range that both arms pass through. It does not correct the "
        "comparison by step, since the loss is itself moved by the arm: both are shown.",
    ),
    (
        "rates",
        "the verdict is the one at equal learning rate; the one at each arm's best learning rate stands beside it.",
    ),
    (
        "effect",
        "log ratios are printed as x-fold (2.3× reads: 2.3 times in the direction that the claim states), "
        "others in the unit of the measure.",
    ),
)


def document(report: Report, images: Mapping[int, Data]) -> Data:
    """The template's data.

    Args:
        report: what to print.
        images: by ``id(figure)``: file, width and height in mm of each drawn figure.
    """
    by_id = {v.claim.id: v for v in report.verdicts}
    told = {claim for section in report.sections for claim in section.claims}
    rest = tuple(v.claim.id for v in report.verdicts if v.claim.id not in told)
    sections = list(report.sections)
    if rest:
        sections.append(Section("Other claims", "", claims=rest))
    return {
        "title": plain(report.title).strip() or "Report",
        "question": plain(report.question),
        "answer": plain(report.answer),
        "verdicts": [_row(v) for v in report.verdicts],
        "headline": _figure(report.headline, images) if report.headline is not None else None,
        "sections": [_section(s, by_id, images) for s in sections],
        "definitions": _pairs(report.definitions),
        "settings": _pairs(report.settings),
        "rule": [*([name, text] for name, text in RULE), ["false holds", _errors(report)]],
        "cost": _pairs(report.cost),
        "failures": [plain(f) for f in report.failures],
    }


def _errors(report: Report) -> str:
    count = len(report.verdicts)
    word = "claim" if count == 1 else "claims"
    return (
        f"{count} {word}: were each exactly at its boundary, {number(0.025 * count, 2)} would be expected to hold "
        "falsely (0.025 each). Holm's adjustment over all of them stands beside each p-value and changes no verdict."
    )


def _pairs(values: Mapping[str, str]) -> list[list[str]]:
    return [[plain(key), plain(value)] for key, value in values.items()]


def badge(verdict: str) -> Data:
    """A verdict with its sign and colours."""
    style = verdict_style(verdict)
    return {
        "word": plain(verdict),
        "sign": style.sign,
        "ink": style.ink,
        "fill": style.fill,
        "border": style.border,
        "dashed": style.dashed,
    }


def _seeds(comparison: Comparison) -> str:
    interval = comparison.by_step or comparison.at_matched_loss
    return str(interval.n if interval is not None else len(comparison.seeds))


def _row(verdict: Verdict) -> Data:
    claim, equal, best = verdict.claim, verdict.equal, verdict.best
    return {
        "id": plain(claim.id),
        "statement": plain(claim.statement),
        "badge": badge(verdict.verdict),
        "effect": effect(claim, equal.by_step or equal.at_matched_loss),
        "seeds": _seeds(equal),
        "best": badge(best.verdict) if best is not None else None,
    }


def _section(section: Section, by_id: Mapping[str, Verdict], images: Mapping[int, Data]) -> Data:
    return {
        "title": plain(section.title),
        "paragraphs": [plain(p).strip() for p in section.text.split("\n\n") if p.strip()],
        "claims": [_claim(by_id[c]) for c in section.claims if c in by_id],
        "missing": [plain(c) for c in section.claims if c not in by_id],
        "figures": [_figure(figure, images) for figure in section.figures],
        "tables": [_table(table) for table in section.tables],
    }


def _claim(verdict: Verdict) -> Data:
    claim, equal = verdict.claim, verdict.equal
    facts = [
        ("By step", _by_step(claim, equal)),
        ("At matched loss", _matched(claim, equal)),
        ("Test", _test(verdict)),
        ("By layer", _layers(claim, equal)),
        ("At best rates", _best(verdict)),
        ("Measure", _measure(claim)),
        ("Source", claim.source),
        ("Published", claim.published),
        ("Against it", claim.counter_evidence),
        ("Flags", "; ".join(equal.flags)),
        ("Note", claim.note),
    ]
    return {
        "id": plain(claim.id),
        "statement": plain(claim.statement),
        "badge": badge(verdict.verdict),
        "reason": plain(equal.reason),
        "facts": [[name, plain(value)] for name, value in facts if value],
    }


def _by_step(claim: Claim, comparison: Comparison) -> str:
    if comparison.by_step is None:
        return "not measured"
    words = [f"{effect(claim, comparison.by_step)}, {_n(comparison.by_step)}", f"sd {_sd(claim, comparison.by_step)}"]
    if comparison.material is not None and claim.scale == "log-ratio":
        words.append("larger than 1.1×" if comparison.material else "not shown to be larger than 1.1×")
    return "; ".join(words)


def _n(interval: Interval) -> str:
    return f"n = {interval.n} seeds"


def _sd(claim: Claim, interval: Interval) -> str:
    return f"{number(interval.sd, 2)} dex" if claim.scale == "log-ratio" else number(interval.sd, 2)


def _matched(claim: Claim, comparison: Comparison) -> str:
    if comparison.at_matched_loss is None:
        return "not measured" if claim.matched else ""
    text = f"{effect(claim, comparison.at_matched_loss)}, {_n(comparison.at_matched_loss)}"
    if comparison.overlap is not None:
        low, high = comparison.overlap
        text += f"; full loss {number(low)} to {number(high)} in both arms"
    return text


def _test(verdict: Verdict) -> str:
    claim = verdict.claim
    first = f"{claim.kind} at the boundary {boundary(claim)}, window: {claim.window}"
    p, holm = p_value(verdict.equal.p_value), p_value(verdict.holm_p)
    if p == NOTHING:
        return first
    return f"{first}; one-sided {p}" + ("" if holm == NOTHING else f", Holm-adjusted {holm}")


def _layers(claim: Claim, comparison: Comparison) -> str:
    layers = {name: mean for name, mean in comparison.by_layer.items() if name}
    show = fold if claim.scale == "log-ratio" else number
    return ", ".join(f"{name} {show(mean)}" for name, mean in layers.items())


def _rates(claim: Claim, comparison: Comparison) -> str:
    arm = f"{claim.arm} {number(comparison.arm_rate)}"
    if claim.reference is None:
        return arm
    return f"{arm}, {claim.reference} {number(comparison.reference_rate)}"


def _best(verdict: Verdict) -> str:
    best = verdict.best
    if best is None:
        return ""
    claim = verdict.claim
    interval = best.by_step or best.at_matched_loss
    size = f" {effect(claim, interval)}" if interval is not None else ""
    reason = f". {best.reason}" if best.reason else ""
    return f"{best.verdict}{size} ({_rates(claim, best)}){reason}"


def _measure(claim: Claim) -> str:
    m = claim.measure
    words = [m.quantity, m.probe, m.variant, f"{m.batch} batch" if m.batch else ""]
    words += [", ".join(layer for layer in m.layers if layer)]
    against = f"{claim.arm} against {claim.reference}" if claim.reference is not None else claim.arm
    return " · ".join(w for w in [*words, against] if w)


def _figure(figure: Figure, images: Mapping[int, Data]) -> Data:
    return {
        **images[id(figure)],
        "title": plain(figure.title),
        "caption": plain(caption(figure)),
        "alt": plain(figure.alt or figure.title or figure.name),
        "empty": is_empty(figure),
    }


def _table(table: Table) -> Data:
    frame = table.frame
    numeric = [bool(pd.api.types.is_numeric_dtype(dtype)) for dtype in frame.dtypes]
    return {
        "title": plain(table.title),
        "note": plain(table.note),
        "columns": [plain(c) for c in frame.columns],
        "numeric": numeric,
        "rows": [list(row) for row in zip(*(_column(frame.iloc[:, i]) for i in range(len(numeric))), strict=True)],
    }


def _column(values: pd.Series[Any]) -> list[str]:
    """Cells of a column: floats get as many decimals as the longest of them, so that points line up."""
    cells = [_cell(value) for value in values]
    if not pd.api.types.is_float_dtype(values.dtype) or any("×" in cell for cell in cells):
        return cells
    decimals = max((len(cell.partition(".")[2]) for cell in cells), default=0)
    shown = [f"{v:,.{decimals}f}".replace("-", "−") if math.isfinite(v) else None for v in values.astype(float)]
    return [new or old for new, old in zip(shown, cells, strict=True)]


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or value is pd.NaT:
        return NOTHING
    if isinstance(value, float):
        return number(value, 6)
    return plain(value)
