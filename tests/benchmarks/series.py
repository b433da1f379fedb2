"""Synthetic CT series for benchmarks: as many slices as wanted, half a MiB each."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

_ROWS = 512
_SPACING_MM = 0.78
_THICKNESS_MM = 1.5


def write_series(folder: Path, slices: int, seed: int = 1) -> list[Path]:
    """Write a torso of noise and tissue, 512 x 512 x 16 bit, Explicit VR Little Endian."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    body = _torso()
    noisy = (body + generator.normal(0, 12, body.shape) + 1024).clip(0, 4095).astype("<i2")
    paths = []
    for number in range(slices):
        dataset = _header(number)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID, dataset.PatientID = frame, f"BENCH{seed}"
        dataset.PixelData = np.roll(noisy, number).tobytes()
        paths.append(folder / f"{number:05}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _torso() -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    y, x = np.mgrid[-1 : 1 : _ROWS * 1j, -1 : 1 : _ROWS * 1j]
    hu = np.full((_ROWS, _ROWS), -1000.0)
    hu[(x / 0.8) ** 2 + (y / 0.6) ** 2 < 1] = -100.0
    hu[(x / 0.7) ** 2 + (y / 0.5) ** 2 < 1] = 50.0
    hu[x**2 + (y - 0.3) ** 2 < 0.015] = 400.0
    return hu


def _header(number: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20260102"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "101112"
    dataset.AccessionNumber, dataset.Modality, dataset.Manufacturer = "BENCH", "CT", "SYNTHETIC"
    dataset.SeriesDescription = "AX SOFT 1.5"
    dataset.PatientName, dataset.PatientSex = "Bench^Series", "M"
    dataset.SliceThickness, dataset.KVP, dataset.ConvolutionKernel = _THICKNESS_MM, 120, "B30f"
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, number + 1
    dataset.PatientPosition = "HFS"
    dataset.ImagePositionPatient = [-200, -200, _THICKNESS_MM * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = _ROWS
    dataset.PixelSpacing = [_SPACING_MM, _SPACING_MM]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
    return dataset


def write_resliced(source: Path, folder: Path, slices: int) -> list[Path]:
    """Write a real series with more and thinner slices between its first and its last one."""
    folder.mkdir(parents=True)
    originals = sorted(
        (dcmread(path) for path in source.glob("*.dcm")),
        key=lambda dataset: float(dataset.ImagePositionPatient[2]),
    )
    study, series = generate_uid(), generate_uid()
    pixels = np.stack([dataset.pixel_array for dataset in originals]).astype(np.float32)
    heights = [float(dataset.ImagePositionPatient[2]) for dataset in originals]
    step = (heights[-1] - heights[0]) / (slices - 1)
    paths = []
    for number in range(slices):
        place = number / (slices - 1) * (len(originals) - 1)
        below = min(int(place), len(originals) - 2)
        weight = place - below
        mixed = pixels[below] * (1 - weight) + pixels[below + 1] * weight
        dataset = originals[below]
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        position = [*dataset.ImagePositionPatient[:2], round(heights[0] + step * number, 4)]
        dataset.ImagePositionPatient, dataset.InstanceNumber = position, number + 1
        dataset.SliceThickness, dataset.SliceLocation = round(step, 4), position[2]
        dataset.PixelData = np.rint(mixed).astype(pixels_type(dataset)).tobytes()
        paths.append(folder / f"{number:05}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def pixels_type(dataset: Dataset) -> str:
    """Type of stored values of 16 bits."""
    return "<i2" if dataset.PixelRepresentation else "<u2"
