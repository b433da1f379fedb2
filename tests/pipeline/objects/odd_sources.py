"""Series as hospitals send them, each with an analysis that knows their true mask."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from pipeline.objects.ct_series import read_volume
from pipeline.objects.identity import ResultContext
from pipeline.objects.part10 import read_files
from pipeline.types import Analysis
from tests.phantoms import PixelStorage, TorsoPhantom, enhanced_dataset, phantom_analysis
from tests.pipeline.objects.results import context_of

PHANTOM = TorsoPhantom((5, 64, 64), 6.0, height_m=1.7, noise_hu=10.0)
ON_THE_SIDE = dataclasses.replace(PHANTOM, orientation=(0, 1, 0, -1, 0, 0))
TILTED = dataclasses.replace(PHANTOM, tilt_deg=12.0)
UNEQUAL = dataclasses.replace(PHANTOM, shape=(5, 48, 80), pixel_mm=(8.0, 5.0))

_TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"),
    *("AccessionNumber", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_OPTIONAL = ("PatientAge", "PatientSize", "SliceThickness", "Manufacturer", "KVP")


def _written(
    phantom: TorsoPhantom,
    folder: Path,
    change: Callable[[Dataset], None] = lambda _dataset: None,
    storage: PixelStorage | None = None,
) -> tuple[Analysis, ResultContext]:
    for index, dataset in enumerate(phantom.datasets(storage)):
        change(dataset)
        dataset.save_as(folder / f"{index}.dcm", enforce_file_format=True)
    return _read(phantom, folder)


def _read(phantom: TorsoPhantom, folder: Path) -> tuple[Analysis, ResultContext]:
    (datasets,) = read_files(folder).values()
    analysis = dataclasses.replace(phantom_analysis(phantom), volume=read_volume(datasets))
    return analysis, context_of(phantom, datasets)


def _named(
    name: str, character_set: str | list[str]
) -> Callable[[Path], tuple[Analysis, ResultContext]]:
    def change(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = character_set
        dataset.PatientName = name
        dataset.StudyDescription = name.replace("^", " ").split("=")[-1]

    return lambda folder: _written(PHANTOM, folder, change)


def _without_type_2(dataset: Dataset) -> None:
    for keyword in (*_TYPE_2, *_OPTIONAL):
        del dataset[keyword]


def _deidentified(dataset: Dataset) -> None:
    dataset.PatientName = ""
    dataset.PatientID = "SUBJECT-7"
    dataset.PatientBirthDate = ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "PS3.15 Basic Profile"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.StudyDate = dataset.StudyTime = ""
    dataset.ClinicalTrialSponsorName = "Sponsor"
    dataset.ClinicalTrialProtocolID = "TRIAL-1"
    dataset.ClinicalTrialProtocolName = ""
    dataset.ClinicalTrialSiteID = dataset.ClinicalTrialSiteName = ""
    dataset.ClinicalTrialSubjectID = "7"


def _compressed(syntax: str) -> Callable[[Path], tuple[Analysis, ResultContext]]:
    storage = PixelStorage(transfer_syntax_uid=syntax)
    return lambda folder: _written(PHANTOM, folder, storage=storage)


def _enhanced(folder: Path) -> tuple[Analysis, ResultContext]:
    enhanced_dataset(PHANTOM).save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return _read(PHANTOM, folder)


ODD_SOURCES: Mapping[str, Callable[[Path], tuple[Analysis, ResultContext]]] = MappingProxyType(
    {
        "plain": lambda folder: _written(PHANTOM, folder),
        "kanji": _named("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        "cyrillic": _named("Люксембург^Иван", "ISO_IR 144"),
        "umlauts": _named("Müller^Jörg", "ISO_IR 100"),
        "type 2 absent": lambda folder: _written(PHANTOM, folder, _without_type_2),
        "de-identified": lambda folder: _written(PHANTOM, folder, _deidentified),
        "on the side": lambda folder: _written(ON_THE_SIDE, folder),
        "tilted gantry": lambda folder: _written(TILTED, folder),
        "unequal pixels": lambda folder: _written(UNEQUAL, folder),
        "RLE": _compressed(RLELossless),
        "JPEG-LS": _compressed(JPEGLSLossless),
        "JPEG 2000": _compressed(JPEG2000Lossless),
        "enhanced": _enhanced,
    }
)
"""What each source is called, and how it is written to a folder and read from there."""
