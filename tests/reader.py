"""A reader who corrects a segmentation in a viewer and sends it back: highdicom writes it."""

from collections.abc import Callable, Sequence

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import generate_uid

from pipeline.objects.attributes import quiet

Change = Callable[[NDArray[np.bool_]], NDArray[np.bool_]]


def corrected(
    segmentation: Dataset, images: Sequence[Dataset], change: Change, *, segments: int = 1
) -> Dataset:
    """Change the first segment of a one-slice segmentation, keep the next ones.

    Parameters
    ----------
    segmentation : Dataset
    images : sequence of Dataset
        The series that it lies on.
    change : callable
        From the mask, shape (rows, columns), to the corrected one.
    segments : int
        How many are kept.
    """
    ours = highdicom.seg.Segmentation.from_dataset(segmentation)
    uid = (
        ours.PerFrameFunctionalGroupsSequence[0]
        .DerivationImageSequence[0]
        .SourceImageSequence[0]
        .ReferencedSOPInstanceUID
    )
    image = next(one for one in images if one.SOPInstanceUID == uid)
    numbers = list(range(1, segments + 1))
    pixels = ours.get_pixels_by_source_instance([uid], segment_numbers=numbers).astype(bool)
    pixels[0, ..., 0] = change(pixels[0, ..., 0])
    pixels[0, ..., 1:] &= ~pixels[0, ..., :1]
    with quiet():  # highdicom has its doubts about names of patients
        return _written(ours, image, pixels, numbers)


def _written(
    ours: highdicom.seg.Segmentation, image: Dataset, pixels: NDArray[np.bool_], numbers: list[int]
) -> Dataset:
    return highdicom.seg.Segmentation(
        source_images=[image],
        pixel_array=pixels.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[ours.get_segment_description(number) for number in numbers],
        series_instance_uid=generate_uid(),
        series_number=77,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Reading room",
        manufacturer_model_name="Viewer",
        software_versions="1",
        device_serial_number="1",
        content_description="Corrected",
        series_description="Corrected muscle",
    )


def values_of(report: Dataset, keyword: str) -> list[str]:
    """Every value of an attribute at any depth of a report's content."""
    found = [str(report[keyword].value)] if keyword in report else []
    for sequence in ("ContentSequence", "MeasuredValueSequence", "ReferencedSOPSequence"):
        for item in report.get(sequence, []):
            found += values_of(item, keyword)
    return found
