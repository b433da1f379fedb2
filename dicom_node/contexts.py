"""What objects may be and how they may be encoded: the table behind every presentation context."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

LABEL_MAP_SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage (PS3.4 B.5), for which pydicom has no name."""

MODALITIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        CTImageStorage: "CT",
        EnhancedCTImageStorage: "CT",
        SegmentationStorage: "SEG",
        # What viewers of 2026 write when a reader has drawn.
        LABEL_MAP_SEGMENTATION: "SEG",
    }
)
"""Modality of each SOP class that Psoas stores: CT, and segmentations that readers corrected."""

STORAGE_SOP_CLASSES: Final[tuple[str, ...]] = tuple(MODALITIES)
"""Objects that Psoas stores; contexts of other classes are not accepted."""


RESULT_SOP_CLASSES: Final[Mapping[str, str]] = {
    "seg": SegmentationStorage,
    "sr": Comprehensive3DSRStorage,
    "key_image": SecondaryCaptureImageStorage,
    "labelmap": LABEL_MAP_SEGMENTATION,
    "pdf": EncapsulatedPDFStorage,
    "rtstruct": RTStructureSetStorage,
    "text_sr": BasicTextSRStorage,
    "sr_alone": Comprehensive3DSRStorage,
    "not_analysed": BasicTextSRStorage,
}
"""SOP Class of each kind of result object."""

VERIFICATION: Final = "1.2.840.10008.1.1"
"""SOP Class of C-ECHO (PS3.4 A.4)."""


@dataclass(frozen=True, slots=True)
class AcceptedSyntax:
    """A transfer syntax that images may come in, with the reason for it."""

    uid: str
    reason: str


_LOSSY: Final = "read as it is; a lossy original is the only one that a peer may still have"

TRANSFER_SYNTAXES: Final = (
    AcceptedSyntax(ExplicitVRLittleEndian, "uncompressed, the usual choice of scanners"),
    AcceptedSyntax(ImplicitVRLittleEndian, "every peer must support it (PS3.5 10.1)"),
    AcceptedSyntax(ExplicitVRBigEndian, "retired, still sent by old archives"),
    AcceptedSyntax(RLELossless, "lossless, old archives"),
    AcceptedSyntax(JPEGLosslessSV1, "lossless, the usual choice of archives"),
    AcceptedSyntax(JPEGLossless, "lossless, the same with other predictors"),
    AcceptedSyntax(JPEGLSLossless, "lossless"),
    AcceptedSyntax(JPEG2000Lossless, "lossless, common in archives"),
    AcceptedSyntax(HTJ2KLossless, "lossless, cloud archives"),
    AcceptedSyntax(HTJ2KLosslessRPCL, "lossless, cloud archives that stream"),
    AcceptedSyntax(JPEGLSNearLossless, _LOSSY),
    AcceptedSyntax(JPEG2000, _LOSSY),
    AcceptedSyntax(HTJ2K, _LOSSY),
    AcceptedSyntax(JPEGExtended12Bit, _LOSSY),
    AcceptedSyntax(JPEGBaseline8Bit, "lossy with 8 bits; taken so that the refusal names a reason"),
)
"""All that the worker decodes. Deflated is not: its size shows only while it is inflated."""
