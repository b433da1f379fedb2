import dataclasses
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from pipeline.objects.identity import ResultContext, derived_uid, stamp
from pipeline.objects.results import RESULT_BUILDERS
from pipeline.types import Analysis, ModelIdentity
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.pipeline.objects.results import CREATED_AT, context_of, saved

PHANTOM = TorsoPhantom((3, 24, 24), 16.0, height_m=1.7)
EVERY_RESULT = pytest.mark.parametrize("name", sorted(RESULT_BUILDERS))


def build(name: str, sources: list[Dataset] | None = None) -> Dataset:
    return RESULT_BUILDERS[name](phantom_analysis(PHANTOM), context_of(PHANTOM, sources))


def content(result: Dataset) -> bytes:
    file = io.BytesIO()
    result.save_as(file, enforce_file_format=True)
    return file.getvalue()


@EVERY_RESULT
def test_a_second_run_writes_the_same_bytes(name: str) -> None:
    assert content(build(name)) == content(build(name))


@EVERY_RESULT
def test_patient_and_study_are_those_of_the_source(name: str, tmp_path: Path) -> None:
    source = PHANTOM.datasets()[1]
    result = saved(build(name), tmp_path)
    for keyword in (
        *(
            "PatientName",
            "PatientID",
            "PatientSex",
            "PatientAge",
            "PatientSize",
            "StudyInstanceUID",
        ),
        *("StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
    ):
        assert result[keyword].value == source[keyword].value, keyword
    assert result.SeriesInstanceUID != source.SeriesInstanceUID


@EVERY_RESULT
def test_attributes_that_the_source_lacks_stay_empty(name: str, tmp_path: Path) -> None:
    sources = PHANTOM.datasets()
    lacking = (
        *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"),
        *("AccessionNumber", "StudyDate", "StudyTime", "ReferringPhysicianName"),
        *("PatientAge", "PositionReferenceIndicator", "Manufacturer"),
    )
    for source in sources:
        for keyword in lacking:
            del source[keyword]
    result = saved(build(name, sources), tmp_path)
    for keyword in lacking[:9]:
        assert keyword in result
        assert not result[keyword].value
    assert "PatientAge" not in result


def test_nothing_of_another_patient_stays() -> None:
    sources = PHANTOM.datasets()
    del sources[1].PatientName, sources[1].PatientAge
    result = PHANTOM.datasets()[0]
    stamp(result, phantom_analysis(PHANTOM), context_of(PHANTOM, sources))
    assert not result.PatientName
    assert "PatientAge" not in result


@EVERY_RESULT
@pytest.mark.parametrize(
    ("character_set", "expected"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "Ångström^Ödön"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_names_survive_in_every_character_set(
    name: str, character_set: str | list[str], expected: str, tmp_path: Path
) -> None:
    sources = PHANTOM.datasets()
    for source in sources:
        source.SpecificCharacterSet = character_set
        source.PatientName = expected
    sources = [stored(source, tmp_path / "source.dcm") for source in sources]
    result = saved(build(name, sources), tmp_path)
    assert result.SpecificCharacterSet == "ISO_IR 192"
    assert str(result.PatientName) == expected


def test_a_name_under_another_character_set_is_noticed(tmp_path: Path) -> None:
    sources = PHANTOM.datasets()
    for source in sources:
        source.SpecificCharacterSet, source.PatientName = "ISO_IR 192", "Ångström^Ödön"
    saved(build("key_image", sources), tmp_path)
    path = tmp_path / "result.dcm"
    assert str(dcmread(path).PatientName) == "Ångström^Ödön"
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO_IR 100"))
    assert str(dcmread(path).PatientName) != "Ångström^Ödön"


@EVERY_RESULT
def test_a_utf_8_name_without_a_character_set_survives(name: str, tmp_path: Path) -> None:
    written = "Müller^Jörg".encode()
    sources = PHANTOM.datasets()
    for source in sources:
        del source.SpecificCharacterSet
        source.PatientName = "?" * len(written)
    path = tmp_path / "source.dcm"
    for index, source in enumerate(sources):
        source.save_as(path, enforce_file_format=True)
        path.write_bytes(path.read_bytes().replace(b"?" * len(written), written))
        sources[index] = dcmread(path)
    assert str(saved(build(name, sources), tmp_path).PatientName) == "Müller^Jörg"


def stored(dataset: Dataset, path: Path) -> Dataset:
    dataset.save_as(path, enforce_file_format=True)
    return dcmread(path)


@EVERY_RESULT
def test_values_that_break_the_rules_are_no_obstacle(name: str, tmp_path: Path) -> None:
    sources = PHANTOM.datasets()
    for source in sources:
        for keyword in ("PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "PatientAge"):
            source.add_new(keyword, "LO", "odd")
        with disable_value_validation():
            source.add_new("PatientID", "LO", "X" * 70)
    result = saved(build(name, sources), tmp_path)
    with disable_value_validation():
        assert result.PatientID == "X" * 70


@EVERY_RESULT
def test_times_are_those_of_the_source_s_zone(name: str) -> None:
    sources = PHANTOM.datasets()
    for source in sources:
        source.TimezoneOffsetFromUTC = "-0330"
    result = build(name, sources)
    assert (result.ContentDate, result.ContentTime) == ("20260304", "013607")
    assert result.TimezoneOffsetFromUTC == "-0330"
    assert build(name).TimezoneOffsetFromUTC == "+0000"
    assert build(name).ContentTime == "050607"


@EVERY_RESULT
def test_equipment_names_scanner_software_and_models(name: str) -> None:
    result = build(name)
    assert list(result.SoftwareVersions) == [
        "9.9",
        f"segmenter 1.0 {'ab' * 6}",
        f"level finder 1.1 {'cd' * 6}",
    ]
    makers = [item.Manufacturer for item in result.ContributingEquipmentSequence]
    assert makers == ["Phantom", "Psoas", "Psoas"]
    assert result.DeviceSerialNumber == "psoas"


def uid_of(analysis: Analysis | None = None, **changes: object) -> str:
    context = dataclasses.replace(context_of(PHANTOM, []), **changes)  # type: ignore[arg-type]
    return derived_uid(analysis or phantom_analysis(PHANTOM), context, "seg")


def test_uids_depend_on_everything_that_determines_the_result() -> None:
    analysis = phantom_analysis(PHANTOM)
    other_model = (ModelIdentity("segmenter", "1.0", "ee" * 32), analysis.models[1])
    other_subject = dataclasses.replace(analysis.subject, height_m=1.8)
    other_source = dataclasses.replace(analysis.volume.sources[0], sop_instance_uid="1.2.3")
    volume = dataclasses.replace(
        analysis.volume, sources=(other_source, *analysis.volume.sources[1:])
    )
    uids = [
        uid_of(),
        uid_of(software_version="10"),
        uid_of(uid_root_key="another site"),
        uid_of(dataclasses.replace(analysis, models=other_model)),
        uid_of(dataclasses.replace(analysis, subject=other_subject)),
        uid_of(dataclasses.replace(analysis, volume=volume)),
        uid_of(phantom_analysis(PHANTOM, level_index=2)),
    ]
    assert len(set(uids)) == len(uids)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_uids_do_not_depend_on_the_time() -> None:
    assert uid_of() == uid_of(created_at=CREATED_AT + timedelta(days=1))


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        ResultContext((), datetime(2026, 1, 1), "1")  # noqa: DTZ001
    assert ResultContext((), datetime(2026, 1, 1, tzinfo=UTC), "1").uid_root_key == "psoas"
