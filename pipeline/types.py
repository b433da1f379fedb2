"""The values that travel through the pipeline, all frozen.

Frames: an ``affine`` maps array indices (slice, row, column) to DICOM patient coordinates in
millimetres (LPS: x to the left, y to posterior, z to the head; PS3.3 C.7.6.2.1.1). Slice 0 is the
most inferior. Arrays inside are read-only.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Sex(StrEnum):
    """Patient's Sex (0010,0040) as far as cut-offs know it; other values are ``None``."""

    MALE = "M"
    FEMALE = "F"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a cut-off needs to know of a patient; no name, no ID, no birth date.

    Parameters
    ----------
    sex : Sex or None
    age_years : float or None
        At the time of the study.
    height_m, weight_kg : float or None
        ``None`` when absent or not believable.
    """

    sex: Sex | None = None
    age_years: float | None = None
    height_m: float | None = None
    weight_kg: float | None = None


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How the images were made, as far as it moves the measurement.

    Parameters
    ----------
    slice_thickness_mm, tube_voltage_kv, gantry_tilt_deg : float or None
        Tilt is measured from the positions, not taken from the header.
    contrast_agent : bool or None
        Whether Contrast/Bolus Agent (0018,0010) names one; ``None`` when the attribute is absent.
    convolution_kernel, manufacturer, model_name : str
        Empty when absent.
    """

    slice_thickness_mm: float | None = None
    tube_voltage_kv: float | None = None
    gantry_tilt_deg: float | None = None
    contrast_agent: bool | None = None
    convolution_kernel: str = ""
    manufacturer: str = ""
    model_name: str = ""


@dataclass(frozen=True, slots=True)
class SliceSource:
    """The stored image that one slice came from.

    Parameters
    ----------
    sop_instance_uid : str
    frame_number : int or None
        One-based, for multi-frame images only.
    """

    sop_instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CTVolume:
    """A CT series as one array of Hounsfield units on a regular grid.

    Parameters
    ----------
    hu : NDArray[np.int16], shape (slices, rows, columns)
        Hounsfield units, slice 0 is the most inferior. Rows and columns are those of the stored
        images, never turned or flipped: areas are measured on them.
    affine : NDArray[np.float64], shape (4, 4)
        Maps (slice, row, column) to LPS millimetres; sheared when the gantry was tilted.
    sources : tuple of SliceSource
        The stored image of each slice, in array order.
    series_instance_uid : str
    acquisition : Acquisition
    """

    hu: NDArray[np.int16]
    affine: NDArray[np.float64]
    sources: tuple[SliceSource, ...]
    series_instance_uid: str
    acquisition: Acquisition = Acquisition()

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or self.affine.shape != (4, 4):
            raise ValueError(f"hu {self.hu.shape} must be 3-D and affine {self.affine.shape} 4x4")
        if len(self.sources) != self.hu.shape[0]:
            raise ValueError(f"{len(self.sources)} sources for {self.hu.shape[0]} slices")
        self.hu.setflags(write=False)
        self.affine.setflags(write=False)

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Distance of neighbouring rows and of neighbouring columns, as in Pixel Spacing."""
        rows, columns = np.linalg.norm(self.affine[:3, 1:3], axis=0)
        return float(rows), float(columns)

    @property
    def pixel_area_mm2(self) -> float:
        """Area of one pixel."""
        rows_mm, columns_mm = self.pixel_spacing_mm
        return rows_mm * columns_mm

    @property
    def slice_spacing_mm(self) -> float:
        """Distance of neighbouring slices along their normal."""
        normal = np.cross(self.affine[:3, 2], self.affine[:3, 1])
        return float(abs(self.affine[:3, 0] @ normal / np.linalg.norm(normal)))

    def slice_z_mm(self, index: int) -> float:
        """Height of the middle of slice ``index`` in patient coordinates (LPS z)."""
        rows, columns = self.hu.shape[1:]
        middle = np.array([index, (rows - 1) / 2, (columns - 1) / 2, 1.0])
        return float(self.affine[2] @ middle)


@dataclass(frozen=True, slots=True)
class AnatomicLevel:
    """Where a level lies in the volume it was found in.

    Parameters
    ----------
    name : str
        ``"L3"``.
    slice_index : int
        The slice to measure, counted from the most inferior one.
    confidence : float
        0 to 1; 1 when a person chose the slice.
    extent : tuple[int, int] or None
        First and last slice of the vertebra, inclusive, when known.
    evidence : tuple[str, ...]
        Sentences that say what the choice rests on.
    variant_suspected : bool
        The lumbar vertebrae do not seem to be five, so that the count may be wrong.
    """

    name: str
    slice_index: int
    confidence: float
    extent: tuple[int, int] | None = None
    evidence: tuple[str, ...] = ()
    variant_suspected: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TissueMask:
    """Tissues on the native grid of one or more neighbouring slices.

    Parameters
    ----------
    labels : NDArray[np.uint8], shape (slices, rows, columns)
        Values of ``pipeline.tissues.TISSUES``, 0 elsewhere.
    first_slice_index : int
        The slice of the volume that ``labels[0]`` lies on.
    """

    labels: NDArray[np.uint8]
    first_slice_index: int

    def __post_init__(self) -> None:
        if self.labels.ndim != 3:
            raise ValueError(f"labels {self.labels.shape} must be 3-D")
        self.labels.setflags(write=False)

    def slice_labels(self, slice_index: int) -> NDArray[np.uint8]:
        """Labels, shape (rows, columns), of slice ``slice_index`` of the volume."""
        labels: NDArray[np.uint8] = self.labels[slice_index - self.first_slice_index]
        return labels


@dataclass(frozen=True, slots=True)
class TissueMeasurement:
    """One tissue on one slice; attenuation is ``None`` where there is no pixel of it."""

    tissue: str
    area_cm2: float
    mean_hu: float | None
    sd_hu: float | None


@dataclass(frozen=True, slots=True)
class BodyComposition:
    """What was measured on the slice of the level.

    Parameters
    ----------
    level : AnatomicLevel
    tissues : tuple of TissueMeasurement
        In the order of ``pipeline.tissues.TISSUES``.
    pixel_area_mm2 : float
    skeletal_muscle_index_cm2_m2 : float or None
        Skeletal muscle area divided by the square of the height; ``None`` without a height.
    """

    level: AnatomicLevel
    tissues: tuple[TissueMeasurement, ...]
    pixel_area_mm2: float
    skeletal_muscle_index_cm2_m2: float | None

    def of(self, tissue: str) -> TissueMeasurement:
        """Return the measurement of one tissue, ``KeyError`` when it was not measured."""
        for measurement in self.tissues:
            if measurement.tissue == tissue:
                return measurement
        raise KeyError(tissue)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true area is expected to lie.

    Parameters
    ----------
    lower_cm2, upper_cm2 : float
    coverage : float or None
        Probability (0 to 1) that a calibration allows to claim; ``None`` for an interval of a
        customary width.
    acquisition_cm2 : float
        The part of the half width that stands for how the images were made.
    """

    lower_cm2: float
    upper_cm2: float
    coverage: float | None
    acquisition_cm2: float = 0.0


