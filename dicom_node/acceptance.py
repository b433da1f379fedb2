"""What a PACS said that it accepts, and what that means for our results."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID

from dicom_node.config import DestinationSettings
from dicom_node.profiles import REPORT, SEGMENTATION, granted, replacement


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether a PACS accepted one presentation context.

    Parameters
    ----------
    name : str
        Of a result object or of a service.
    sop_class_uid, transfer_syntax_uid : str
    accepted : bool
    """

    name: str
    sop_class_uid: str
    transfer_syntax_uid: str
    accepted: bool

    @property
    def label(self) -> str:
        """How a sentence names it."""
        return f"{self.name} in {UID(self.transfer_syntax_uid).name}"


def names_accepted(capabilities: Sequence[Capability]) -> list[str]:
    """Objects and services that are accepted in some syntax, in the order of the questions."""
    return list(dict.fromkeys(one.name for one in capabilities if one.accepted))


def never_delivered(
    destination: DestinationSettings, capabilities: Sequence[Capability]
) -> list[str]:
    """Objects of a destination that it does not accept, nor what would go out instead."""
    accepted = set(names_accepted(capabilities))
    return [
        name
        for name in granted(destination)
        if name not in accepted and replacement(name, destination) not in accepted
    ]


def gets_the_report_alone(
    destination: DestinationSettings, capabilities: Sequence[Capability]
) -> bool:
    """Whether a destination takes the report but not the segmentation that it refers to."""
    accepted = names_accepted(capabilities)
    both = {REPORT, SEGMENTATION} <= set(destination.objects)
    return both and REPORT in accepted and SEGMENTATION not in accepted
