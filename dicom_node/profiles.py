"""Say which result objects a destination gets, and what instead of one that it refused."""

from collections.abc import Sequence
from typing import Final

from dicom_node.config import DestinationSettings
from dicom_node.contexts import RESULT_SOP_CLASSES
from dicom_node.errors import UnknownResultError
from dicom_node.records import ResultFile

NOT_ANALYSED: Final = "not_analysed"
"""The report on a series that could not be measured, for destinations that ask for it."""

SEGMENTATION: Final = "seg"
REPORT: Final = "sr"
"""Refers to the segmentation: an archive without it shows the reference as an error."""

REPORT_ALONE: Final = "sr_alone"
"""States the same and refers to the images only."""

_DEFAULT: Final[tuple[str, ...]] = DestinationSettings.model_fields["objects"].default


def object_name(result: ResultFile) -> str:
    """Name of a result object, as its builder and the settings call it."""
    return result.path.stem


def granted(destination: DestinationSettings) -> tuple[str, ...]:
    """Names of the objects that a destination gets, in the order of its settings.

    The report refers to the segmentation: who gets no ``seg`` gets the report without it.
    """
    names = destination.objects
    if SEGMENTATION in names:
        return names
    return tuple(dict.fromkeys(REPORT_ALONE if name == REPORT else name for name in names))


def needed(destinations: Sequence[DestinationSettings]) -> tuple[str, ...]:
    """Names of the objects that have to be made so that every destination gets its own.

    Those of the default when nobody gets any: they stay in the spool. Whoever may refuse the
    segmentation may need the report without it.
    """
    names = [
        name
        for destination in destinations
        for name in (*granted(destination), *destination.instead.values())
    ]
    if any({SEGMENTATION, REPORT} <= set(destination.objects) for destination in destinations):
        names.append(REPORT_ALONE)
    return tuple(dict.fromkeys(names)) or _DEFAULT


def wanted(
    results: Sequence[ResultFile], destination: DestinationSettings
) -> tuple[ResultFile, ...]:
    """Results that a destination gets, in the order of its settings.

    Raises
    ------
    UnknownResultError
        A result has a name that no kind of object has, so that nobody would ever get it.
    """
    by_name = {object_name(result): result for result in results}
    unknown = sorted(set(by_name) - set(RESULT_SOP_CLASSES))
    if unknown:
        raise UnknownResultError(f"the work left {unknown[0]}, which is no kind of result object")
    return tuple(by_name[name] for name in granted(destination) if name in by_name)


def replacement(name: str, destination: DestinationSettings) -> str | None:
    """Name of the object that a destination gets instead of one that it refused, if any.

    The report without segmentation is a report: what is named for that goes out for both.
    """
    return destination.instead.get(name) or (
        destination.instead.get(REPORT) if name == REPORT_ALONE else None
    )


def named(name: str | None, results: Sequence[ResultFile]) -> tuple[ResultFile, ...]:
    """Results of a name: one, or none when it was not made of this series."""
    return tuple(result for result in results if object_name(result) == name)
