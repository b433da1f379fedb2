"""Finds images and labels in folders of a known layout.

``dicom``
    CT series with DICOM SEG or RTSTRUCT objects anywhere under a folder, as a PACS hands them out.
``nifti``
    ``images/NAME.nii.gz`` with ``labels/NAME.nii.gz``, or nnU-Net's ``imagesTr/NAME_0000.nii.gz``
    with ``labelsTr/NAME.nii.gz``.
``saros``
    ``case_000/image.nii.gz`` with ``case_000/body-regions.nii.gz`` (Koitka et al., TCIA 2023).
``totalsegmentator``
    ``s0000/ct.nii.gz`` with ``s0000/segmentations/*.nii.gz`` and ``meta.csv`` (Wasserthal et al.).
``lits``
    ``studies/NAME.nii.gz`` with ``masks/NAME.nii.gz`` (Hsu et al., Data in Brief 2021).
"""

import csv
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from pipeline.objects.attributes import DAMAGE, quiet, text
from pipeline.objects.ct_series import read_volume
from pipeline.objects.part10 import read_series
from pipeline.types import CTVolume
from training import labels
from training.data import read_images
from training.intake.dicom_labels import merge, read_segmentation, read_structures
from training.intake.found import Drawn, FoundCase
from training.intake.nifti_labels import read_masks, read_values

_CT: Final = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1")
_RTSTRUCT: Final = "1.2.840.10008.5.1.4.1.1.481.3"
_SEG: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_HEADER: Final = (
    "SOPClassUID", "SeriesInstanceUID", "PatientID", "PatientSex", "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence", "FrameOfReferenceUID",
)  # fmt: skip

# Koitka et al. 2023. Its muscle holds the fat between muscles; HU tell the two apart.
SAROS_VALUES: Final = {
    1: labels.SUBCUTANEOUS_FAT, 2: labels.MUSCLE, 3: labels.OTHER_INSIDE, 4: labels.OTHER_INSIDE,
    5: labels.BONE, 6: labels.OTHER_OUTSIDE, 7: labels.OTHER_INSIDE, 8: labels.OTHER_OUTSIDE,
    9: labels.OTHER_INSIDE, 10: labels.BONE, 11: labels.BONE, 12: labels.OTHER_OUTSIDE,
    13: labels.OTHER_OUTSIDE, 255: labels.UNDRAWN,
}  # fmt: skip

LITS_VALUES: Final = {1: labels.MUSCLE, 2: labels.SUBCUTANEOUS_FAT, 3: labels.VISCERAL_FAT}

PAIR_VALUES: Final = {
    **{value: value for value in range(1, 8)},
    255: labels.UNDRAWN,
}
"""Values of plain NIfTI pairs are those of ``training.data``; 1 is muscle in any case."""

_TOTALSEGMENTATOR_MASKS: Final = {
    "skeletal_muscle": labels.MUSCLE,
    "subcutaneous_fat": labels.SUBCUTANEOUS_FAT,
    "torso_fat": labels.VISCERAL_FAT,
    "intermuscular_fat": labels.INTERMUSCULAR_FAT,
}


class LayoutError(ValueError):
    """A folder does not look like the layout that it is said to have."""


def find_cases(
    source: Path, layout: str, names: Mapping[str, int], key: bytes
) -> tuple[FoundCase, ...]:
    """List the cases of a folder; images are read later, one at a time.

    Parameters
    ----------
    source : Path
    layout : str
        A key of ``LAYOUTS``.
    names : Mapping
        Segments, regions or values, by name, and the labels they stand for; empty for the usual.
    key : bytes
        Of this data folder: pseudonyms of patients are made with it.

    Raises
    ------
    LayoutError
        If the folder holds nothing of that layout.
    """
    cases = LAYOUTS[layout](source, names, key)
    if not cases:
        raise LayoutError(f"{source.name} holds no images in the layout {layout!r}")
    return tuple(cases)


def pseudonym_key(folder: Path) -> bytes:
    """Read the key of a data folder, or draw it; without it no pseudonym leads to a person."""
    path = folder / "pseudonyms.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()


def _pseudonym(patient: str, key: bytes) -> str:
    return "p" + hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:10]


def _dicom(source: Path, names: Mapping[str, int], key: bytes) -> list[FoundCase]:
    series: dict[str, list[tuple[Path, Dataset]]] = {}
    drawn: dict[str, list[tuple[Path, Dataset]]] = {}
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        header = _header(path)
        if header is None:
            continue
        kind = text(header, "SOPClassUID")
        if kind in _CT:
            series.setdefault(text(header, "SeriesInstanceUID"), []).append((path, header))
        elif kind in (*_SEG, _RTSTRUCT):
            for uid in _series_drawn_on(header):
                drawn.setdefault(uid, []).append((path, header))
    return [
        _dicom_case(uid, files, drawn.get(uid, []), names, key) for uid, files in series.items()
    ]


def _header(path: Path) -> Dataset | None:
    try:
        with quiet():
            return dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER))
    except (*DAMAGE, InvalidDicomError):
        return None


def _series_drawn_on(header: Dataset) -> list[str]:
    """Series Instance UIDs that a SEG or RTSTRUCT refers to."""
    direct = [
        text(item, "SeriesInstanceUID") for item in header.get("ReferencedSeriesSequence", [])
    ]
    nested = [
        text(series, "SeriesInstanceUID")
        for frame in header.get("ReferencedFrameOfReferenceSequence", [])
        for study in frame.get("RTReferencedStudySequence", [])
        for series in study.get("RTReferencedSeriesSequence", [])
    ]
    return [uid for uid in (*direct, *nested) if uid]


