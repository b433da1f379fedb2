"""Synthetic CT series of a torso whose muscle area is known in closed form."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from pipeline.tissues import TISSUES, Compartment
from pipeline.types import (
    Acquisition,
    Analysis,
    AnatomicLevel,
    Assessment,
    BodyComposition,
    CTVolume,
    Cutoff,
    Interval,
    Measure,
    ModelIdentity,
    QualityFlag,
    Severity,
    Sex,
    SliceSource,
    Subject,
    TissueMask,
    TissueMeasurement,
    Verdict,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

AIR_HU = -1000
LEAST_HU = -1024
FAT_HU = -100
MUSCLE_HU = 50
BONE_HU = 300


@dataclass(frozen=True)
class PixelStorage:
    """How Hounsfield units become stored values."""

    bits_stored: int = 16
    signed: bool = True
    slope: float = 1.0
    intercept: float = -1024.0
    padding_value: int | None = None  # stored outside the circle of reconstruction
    transfer_syntax_uid: str = ExplicitVRLittleEndian


@dataclass(frozen=True)
class TorsoPhantom:
    """An ellipse of fat with a ring of muscle, a fatty cavity and a vertebra, along z.

    Tissue is defined in patient coordinates (LPS mm), so every orientation shows one body.
    ``orientation`` are the six numbers of Image Orientation (Patient); ``tilt_deg`` turns the
    slices about x while the table still moves along z, as a tilted gantry does.
    """

    shape: tuple[int, int, int] = (20, 128, 128)
    pixel_mm: float | tuple[float, float] = 3.0
    slice_mm: float = 5.0
    outer_mm: tuple[float, float] = (165.0, 115.0)
    fat_mm: float = 20.0
    thickness_mm: float = 25.0
    orientation: tuple[float, ...] = AXIAL
    tilt_deg: float = 0.0
    lowest_z_mm: float = -350.0
    muscle_hu: int = MUSCLE_HU
    noise_hu: float = 0.0
    seed: int = 1
    sex: str | None = "F"
    age: str | None = "049Y"
    height_m: float | None = None
    weight_kg: float | None = None

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Pixel Spacing: between rows, between columns."""
        if isinstance(self.pixel_mm, tuple):
            return self.pixel_mm
        return self.pixel_mm, self.pixel_mm

    @property
    def cosines(self) -> NDArray[np.float64]:
        """Directions of growing column index and of growing row index, shape (2, 3)."""
        if self.tilt_deg:
            tilt = math.radians(self.tilt_deg)
            return np.array([[1.0, 0.0, 0.0], [0.0, math.cos(tilt), -math.sin(tilt)]])
        return np.array(self.orientation, dtype=np.float64).reshape(2, 3)

    @property
    def affine(self) -> NDArray[np.float64]:
        """(slice, row, column) to LPS mm; the middle of slice 0 lies on the axis of the body."""
        along_row, along_column = self.cosines
        normal = np.cross(along_row, along_column)
        upward = normal if normal @ [0.3, 0.2, 1.0] > 0 else -normal
        step = np.array([0.0, 0.0, 1.0]) if self.tilt_deg else upward
        affine = np.eye(4)
        affine[:3, 0] = step * self.slice_mm
        affine[:3, 1] = along_column * self.spacing_mm[0]
        affine[:3, 2] = along_row * self.spacing_mm[1]
        middle = np.array([0.0, 0.0, self.lowest_z_mm])
        half = (np.array(self.shape[1:]) - 1) / 2
        affine[:3, 3] = middle - affine[:3, 1:3] @ half
        return affine

    @property
    def muscle_area_cm2(self) -> float:
        """Area of the ring on one slice, without pixels."""
        normal = np.cross(*self.cosines)
        outer = math.prod(self._semi_axes_mm(self.fat_mm))
        inner = math.prod(self._semi_axes_mm(self.fat_mm + self.thickness_mm))
        return math.pi * (outer - inner) / abs(float(normal[2])) / 100.0

    @cached_property
    def compartments(self) -> NDArray[np.uint8]:
        """Labels of ``pipeline.tissues.Compartment``, shape (slices, rows, columns)."""
        labels = np.full(self.shape, Compartment.OTHER, dtype=np.uint8)
        labels[self._inside(0.0)] = Compartment.SUBCUTANEOUS
        labels[self._inside(self.fat_mm)] = Compartment.MUSCLE
        labels[self._inside(self.fat_mm + self.thickness_mm)] = Compartment.CAVITY
        x, y = self._x_y_mm
        labels[(x / 25.0) ** 2 + ((y - self.vertebra_y_mm) / 18.0) ** 2 <= 1] = Compartment.BONE
        return labels

    @property
    def vertebra_y_mm(self) -> float:
        """Where the vertebra's middle lies behind the body's; it always fits into the cavity."""
        return self._semi_axes_mm(self.fat_mm + self.thickness_mm)[1] - 22.0

    def muscle_mask(self) -> NDArray[np.bool_]:
        """Where muscle is, shape (slices, rows, columns)."""
        return self.compartments == Compartment.MUSCLE

    @cached_property
    def hu(self) -> NDArray[np.int16]:
        """Hounsfield units, shape (slices, rows, columns)."""
        values = np.array([AIR_HU, self.muscle_hu, FAT_HU, FAT_HU, BONE_HU], dtype=np.float64)
        hu = values[self.compartments]
        if self.noise_hu:
            hu += np.random.default_rng(self.seed).normal(0.0, self.noise_hu, self.shape)
        return np.maximum(np.rint(hu), LEAST_HU).astype(np.int16)

    def volume(self) -> CTVolume:
        """Return the volume that the series must be read as."""
        return CTVolume(
            hu=self.hu.copy(),
            affine=self.affine,
            sources=tuple(SliceSource(self.sop_instance_uid(i)) for i in range(self.shape[0])),
            series_instance_uid=self.series_instance_uid,
            acquisition=Acquisition(slice_thickness_mm=self.slice_mm, tube_voltage_kv=120.0),
        )

    @property
    def study_instance_uid(self) -> str:
        """The same for phantoms with the same parameters."""
        return str(generate_uid(entropy_srcs=["study", repr(self)]))

    @property
    def series_instance_uid(self) -> str:
        """The same for phantoms with the same parameters."""
        return str(generate_uid(entropy_srcs=["series", repr(self)]))

    def sop_instance_uid(self, index: int) -> str:
        """Return the UID of slice ``index``, counted from the most inferior one."""
        return str(generate_uid(entropy_srcs=["slice", str(index), repr(self)]))

    def datasets(self, storage: PixelStorage | None = None) -> list[Dataset]:
        """Return one CT image for each slice, the most inferior first."""
        return list(self._datasets(storage or PixelStorage()))

    def write_series(self, folder: Path, storage: PixelStorage | None = None) -> list[Path]:
        """Write one file for each slice into ``folder`` and return the paths in slice order."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for index, dataset in enumerate(self.datasets(storage)):
            paths.append(folder / f"{index:04d}.dcm")
            dataset.save_as(paths[-1], enforce_file_format=True)
        return paths

    def _datasets(self, storage: PixelStorage) -> Iterator[Dataset]:
        for index in range(self.shape[0]):
            dataset = self._header(index)
            _put_pixels(dataset, self.hu[index], storage)
            yield dataset

    def _header(self, index: int) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(self.sop_instance_uid(index))
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = self.sop_instance_uid(index)
        dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20260102"
        dataset.StudyTime = dataset.SeriesTime = "101500"
        dataset.ContentTime = f"1016{index % 60:02d}"
        dataset.AccessionNumber = "A1"
        dataset.Modality = "CT"
        dataset.Manufacturer = "Phantom"
        dataset.ReferringPhysicianName = ""
        dataset.PatientName = "Phantom^Torso"
        dataset.PatientID = "PHANTOM"
        dataset.PatientBirthDate = ""
        dataset.PatientSex = self.sex
        dataset.PatientAge = self.age
        dataset.PatientSize = self.height_m
        dataset.PatientWeight = self.weight_kg
        dataset.KVP = "120"
        dataset.PatientPosition = "HFS"
        dataset.StudyInstanceUID = self.study_instance_uid
        dataset.SeriesInstanceUID = self.series_instance_uid
        dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", repr(self)])
        dataset.PositionReferenceIndicator = ""
        dataset.StudyID = "1"
        dataset.SeriesNumber = 2
        dataset.AcquisitionNumber = 1
        dataset.InstanceNumber = self.shape[0] - index
        self._put_geometry(dataset, index)
        return dataset

    def _put_geometry(self, dataset: Dataset, index: int) -> None:
        affine = self.affine
        position = affine[:3, 3] + index * affine[:3, 0]
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
        dataset.ImageOrientationPatient = [f"{value:.9f}" for value in self.cosines.ravel()]
        dataset.PixelSpacing = [f"{value:.6f}" for value in self.spacing_mm]
        dataset.SliceThickness = f"{self.slice_mm:.3f}"

    def _semi_axes_mm(self, depth_mm: float) -> tuple[float, float]:
        return self.outer_mm[0] - depth_mm, self.outer_mm[1] - depth_mm

    def _inside(self, depth_mm: float) -> NDArray[np.bool_]:
        x, y = self._x_y_mm
        width_mm, height_mm = self._semi_axes_mm(depth_mm)
        inside: NDArray[np.bool_] = (x / width_mm) ** 2 + (y / height_mm) ** 2 <= 1
        return inside

    @cached_property
    def _x_y_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        slices, rows, columns = np.ogrid[tuple(slice(n) for n in self.shape)]
        x, y = (
            self.affine[axis, 0] * slices
            + self.affine[axis, 1] * rows
            + self.affine[axis, 2] * columns
            + self.affine[axis, 3]
            for axis in (0, 1)
        )
        return np.broadcast_to(x, self.shape), np.broadcast_to(y, self.shape)


def enhanced_dataset(phantom: TorsoPhantom) -> Dataset:
    """Return the phantom as one Enhanced CT image, its frames from the head downwards."""
    slices = phantom.datasets()[::-1]
    enhanced = slices[0]
    pixels = b"".join(one.PixelData for one in slices)
    per_frame = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=one.ImagePositionPatient)],
            FrameContentSequence=[_item(FrameAcquisitionNumber=1)],
        )
        for one in slices
    ]
    shared = _item(
        PlaneOrientationSequence=[_item(ImageOrientationPatient=enhanced.ImageOrientationPatient)],
        PixelMeasuresSequence=[
            _item(PixelSpacing=enhanced.PixelSpacing, SliceThickness=enhanced.SliceThickness)
        ],
        PixelValueTransformationSequence=[
            _item(RescaleSlope="1", RescaleIntercept="-1024", RescaleType="HU")
        ],
        CTImageFrameTypeSequence=[_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
        CTXRayDetailsSequence=[_item(KVP="120")],
    )
    moved = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    for keyword in (*moved, "RescaleSlope", "RescaleIntercept", "KVP"):
        del enhanced[keyword]
    enhanced.SOPClassUID = EnhancedCTImageStorage
    enhanced.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    enhanced.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    enhanced.NumberOfFrames = len(slices)
    enhanced.SharedFunctionalGroupsSequence = [shared]
    enhanced.PerFrameFunctionalGroupsSequence = per_frame
    enhanced.PixelData = pixels
    return enhanced


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def phantom_analysis(phantom: TorsoPhantom, level_index: int | None = None) -> Analysis:
    """Return what a perfect pipeline makes of a phantom, by default of its middle slice."""
    index = phantom.shape[0] // 2 if level_index is None else level_index
    volume = phantom.volume()
    hu, compartments = volume.hu[index], phantom.compartments[index]
    labels = np.zeros(hu.shape, dtype=np.uint8)
    measurements = []
    for tissue in TISSUES:
        here = compartments == tissue.compartment
        here &= (hu >= tissue.lower_hu) & (hu <= tissue.upper_hu)
        labels[here] = tissue.label
        area_cm2 = int(here.sum()) * volume.pixel_area_mm2 / 100
        mean_hu, sd_hu = (
            (float(hu[here].mean()), float(hu[here].std())) if here.any() else (None,) * 2
        )
        measurements.append(TissueMeasurement(tissue.name, area_cm2, mean_hu, sd_hu))
    level = AnatomicLevel("L3", index, 0.9, (index - 1, index + 1), ("it is a phantom",))
    area_cm2 = measurements[0].area_cm2
    height_m = phantom.height_m
    return Analysis(
        volume=volume,
        subject=Subject(sex=Sex.FEMALE, age_years=49.0, height_m=height_m),
        mask=TissueMask(labels[np.newaxis], index),
        composition=BodyComposition(
            level,
            tuple(measurements),
            volume.pixel_area_mm2,
            area_cm2 / height_m**2 if height_m else None,
        ),
        interval=Interval(area_cm2 * 0.95, area_cm2 * 1.05, 0.9),
        assessment=Assessment(
            Verdict.ABOVE_CUTOFF,
            Cutoff(Measure.AREA, 92.2, "derstine2018_sma", "A citation", "A population"),
            "The whole interval lies above the cut-off.",
        ),
        quality=(QualityFlag("CONTRAST", Severity.INFO, "Contrast agent was given."),),
        models=(
            ModelIdentity("segmenter", "1.0", "ab" * 32),
            ModelIdentity("level finder", "1.1", "cd" * 32),
        ),
    )


def _put_pixels(dataset: Dataset, hu: NDArray[np.int16], storage: PixelStorage) -> None:
    stored = np.rint((hu - storage.intercept) / storage.slope)
    if storage.padding_value is not None:
        rows, columns = np.ogrid[: hu.shape[0], : hu.shape[1]]
        middle = (np.array(hu.shape) - 1) / 2
        outside = ((rows - middle[0]) / middle[0]) ** 2 + ((columns - middle[1]) / middle[1]) ** 2
        stored[outside > 1] = storage.padding_value
        dataset.PixelPaddingValue = storage.padding_value
        dataset["PixelPaddingValue"].VR = "SS" if storage.signed else "US"
    pixels = stored.astype("<i2" if storage.signed else "<u2")
    if storage.bits_stored < 16 and storage.signed:
        # PS3.5 8.1.1: bits above High Bit carry nothing, not even the sign.
        pixels = (pixels.view("<u2") & ((1 << storage.bits_stored) - 1)).view("<i2")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = hu.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = storage.bits_stored
    dataset.HighBit = storage.bits_stored - 1
    dataset.PixelRepresentation = int(storage.signed)
    dataset.RescaleIntercept = f"{storage.intercept:g}"
    dataset.RescaleSlope = f"{storage.slope:g}"
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    _transcode(dataset, storage.transfer_syntax_uid)


def _transcode(dataset: Dataset, transfer_syntax_uid: str) -> None:
    if transfer_syntax_uid == ExplicitVRLittleEndian:
        return
    compressed = {"1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"}
    if transfer_syntax_uid in compressed:
        dataset.compress(transfer_syntax_uid, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
