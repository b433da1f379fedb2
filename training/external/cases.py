"""Cases of an external validation, each measured as the node would measure it.

What is compared: on the slice that was drawn, mask against mask (slice given); and from the whole
volume, with the slice that the node finds (automatic).
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.analyze import AnalysisRequest, Cutoffs, Models, measure_volume
from pipeline.errors import PipelineError
from pipeline.level.given import GivenSlice
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import Analysis, CTVolume, Sex, Subject, Verdict
from training import labels
from training.evaluate import dice
from training.intake.found import Drawn, FoundCase

_MM2_PER_CM2 = 100.0
_LABEL = next(tissue.label for tissue in TISSUES if tissue.name == SKELETAL_MUSCLE)


@dataclass(frozen=True, slots=True)
class Stated:
    """What a site says of a case besides its mask.

    Parameters
    ----------
    area_cm2 : float or None
        Skeletal muscle area as the site's own software gave it.
    z_mm : float or None
        Height of the middle of L3 in patient coordinates.
    sex : str
        ``"M"``, ``"F"`` or empty.
    """

    area_cm2: float | None = None
    z_mm: float | None = None
    sex: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """One case, drawn and measured.

    Parameters
    ----------
    name : str
        Series Instance UID, or the name of the image file.
    patient : str
        Pseudonym.
    sex, scanner : str
    slice_index : int
        That was drawn, from the most inferior one.
    reference_cm2 : float
        Of the drawn muscle within its range of HU.
    stated_cm2 : float or None
    reference_verdict : str
        "below", "not below" or "no cut-off".
    dice, given_cm2 : float or None
        On the drawn slice; ``None`` when that could not be measured.
    automatic_cm2 : float or None
        On the slice that was found.
    interval_cm2 : tuple of float or None
        Of the automatic area.
    verdict : str
        Of the automatic area, as the report words it, or the code of the refusal.
    level_error_mm : float or None
        Found minus drawn; ``None`` when several slices were drawn and none was stated.
    flags : tuple of str
        Codes of the warnings of the automatic measurement.
    """

    name: str
    patient: str
    sex: str
    scanner: str
    slice_index: int
    reference_cm2: float
    stated_cm2: float | None
    reference_verdict: str
    dice: float | None = None
    given_cm2: float | None = None
    automatic_cm2: float | None = None
    interval_cm2: tuple[float, float] | None = None
    verdict: str = ""
    level_error_mm: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def given_error_percent(self) -> float | None:
        """Signed error of the area on the drawn slice."""
        return _percent(self.given_cm2, self.reference_cm2)

    @property
    def automatic_error_percent(self) -> float | None:
        """Signed error of the area on the slice that was found."""
        return _percent(self.automatic_cm2, self.reference_cm2)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """The drawn slice of a case, to be looked at: HU, what was drawn, what was measured."""

    name: str
    hu: NDArray[np.int16]
    drawn: NDArray[np.bool_]
    measured: NDArray[np.bool_]


class UnusableCaseError(ValueError):
    """A case has no reference that it could be compared with."""


def read_stated(path: Path) -> dict[str, Stated]:
    """Read a table (CSV) with the columns ``case`` and any of ``area_cm2``, ``z_mm``, ``sex``.

    Raises
    ------
    ValueError
        If there is no column ``case``, or a number is none.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or "case" not in rows[0]:
        raise ValueError(f"{path.name} needs a column called case and at least one row")
    return {
        row["case"]: Stated(
            float(row["area_cm2"]) if row.get("area_cm2") else None,
            float(row["z_mm"]) if row.get("z_mm") else None,
            (row.get("sex") or "").strip().upper(),
        )
        for row in rows
    }


def case_name(found: FoundCase, volume: CTVolume) -> str:
    """Name of a case: its Series Instance UID, or the name of its image file."""
    return volume.series_instance_uid or found.files[0].name.split(".nii")[0]