def _dicom_case(
    uid: str,
    images: list[tuple[Path, Dataset]],
    drawings: list[tuple[Path, Dataset]],
    names: Mapping[str, int],
    key: bytes,
) -> FoundCase:
    first = images[0][1]
    sex = text(first, "PatientSex").upper()
    paths = tuple(path for path, _ in images)
    return FoundCase(
        patient=_pseudonym(text(first, "PatientID") or uid, key),
        sex=sex if sex in {"M", "F"} else "",
        files=(*paths, *(path for path, _ in drawings)),
        read_volume=partial(_read_series, paths, uid),
        read_labels=(
            partial(_read_drawings, tuple(path for path, _ in drawings), names)
            if drawings
            else None
        ),
    )


def _read_series(paths: tuple[Path, ...], uid: str) -> CTVolume:
    return read_volume(read_series(paths, uid))


def _read_drawings(paths: tuple[Path, ...], names: Mapping[str, int], volume: CTVolume) -> Drawn:
    drawings = []
    for path in paths:
        with quiet():
            dataset = dcmread(path)
        read = read_structures if text(dataset, "SOPClassUID") == _RTSTRUCT else read_segmentation
        drawings.append(read(dataset, volume, names))
    return merge(drawings)


def _nifti(source: Path, names: Mapping[str, int], key: bytes) -> list[FoundCase]:
    values = {int(name): label for name, label in names.items()} or PAIR_VALUES
    for images, masks, ending in (("images", "labels", ""), ("imagesTr", "labelsTr", "_0000")):
        if (source / images).is_dir():
            return _pairs(source / images, source / masks, ending, values, key)
    return []


def _lits(source: Path, names: Mapping[str, int], key: bytes) -> list[FoundCase]:
    values = {int(name): label for name, label in names.items()} or LITS_VALUES
    folder = source / "data" if (source / "data").is_dir() else source
    return _pairs(folder / "studies", folder / "masks", "", values, key)


def _pairs(
    images: Path, masks: Path, ending: str, values: Mapping[int, int], key: bytes
) -> list[FoundCase]:
    cases = []
    for image in sorted(images.glob("*.nii*")):
        name = image.name.split(".nii")[0].removesuffix(ending)
        found = [p for p in (masks / f"{name}.nii.gz", masks / f"{name}.nii") if p.exists()]
        cases.append(_nifti_case(name, image, found[:1], partial(_values, values), key))
    return cases


def _saros(source: Path, _names: Mapping[str, int], key: bytes) -> list[FoundCase]:
    folder = source / "data" if (source / "data").is_dir() else source
    reader = partial(_values, SAROS_VALUES, whole=True)
    return [
        _nifti_case(image.parent.name, image, [image.parent / "body-regions.nii.gz"], reader, key)
        for image in sorted(folder.glob("case_*/image.nii.gz"))
        if (image.parent / "body-regions.nii.gz").exists()
    ]


def _totalsegmentator(source: Path, _names: Mapping[str, int], key: bytes) -> list[FoundCase]:
    sexes = _sexes(source / "meta.csv")
    cases = []
    for image in sorted(source.glob("s*/ct.nii.gz")):
        folder = image.parent / "segmentations"
        masks = [folder / f"{name}.nii.gz" for name in _TOTALSEGMENTATOR_MASKS]
        found = [mask for mask in masks if mask.exists()]
        # Without muscle the rest cannot be derived; the images still serve pre-training.
        found = found if masks[0].exists() else []
        case = _nifti_case(
            image.parent.name, image, found, _masks_of, key, sexes.get(image.parent.name, "")
        )
        cases.append(case)
    return cases


def _sexes(table: Path) -> dict[str, str]:
    """Sexes by case from ``meta.csv``, which separates by semicolons after a byte order mark."""
    if not table.exists():
        return {}
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    sexes = {"m": "M", "f": "F"}
    return {row["image_id"]: sexes.get(row.get("gender", "").lower()[:1], "") for row in rows}


def _nifti_case(
    name: str,
    image: Path,
    masks: list[Path],
    reader: Callable[[tuple[Path, ...], CTVolume], Drawn],
    key: bytes,
    sex: str = "",
) -> FoundCase:
    return FoundCase(
        patient=_pseudonym(name, key),
        sex=sex,
        files=(image, *masks),
        read_volume=partial(read_images, image),
        read_labels=partial(reader, tuple(masks)) if masks else None,
    )


def _values(
    values: Mapping[int, int], paths: tuple[Path, ...], volume: CTVolume, *, whole: bool = False
) -> Drawn:
    return read_values(paths[0], volume, values, whole=whole)


def _masks_of(paths: tuple[Path, ...], volume: CTVolume) -> Drawn:
    names = {path: _TOTALSEGMENTATOR_MASKS[path.name.removesuffix(".nii.gz")] for path in paths}
    return read_masks(names, volume)


LAYOUTS: Final[dict[str, Callable[[Path, Mapping[str, int], bytes], list[FoundCase]]]] = {
    "dicom": _dicom,
    "lits": _lits,
    "nifti": _nifti,
    "saros": _saros,
    "totalsegmentator": _totalsegmentator,
}
"""Reader of each layout."""
