from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.config import CompletionSettings
from dicom_node.ledger import Ledger
from dicom_node.records import ResultEntry
from tests.dicom_node.factories import START, instance, result_entry

FIRST = result_entry(1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Three series: two studies of one patient, one of another."""
    made = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    for number, (study, patient) in enumerate([("1.2", "a"), ("1.9", "a"), ("1.8", "b")]):
        one = instance(
            number,
            series_instance_uid=f"{study}.3",
            study_instance_uid=study,
            patient_key=patient * 64,
        )
        made.record_instance(one, CompletionSettings())
    yield made
    made.close()


def in_study(study: str, number: int) -> ResultEntry:
    series = f"{study}.3"
    return result_entry(
        number, series_instance_uid=series, source_series_uid=series, study_instance_uid=study
    )


def test_measurement_is_remembered_with_its_objects(ledger: Ledger) -> None:
    ledger.results.record(FIRST, START)
    assert ledger.results.of_series("1.2.3") == (FIRST,)
    assert ledger.results.is_own("2.25.11")
    assert not ledger.results.is_own("2.25.99")


def test_repeated_news_changes_nothing(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.results.record(FIRST, START)
    assert ledger.results.of_series("1.2.3") == (FIRST,)


def test_other_report_of_the_same_version_is_added(ledger: Ledger) -> None:
    ledger.results.record(FIRST, START)
    other = replace(FIRST.objects[1], sop_instance_uid="2.25.77")
    ledger.results.record(replace(FIRST, objects=(other,)), START)
    (entry,) = ledger.results.of_series("1.2.3")
    assert entry.latest("sr") == other
    assert entry.latest("key_image") is None


def test_measurement_of_unknown_images_is_not_kept(ledger: Ledger) -> None:
    ledger.results.record(result_entry(1, source_series_uid="7.7"), START)
    assert ledger.results.of_series("7.7") == ()


def test_other_studies_are_those_of_the_same_patient(ledger: Ledger) -> None:
    own, other, stranger = (in_study(study, n) for n, study in enumerate(("1.2", "1.9", "1.8")))
    for entry in (own, other, stranger):
        ledger.results.record(entry, START)
    assert ledger.results.of_other_studies("1.2.3") == (other,)
    assert ledger.results.of_other_studies("7.7") == ()