class Verdict(StrEnum):
    """Comparison of a value with a cut-off; never a diagnosis."""

    BELOW_CUTOFF = "below_cutoff"
    ABOVE_CUTOFF = "above_cutoff"
    INDETERMINATE = "indeterminate"
    NOT_ASSESSED = "not_assessed"


class Measure(StrEnum):
    """What of skeletal muscle is compared with a cut-off."""

    AREA = "area_cm2"
    INDEX = "index_cm2_m2"
    ATTENUATION = "attenuation_hu"


@dataclass(frozen=True, slots=True)
class Cutoff:
    """A number that a value was compared with.

    Parameters
    ----------
    measure : Measure
    value : float
        A smaller value is below the cut-off; in the unit of the measure.
    profile, citation, population : str
        Name, source, and whom the number was derived from.
    """

    measure: Measure
    value: float
    profile: str
    citation: str
    population: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """A verdict on skeletal muscle.

    Parameters
    ----------
    verdict : Verdict
    cutoff : Cutoff or None
        ``None`` when no cut-off applies.
    reason : str
        One sentence: what was compared with what, or why nothing was.
    """

    verdict: Verdict
    cutoff: Cutoff | None
    reason: str

    @property
    def cutoff_cm2(self) -> float | None:
        """The cut-off when it is one of the area."""
        if self.cutoff is None or self.cutoff.measure is not Measure.AREA:
            return None
        return self.cutoff.value

    @property
    def citation(self) -> str:
        """Where the cut-off comes from; empty without a cut-off."""
        return "" if self.cutoff is None else self.cutoff.citation


class Severity(StrEnum):
    """How much a quality flag matters to the reader of the number."""

    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class QualityFlag:
    """One remark on a measurement, with a stable code."""

    code: str
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which weights made a result; ``sha256`` is the checksum of the weight files."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What a classifier thinks of the measured slice; advisory.

    Parameters
    ----------
    probability : float
        0 to 1, that the muscle is low.
    threshold : float
        Probability from which it counts as low.
    model : ModelIdentity
    """

    probability: float
    threshold: float
    model: ModelIdentity

    @property
    def is_low(self) -> bool:
        """Whether the muscle counts as low."""
        return self.probability >= self.threshold


@dataclass(frozen=True, slots=True)
class PriorMeasurement:
    """An earlier result of the same patient, to be stated beside the present one.

    Parameters
    ----------
    area_cm2 : float
        Skeletal muscle area at L3.
    study_date : date
        Of the earlier images, not of their analysis.
    interval : Interval or None
    segmenter : ModelIdentity or None
        ``None`` when the weights that made it are not known any more.
    """

    area_cm2: float
    study_date: date
    interval: Interval | None = None
    segmenter: ModelIdentity | None = None

    def __post_init__(self) -> None:
        if self.area_cm2 <= 0:
            raise ValueError(f"a change from {self.area_cm2} cm2 has no percentage")


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything an output object needs to know of one measured series.

    Parameters
    ----------
    volume : CTVolume
    subject : Subject
    mask : TissueMask
    composition : BodyComposition
    interval : Interval or None
    assessment : Assessment
        Of the size of the muscle.
    quality : tuple of QualityFlag
    models : tuple of ModelIdentity
        The segmenter first, then the finder of the level.
    attenuation_assessment : Assessment or None
        Of the density of the muscle; ``None`` when the site asked for none.
    second_opinion : SecondOpinion or None
        ``None`` when the site has no classifier.
    """

    volume: CTVolume
    subject: Subject
    mask: TissueMask
    composition: BodyComposition
    interval: Interval | None
    assessment: Assessment
    quality: tuple[QualityFlag, ...]
    models: tuple[ModelIdentity, ...]
    attenuation_assessment: Assessment | None = None
    second_opinion: SecondOpinion | None = None
