"""The story of one correction: a reader's mask, measured as ours would have been."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipeline.analyze import AnalysisRequest
from pipeline.composition import measure
from pipeline.errors import CorrectionError
from pipeline.objects.correction import Drawing, read_drawing, reader_segmentation
from pipeline.objects.ct_series import read_subject, read_volume, series_remarks
from pipeline.objects.results import RESULT_BUILDERS
from pipeline.objects.subject import subject_remarks
from pipeline.preprocess import PreprocessSpec, slab
from pipeline.quality import check, require_plausible
from pipeline.sarcopenia import assess, assess_attenuation
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import (
    Analysis,
    AnatomicLevel,
    CTVolume,
    ModelIdentity,
    QualityFlag,
    Severity,
    TissueMask,
)

_MASKS: Final = frozenset({"seg", "labelmap", "rtstruct"})
"""Objects that would only repeat the reader's own."""


@dataclass(frozen=True, slots=True)
class CorrectedResult:
    """What a reader corrected.

    Parameters
    ----------
    level_sop_instance_uid : str
        The slice that was measured.
    models : tuple of ModelIdentity
        What had made the mask, the segmenter first.
    spec : PreprocessSpec
        How slices become the Hounsfield units that the limits apply to.
    """

    level_sop_instance_uid: str
    models: tuple[ModelIdentity, ...]
    spec: PreprocessSpec


def measure_correction(
    segmentation: Dataset,
    datasets: Sequence[Dataset],
    corrected: CorrectedResult,
    request: AnalysisRequest,
) -> tuple[Analysis, Mapping[str, Dataset]]:
    """Measure a segmentation that a reader corrected, on the images that it was drawn on.

    The limits of HU apply to it as to a mask of ours. There is no interval: it would describe the
    model's error, not the reader's.

    Parameters
    ----------
    segmentation : Dataset
        Segmentation Storage, with pixel data.
    datasets : sequence of Dataset
        All objects of the measured series.
    corrected : CorrectedResult
    request : AnalysisRequest

    Returns
    -------
    Analysis
    Mapping of str to Dataset
        Report and key image, which refer to the reader's segmentation.

    Raises
    ------
    PipelineError
        The series or the segmentation cannot be used; its ``code`` says why.
    """
    volume = read_volume(datasets)
    drawing = read_drawing(segmentation, volume)
    level = _level(drawing, volume, corrected.level_sop_instance_uid)
    hu = slab(volume, level.slice_index, corrected.spec)
    mask, lost_pixels = _gated(drawing, level, hu)
    subject = request.stated(read_subject(datasets))
    composition = measure(mask, hu, level, volume.pixel_area_mm2, subject.height_m)
    require_plausible(composition)
    cutoffs = request.cutoffs
    analysis = Analysis(
        volume=volume,
        subject=subject,
        mask=mask,
        composition=composition,
        interval=None,
        assessment=assess(composition, subject, None, cutoffs.size),
        quality=(
            _corrected_remark(lost_pixels * volume.pixel_area_mm2 / 100),
            *check(volume, mask, composition, subject, hu),
            *subject_remarks(datasets),
            *series_remarks(datasets, volume),
        ),
        models=corrected.models,
        attenuation_assessment=(
            assess_attenuation(composition, subject, volume.acquisition, cutoffs.attenuation)
            if cutoffs.attenuation
            else None
        ),
    )
    reader = reader_segmentation(segmentation, drawing[level.slice_index])
    context = replace(request.context(datasets), reader=reader)
    outputs = [name for name in request.outputs if name not in _MASKS]
    return analysis, {name: RESULT_BUILDERS[name](analysis, context) for name in outputs}


def _level(drawing: Drawing, volume: CTVolume, measured_uid: str) -> AnatomicLevel:
    """Slice to measure: the one measured before, or the only one that the reader drew muscle on."""
    muscle = [index for index, tissues in drawing.items() if SKELETAL_MUSCLE in tissues]
    before = [index for index in muscle if volume.sources[index].sop_instance_uid == measured_uid]
    chosen = before if len(before) == 1 else muscle
    if len(chosen) != 1:
        raise CorrectionError(
            f"muscle is drawn on {len(muscle)} slices, and the one measured before is not the "
            "only one that it can be"
        )
    evidence = ("A reader corrected the mask on this slice.",)
    return AnatomicLevel("L3", chosen[0], 1.0, evidence=evidence)


def _gated(drawing: Drawing, level: AnatomicLevel, hu: NDArray[np.int16]) -> tuple[TissueMask, int]:
    """Labels of the slice, with the number of muscle pixels that are none by their HU."""
    labels = np.zeros(hu.shape, dtype=np.uint8)
    lost = 0
    # Muscle, the first of the tissues, is written last: it wins where segments overlap.
    for tissue in reversed(TISSUES):
        drawn = drawing[level.slice_index].get(tissue.name)
        if drawn is None:
            continue
        within = (hu >= tissue.lower_hu) & (hu <= tissue.upper_hu)
        labels[drawn.mask & within] = tissue.label
        if tissue.name == SKELETAL_MUSCLE:
            lost = int((drawn.mask & ~within).sum())
    return TissueMask(labels[None], level.slice_index), lost


def _corrected_remark(lost_cm2: float) -> QualityFlag:
    message = "Corrected by a reader: the area is that of the reader's segmentation"
    if lost_cm2:
        message += f", without {lost_cm2:.1f} cm2 outside the HU range of muscle"
    return QualityFlag("CORRECTED_BY_READER", Severity.INFO, f"{message}.")
