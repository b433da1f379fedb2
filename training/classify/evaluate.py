"""Both branches side by side: who with low muscle is found, and who is overlooked.

Sensitivity comes first: in arXiv 2508.17275 the classifiers overlooked patients whom the measured
area found.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import torch

from pipeline.networks import build_network
from pipeline.types import Sex
from training import checkpoint
from training.classify.cases import ClassedSlice
from training.classify.recipe import ClassifyRecipe, recipe_of
from training.classify.scores import (
    Confusion,
    area_under_curve,
    choose_threshold,
    confusion,
    percent,
)
from training.classify.train import predict
from training.split import cutoff_cm2
from training.store import write_text

log = structlog.get_logger(__name__)

TARGET_SENSITIVITY: Final = 0.95


@dataclass(frozen=True, slots=True)
class PatientRow:
    """One patient, as a run saw the person that had not been trained on it.

    Parameters
    ----------
    patient : str
    low : bool
        The reference.
    probability : float
        Mean over the slices.
    threshold : float
        Chosen by the other patients.
    area_cm2, cutoff_cm2 : float or None
        As the segmentation branch measured it, and what it is compared with.
    """

    patient: str
    low: bool
    probability: float
    threshold: float = 0.5
    area_cm2: float | None = None
    cutoff_cm2: float | None = None

    @property
    def called_low(self) -> bool:
        """What the classifier says."""
        return self.probability >= self.threshold

    @property
    def measured_low(self) -> bool | None:
        """What the area says; ``None`` without one."""
        if self.area_cm2 is None or self.cutoff_cm2 is None:
            return None
        return self.area_cm2 < self.cutoff_cm2


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``classify evaluate`` found.

    Parameters
    ----------
    rows : tuple of PatientRow
    threshold : float
        Chosen by all patients: for the exported weights.
    """

    rows: tuple[PatientRow, ...]
    threshold: float


def measure_folds(folder: Path, slices: Sequence[ClassedSlice]) -> list[PatientRow]:
    """Ask about each patient the run that did not see that patient.

    Parameters
    ----------
    folder : Path
        With the run of each fold.
    slices : sequence of ClassedSlice

    Raises
    ------
    ValueError
        If no run left a patient out.
    """
    rows = []
    for path in sorted(folder.glob("*/checkpoint.pt")):
        state = checkpoint.load(path)
        recipe = recipe_of(state["recipe"])
        of_fold = [s for s in slices if s.patient in recipe.held_out]
        found = predict(_network(state, recipe), recipe, of_fold, torch.device("cpu"))
        for patient in sorted({s.patient for s in of_fold}):
            mine = [place for place, s in enumerate(of_fold) if s.patient == patient]
            low = of_fold[mine[0]].low
            rows.append(PatientRow(patient, low, float(np.mean(found[mine]))))
        log.info("fold measured", patients=len(recipe.held_out))
    if not rows:
        raise ValueError(f"{folder.name} holds no run that left a patient out")
    return rows


def compare(
    rows: Sequence[PatientRow],
    areas_cm2: Mapping[str, float],
    sexes: Mapping[str, str],
    sensitivity: float = TARGET_SENSITIVITY,
) -> Comparison:
    """Choose thresholds by the other patients, and lay the measured areas beside.

    Parameters
    ----------
    rows : sequence of PatientRow
    areas_cm2, sexes : Mapping
        Of patients; those of whom nothing is known are compared in one branch only.
    sensitivity : float
        Which the threshold has to keep among the others.
    """
    low = np.array([row.low for row in rows])
    probability = np.array([row.probability for row in rows])
    compared = []
    for place, row in enumerate(rows):
        others = np.arange(len(rows)) != place
        sex = sexes.get(row.patient, "")
        compared.append(
            PatientRow(
                row.patient,
                row.low,
                row.probability,
                choose_threshold(low[others], probability[others], sensitivity),
                areas_cm2.get(row.patient),
                cutoff_cm2(Sex(sex)) if sex else None,
            )
        )
    return Comparison(tuple(compared), choose_threshold(low, probability, sensitivity))


