"""Turns the objects of a CT series into a volume of Hounsfield units."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.errors import MixedSeriesError, PixelDataError
from pipeline.geometry import stack_affine, tilt_deg
from pipeline.objects.attributes import number, required_text, text, texts
from pipeline.objects.eligibility import axial_frames
from pipeline.objects.frames import Frame, sop_class_uid, sop_instance_uid
from pipeline.objects.part10 import read_files
from pipeline.objects.pixels import hounsfield, matrix_of
from pipeline.objects.stack import Slice, regular_stack
from pipeline.objects.subject import read_subject
from pipeline.types import Acquisition, CTVolume, QualityFlag, Severity, SliceSource

__all__ = ["read_files", "read_subject", "read_volume", "series_remarks", "source_of"]

_MOST_VOXELS: Final = 1 << 31

_COMMON: Final = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID")


def read_volume(datasets: Sequence[Dataset]) -> CTVolume:
    """Read one series.

    Localizers, captures and copies are left out; of several acquisitions one is taken.

    Parameters
    ----------
    datasets : sequence of Dataset
        All objects of one series in any order, with pixel data (it may be deferred).

    Returns
    -------
    CTVolume

    Raises
    ------
    UnsupportedSeriesError
        No acquired axial slice is there.
    UnreadableSeriesError
        The slices do not belong together, form no regular stack, or cannot be decoded.
    """
    frames = axial_frames(datasets)
    _check_one_series(frames)
    stack = regular_stack(frames)
    rows, columns = _common_matrix(stack)
    first = stack[0].frame.header
    affine = stack_affine([one.plane for one in stack], number(first, "SliceThickness"))
    hu = np.empty((len(stack), rows, columns), dtype=np.int16)
    for index, one in enumerate(stack):
        hu[index] = hounsfield(one.frame)
    return CTVolume(
        hu=hu,
        affine=affine,
        sources=tuple(source_of(one.frame) for one in stack),
        series_instance_uid=required_text(stack[0].frame.dataset, "SeriesInstanceUID"),
        acquisition=_acquisition(stack[0].frame, affine),
    )


def series_remarks(datasets: Sequence[Dataset], volume: CTVolume) -> tuple[QualityFlag, ...]:
    """Say when images of the series are not in the volume.

    Returns
    -------
    tuple of QualityFlag
        ``SLICES_LEFT_OUT`` when another acquisition or what lies beyond a gap was left out;
        localizers and the same object sent twice are not worth a remark.
    """
    axial = {source_of(frame) for frame in axial_frames(datasets)}
    left_out = len(axial - set(volume.sources))
    if not left_out:
        return ()
    message = (
        f"{left_out} of {len(axial)} axial images were not used: copies, another acquisition, or "
        "slices beyond a gap."
    )
    return (QualityFlag("SLICES_LEFT_OUT", Severity.WARNING, message),)


def source_of(frame: Frame) -> SliceSource:
    """Name the stored image that a slice comes from."""
    number_of_frame = None if frame.index is None else frame.index + 1
    return SliceSource(sop_instance_uid(frame.dataset), number_of_frame)


def _check_one_series(frames: Sequence[Frame]) -> None:
    first = frames[0].dataset
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        required_text(first, keyword)
    for keyword in _COMMON:
        values = {text(frame.dataset, keyword) for frame in frames}
        if len(values) > 1:
            raise MixedSeriesError(f"the images differ in {keyword}: {len(values)} values")
    if len({sop_class_uid(frame.dataset) for frame in frames}) > 1:
        raise MixedSeriesError("the images are partly single-frame, partly multi-frame objects")


def _common_matrix(stack: Sequence[Slice]) -> tuple[int, int]:
    matrices = {matrix_of(one.frame.dataset) for one in stack}
    if len(matrices) > 1:
        raise MixedSeriesError(f"the images differ in their matrix: {sorted(matrices)}")
    rows, columns = matrices.pop()
    if rows * columns * len(stack) > _MOST_VOXELS:
        raise PixelDataError(
            f"{len(stack)} slices of {rows} x {columns} pixels are more than fit into memory"
        )
    return rows, columns


def _acquisition(frame: Frame, affine: NDArray[np.float64]) -> Acquisition:
    header = frame.header
    return Acquisition(
        slice_thickness_mm=number(header, "SliceThickness"),
        tube_voltage_kv=number(header, "KVP"),
        gantry_tilt_deg=round(tilt_deg(affine), 2),
        contrast_agent=_contrast_agent(frame),
        convolution_kernel="\\".join(texts(header, "ConvolutionKernel")),
        manufacturer=text(frame.dataset, "Manufacturer"),
        model_name=text(frame.dataset, "ManufacturerModelName"),
    )


def _contrast_agent(frame: Frame) -> bool | None:
    if "ContrastBolusAgentSequence" in frame.dataset:
        return bool(frame.dataset.ContrastBolusAgentSequence)
    if "ContrastBolusAgent" not in frame.dataset:
        return None
    agent = text(frame.dataset, "ContrastBolusAgent").upper()
    return agent not in {"", "NONE", "NO", "N"}
