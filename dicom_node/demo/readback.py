"""Understand the results that were read back from a PACS."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.demo.processes import DemoError
from pipeline.objects import codes

_MM2_PER_CM2 = 100.0
# The report rounds to two decimals.
_AREA_TOLERANCE_CM2 = 0.006


@dataclass(frozen=True, slots=True)
class Stored:
    """The objects of one series in the PACS."""

    segmentation: Dataset
    report: Dataset
    key_image: Dataset


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What segmentation and report say together.

    Parameters
    ----------
    source : Dataset
        The CT slice that was measured.
    slice_index : int
        Of it, counted from the most inferior one.
    mask : NDArray[np.bool_], shape (rows, columns)
        Skeletal muscle on it.
    area_cm2 : float
    mean_hu : float
    interval_cm2 : tuple of float or None
        Lower and upper bound.
    coverage_percent : float or None
        Of the interval.
    cutoff_cm2 : float or None
    verdict : str
    remarks : tuple of str
        What the report says in words.
    """

    source: Dataset
    slice_index: int
    mask: NDArray[np.bool_]
    area_cm2: float
    mean_hu: float
    interval_cm2: tuple[float, float] | None
    coverage_percent: float | None
    cutoff_cm2: float | None
    verdict: str
    remarks: tuple[str, ...]


def stored_results(datasets: Sequence[Dataset], source: Dataset) -> Stored | None:
    """Pick the results out of a study; ``None`` while one of them is missing.

    Raises
    ------
    DemoError
        There are twins, or one belongs to another patient or study than ``source``.
    """
    by_class = {
        sop_class: [dataset for dataset in datasets if dataset.SOPClassUID == sop_class]
        for sop_class in (
            SegmentationStorage,
            Comprehensive3DSRStorage,
            SecondaryCaptureImageStorage,
        )
    }
    if not all(by_class.values()):
        return None
    for found in by_class.values():
        if len(found) > 1:
            raise DemoError(f"the PACS holds {len(found)} {found[0].SOPClassUID.name} objects")
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName"):
            if found[0].get(keyword) != source.get(keyword):
                raise DemoError(f"{keyword} of {found[0].SOPClassUID.name} is not that of the CT")
    return Stored(*(found[0] for found in by_class.values()))


def understand(stored: Stored, series: Sequence[Dataset]) -> Finding:
    """Read both objects and see that they agree with each other and with the images.

    Parameters
    ----------
    stored : Stored
    series : sequence of Dataset
        The CT slices that were sent, the most inferior first.

    Raises
    ------
    DemoError
        They do not agree.
    """
    items = list(_items(stored.report))
    index = _measured_slice(items, [slice_.SOPInstanceUID for slice_ in series])
    source = series[index]
    mask = _mask(stored.segmentation, source)
    numbers = _numbers(items)
    area_cm2 = _required(numbers, codes.AREA)
    counted_cm2 = float(mask.sum()) * float(np.prod(source.PixelSpacing)) / _MM2_PER_CM2
    if abs(counted_cm2 - area_cm2) > _AREA_TOLERANCE_CM2:
        raise DemoError(f"the SEG covers {counted_cm2:.2f} cm², the SR says {area_cm2:.2f} cm²")
    lower, upper = (
        numbers.get(code.value) for code in (codes.AREA_LOWER_BOUND, codes.AREA_UPPER_BOUND)
    )
    return Finding(
        source=source,
        slice_index=index,
        mask=mask,
        area_cm2=area_cm2,
        mean_hu=_required(numbers, codes.ATTENUATION),
        interval_cm2=None if lower is None or upper is None else (lower, upper),
        coverage_percent=numbers.get(codes.INTERVAL_COVERAGE.value),
        cutoff_cm2=numbers.get(codes.AREA_CUTOFF.value),
        verdict=_verdict(items),
        remarks=tuple(_remarks(items)),
    )


def _items(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from _items(item)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def _numbers(items: Sequence[Dataset]) -> Mapping[str, float]:
    """Return the first number under each name: means stand before standard deviations."""
    numbers: dict[str, float] = {}
    for item in items:
        if item.ValueType == "NUM" and item.MeasuredValueSequence:
            numbers.setdefault(_name(item), float(item.MeasuredValueSequence[0].NumericValue))
    return numbers


def _required(numbers: Mapping[str, float], code: Code) -> float:
    if code.value not in numbers:
        raise DemoError(f"the report holds no {code.meaning}")
    return numbers[code.value]


def _verdict(items: Sequence[Dataset]) -> str:
    for item in items:
        if _name(item) == codes.LOW_MUSCLE_AREA.value:
            value = item.ConceptCodeSequence[0].CodeValue
            return next(v.value for v, code in codes.VERDICTS.items() if code.value == value)
    raise DemoError("the report holds no verdict")


def _remarks(items: Sequence[Dataset]) -> Iterator[str]:
    wanted = (codes.REASON, codes.QUALITY_REMARK, codes.INTENDED_USE)
    for code in wanted:
        yield from (str(item.TextValue) for item in items if _name(item) == code.value)


def _measured_slice(items: Sequence[Dataset], uids: Sequence[str]) -> int:
    for item in items:
        for reference in item.get("ReferencedSOPSequence", []):
            if reference.ReferencedSOPInstanceUID in uids:
                return uids.index(reference.ReferencedSOPInstanceUID)
    raise DemoError("the report refers to no image of the series")


def _mask(segmentation: Dataset, source: Dataset) -> NDArray[np.bool_]:
    objects = highdicom.seg.Segmentation.from_dataset(segmentation)
    pixels = objects.get_pixels_by_source_instance([source.SOPInstanceUID], segment_numbers=[1])
    mask: NDArray[np.bool_] = np.asarray(pixels)[0, ..., 0] > 0
    if mask.shape != (source.Rows, source.Columns):
        raise DemoError(f"the SEG has {mask.shape} pixels, the CT {source.Rows} x {source.Columns}")
    return mask