def read_areas(path: Path) -> dict[str, float]:
    """Read the measured area of each patient from ``slices.json`` or ``evaluation.json``.

    Parameters
    ----------
    path : Path
        Of ``python -m training table`` or ``evaluate``; of several ways of training the first.
    """
    content: Any = json.loads(path.read_text())
    slices = content if isinstance(content, list) else next(iter(content.values()))["slices"]
    areas: dict[str, list[float]] = {}
    for one in slices:
        areas.setdefault(one["patient"], []).append(one["measured_cm2"])
    return {patient: float(np.mean(values)) for patient, values in areas.items()}


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write ``classification.json`` and ``classification.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"threshold": comparison.threshold, "patients": [asdict(r) for r in comparison.rows]}
    write_text(folder / "classification.json", json.dumps(plain, indent=1) + "\n")
    write_text(folder / "classification.md", "\n".join(report_lines(comparison)) + "\n")


def report_lines(comparison: Comparison) -> list[str]:
    """Return the report in Markdown, sensitivity first."""
    rows = comparison.rows
    both = [row for row in rows if row.measured_low is not None]
    lines = [
        "# Two branches, patients that no run had seen",
        "",
        "Research use only, not for diagnosis. Shares with exact 95 % intervals.",
        "",
        "| branch | sensitivity | overlooked | specificity | balanced accuracy | AUC |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    low = np.array([row.low for row in rows])
    probability = np.array([row.probability for row in rows])
    area = f"{area_under_curve(low, probability):.3f}"
    lines.append(_line("classifier", confusion(low, np.array([r.called_low for r in rows])), area))
    if both:
        reference = np.array([row.low for row in both])
        measured = np.array([bool(row.measured_low) for row in both])
        shortfall = np.array([(r.cutoff_cm2 or 0.0) - (r.area_cm2 or 0.0) for r in both])
        area = f"{area_under_curve(reference, shortfall):.3f}"
        lines.append(_line("area against cut-off", confusion(reference, measured), area))
    lines += ["", *_overlooked(rows), "", *_agreement(both)]
    return lines


def _line(branch: str, counted: Confusion, area: str) -> str:
    sensitivity = percent(counted.found, counted.found + counted.overlooked)
    specificity = percent(counted.cleared, counted.cleared + counted.alarmed)
    return (
        f"| {branch} | {sensitivity} | {counted.overlooked} | {specificity} "
        f"| {100 * counted.balanced_accuracy:.0f} % | {area} |"
    )


def _overlooked(rows: Sequence[PatientRow]) -> list[str]:
    lines = ["Patients with low muscle that a branch overlooked:", ""]
    for row in rows:
        branches = ["classifier"] if row.low and not row.called_low else []
        branches += ["area"] if row.low and row.measured_low is False else []
        if branches:
            numbers = f"probability {row.probability:.2f}, threshold {row.threshold:.2f}"
            if row.area_cm2 is not None:
                numbers += f", {row.area_cm2:.1f} cm2"
            lines.append(f"- {row.patient}: {' and '.join(branches)} ({numbers})")
    return lines if len(lines) > 2 else ["No patient with low muscle was overlooked."]


def _agreement(both: Sequence[PatientRow]) -> list[str]:
    if not both:
        return ["No areas were given, so the branches are not compared."]
    apart = [row for row in both if row.called_low is not row.measured_low]
    right = sum(1 for row in apart if row.called_low is row.low)
    return [
        f"The branches agree on {len(both) - len(apart)} of {len(both)} patients. Of the "
        f"{len(apart)} others the classifier is right {right} times, the area "
        f"{len(apart) - right} times."
    ]


def _network(state: Mapping[str, Any], recipe: ClassifyRecipe) -> torch.nn.Module:
    network = build_network(recipe.network, recipe.arguments)
    network.load_state_dict(state["best"] or state["network"])
    return network
