"""report.json: versioned, readable by any strict JSON reader, numbers unchanged."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fixture import ODD, example

from landscape_reports import write_report
from landscape_reports.write import report_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("json")
    write_report(replace(example(), sections=(), headline=None), folder)

    def refuse(token: str) -> None:
        raise AssertionError(f"not JSON: {token}")

    loaded: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"), parse_constant=refuse)
    return loaded


def test_layout_has_a_name_and_a_version(data: dict[str, Any]) -> None:
    assert (data["schema"], data["schema_version"]) == ("landscape-report", 1)


def test_every_verdict_survives_with_its_numbers(data: dict[str, Any]) -> None:
    for stored, v in zip(data["verdicts"], example().verdicts, strict=True):
        assert (stored["id"], stored["verdict"]) == (v.claim.id, v.verdict)
        assert stored["claim"]["statement"] == v.claim.statement
        interval = v.equal.by_step
        if interval is None:
            assert stored["equal"]["by_step"] is None
        elif math.isfinite(interval.lower):
            assert stored["equal"]["by_step"]["lower"] == interval.lower
            assert stored["equal"]["seeds"] == {str(k): s for k, s in v.equal.seeds.items()}


def test_infinite_and_missing_numbers_are_told_apart(data: dict[str, Any]) -> None:
    by_id = {v["id"]: v for v in data["verdicts"]}
    explode = by_id["A-explode"]["equal"]["by_step"]
    assert (explode["lower"], explode["upper"]) == ("-Infinity", "Infinity")
    assert by_id["A-depth"]["equal"]["p_value"] is None


def test_odd_text_survives(data: dict[str, Any]) -> None:
    assert data["settings"]["custom"] == ODD


def test_numpy_numbers_become_plain_ones() -> None:
    report = example()
    first = report.verdicts[0]
    equal = replace(
        first.equal,
        p_value=np.float32(0.25),
        material=np.bool_(True),
        seeds={np.int64(3): np.float64(0.5)},
    )
    stored = report_data(replace(report, verdicts=(replace(first, equal=equal),)))["verdicts"][0]["equal"]
    assert json.loads(json.dumps(stored))["seeds"] == {"3": 0.5}
    assert stored["p_value"] == 0.25
    assert stored["material"] is True
