"""A report as the template's data: every number already text, every text plain, no markup anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from landscape.analysis import Claim, Comparison, Figure, Interval, Report, Section, Verdict
from landscape_reports.drawing import caption, is_empty
from landscape_reports.formats import NOTHING, boundary, effect, fold, number, p_value, plain, prose
from landscape_reports.methods import rule
from landscape_reports.tables import table_data
from landscape_reports.theme import verdict_style

Data = dict[str, Any]


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
        "question": prose(report.question),
        "answer": prose(report.answer),
        "verdicts": [_row(v) for v in report.verdicts],
        "headline": _figure(report.headline, images) if report.headline is not None else None,
        "sections": [_section(s, by_id, images) for s in sections],
        "definitions": [[prose(term), prose(text)] for term, text in report.definitions.items()],
        "settings": _pairs(report.settings),
        "rule": rule(report.verdicts),
        "cost": _pairs(report.cost),
        "failures": [plain(f) for f in report.failures],
    }


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
        "statement": prose(claim.short or claim.statement),
        "badge": badge(verdict.verdict),
        "effect": effect(claim, equal.by_step or equal.at_matched_loss),
        "matched": effect(claim, equal.at_matched_loss) if equal.by_step and equal.at_matched_loss else "",
        "seeds": _seeds(equal),
        "best": badge(best.verdict) if best is not None else None,
    }


def _section(section: Section, by_id: Mapping[str, Verdict], images: Mapping[int, Data]) -> Data:
    return {
        "title": prose(section.title),
        "level": section.level,
        "paragraphs": [prose(p).strip() for p in section.text.split("\n\n") if p.strip()],
        "claims": [_claim(by_id[c]) for c in section.claims if c in by_id],
        "missing": [plain(c) for c in section.claims if c not in by_id],
        "figures": [_figure(figure, images) for figure in section.figures],
        "tables": [table_data(table) for table in section.tables],
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
        "statement": prose(claim.statement),
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
    unit = {"log-ratio": " dex", "cosine": " on the scale of atanh"}.get(claim.scale, "")
    return number(interval.sd, 2) + unit


def _matched(claim: Claim, comparison: Comparison) -> str:
    if comparison.at_matched_loss is None:
        return "not measured" if claim.matched else ""
    if not comparison.at_matched_loss.n:
        return "not comparable"
    text = f"{effect(claim, comparison.at_matched_loss)}, {_n(comparison.at_matched_loss)}"
    if comparison.overlap is not None:
        low, high = comparison.overlap
        text += f"; full loss {number(low)} to {number(high)} in both arms"
    return text


def _test(verdict: Verdict) -> str:
    claim = verdict.claim
    first = f"{claim.kind} at the boundary {boundary(claim)}, window: {claim.window}"
    if verdict.equal.span is not None:
        start, end = verdict.equal.span
        first += f" (step {end}" if start == end else f" (steps {start} to {end}"
        if verdict.equal.left_out is not None:
            out, whole = verdict.equal.left_out
            first += f"; up to {out} of {whole} steps left out, an arm had not left the plateau"
        first += ")"
    p, holm = p_value(verdict.equal.p_value), p_value(verdict.holm_p)
    if p == NOTHING:
        return first
    return f"{first}; one-sided {p}" + ("" if holm == NOTHING else f", Holm-adjusted {holm}")


def _layers(claim: Claim, comparison: Comparison) -> str:
    layers = {name: claim.read(mean) for name, mean in comparison.by_layer.items() if name}
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
    reason = f": {best.reason}" if best.reason else ""
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
        "title": prose(figure.title),
        "caption": prose(caption(figure)),
        "alt": prose(figure.alt or figure.title or figure.name),
        "empty": is_empty(figure),
    }
