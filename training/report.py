"""Evaluation results as JSON, tables and plots."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from training.crossvalidation import choose_thresholds, conformal_scores, nested
from training.data import read_images
from training.evaluate import SliceResult, Summary, summarize
from training.level_evaluate import LevelResult

log = structlog.get_logger(__name__)

_HEAD = (
    "| weights | Dice | mean abs. error | worst slice | bias | limits of agreement |",
    "| --- | --- | --- | --- | --- | --- |",
)


@dataclass(frozen=True, slots=True)
class FoldReport:
    """Leave-one-patient-out results of one way of training.

    Parameters
    ----------
    rows : tuple of SliceResult
        Every slice at the threshold that the other patients chose.
    summary : Summary
    by_patient : Mapping
        Patient to the summary of that patient.
    threshold : float
        Chosen by all patients: for the exported weights.
    scores : tuple of float
        For the calibration of intervals, one a patient.
    """

    rows: tuple[SliceResult, ...]
    summary: Summary
    by_patient: Mapping[str, Summary]
    threshold: float
    scores: tuple[float, ...]


def report(results: Mapping[float, Sequence[SliceResult]], middle: Mapping[str, int]) -> FoldReport:
    """Summarise cross-validated slices.

    Parameters
    ----------
    results : Mapping
        As from ``training.crossvalidation.measure_folds``.
    middle : Mapping
        Case to the slice nearest to the middle of L3.
    """
    chosen = choose_thresholds(results)
    rows = nested(results, chosen)
    patients = sorted({row.patient for row in rows})
    return FoldReport(
        rows=tuple(rows),
        summary=summarize(rows),
        by_patient={p: summarize([r for r in rows if r.patient == p]) for p in patients},
        threshold=chosen[""],
        scores=tuple(conformal_scores(rows, middle)),
    )


def middle_slices(data_folder: Path, case_list: Path) -> dict[str, int]:
    """Slice nearest to the drawn middle of L3, for each volume of a list that has one."""
    middle = {}
    for entry in tomllib.loads(case_list.read_text())["case"]:
        drawn = json.loads((data_folder / entry["labels"]).read_text())["vertebrae"]
        if "images" in entry and "L3" in drawn:
            affine = read_images(data_folder / entry["images"]).affine
            middle[entry["name"]] = round((drawn["L3"]["z_mm"] - affine[2, 3]) / affine[2, 0])
    return middle


def write_report(reports: Mapping[str, FoldReport], folder: Path) -> None:
    """Write ``evaluation.json``, ``evaluation.md`` and a Bland-Altman plot.

    Parameters
    ----------
    reports : Mapping
        Name of a way of training to its report.
    folder : Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: _plain(one) for name, one in reports.items()}
    (folder / "evaluation.json").write_text(json.dumps(content, indent=1) + "\n")
    lines = [*_HEAD]
    for name, one in reports.items():
        lines.append(_line(f"**{name}**, {one.summary.patients} patients", one.summary))
        lines += [_line(f"{name}, {p}", s) for p, s in one.by_patient.items()]
    (folder / "evaluation.md").write_text("\n".join(lines) + "\n")
    _plot(reports, folder / "bland_altman.png")
    for name, one in reports.items():
        log.info("summary", weights=name, threshold=one.threshold, **asdict(one.summary))


def write_level_report(results: Sequence[LevelResult], folder: Path) -> None:
    """Write ``levels.json`` and ``levels.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.dumps([asdict(row) for row in results], indent=1)
    (folder / "levels.json").write_text(plain + "\n")
    lines = ["| volume | patient seen | answer | error, mm |", "| --- | --- | --- | --- |"]
    for row in results:
        error = "" if row.error_mm is None else f"{row.error_mm:+.1f}"
        lines.append(
            f"| {row.case} | {'yes' if row.seen_in_training else 'no'} | {row.code} | {error} |"
        )
    (folder / "levels.md").write_text("\n".join(lines) + "\n")


def _plain(one: FoldReport) -> dict[str, Any]:
    return {
        "threshold": one.threshold,
        "calibration": {"scores": list(one.scores), "patients": len(one.scores)},
        "summary": asdict(one.summary),
        "by_patient": {patient: asdict(s) for patient, s in one.by_patient.items()},
        "slices": [asdict(row) for row in one.rows],
    }


def _line(name: str, s: Summary) -> str:
    low, high = s.limits_percent
    return (
        f"| {name}, {s.slices} slices | {s.dice:.3f} | {s.absolute_error_percent:.1f} % "
        f"| {s.worst_error_percent:.1f} % | {s.bias_percent:+.1f} % | {low:+.1f} to {high:+.1f} % |"
    )


def _plot(reports: Mapping[str, FoldReport], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0 * len(reports), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(reports), squeeze=False, sharey=True)[0]
    for axes, (name, one) in zip(panels, reports.items(), strict=True):
        for patient in one.by_patient:
            rows = [row for row in one.rows if row.patient == patient]
            means = [(row.measured_cm2 + row.reference_cm2) / 2 for row in rows]
            axes.scatter(means, [row.error_percent for row in rows], s=14, label=patient)
        for value in (*one.summary.limits_percent, float(np.mean(one.summary.limits_percent))):
            axes.axhline(value, color="grey", linewidth=0.8, linestyle="--")
        axes.set_title(f"{name}: patients left out")
        axes.set_xlabel("mean of measured and drawn area, cm²")
    panels[0].set_ylabel("measured minus drawn area, %")
    panels[-1].legend(fontsize=7)
    figure.savefig(path, dpi=110)
