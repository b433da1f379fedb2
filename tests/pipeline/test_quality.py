"""What ruins a measurement is refused, what weakens it is said."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.composition import measure
from pipeline.errors import ImplausibleResultError
from pipeline.quality import check, check_certainty, require_plausible
from pipeline.types import (
    Acquisition,
    AnatomicLevel,
    BodyComposition,
    CTVolume,
    Interval,
    Severity,
    Sex,
    SliceSource,
    Subject,
    TissueMask,
    TissueMeasurement,
)

ADULT = Subject(sex=Sex.FEMALE, age_years=50)
FOUND = AnatomicLevel("L3", 0, 0.9, extent=(0, 0))
SIDE = 100
PIXEL_MM = 2.0
AXIAL = np.array(
    [[0, 0, PIXEL_MM, 0], [0, PIXEL_MM, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1.0]], dtype=np.float64
)


def composition(area_cm2: float, mean_hu: float) -> BodyComposition:
    muscle = TissueMeasurement("skeletal_muscle", area_cm2, mean_hu, 10.0)
    return BodyComposition(AnatomicLevel("L3", 0, 1.0), (muscle,), 1.0, None)


def sound_slice() -> tuple[np.ndarray, np.ndarray]:
    """A square of muscle within a square of fat within air."""
    hu = np.full((SIDE, SIDE), -1000, np.int16)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    hu[20:80, 20:80], labels[20:80, 20:80] = -100, 3
    hu[30:70, 30:70], labels[30:70, 30:70] = 50, 1
    return hu, labels


def codes(
    hu: np.ndarray,
    labels: np.ndarray,
    *,
    acquisition: Acquisition | None = None,
    subject: Subject = ADULT,
    level: AnatomicLevel = FOUND,
) -> dict[str, Severity]:
    volume = CTVolume(
        hu[None].copy(),
        AXIAL,
        (SliceSource("1.2.3"),),
        "1.2",
        acquisition or Acquisition(slice_thickness_mm=5.0, tube_voltage_kv=120.0),
    )
    mask = TissueMask(labels[None].copy(), 0)
    measured = measure(mask, hu, level, PIXEL_MM**2)
    return {flag.code: flag.severity for flag in check(volume, mask, measured, subject, hu)}


@pytest.mark.parametrize(
    ("area_cm2", "mean_hu"), [(29.9, 40.0), (350.1, 40.0), (120.0, -10.1), (120.0, 90.1)]
)
def test_impossible_numbers_are_refused(area_cm2: float, mean_hu: float) -> None:
    with pytest.raises(ImplausibleResultError):
        require_plausible(composition(area_cm2, mean_hu))


def is_refused(area_cm2: float, mean_hu: float) -> bool:
    try:
        require_plausible(composition(area_cm2, mean_hu))
    except ImplausibleResultError:
        return True
    return False


def test_possible_numbers_pass() -> None:
    assert not is_refused(30.0, -10.0)
    assert not is_refused(350.0, 90.0)
    assert is_refused(1.0, 30.0)


def test_sound_measurement_has_no_flag() -> None:
    assert codes(*sound_slice()) == {}


def test_muscle_at_the_border_is_truncated() -> None:
    hu, labels = sound_slice()
    hu[30:70, :30], labels[30:70, :30] = 50, 1
    assert codes(hu, labels)["FOV_TRUNCATED"] is Severity.WARNING


def test_muscle_at_the_reconstruction_circle_is_truncated() -> None:
    hu, labels = sound_slice()
    rows, columns = np.indices(hu.shape)
    outside = np.hypot(rows - 49.5, columns - 49.5) > 50
    hu[45:55, 1:30], labels[45:55, 1:30] = 50, 1
    hu[outside], labels[outside] = -2000, 0
    assert codes(hu, labels)["FOV_TRUNCATED"] is Severity.WARNING


def test_metal_is_noticed() -> None:
    hu, labels = sound_slice()
    hu[40:44, 40:44] = 3000
    assert "METAL" in codes(hu, labels)


def test_noise_is_noticed() -> None:
    hu, labels = sound_slice()
    noise = np.random.default_rng(1).normal(0, 35, hu.shape)
    assert "NOISE_HIGH" in codes((hu + noise).astype(np.int16), labels)


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        ({"slice_thickness_mm": 7.0}, "THICK_SLICE", Severity.WARNING),
        ({"gantry_tilt_deg": -12.0}, "GANTRY_TILT", Severity.WARNING),
        ({"contrast_agent": True}, "CONTRAST", Severity.INFO),
        ({"tube_voltage_kv": 80.0}, "TUBE_VOLTAGE", Severity.INFO),
    ],
)
def test_acquisition_is_noted(change: dict[str, float], code: str, severity: Severity) -> None:
    sound = Acquisition(slice_thickness_mm=5.0, tube_voltage_kv=120.0, contrast_agent=False)
    acquisition = replace(sound, **change)  # type: ignore[arg-type]  # one field by name
    assert codes(*sound_slice(), acquisition=acquisition) == {code: severity}


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        (Subject(age_years=50), "SEX_UNKNOWN"),
        (Subject(sex=Sex.MALE), "AGE_UNKNOWN"),
        (Subject(sex=Sex.MALE, age_years=11), "CHILD"),
    ],
)
def test_subject_is_noted(subject: Subject, code: str) -> None:
    assert list(codes(*sound_slice(), subject=subject)) == [code]


@pytest.mark.parametrize(
    ("level", "code", "severity"),
    [
        (replace(FOUND, confidence=0.3), "LEVEL_UNCERTAIN", Severity.WARNING),
        (replace(FOUND, variant_suspected=True), "VARIANT_SUSPECTED", Severity.WARNING),
        (replace(FOUND, extent=None), "LEVEL_GIVEN", Severity.INFO),
    ],
)
def test_doubtful_level_is_noted(level: AnatomicLevel, code: str, severity: Severity) -> None:
    assert codes(*sound_slice(), level=level) == {code: severity}


def test_skin_that_the_field_cuts_is_noted() -> None:
    hu, labels = sound_slice()
    hu[40:60, :20], labels[40:60, :20] = -100, 3
    assert codes(hu, labels) == {"FOV_SKIN_CUT": Severity.INFO}


def test_arm_beside_the_body_is_noticed() -> None:
    hu, labels = sound_slice()
    hu[40:60, 2:17] = 40
    hu[47:53, 7:13] = 600
    assert codes(hu, labels) == {"ARMS_IN_FIELD": Severity.WARNING}


def test_table_beside_the_body_is_no_arm() -> None:
    hu, labels = sound_slice()
    hu[84:87, 5:95] = -100
    hu[90:91, 5:95] = 300
    assert codes(hu, labels) == {}


def test_fat_that_is_no_fat_makes_the_units_suspect() -> None:
    hu, labels = sound_slice()
    hu[labels == 3] = -45
    assert codes(hu, labels) == {"HU_SUSPECT": Severity.WARNING}


def test_one_sided_muscle_is_noticed() -> None:
    hu, labels = sound_slice()
    hu[30:50, 30:50], labels[30:50, 30:50] = -100, 3
    assert codes(hu, labels) == {"ASYMMETRY": Severity.WARNING}


def test_crumbs_of_muscle_are_noticed() -> None:
    hu, labels = sound_slice()
    odd = (np.indices(hu.shape) % 3 == 0).any(axis=0)
    inside = labels == 1
    hu[inside & odd], labels[inside & odd] = -100, 3
    assert "SCATTERED" in codes(hu, labels)


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [
        *[(name, True) for name in ("B70f", "Br64", "BONE", "LUNG")],
        *[(name, False) for name in ("B30f", "Br40d", "STANDARD", "Bf37f", "FC18")],
    ],
)
def test_sharp_kernel_is_noted(kernel: str, sharp: bool) -> None:
    acquisition = Acquisition(tube_voltage_kv=120.0, convolution_kernel=kernel)
    assert ("KERNEL_SHARP" in codes(*sound_slice(), acquisition=acquisition)) == sharp


@pytest.mark.parametrize(
    ("spread_cm2", "nearby_cm2", "coverage", "expected"),
    [
        (2.9, (100.0, 108.0, 100.0), 0.8, []),
        (3.1, (), 0.8, ["SEGMENTATION_UNCERTAIN"]),
        (0.0, (100.0, 120.0), 0.8, ["NEIGHBOURS_DIFFER"]),
        (0.0, (), None, ["UNCALIBRATED"]),
    ],
)
def test_the_models_own_doubt_is_noted(
    spread_cm2: float, nearby_cm2: tuple[float, ...], coverage: float | None, expected: list[str]
) -> None:
    interval = Interval(90.0, 110.0, coverage)
    flags = check_certainty(100.0, spread_cm2, nearby_cm2, interval)
    assert [flag.code for flag in flags] == expected
