"""The santurkar analysis: its claims are the paper's, can be contradicted, and come out of a real (short) run."""

import dataclasses
import json
import re

import pytest

from landscape.analysis import VERDICTS
from landscape.execution import execute
from landscape.experiment import Experiment
from landscape.reporting import build_report
from landscape.statistics.rule import check_claim
from landscape.store import Folder
from landscape_analyses.santurkar import ANALYSIS as SANTURKAR
from landscape_analyses.santurkar.sections import answer
from landscape_reports import write_report

#: The candidates of the paper; each must be covered by at least one claim whose id begins so.
CANDIDATES = (
    *("A-speed", "A-acc", "A-lr", "A-drift", "A-noisy1", "A-noisy2", "A-noisy3", "A-ICS", "A-ICS-DLN"),
    *("A-range", "A-pred", "A-beta", "A-l1-acc", "A-lp-DLN", "A-thm41", "A-thm42"),
)


@pytest.mark.parametrize("preset", sorted(SANTURKAR.presets))
def test_claims_are_declared_for_every_preset(preset):
    experiment = SANTURKAR.presets[preset]()
    claims = SANTURKAR.claims(experiment)
    ids = [claim.id for claim in claims]
    assert len(ids) == len(set(ids))
    for candidate in CANDIDATES:
        assert any(id.startswith(candidate) for id in ids), candidate
    for claim in claims:
        check_claim(claim)
        assert claim.source, claim.id
        assert claim.short, claim.id
        study = experiment.study(claim.study)
        assert {claim.arm, claim.reference or claim.arm} <= {arm.label for arm in study.arms}
        assert "" not in claim.measure.layers or claim.measure.probe not in (
            "activations",
            "covariate_shift",
            "theorems",
        )


def test_claims_that_identical_arms_would_satisfy_say_so():
    """Equivalence and non-inferiority are true of identical arms; the others must not be."""
    for claim in SANTURKAR.claims(SANTURKAR.presets["quick"]()):
        if claim.kind in ("equivalence", "non-inferiority"):
            assert "identical arms" in claim.note, claim.id
        elif claim.kind == "superiority":
            assert claim.boundary >= 0, claim.id


def test_every_claim_stands_in_one_section():
    """Built on the empty table: nothing measured is a report too, with words instead of empty panels."""
    experiment = SANTURKAR.presets["quick"]()
    import pandas as pd

    from landscape.store.folder import COLUMNS

    frame = pd.DataFrame({name: pd.Series(dtype="float64" if name == "value" else "object") for name in COLUMNS})
    frame.attrs["arrays"] = lambda probe, quantity: frame
    told = [id for section in SANTURKAR.sections(experiment, frame) for id in section.claims]
    assert sorted(told) == sorted(claim.id for claim in SANTURKAR.claims(experiment))
    assert "not measured" in answer(())


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """The quick preset's grid with everything in it, cut to seconds: 3 seeds, one rate, few steps."""
    quick = SANTURKAR.presets["quick"]()
    conv, dln = quick.studies
    probes = tuple(
        dataclasses.replace(p, every=max(1, p.every // 5), at=None if p.at is None else (0, 4)) for p in conv.probes
    )
    seeds = (0, 1, 2)
    conv = dataclasses.replace(
        conv,
        steps=10,
        seeds=seeds,
        learning_rates=(0.1,),
        batch_size=32,
        full_batches=3,
        evaluate_every=2,
        probes=probes,
    )
    dln = dataclasses.replace(dln, steps=100, seeds=seeds, learning_rates=(1e-4,))
    experiment = Experiment("santurkar-short", (conv, dln))
    path = tmp_path_factory.mktemp("short") / "run"
    with Folder.open(path, experiment) as folder:
        outcome = execute(folder, experiment.runs(), workers=0)
    assert outcome.ok
    return path


def test_a_real_run_is_decided_and_printed(short_run):
    folder = Folder.read(short_run)
    report = build_report(SANTURKAR, folder)
    verdicts = {v.claim.id: v.verdict for v in report.verdicts}
    assert set(verdicts.values()) <= set(VERDICTS)
    measured = [id for id, verdict in verdicts.items() if verdict != "not measured"]
    assert len(measured) == len(verdicts), {id: v for id, v in verdicts.items() if v == "not measured"}
    assert verdicts["A-thm41"] == "holds"
    assert verdicts["A-thm42"] == "holds"
    assert verdicts["A-noisy3"] in ("holds", "fails", "undecided")
    for section in report.sections:
        for figure in section.figures:
            assert len(figure.frame), figure.name
            assert figure.alt, figure.name
            assert figure.caption, figure.name
        for table in section.tables:
            assert len(table.frame), table.name
    counted = {v: int(n) for n, v in re.findall(r"(\d+) (holds|fails|undecided|untrained|confounded)", report.answer)}
    for verdict, count in counted.items():
        assert count == sum(v == verdict for v in verdicts.values()), report.answer


def test_the_same_folder_gives_the_same_bytes(short_run, tmp_path):
    pdfs = []
    for name in ("a", "b"):
        target = tmp_path / name
        target.mkdir()
        pdfs.append(write_report(build_report(SANTURKAR, Folder.read(short_run)), target).read_bytes())
    assert pdfs[0] == pdfs[1]
    data = json.loads((tmp_path / "a" / "report.json").read_text())
    assert {v["id"] for v in data["verdicts"]} >= {"A-beta"}
