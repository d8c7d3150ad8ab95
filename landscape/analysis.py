"""What an analysis declares: its grid, claims, tables and figures. Nothing here trains or draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from landscape.experiment import Experiment

Kind = Literal["superiority", "non-inferiority", "equivalence", "threshold"]
Window = Literal["all", "early", "late", "end"]
VERDICTS = ("holds", "fails", "undecided", "untrained", "confounded", "not measured")


@dataclass(frozen=True)
class Measure:
    """Which numbers of a run a claim is about: the columns of the long table that pick one series.

    Attributes:
        probe: e.g. "gradient_path" or "training".
        quantity: e.g. "effective_smoothness".
        variant: e.g. "gradient/scaled".
        batch: "same", "held-out" or "full".
        layers: the predeclared layers; the claim must hold in each of them. ("",) where there are none.
        index: position along a sweep.
    """

    probe: str
    quantity: str
    variant: str = ""
    batch: str = "same"
    layers: tuple[str, ...] = ("",)
    index: int = 0

    @staticmethod
    def training(quantity: str) -> Measure:
        """What training itself records, e.g. "full_loss" or "test_accuracy"."""
        return Measure("training", quantity, batch="")

    @staticmethod
    def derived(quantity: str) -> Measure:
        """A number that the analysis derives, see ``landscape.derived``."""
        return Measure("derived", quantity, batch="")


@dataclass(frozen=True)
class Claim:
    """A published claim, in a form that data can contradict. Declared before anything is run.

    One number per seed: s = the ``reduce`` over the window of the comparison of the arm with the
    reference, oriented so that positive supports the claim; it is decided against ``boundary``.

    Attributes:
        id: e.g. "A-beta".
        statement: the claim in one plain sentence.
        short: the statement in a few words, for tables; the statement itself if empty.
        study: the study whose runs decide it.
        measure: which numbers.
        arm: the label of the arm that the claim is about.
        reference: the label of the arm it is compared with; None compares with nothing (threshold).
        supports: whether a "smaller" or a "larger" measure in the arm supports the claim.
        scale: "log-ratio" (s in dex: log10 of a quotient) or "difference" (s in the measure's unit),
            "value" (no reference: s is the arm's own measure, with ``supports`` as its sign), "cosine" (as "value",
            on Fisher's z scale: s = atanh of the cosine, which is bounded and too skewed for an interval).
        kind: superiority, non-inferiority, equivalence (90 % interval inside +/- boundary) or threshold.
        boundary: the value of s at which the claim stops being true, in the unit of s.
        window: "all", "early" (first third after both arms left the plateau), "late" (last third), "end" (last step).
        reduce: "median" or "mean" over the window.
        matched: decide at matched full loss too (for measures of the landscape).
        landscape: a measure of smoothness, to which the step-size-limited and confounded rules apply.
        needs_training: steps where an arm has not left the plateau are excluded.
        rate: "primary" (the study's), "largest" (that both were trained at), or a number: the equal learning rate
            that decides. "best": each arm at its own best rate decides, where equal rates mean nothing.
        source: where it was published.
        counter_evidence: what was published against it.
        published: the published value, in words, where there is one.
        note: what a reader must know, e.g. that it is also true of identical arms.
    """

    id: str
    statement: str
    study: str
    measure: Measure
    arm: str
    reference: str | None = "none"
    supports: Literal["smaller", "larger"] = "smaller"
    scale: Literal["log-ratio", "difference", "value", "cosine"] = "log-ratio"
    kind: Kind = "superiority"
    boundary: float = 0.0
    window: Window = "all"
    reduce: Literal["median", "mean"] = "median"
    matched: bool = False
    landscape: bool = False
    needs_training: bool = True
    rate: float | Literal["primary", "largest", "best"] = "primary"
    source: str = ""
    counter_evidence: str = ""
    published: str = ""
    note: str = ""
    short: str = ""

    def read(self, s: float) -> float:
        """A value of s as people read it: the measure itself for "value" and "cosine", s otherwise.

        >>> cosine = Claim("c", "it is small", "s", Measure("p", "q"), "a", None, supports="smaller", scale="cosine")
        >>> round(cosine.read(-0.6931), 3)
        0.6
        """
        if self.scale not in ("value", "cosine"):
            return s
        signed = -s if self.supports == "smaller" else s
        return math.tanh(signed) if self.scale == "cosine" else signed


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its two-sided t interval."""

    n: int
    mean: float
    sd: float
    lower: float
    upper: float
    level: float = 0.95


@dataclass(frozen=True)
class Comparison:
    """A claim decided at one pair of learning rates.

    Attributes:
        arm_rate: learning rate of the arm.
        reference_rate: learning rate of the reference.
        verdict: one of VERDICTS.
        reason: why, in a few plain words.
        by_step: s over the window, over seeds.
        at_matched_loss: s at matched full loss, or None where the claim does not ask for it.
        seeds: s by step of each seed.
        p_value: one-sided, of the worse of the two comparisons; NaN where not measured, or one could not be made.
        overlap: range of full loss that both arms pass through, or None.
        span: first and last step that were compared, over all seeds, or None.
        left_out: steps of the window left out because an arm had not left the plateau, and all its steps, of the seed
            that lost most; None where none was.
        material: whether the lower bound exceeds log10(1.1) (log ratios only).
        flags: e.g. "size is set by the learning rate".
        by_layer: mean s of each predeclared layer.
    """

    arm_rate: float
    reference_rate: float
    verdict: str
    reason: str
    by_step: Interval | None = None
    at_matched_loss: Interval | None = None
    seeds: Mapping[int, float] = field(default_factory=dict)
    p_value: float = float("nan")
    overlap: tuple[float, float] | None = None
    span: tuple[int, int] | None = None
    left_out: tuple[int, int] | None = None
    material: bool | None = None
    flags: tuple[str, ...] = ()
    by_layer: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """A decided claim: at equal learning rate (which is the verdict) and at each arm's best rate.

    Where the claim's ``rate`` is "best", both are the comparison at the best rates.
    """

    claim: Claim
    equal: Comparison
    best: Comparison | None = None
    holm_p: float = float("nan")

    @property
    def verdict(self) -> str:
        """The verdict at equal learning rate."""
        return self.equal.verdict


@dataclass(frozen=True)
class Figure:
    """A figure as data: a kind of drawing, a tidy frame and labels. Drawn by the report, or by anybody.

    Attributes:
        name: short name, used for files.
        kind: "lines", "band", "ridgeline", "forest", "bars", "surface" or "spectrum".
        frame: tidy data in the columns that the kind needs.
        title: short title.
        caption: what is drawn, from which runs, how computed.
        alt: the figure in words, for those who can't see it.
        options: labels and scales: x_label, y_label, x_log, y_log, panel order...
    """

    name: str
    kind: str
    frame: pd.DataFrame
    title: str
    caption: str
    alt: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the report; values are drawn as they stand, so round them first."""

    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report: text, the claims it decides (by id), figures and tables.

    In a book (see ``landscape.book``) a section of level 1 begins a chapter, and those of level 2 belong to it.
    """

    title: str
    text: str
    claims: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    level: int = 1


@dataclass(frozen=True)
class Report:
    """Everything on paper: what the PDF holds, with no drawing done.

    Attributes:
        title: title of the report.
        question: the question it answers.
        answer: the answer in one to three sentences, built from the verdicts.
        verdicts: every claim, decided.
        headline: the one figure that answers the question.
        sections: a section per group of claims.
        definitions: term -> definition of every measure that is used.
        settings: name -> value: model, data, checksum, seeds, versions, threads.
        cost: name -> value: forward+backward passes, seconds, memory.
        failures: runs that failed or diverged, and warnings, in plain sentences.
    """

    title: str
    question: str
    answer: str
    verdicts: tuple[Verdict, ...]
    headline: Figure | None
    sections: tuple[Section, ...]
    definitions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


#: So many claims of a verdict are named in an answer; more are counted.
NAMED = 6


def tally(verdicts: Iterable[Verdict]) -> str:
    """Verdicts counted, in words, with the ids of those that do not hold where they are few.

    >>> tally(())
    'No claim was decided.'
    """
    groups: dict[str, list[str]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.verdict, []).append(verdict.claim.id)
    total = sum(map(len, groups.values()))
    if not total:
        return "No claim was decided."
    held = len(groups.pop("holds", []))
    rest = "; ".join(
        f"{verdict}: {', '.join(ids) if len(ids) <= NAMED else len(ids)}" for verdict, ids in groups.items()
    )
    return f"{held} of {total} claims hold{f'; {rest}' if rest else ''}."


@dataclass(frozen=True)
class Analysis:
    """One analysis: a question, the experiment of each preset, the claims, and what is drawn.

    Attributes:
        name: the command line's name.
        question: what it answers, one sentence.
        paper: the paper it re-examines.
        presets: preset name -> a function that builds the experiment.
        claims: claims of an experiment; a function, so that layers and rates can follow the experiment.
        sections: (experiment, long table) -> the report's sections, figures and tables included. The long
            table's ``attrs["arrays"]`` is a function (probe, quantity) -> table of stored arrays.
        headline: (experiment, long table) -> the figure of page one.
        answer: verdicts -> the answer in one to three sentences; the verdicts counted unless given.
        recorded: (experiment, long table) -> a sentence before the answer that says what there is.
        definitions: term -> definition, for the methods part.
        title: the report's title; what is compared on what if empty.
        derive: (experiment, long table) -> further rows of the long table, made from the runs' own (see
            ``landscape.derived``); claims and sections see them with the others.
    """

    name: str
    question: str
    paper: str
    presets: Mapping[str, Callable[[], Experiment]]
    claims: Callable[[Experiment], tuple[Claim, ...]]
    sections: Callable[[Experiment, pd.DataFrame], tuple[Section, ...]]
    headline: Callable[[Experiment, pd.DataFrame], Figure | None]
    answer: Callable[[tuple[Verdict, ...]], str] = tally
    definitions: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    derive: Callable[[Experiment, pd.DataFrame], pd.DataFrame] | None = None
    recorded: Callable[[Experiment, pd.DataFrame], str] = lambda experiment, frame: ""
