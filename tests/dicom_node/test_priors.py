"""A series waits for its patient's earlier results, though not for ever."""

from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.assembly import Assembly
from dicom_node.background import Background
from dicom_node.config import CompletionSettings, NodeSettings
from dicom_node.errors import PeerError
from dicom_node.ledger import Ledger
from dicom_node.lineage import prior_of
from dicom_node.prior_desk import PriorDesk
from dicom_node.priors import search_priors
from dicom_node.records import PriorSearch, SeriesState
from dicom_node.rules.routing import Router
from dicom_node.spool import Spool
from pipeline.types import Interval, PriorMeasurement
from tests.dicom_node.factories import (
    START,
    RecordingDispatcher,
    destination,
    instance,
    node_settings,
    result_entry,
)
from tests.dicom_node.test_earlier_results import RECENT, Shelf
from tests.phantoms import TorsoPhantom

UID = "1.2.3"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def ledger(tmp_path: Path, spool: Spool) -> Iterator[Ledger]:
    """A series of twenty images of a patient who was measured before."""
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        for number, image in enumerate(TorsoPhantom((20, 16, 16), 24.0).datasets()):
            image.PatientID, image.StudyDate, image.PatientBirthDate = "P1", "20260102", "19500102"
            received = instance(number)
            path = spool.path(received.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save_as(path, enforce_file_format=True)
            ledger.record_instance(received, CompletionSettings())
        yield ledger


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return node_settings(
        tmp_path,
        destinations=[destination().model_dump()],
        priors={"destination": "pacs", "patience_s": 60},
    )


def searched(ledger: Ledger) -> PriorSearch:
    search = ledger.prior_searches.of(UID, 1)
    assert search is not None
    return search


def test_a_series_waits_for_the_pacs_but_not_for_ever(
    ledger: Ledger, settings: NodeSettings
) -> None:
    dispatcher = RecordingDispatcher()
    desk = PriorDesk(ledger, settings, dispatcher.send_search)
    record = ledger.series(UID)
    assert not desk.is_settled(record, START)
    assert not desk.is_settled(record, START + timedelta(seconds=59))
    assert dispatcher.searches == [(UID, 1)]
    assert desk.is_settled(record, START + timedelta(seconds=60))
    assert searched(ledger).sentence == "pacs was not heard in 60 s"


def test_without_a_pacs_nothing_is_waited_for(ledger: Ledger, tmp_path: Path) -> None:
    desk = PriorDesk(ledger, node_settings(tmp_path), RecordingDispatcher().send_search)
    assert desk.is_settled(ledger.series(UID), START)
    assert ledger.prior_searches.of(UID, 1) is None


def test_what_the_pacs_has_goes_to_the_worker(
    ledger: Ledger, spool: Spool, settings: NodeSettings
) -> None:
    dispatcher = RecordingDispatcher()
    desk = PriorDesk(ledger, settings, dispatcher.send_search)
    assembly = Assembly(
        ledger, spool, dispatcher, 100.0, Router(ledger, spool), may_be_sent=desk.is_settled
    )
    now = START + timedelta(seconds=90)
    assembly.close_due_series(now)
    assembly.send_complete_series(now)
    assert ledger.series(UID).state is SeriesState.COMPLETE
    search_priors(ledger.series(UID), ledger, spool, Shelf([RECENT]), now)
    assert searched(ledger).sentence == "1 earlier report at the shelf"

    assembly.send_complete_series(now)
    assert dispatcher.analyses == [(UID, 1)]
    content = spool.read_background(UID, 1)
    assert content is not None
    (prior,) = Background.from_json(content).priors
    read = prior_of(prior)
    assert isinstance(read, PriorMeasurement)
    assert read.study_date == date(2025, 1, 1)
    assert isinstance(read.interval, Interval)
    assert read.segmenter is not None


def test_what_was_found_once_stays_so_that_repeated_work_finds_it_again(
    ledger: Ledger, spool: Spool
) -> None:
    search_priors(ledger.series(UID), ledger, spool, Shelf([RECENT]), START)
    before = searched(ledger)
    search_priors(ledger.series(UID), ledger, spool, Shelf([]), START)
    assert searched(ledger) == before
    assert len(before.found) == 1


def test_a_pacs_that_fails_is_named_and_the_series_goes_on(
    ledger: Ledger, spool: Spool, settings: NodeSettings
) -> None:
    class Away(Shelf):
        def studies(self, patient_id: str) -> list[Dataset]:
            raise PeerError(f"the shelf is away{patient_id[:0]}")

    search_priors(ledger.series(UID), ledger, spool, Away([]), START)
    assert searched(ledger).sentence == "earlier results are not known: the shelf is away"
    desk = PriorDesk(ledger, settings, RecordingDispatcher().send_search)
    assert desk.is_settled(ledger.series(UID), START)


@pytest.mark.parametrize(
    ("keyword", "value", "sentence"),
    [
        ("PatientID", "", "no search: the images name no patient ID that can be searched for"),
        ("PatientID", "P*", "no search: the images name no patient ID that can be searched for"),
        ("StudyDate", "", "no search: the study has no date that others could be earlier than"),
    ],
)
def test_a_patient_who_cannot_be_told_from_others_is_not_searched_for(
    keyword: str, value: str, sentence: str, tmp_path: Path, spool: Spool
) -> None:
    (image,) = TorsoPhantom((1, 16, 16), 24.0).datasets()
    setattr(image, keyword, value)
    received = instance()
    spool.path(received.path).parent.mkdir(parents=True, exist_ok=True)
    image.save_as(spool.path(received.path), enforce_file_format=True)
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        ledger.record_instance(received, CompletionSettings())
        search_priors(ledger.series(UID), ledger, spool, Shelf([RECENT]), START)
        assert searched(ledger).sentence == sentence


def test_of_one_study_the_nodes_own_word_counts(ledger: Ledger, spool: Spool) -> None:
    elsewhere = instance(
        99, series_instance_uid="1.4", study_instance_uid="1.9.2", path=Path("none.dcm")
    )
    ledger.record_instance(elsewhere, CompletionSettings())
    own = result_entry(
        series_instance_uid="1.4",
        source_series_uid="1.4",
        study_instance_uid="1.9.2",
        study_date=date(2025, 1, 1),
    )
    ledger.results.record(own, START)
    search_priors(ledger.series(UID), ledger, spool, Shelf([RECENT]), START)
    dispatcher = RecordingDispatcher()
    assembly = Assembly(ledger, spool, dispatcher, 100.0, Router(ledger, spool))
    now = START + timedelta(seconds=90)
    assembly.close_due_series(now)
    assembly.send_complete_series(now)
    content = spool.read_background(UID, 1)
    assert content is not None
    assert [entry.version for entry in Background.from_json(content).priors] == [
        RECENT.SOPInstanceUID,
        "version 1",
    ]
