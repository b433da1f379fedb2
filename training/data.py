"""Labelled slices, read from disk and turned into samples by the pipeline's own preprocessing.

A data folder holds images and label files, and a case list (TOML) names them. What its table
``provenance`` says goes into the manifest of the weights::

    [provenance]
    labels = "..."                     # how they were made, under which licences

    [[case]]
    name = "case_1"                    # any name
    patient = "patient_1"              # the same for all cases of one person
    images = "case_1/dicom"            # DICOM folder, DICOM file, NIfTI file or .npy of HU
    labels = "labels/case_1/labels.npz"

``python -m training import`` writes such a folder with everything mapped into memory instead:
images and labels are then ``.npy`` files with a ``.json`` beside them, see ``training.store``.

``labels.npz`` holds ``labels`` (uint8, slices x rows x columns: 0 background, 1 skeletal muscle,
2 fat between muscles, 3 subcutaneous fat, 4 visceral fat, 5 bone with disc and canal, 6 other
inside the cavity, 7 other outside), ``slice_index_from_inferior`` and ``confidence`` (0 to 1), one
each per slice, and ``pixel_spacing_mm`` (rows, columns). Rows of NIfTI and .npy images run from
anterior, columns from the patient's right.
"""

# SimpleITK types only some of its methods.
# mypy: disable-error-code="no-untyped-call"

import hashlib
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its manual uses
from numpy.typing import NDArray

from pipeline.preprocess import (
    PreprocessSpec,
    body_grid,
    compartment_fractions,
    native_to_plane,
    network_image,
    slab,
)
from pipeline.tissues import Compartment
from pipeline.types import Acquisition, CTVolume, SliceSource
from training import store
from training.augment import Augmentation, change_hu
from training.warp import draw_warp, warped_fractions, warped_image