def read_reference(
    found: FoundCase, stated: Mapping[str, Stated]
) -> tuple[CTVolume, Drawn, Stated, str]:
    """Read images and drawings of a case.

    Returns
    -------
    tuple
        Volume, drawings, what the site states, name.

    Raises
    ------
    UnusableCaseError
        With the reason.
    """
    if found.read_labels is None:
        raise UnusableCaseError("nobody drew on it")
    try:
        volume = found.read_volume()
        drawn = found.read_labels(volume)
    except PipelineError as error:
        raise UnusableCaseError(f"{error} [{error.code}]") from error
    except (ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise UnusableCaseError(f"cannot be read ({type(error).__name__})") from error
    drawn = Drawn(
        {i: one for i, one in drawn.slices.items() if (one == labels.MUSCLE).any()},
        drawn.whole,
        drawn.faults,
    )
    if drawn.faults or not drawn.slices:
        raise UnusableCaseError("; ".join(drawn.faults) or "no muscle is drawn on it")
    name = case_name(found, volume)
    return volume, drawn, stated.get(name, Stated()), name


def reference_mask(volume: CTVolume, drawn: Drawn, index: int) -> NDArray[np.bool_]:
    """Drawn muscle within its range of HU, shape (rows, columns)."""
    hu = volume.hu[index]
    tissue = next(tissue for tissue in TISSUES if tissue.name == SKELETAL_MUSCLE)
    within = (hu >= tissue.lower_hu) & (hu <= tissue.upper_hu)
    mask: NDArray[np.bool_] = (drawn.slices[index] == labels.MUSCLE) & within
    return mask


def compare_case(
    found: FoundCase, stated: Mapping[str, Stated], models: Models, cutoffs: Cutoffs
) -> tuple[Compared, Picture]:
    """Measure one case twice, slice given and automatically.

    Parameters
    ----------
    found : FoundCase
    stated : Mapping
        By name of a case, as from ``read_stated``.
    models : Models
    cutoffs : Cutoffs

    Raises
    ------
    UnusableCaseError
        If there is nothing to compare with.
    """
    volume, drawn, said, name = read_reference(found, stated)
    sex = said.sex or found.sex
    subject = Subject(sex=Sex(sex) if sex else None)
    automatic, refusal = _measured(volume, subject, models, cutoffs)
    index = _reference_slice(volume, drawn, said, automatic)
    mask = reference_mask(volume, drawn, index)
    reference_cm2 = float(np.count_nonzero(mask)) * volume.pixel_area_mm2 / _MM2_PER_CM2
    source = volume.sources[index]
    given_finder = GivenSlice(source.sop_instance_uid, source.frame_number)
    given, _ = _measured(volume, subject, replace(models, level_finder=given_finder), cutoffs)
    measured = np.zeros(mask.shape, dtype=bool) if given is None else _muscle(given, index)
    acquisition = volume.acquisition
    scanner = f"{acquisition.manufacturer} {acquisition.model_name}".strip() or "unknown"
    known_level = said.z_mm is not None or len(drawn.slices) == 1
    row = Compared(
        name=name,
        patient=found.patient,
        sex=sex,
        scanner=scanner,
        slice_index=index,
        reference_cm2=reference_cm2,
        stated_cm2=said.area_cm2,
        reference_verdict=_reference_verdict(reference_cm2, subject, cutoffs),
        dice=None if given is None else float(dice(mask, measured)),
        given_cm2=None if given is None else _area(given),
        verdict=refusal,
    )
    if automatic is not None:
        row = _with_automatic(row, automatic, index if known_level else None)
    return row, Picture(name, volume.hu[index], mask, measured)


def _measured(
    volume: CTVolume, subject: Subject, models: Models, cutoffs: Cutoffs
) -> tuple[Analysis | None, str]:
    request = AnalysisRequest(datetime.now(UTC), version("psoas"), cutoffs=cutoffs)
    try:
        return measure_volume(volume, subject, models, request), ""
    except PipelineError as error:
        return None, error.code


def _with_automatic(row: Compared, automatic: Analysis, drawn_index: int | None) -> Compared:
    interval = automatic.interval
    found = automatic.composition.level.slice_index
    spacing_mm = automatic.volume.slice_spacing_mm
    return replace(
        row,
        automatic_cm2=_area(automatic),
        interval_cm2=None if interval is None else (interval.lower_cm2, interval.upper_cm2),
        verdict=automatic.assessment.verdict.value.replace("_", " "),
        level_error_mm=None if drawn_index is None else (found - drawn_index) * spacing_mm,
        flags=tuple(flag.code for flag in automatic.quality if flag.severity == "warning"),
    )


def _reference_slice(
    volume: CTVolume, drawn: Drawn, said: Stated, automatic: Analysis | None
) -> int:
    """Drawn slice at the stated height; else the one nearest to the found one, or in the middle."""
    indices = sorted(drawn.slices)
    if said.z_mm is not None:
        z_mm = said.z_mm
        return min(indices, key=lambda index: abs(volume.slice_z_mm(index) - z_mm))
    if automatic is None:
        return indices[len(indices) // 2]
    found = automatic.composition.level.slice_index
    return min(indices, key=lambda index: abs(index - found))


def _muscle(analysis: Analysis, index: int) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = analysis.mask.slice_labels(index) == _LABEL
    return mask


def _area(analysis: Analysis) -> float:
    return analysis.composition.of(SKELETAL_MUSCLE).area_cm2


def _reference_verdict(area_cm2: float, subject: Subject, cutoffs: Cutoffs) -> str:
    if subject.sex is None or cutoffs.size.measure.value != "area_cm2":
        return "no cut-off"
    rows = cutoffs.size.rows_for(subject, subject.sex)
    if len(rows) != 1:
        return "no cut-off"
    return "below" if area_cm2 < rows[0].below else "not below"


def _percent(measured: float | None, reference: float) -> float | None:
    if measured is None or reference <= 0:
        return None
    return 100 * (measured - reference) / reference


VERDICTS: Sequence[str] = (
    Verdict.BELOW_CUTOFF.value.replace("_", " "),
    Verdict.INDETERMINATE.value,
    Verdict.ABOVE_CUTOFF.value.replace("_", " "),
    Verdict.NOT_ASSESSED.value.replace("_", " "),
)
"""Verdicts as the report words them."""
