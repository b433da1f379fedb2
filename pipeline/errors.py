"""What the pipeline raises.

::

    PipelineError
    ├── UnsupportedSeriesError      the series is not one for us
    │   ├── NotCTError              NOT_CT
    │   ├── LocalizerError          LOCALIZER
    │   ├── DerivedImageError       DERIVED_IMAGE
    │   ├── TooFewSlicesError       TOO_FEW_SLICES
    │   ├── NotAxialError           NOT_AXIAL
    │   └── LevelNotCoveredError    L3_NOT_COVERED
    ├── UnreadableSeriesError       the bytes cannot be turned into a volume
    │   ├── UnreadableFileError     FILE_UNREADABLE
    │   ├── PixelDataError          PIXEL_DATA_UNREADABLE
    │   ├── MissingAttributeError   ATTRIBUTE_MISSING
    │   ├── MixedSeriesError        MIXED_SERIES
    │   └── GeometryError           GEOMETRY_IRREGULAR
    ├── LevelUncertainError         L3_UNCERTAIN
    ├── SliceNotInSeriesError       SLICE_NOT_IN_SERIES
    ├── ImplausibleResultError      RESULT_IMPLAUSIBLE
    ├── CutoffProfileError          CUTOFFS_UNUSABLE
    ├── CorrectionError             CORRECTION_UNUSABLE
    └── ModelError                  MODEL_UNUSABLE

Each leaf class has a stable ``code``. Messages quote numbers, UIDs and attribute names, never a
patient's name, ID or birth date.
"""

from typing import ClassVar


class PipelineError(Exception):
    """Anything the pipeline refuses or cannot do; ``code`` is stable across versions."""

    code: ClassVar[str]


class UnsupportedSeriesError(PipelineError):
    """The series is sound, but not one that Psoas measures."""


class NotCTError(UnsupportedSeriesError):
    """The objects are not CT images."""

    code = "NOT_CT"


class LocalizerError(UnsupportedSeriesError):
    """The images are localizers (scouts, topograms)."""

    code = "LOCALIZER"


class DerivedImageError(UnsupportedSeriesError):
    """The images are reformats, projections or captures rather than acquired slices."""

    code = "DERIVED_IMAGE"


class TooFewSlicesError(UnsupportedSeriesError):
    """The series has fewer slices than the search for L3 needs."""

    code = "TOO_FEW_SLICES"


class NotAxialError(UnsupportedSeriesError):
    """The slices are coronal, sagittal or too oblique."""

    code = "NOT_AXIAL"


class LevelNotCoveredError(UnsupportedSeriesError):
    """The vertebra L3 lies outside the volume."""

    code = "L3_NOT_COVERED"


class UnreadableSeriesError(PipelineError):
    """The stored objects cannot be turned into a volume of Hounsfield units."""


class UnreadableFileError(UnreadableSeriesError):
    """A file is not DICOM or breaks off."""

    code = "FILE_UNREADABLE"


class PixelDataError(UnreadableSeriesError):
    """The pixel data is absent, damaged or in a transfer syntax that cannot be decoded."""

    code = "PIXEL_DATA_UNREADABLE"


class MissingAttributeError(UnreadableSeriesError):
    """An attribute that places or scales the pixels is absent or unusable."""

    code = "ATTRIBUTE_MISSING"


class MixedSeriesError(UnreadableSeriesError):
    """The images do not belong together: other patient, matrix, orientation or frame."""

    code = "MIXED_SERIES"


class GeometryError(UnreadableSeriesError):
    """The slices do not form a regular stack."""

    code = "GEOMETRY_IRREGULAR"


class LevelUncertainError(PipelineError):
    """The volume may contain L3, but the finder cannot tell which vertebra it is."""

    code = "L3_UNCERTAIN"


class SliceNotInSeriesError(PipelineError):
    """The slice that somebody chose is not one of the series."""

    code = "SLICE_NOT_IN_SERIES"


class ImplausibleResultError(PipelineError):
    """The mask or the numbers cannot be those of skeletal muscle at L3."""

    code = "RESULT_IMPLAUSIBLE"


class CutoffProfileError(PipelineError):
    """A cut-off profile does not exist or is malformed."""

    code = "CUTOFFS_UNUSABLE"


class CorrectionError(PipelineError):
    """A segmentation that a reader sent does not tell muscle on a slice of the series."""

    code = "CORRECTION_UNUSABLE"


class ModelError(PipelineError):
    """A model folder is incomplete, altered or made for other code."""

    code = "MODEL_UNUSABLE"