MUSCLE_LABEL: Final = 1
_COMPARTMENT_OF_LABEL: Final = np.array(
    [
        Compartment.OTHER,
        Compartment.MUSCLE,
        Compartment.MUSCLE,
        Compartment.SUBCUTANEOUS,
        Compartment.CAVITY,
        Compartment.BONE,
        Compartment.CAVITY,
        Compartment.OTHER,
    ],
    dtype=np.uint8,
)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSlice:
    """One slice that somebody drew on.

    Parameters
    ----------
    case, patient : str
    volume : CTVolume
    slice_index : int
        Of the slice within ``volume``.
    labels : NDArray[np.uint8], shape (rows, columns)
    confidence : float
    """

    case: str
    patient: str
    volume: CTVolume
    slice_index: int
    labels: NDArray[np.uint8]
    confidence: float

    @property
    def muscle(self) -> NDArray[np.bool_]:
        """The reference of skeletal muscle, shape (rows, columns)."""
        muscle: NDArray[np.bool_] = self.labels == MUSCLE_LABEL
        return muscle


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What the loss needs: image (1, R, A), fractions (compartments, R, A) and a weight."""

    image: NDArray[np.float32]
    fractions: NDArray[np.float32]
    weight: float


def read_labelled(
    data_folder: Path, case_list: Path, cases: Sequence[Mapping[str, Any]] | None = None
) -> list[LabelledSlice]:
    """Read every labelled slice that a case list names.

    Parameters
    ----------
    data_folder : Path
    case_list : Path
        TOML, see the module docstring.
    cases : sequence of Mapping or None
        Some of its cases, instead of all.

    Returns
    -------
    list of LabelledSlice
    """
    slices: list[LabelledSlice] = []
    for case in tomllib.loads(case_list.read_text())["case"] if cases is None else cases:
        path = data_folder / case["labels"]
        if store.is_stored(path):
            described = store.describe(path)
            volume = read_images(data_folder / case["images"])
            drawn = np.load(path, mmap_mode="r")
            columns = (described["slices"], drawn, described["confidence"])
        else:
            stored = np.load(path, allow_pickle=False)
            volume = read_images(data_folder / case["images"], stored["pixel_spacing_mm"])
            columns = (stored["slice_index_from_inferior"], stored["labels"], stored["confidence"])
        slices += [
            LabelledSlice(
                case["name"], case["patient"], volume, int(index), labels, float(confidence)
            )
            for index, labels, confidence in zip(*columns, strict=True)
        ]
    return slices


def read_images(path: Path, pixel_spacing_mm: Sequence[float] = (1.0, 1.0)) -> CTVolume:
    """Read a DICOM folder, a DICOM file, a NIfTI file, an ``.npy`` of HU or a stored volume.

    Parameters
    ----------
    path : Path
    pixel_spacing_mm : sequence of two float
        For ``.npy``, which carries none.
    """
    if store.is_stored(path):
        return store.read_volume(path)
    if path.suffix == ".npy":
        hu = np.atleast_3d(np.load(path)).reshape(-1, *np.load(path).shape[-2:])
        image = sitk.GetImageFromArray(np.rint(hu).astype(np.int16))
        image.SetSpacing((float(pixel_spacing_mm[1]), float(pixel_spacing_mm[0]), 5.0))
        return _volume(image, None)
    if path.is_dir():
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
        return _volume(sitk.ReadImage(names), None)
    image = sitk.ReadImage(str(path))
    if ".nii" in path.suffixes:
        return _volume(sitk.DICOMOrient(image, "LPS"), None)
    return _volume(image, float(image.GetMetaData("0018|0050")))


def sample(
    labelled: LabelledSlice,
    spec: PreprocessSpec,
    augmentation: Augmentation | None = None,
    generator: np.random.Generator | None = None,
) -> Sample:
    """Turn a labelled slice into network input and target.

    Without ``augmentation`` the image is bit for bit what ``pipeline.preprocess.prepare`` returns.

    Parameters
    ----------
    labelled : LabelledSlice
    spec : PreprocessSpec
    augmentation : Augmentation or None
    generator : numpy.random.Generator or None
        Needed with ``augmentation``.
    """
    hu = slab(labelled.volume, labelled.slice_index, spec)
    labels = labelled.labels
    to_plane = native_to_plane(labelled.volume.affine)
    if augmentation is None or generator is None:
        grid = body_grid(hu, to_plane, spec)
        image = network_image(hu, grid, spec)
        fractions = compartment_fractions(_COMPARTMENT_OF_LABEL[labels], grid, spec)
    else:
        pixel_mm = labelled.volume.pixel_spacing_mm[0]
        hu, labels = change_hu(hu, labels, pixel_mm, augmentation, generator)
        warp = draw_warp(body_grid(hu, to_plane, spec), augmentation, generator)
        places = warp.places(spec, hu.shape)
        image = warped_image(hu, places, spec)
        fractions = warped_fractions(_COMPARTMENT_OF_LABEL[labels], places, spec)
    return Sample(image, fractions, labelled.confidence)


def fingerprint(slices: Sequence[LabelledSlice]) -> str:
    """Name a set of labelled slices by their pixels, labels and places."""
    digest = hashlib.sha256()
    for one in sorted(slices, key=lambda s: (s.case, s.slice_index)):
        place = one.volume.affine.round(4).tolist()
        digest.update(f"{one.case} {one.patient} {one.slice_index} {place}".encode())
        digest.update(one.volume.hu[one.slice_index].tobytes())
        digest.update(one.labels.tobytes())
    return digest.hexdigest()


def draw_order(
    slices: Sequence[LabelledSlice], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw ``count`` slices so that a patient with many does not drown the others."""
    drawn: NDArray[np.int64] = generator.choice(len(slices), count, p=chances(slices))
    return drawn


def chances(slices: Sequence[LabelledSlice]) -> NDArray[np.float64]:
    """Chance of each slice to be drawn.

    A patient's share grows with the fourth root of the number of the patient's slices.
    """
    sizes = Counter(s.patient for s in slices)
    weights = np.array([sizes[s.patient] ** -0.75 for s in slices])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _volume(image: sitk.Image, slice_thickness_mm: float | None) -> CTVolume:
    """SimpleITK's LPS geometry to ours; slices are turned to run from the feet to the head."""
    hu = sitk.GetArrayFromImage(image)
    steps = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = steps[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    if affine[2, 0] < 0:
        affine[:3, 3] += affine[:3, 0] * (hu.shape[0] - 1)
        affine[:3, 0] *= -1
        hu = hu[::-1]
    hu = np.clip(hu, -32768, 32767).astype(np.int16)
    sources = tuple(SliceSource(str(i)) for i in range(hu.shape[0]))
    acquisition = Acquisition(slice_thickness_mm=slice_thickness_mm)
    return CTVolume(np.ascontiguousarray(hu), affine, sources, "", acquisition)
