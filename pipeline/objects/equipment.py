"""Describes the scanner and the algorithms that contributed to a result."""

from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from pipeline.objects.attributes import text
from pipeline.objects.identity import (
    MANUFACTURER,
    RESEARCH_NOTICE,
    ResultContext,
    level_frame,
    local_time,
)
from pipeline.types import Analysis, ModelIdentity

# CID 7005
_ACQUISITION: Final = Code("109101", "DCM", "Acquisition Equipment")
_PROCESSING: Final = Code("109102", "DCM", "Processing Equipment")

_COPIED: Final = ("InstitutionName", "StationName", "ManufacturerModelName", "DeviceSerialNumber")


def put_contributing_equipment(result: Dataset, analysis: Analysis, context: ResultContext) -> None:
    """List the scanner and each algorithm (PS3.3 C.12.1, Contributing Equipment Sequence)."""
    source = level_frame(analysis, context).dataset
    result.ContributingEquipmentSequence = [
        *_scanner(source),
        *(_algorithm(model, context, source) for model in analysis.models),
    ]


def coded(code: Code) -> Dataset:
    """Return the item of a code sequence."""
    item = Dataset()
    # PS3.3 8.1: a code of more than 16 characters has an attribute of its own.
    setattr(item, "CodeValue" if len(code.value) <= 16 else "LongCodeValue", code.value)
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _scanner(source: Dataset) -> list[Dataset]:
    manufacturer = text(source, "Manufacturer")
    if not manufacturer:
        return []  # without it an item is not allowed
    scanner = Dataset()
    scanner.PurposeOfReferenceCodeSequence = [coded(_ACQUISITION)]
    scanner.Manufacturer = manufacturer[:64]
    for keyword in _COPIED:
        value = text(source, keyword)
        if value:
            setattr(scanner, keyword, value[:64])
    return [scanner]


def _algorithm(model: ModelIdentity, context: ResultContext, source: Dataset) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [coded(_PROCESSING)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = model.name[:64]
    item.SoftwareVersions = [context.software_version, f"{model.version} {model.sha256[:12]}"[:64]]
    item.ContributionDateTime = local_time(context, source).strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = RESEARCH_NOTICE
    return item
