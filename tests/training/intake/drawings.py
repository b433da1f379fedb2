"""Foreign labels of phantoms: SEG, RTSTRUCT, NIfTI."""

from pathlib import Path

import highdicom
import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from pipeline.types import CTVolume
from tests.phantoms import TorsoPhantom


def write_seg(path: Path, phantom: TorsoPhantom, label: str = "Skeletal muscle") -> None:
    """A binary SEG of the phantom's muscle as another vendor would write it."""
    images = phantom.datasets()
    description = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=label,
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Muscle,
        algorithm_type="MANUAL",
    )
    seg = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=phantom.muscle_mask().astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[description],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Vendor",
        manufacturer_model_name="Drawer",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(path, enforce_file_format=True)


def write_structures(path: Path, phantom: TorsoPhantom, indices: list[int]) -> None:
    """An RTSTRUCT of the ring of muscle: an outer contour with a hole, on some slices."""
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    contours = []
    for index in indices:
        z = float(phantom.volume().affine[2, 3] + index * phantom.slice_mm)
        for depth in (phantom.fat_mm, phantom.fat_mm + phantom.thickness_mm):
            x = (phantom.outer_mm[0] - depth) * np.cos(angles)
            y = (phantom.outer_mm[1] - depth) * np.sin(angles)
            points = np.stack([x, y, np.full_like(x, z)], axis=1)
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
            contours.append(contour)
    roi, drawn = Dataset(), Dataset()
    roi.ROINumber, roi.ROIName = 1, "SMA"
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, contours
    structures = Dataset()
    structures.file_meta = FileMetaDataset()
    structures.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    structures.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    structures.SOPClassUID = structures.file_meta.MediaStorageSOPClassUID
    structures.SOPInstanceUID = structures.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    structures.SeriesInstanceUID = generate_uid()
    structures.StructureSetROISequence = [roi]
    structures.ROIContourSequence = [drawn]
    structures.ReferencedFrameOfReferenceSequence = [_reference(phantom)]
    structures.save_as(path, enforce_file_format=True)


def _reference(phantom: TorsoPhantom) -> Dataset:
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = phantom.series_instance_uid
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    return frame


def write_nifti(path: Path, volume: CTVolume, values: np.ndarray) -> None:
    """Values on the grid of a volume, in NIfTI's usual orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine)
    nibabel.save(nibabel.as_closest_canonical(image), path)
