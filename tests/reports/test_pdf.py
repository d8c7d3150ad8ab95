"""The PDF: same bytes for the same report, all words there and literal, words for figures, clear errors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader
from pypdf.generic import IndirectObject
from report_fixture import ODD, example

from landscape.analysis import Report
from landscape.errors import LandscapeError, StoreError
from landscape_reports import write_report
from landscape_reports.pdf import compile_typst

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(example(), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def pages(written: Path) -> list[str]:
    return [" ".join(page.extract_text().split()) for page in PdfReader(written).pages]


def test_another_process_with_another_hash_seed_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from report_fixture import example; "
        "from landscape_reports import write_report; write_report(example(), Path(sys.argv[1]))"
    )
    path = os.pathsep.join([str(HERE), *[p for p in sys.path if p]])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "4242", "TZ": "Pacific/Auckland"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    for name in ("report.pdf", "report.json"):
        ours, theirs = (written.parent / name).read_bytes(), (tmp_path / name).read_bytes()
        assert hashlib.sha256(ours).hexdigest() == hashlib.sha256(theirs).hexdigest(), name


def test_page_one_holds_question_answer_and_every_verdict(pages: list[str]) -> None:
    report = example()
    assert report.question in pages[0]
    assert report.answer in pages[0]
    for v in report.verdicts:
        assert v.claim.id in pages[0]
        assert f"{v.verdict}" in pages[0]
    assert "8.91× [7.08, 11.2] at equal loss 6.46× [5.13, 8.13]" in pages[0]
    assert "Figure 1" in pages[0]


def test_each_claim_has_its_numbers_source_and_counter_evidence(pages: list[str]) -> None:
    text = " ".join(pages[1:])
    for v in example().verdicts:
        assert f"{v.claim.id} {v.claim.statement}" in text
        assert v.equal.reason in text
    assert text.count("Yao et al. 2020") == len(example().verdicts)
    assert "Holm-adjusted p = 0.0023" in text
    assert "full loss 0.031 to 2.12 in both arms" in text
    assert "Claim A-unknown: no verdict was computed." in text


def test_claims_outside_all_sections_are_still_printed(pages: list[str]) -> None:
    assert "Other claims A-lp1 The l1 norm" in " ".join(pages)


def test_the_expected_number_of_false_holds_is_said(pages: list[str]) -> None:
    text = " ".join(pages)
    assert "10 tested claims: were each exactly at its boundary, 0.25 would be expected" in text


def test_odd_text_appears_literally_wherever_it_is_given(pages: list[str]) -> None:
    text = " ".join(pages)
    # section title and text, statement (twice), note, settings, table cell, figure title and caption,
    # legend, axis label
    assert text.count(ODD) >= 11


def test_every_page_has_its_number(pages: list[str]) -> None:
    for number, text in enumerate(pages, start=1):
        assert f"page {number} of {len(pages)}" in text


def test_pdf_is_tagged_and_figures_have_their_words(written: Path) -> None:
    reader = PdfReader(written)
    root = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert reader.metadata is not None
    assert reader.metadata.title == example().title
    told = set(_alternatives(root["/StructTreeRoot"]))
    figures = [f for section in example().sections for f in section.figures]
    assert {figure.alt for figure in figures} <= told


def _alternatives(node: Any) -> Iterator[str]:
    while isinstance(node, IndirectObject):
        node = node.get_object()
    if isinstance(node, list):
        for child in node:
            yield from _alternatives(child)
    elif isinstance(node, dict):
        if "/Alt" in node:
            yield str(node["/Alt"])
        if "/K" in node:
            yield from _alternatives(node["/K"])


@pytest.mark.parametrize("count", [0, 14])
def test_up_to_fourteen_claims_fit_on_page_one(count: int, tmp_path: Path) -> None:
    report = example()
    verdicts = tuple(
        replace(v, claim=replace(v.claim, id=f"A-{i}")) for i, v in enumerate(report.verdicts + report.verdicts)
    )[:count]
    path = write_report(replace(report, verdicts=verdicts, sections=()), tmp_path)
    first = " ".join(PdfReader(path).pages[0].extract_text().split())
    assert "Figure 1" in first
    assert all(v.claim.id in first for v in verdicts)


def test_many_claims_run_over_to_page_two_below_figure_and_answer(tmp_path: Path) -> None:
    report = example()
    verdicts = tuple(
        replace(v, claim=replace(v.claim, id=f"A-{i:02d}", statement=v.claim.statement * 2))
        for i, v in enumerate(report.verdicts * 4)
    )
    pages = PdfReader(write_report(replace(report, verdicts=verdicts, sections=()), tmp_path)).pages
    first, second = (" ".join(page.extract_text().split()) for page in pages[:2])
    assert report.answer in first
    assert "Figure 1" in first
    assert "A-00" in first
    assert "A-47" in second or "A-47" in pages[2].extract_text()
    assert "What is claimed" in second  # the header is repeated


def test_a_bare_report_is_a_report(tmp_path: Path) -> None:
    bare = Report(title="", question="", answer="", verdicts=(), headline=None, sections=())
    text = "".join(page.extract_text() for page in PdfReader(write_report(bare, tmp_path)).pages)
    assert "No claim was decided." in text
    assert "None." in text  # failures


def test_text_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    report = replace(example(), sections=(), answer="bell \x07, lone \ud800, 漢字, private \ue000")
    text = PdfReader(write_report(report, tmp_path)).pages[0].extract_text()
    assert "bell \ufffd" in text


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"can't write .*file.*report\.json.*choose another place"):
        write_report(example(), tmp_path / "file")


def test_a_folder_that_cannot_be_written_gives_a_pdf_in_another_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    target = write_report(replace(example(), sections=()), tmp_path / "file", pdf=tmp_path / "mine.pdf")
    assert target.read_bytes().startswith(b"%PDF")


def test_a_pdf_that_cannot_be_put_in_place_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "taken.pdf" / "inside").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"taken\.pdf"):
        write_report(replace(example(), sections=()), tmp_path, pdf=tmp_path / "taken.pdf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.json", "taken.pdf"]


def test_the_pdf_goes_where_it_is_asked_to(tmp_path: Path) -> None:
    target = tmp_path / "papers" / "mine.pdf"
    assert write_report(replace(example(), sections=()), tmp_path / "run", pdf=target) == target
    assert target.read_bytes().startswith(b"%PDF")
    assert (tmp_path / "run" / "report.json").exists()


def test_typst_errors_keep_typsts_words(tmp_path: Path) -> None:
    source = tmp_path / "broken.typ"
    source.write_text("#let x = nothing-of-this-name")
    with pytest.raises(LandscapeError, match=r"unknown variable: nothing-of-this-name"):
        compile_typst(source)
