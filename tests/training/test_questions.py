import json
from pathlib import Path

import pytest

from training.__main__ import main
from training.ablation import ablation_lines, compare
from training.evaluate import SliceResult
from training.sensitivity import shift_lines, shifts


def result(patient: str, dice: float, measured_cm2: float) -> SliceResult:
    return SliceResult("case", patient, 0, 0.5, dice, 100.0, measured_cm2, 1.0)


def test_patients_near_the_cutoff_change_class_at_an_error_of_the_area() -> None:
    # Cut-offs of 144 and 92 cm2: one man 2 % above, one 5 % below, a woman 20 % above.
    areas = {"a": 146.9, "b": 136.8, "c": 110.4, "d": 100.0}
    found = shifts(areas, {"a": "M", "b": "M", "c": "F", "d": ""})
    counts = {(s.group, s.error_percent): (s.patients, s.to_low, s.to_not_low) for s in found}
    assert counts[("all", 3.0)] == (3, 1, 0)
    assert counts[("all", 7.0)] == (3, 1, 1)
    assert counts[("F", 7.0)] == (1, 0, 0)
    assert counts[("M", 3.0)] == (2, 1, 0)
    # 2 % from the cut-off with an SD of 5 %: 34 % are called wrongly.
    (one,) = [s for s in shifts({"a": 144 / 0.98}, {"a": "M"}, [5.0]) if s.group == "all"]
    assert one.wrong == pytest.approx(0.345, abs=0.01)
    lines = shift_lines(found)
    assert lines[2].startswith("| all (3) | ±3 % | 1 | 0 | 33 % (1 of 3; 1 to 91) |")


def test_sensitivity_reads_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slices.json").write_text(json.dumps([{"patient": "a", "measured_cm2": 93.0}]))
    (tmp_path / "cases.toml").write_text('[[case]]\nname = "a"\npatient = "a"\nsex = "F"\n')
    words = ["sensitivity", str(tmp_path / "slices.json"), "--cases", str(tmp_path / "cases.toml")]
    main(words)
    assert "| all (1) | ±3 % | 1 | 0 |" in capsys.readouterr().out


def test_ablation_pairs_patients_and_says_whether_it_is_settled() -> None:
    with_it = [result(f"p{i}", 0.96 + 0.001 * i, 101.0) for i in range(8)]
    without = [result(f"p{i}", 0.94, 101.0 + (-1) ** i * 4) for i in range(8)]
    dice, error = compare(with_it, [*without, result("only here", 0.1, 50.0)])
    assert (dice.patients, dice.better) == (8, 8)
    assert dice.difference == pytest.approx(0.0235)
    assert dice.low > 0
    assert (error.pretrained, error.scratch) == (pytest.approx(1.0), pytest.approx(4.0))
    assert error.better == 8
    lines = ablation_lines([dice, error], {"pretrained": 8, "scratch": 9})
    assert "settled for: Dice, absolute error" in lines[-1]
    same = compare(with_it, with_it)
    assert (
        "not settled by these patients" in ablation_lines(same, {"pretrained": 8, "scratch": 8})[-1]
    )
    with pytest.raises(ValueError, match="share no patient"):
        compare(with_it, [result("x", 0.9, 100.0)])
