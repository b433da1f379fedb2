import json
from pathlib import Path

import pytest

from training.evaluate import SliceResult
from training.level_evaluate import LevelResult
from training.report import report, write_level_report, write_report


def test_report_holds_threshold_scores_table_and_plot(tmp_path: Path) -> None:
    rows = [
        SliceResult(p, p, 0, 0.5, 0.9, 100.0, cm2, 1.0) for p, cm2 in (("a", 98.0), ("b", 103.0))
    ]
    write_report({"tiny": report({0.5: rows}, {})}, tmp_path)
    content = json.loads((tmp_path / "evaluation.json").read_text())["tiny"]
    assert content["threshold"] == 0.5
    assert content["calibration"]["patients"] == len(content["calibration"]["scores"]) == 2
    assert content["summary"]["absolute_error_percent"] == pytest.approx(2.5)
    assert (
        "| **tiny**, 2 patients, 2 slices | 0.900 | 2.5 % | 3.0 % | +0.5 % |"
        in (tmp_path / "evaluation.md").read_text()
    )
    assert (tmp_path / "bland_altman.png").read_bytes().startswith(b"\x89PNG")


def test_level_report_says_who_was_seen_and_what_was_refused(tmp_path: Path) -> None:
    results = [
        LevelResult("a", "a", False, "FOUND", -2.5, True, 0.9),
        LevelResult("b", "b", True, "L3_NOT_COVERED", None, False, None),
    ]
    write_level_report(results, tmp_path)
    text = (tmp_path / "levels.md").read_text()
    assert "| a | no | FOUND | -2.5 |" in text
    assert "| b | yes | L3_NOT_COVERED |  |" in text
