import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

from tests.phantoms import TorsoPhantom
from tests.training.external.studies import models
from tests.training.intake.drawings import write_seg
from training.external.cases import VERDICTS, Compared
from training.external.charts import Chart, Line, Point, svg
from training.external.page import Report, page
from training.external.statistics import area_error, criteria, estimate, mean_dice, verdict_table
from training.external.validate import ValidationRequest, validate


def row(number: int, **changes: object) -> Compared:
    base = Compared(
        f"1.2.{number}", f"p{number}", "F", "Maker A", 5, 100.0, None, "not below", 0.98, 101.0,
        102.0, (95.0, 109.0), "above cutoff", 2.0,
    )  # fmt: skip
    return replace(base, **changes)


ROWS = [row(n, automatic_cm2=100.0 + (n % 5 - 2)) for n in range(20)]


def test_errors_are_those_of_the_textbook() -> None:
    error = area_error(ROWS, automatic=True)
    assert error is not None
    differences = np.array([n % 5 - 2 for n in range(20)], dtype=float)
    spread = 1.96 * differences.std(ddof=1)
    assert (error.cases, error.patients) == (20, 20)
    assert error.bias_cm2.value == pytest.approx(0.0)
    assert error.limits_cm2[0].value == pytest.approx(-spread)
    assert error.limits_percent[1].value == pytest.approx(spread)
    assert error.median_percent.value == pytest.approx(1.0)
    assert (error.within_3, error.within_7) == (20, 20)
    assert error.bias_cm2.low < 0 < error.bias_cm2.high
    given = area_error(ROWS, automatic=False)
    assert given is not None
    assert given.bias_percent.value == pytest.approx(1.0)
    assert area_error([row(1, automatic_cm2=None)], automatic=True) is None
    assert mean_dice([row(1, dice=None)]) is None


def test_slices_of_one_patient_are_drawn_together() -> None:
    numbers = np.array([0.0, 0.0, 0.0, 1.0])
    alone = estimate(numbers, ["a", "a", "a", "b"], lambda n: float(n.mean()))
    assert (alone.value, alone.low, alone.high) == (0.25, 0.0, 1.0)


def test_verdicts_are_counted_and_refusals_too() -> None:
    rows = [
        row(1, reference_verdict="below", verdict="below cutoff"),
        row(2, reference_verdict="below", verdict="L3_UNCERTAIN"),
        row(3, verdict="indeterminate"),
    ]
    table = verdict_table(rows, VERDICTS)
    assert table["below"] == {
        "below cutoff": 1, "indeterminate": 0, "above cutoff": 0, "not assessed": 0,
        "not measured": 1,
    }  # fmt: skip
    assert table["not below"]["indeterminate"] == 1


def test_criteria_are_judged_with_enough_patients_only() -> None:
    judged = {one.name: one.met for one in criteria(ROWS)}
    assert judged["area, median absolute error"] is True
    assert judged["Dice on the drawn slice, mean"] is True
    assert judged["L3 within 10 mm of the drawn slice"] is True
    # All of them hold the reference: the intervals are too wide for 90 %.
    assert judged["intervals that hold the reference"] is False
    far = [replace(one, level_error_mm=30.0) for one in ROWS]
    assert {one.name: one.met for one in criteria(far)}[
        "L3 within 10 mm of the drawn slice"
    ] is False
    assert {one.met for one in criteria(ROWS[:9])} == {None}


class Tags(HTMLParser):
    """Collects what a page would load, and checks that elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img", "br", "path", "rect", "circle"}:
            self.open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        if tag not in {"path", "rect", "circle"}:
            assert self.open.pop() == tag


def test_page_is_one_file_that_loads_nothing_and_escapes_what_it_shows() -> None:
    odd = row(30, scanner="<b>Maker & Co</b>", verdict="L3_UNCERTAIN", automatic_cm2=None)
    text = page(Report((*ROWS, odd), (("case 3", "no <muscle>"),), (("software", "psoas 9"),)))
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.loads == []
    assert "<b>Maker" not in text
    assert "Research use only, not for diagnosis" in text
    for told in ("Bland-Altman", "Signature", "By scanner", "By sex", "refused by the software"):
        assert told in text
    assert "1 of 21" in text
    # What was refused stands first.
    assert text.index("1.2.30") < text.index("1.2.3<")


def test_plot_shows_every_case_and_says_when_there_is_none() -> None:
    points = [Point(float(i), float(i * i), "a" if i % 2 else "b", f"case {i}") for i in range(5)]
    drawn = svg(Chart("t", "x", "y", points, [Line(3.0, "bias", 1.0, 4.0)], diagonal=True))
    assert len(re.findall("<circle", drawn)) == 5
    assert drawn.count('class="key"') == 2
    assert "<rect" in drawn
    numbers = [float(n) for n in re.findall(r'c[xy]="([\d.-]+)"', drawn)]
    assert min(numbers) > 0
    assert "nothing to show" in svg(Chart("t", "x", "y", []))


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_plot_of_a_single_value_has_an_extent(value: float) -> None:
    assert "nan" not in svg(Chart("t", "x", "y", [Point(value, value, "a", "")]))


def test_folder_of_dicom_becomes_a_report(tmp_path: Path) -> None:
    body = TorsoPhantom(shape=(6, 128, 128), pixel_mm=3.0)
    body.write_series(tmp_path / "study" / "ct")
    write_seg(tmp_path / "study" / "seg.dcm", body)
    other = TorsoPhantom(shape=(3, 128, 128), pixel_mm=3.0, seed=2)
    other.write_series(tmp_path / "study" / "undrawn")
    report = validate(ValidationRequest(tmp_path / "study"), models(2), tmp_path / "report")
    assert [one.name for one in report.rows] == [body.series_instance_uid]
    assert [reason for _, reason in report.excluded] == ["nobody drew on it"]
    content = json.loads((tmp_path / "report" / "validation.json").read_text())
    assert content["cases"][0]["dice"] > 0.97
    assert content["facts"]["model by_hu"] == f"1, sha256 {'ab' * 32}"
    text = (tmp_path / "report" / "validation.html").read_text()
    assert text.count("data:image/png;base64,") == 1
    # The phantom's identity must not get out.
    assert "PHANTOM" not in text
    assert "Torso" not in text
    with pytest.raises(ValueError, match="none of 1 cases can be compared: nobody drew on it"):
        validate(ValidationRequest(tmp_path / "study" / "undrawn"), models(), tmp_path / "none")
