import pytest
from pydicom.dataset import Dataset

from pipeline.objects.subject import read_subject, subject_remarks
from pipeline.types import Sex, Subject


def header(**attributes: object) -> list[Dataset]:
    dataset = Dataset()
    for keyword, value in attributes.items():
        # As text without rules, so that odd values can be written at all.
        dataset.add_new(keyword, "LO", value)
    return [dataset]


def test_a_patient_without_data_is_a_subject_without_data() -> None:
    assert read_subject(header()) == Subject()


@pytest.mark.parametrize(
    ("value", "sex"),
    [("M", Sex.MALE), ("F", Sex.FEMALE), ("O", None), ("", None), ("f", Sex.FEMALE)],
)
def test_only_two_sexes_have_cutoffs(value: str, sex: Sex | None) -> None:
    assert read_subject(header(PatientSex=value)).sex == sex


@pytest.mark.parametrize(
    ("age", "years"),
    [("049Y", 49.0), ("018M", 1.5), ("052W", 0.9966), ("000Y", 0.0), ("999Y", None), ("49", None)],
)
def test_age_is_read_in_its_unit(age: str, years: float | None) -> None:
    found = read_subject(header(PatientAge=age)).age_years
    assert found == (None if years is None else pytest.approx(years, abs=1e-3))


def test_age_follows_from_birth_and_study_when_not_given() -> None:
    found = read_subject(header(PatientBirthDate="19500704", StudyDate="20100704"))
    assert found.age_years == pytest.approx(60.0, abs=0.01)


@pytest.mark.parametrize(
    ("birth", "study"),
    [
        ("19500704", ""),
        ("", "20100704"),
        ("1950", "20100704"),
        ("20200101", "20100101"),
        ("x", "y"),
    ],
)
def test_dates_that_give_no_age_give_none(birth: str, study: str) -> None:
    assert read_subject(header(PatientBirthDate=birth, StudyDate=study)).age_years is None


@pytest.mark.parametrize(
    ("size", "height_m"), [("1.75", 1.75), ("1.2", 1.2), ("2.31", None), ("0", None), ("175", None)]
)
def test_heights_are_believed_in_metres_only(size: str, height_m: float | None) -> None:
    assert read_subject(header(PatientSize=size)).height_m == height_m


@pytest.mark.parametrize(("weight", "weight_kg"), [("70", 70.0), ("0", None), ("70000", None)])
def test_weights_are_believed_in_kilograms_only(weight: str, weight_kg: float | None) -> None:
    assert read_subject(header(PatientWeight=weight)).weight_kg == weight_kg


def test_a_height_in_centimetres_is_remarked_not_divided() -> None:
    (remark,) = subject_remarks(header(PatientSize="175"))
    assert remark.code == "SIZE_UNIT"
    assert "175" not in remark.message
    assert subject_remarks(header(PatientSize="1.75")) == ()
    assert subject_remarks(header()) == ()
