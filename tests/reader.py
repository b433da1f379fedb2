"""A reader who corrects a segmentation in a viewer and sends it back.

highdicom or dcmqi writes it: two libraries that nobody here wrote, with habits of their own.
"""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import highdicom
import numpy as np
import SimpleITK
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


def corrected_by_dcmqi(
    tool: Callable[[str], str], segmentation: Path, images: Path, change: Change, folder: Path
) -> Path:
    """Read a segmentation with dcmqi, change its first segment, write all of it with dcmqi.

    Parameters
    ----------
    tool : callable
        Path of a program by its name.
    segmentation : Path
    images : Path
        Folder of the series that it lies on.
    change : callable
        From the mask of the slice that holds any, shape (rows, columns), to the corrected one.
    folder : Path
        For what lies between; must not exist.
    """
    folder.mkdir()
    _run(
        *(tool("segimage2itkimage"), "--inputDICOM", segmentation),
        *("--outputDirectory", folder, "-t", "nrrd", "-p", "read"),
    )
    masks = sorted(folder.glob("read-*.nrrd"), key=lambda path: int(path.stem.rsplit("-")[-1]))
    _change_mask(masks[0], change)
    result = folder / "corrected.dcm"
    _run(
        *(tool("itkimage2segimage"), "--skip", "1", "--inputDICOMDirectory", images),
        *("--inputImageList", ",".join(str(mask) for mask in masks)),
        *("--inputMetadata", _metadata(folder / "read-meta.json"), "--outputDICOM", result),
    )
    return result


def _change_mask(path: Path, change: Change) -> None:
    image = SimpleITK.ReadImage(str(path))
    pixels = SimpleITK.GetArrayFromImage(image)
    for plane in pixels:
        if plane.any():
            plane[:] = change(plane > 0) * plane.max()
    changed = SimpleITK.GetImageFromArray(pixels)
    changed.CopyInformation(image)
    SimpleITK.WriteImage(changed, str(path))


def _metadata(path: Path) -> Path:
    """Give the new object a series description of its own, as a reader's software would."""
    content = json.loads(path.read_text())
    content["SeriesDescription"], content["SeriesNumber"] = "Corrected in a viewer", "77"
    path.write_text(json.dumps(content))
    return path


def _run(*command: object) -> None:
    run = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout[-1000:] + run.stderr[-1000:]


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
