"""Commands about single series."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.config import CompletionSettings, load_settings
from dicom_node.ledger import Ledger
from dicom_node.records import Reason, SeriesEvent, SeriesState
from dicom_node.search_keys import SearchAttribute, search_key
from dicom_node.spool import Spool
from tests.dicom_node.conftest import Psoas
from tests.dicom_node.factories import START, instance

UID = "1.2.3"
ACCESSION = "A-4711"


@pytest.fixture
def ledger(config: Path) -> Iterator[Ledger]:
    """A node that receives one series of accession A-4711."""
    settings = load_settings(config)
    settings.storage.folder.mkdir()
    secret = Spool.of(settings.storage).patient_secret()
    key = search_key(SearchAttribute.ACCESSION_NUMBER, ACCESSION.encode(), secret)
    opened = Ledger.open(settings.ledger_url)
    opened.record_instance(instance(accession_key=key), CompletionSettings())
    yield opened
    opened.close()


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[], object]:
    return lambda: json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("term", [ACCESSION, f" {ACCESSION} ", "1.2", UID, "1.2.3.1"])
@pytest.mark.usefixtures("ledger")
def test_series_is_found_by_what_people_know(
    term: str, psoas: Psoas, shown: Callable[[], list[dict[str, dict[str, object]]]]
) -> None:
    assert psoas("where", term, "--json") == 0
    (found,) = shown()
    assert found["series"]["series_instance_uid"] == UID
    assert found["series"]["state"] == "receiving"


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("term", ["A-471", "9.9", "a-4711"])
def test_what_was_never_received_is_exit_status_3(
    term: str, psoas: Psoas, capsys: pytest.CaptureFixture[str]
) -> None:
    assert psoas("where", term) == 3
    assert "never received" in capsys.readouterr().out


@pytest.mark.usefixtures("ledger")
def test_accession_number_is_nowhere_in_the_files(config: Path) -> None:
    for path in load_settings(config).storage.folder.rglob("*"):
        if path.is_file():
            assert ACCESSION.encode() not in path.read_bytes()


def test_place_in_the_queue_is_told(
    psoas: Psoas, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    other = instance(9, series_instance_uid="1.2.9")
    ledger.record_instance(other, CompletionSettings())
    for uid in ("1.2.9", UID):
        ledger.advance(uid, SeriesEvent.QUIET_PERIOD_OVER, START)
    ledger.advance("1.2.9", SeriesEvent.TASK_SENT, START)
    assert psoas("where", UID) == 0
    assert "1 series get a worker before it" in capsys.readouterr().out


def test_quarantined_series_is_released_with_who_and_why(psoas: Psoas, ledger: Ledger) -> None:
    reason = Reason("INSTANCE_CONFLICT", "two patients")
    ledger.advance(UID, SeriesEvent.CONFLICT_FOUND, START, reason=reason)
    assert psoas("release", UID, "--because", "looked at both") == 0
    last = ledger.history(UID)[-1]
    assert (last.event, last.state) == ("released", SeriesState.COMPLETE)
    assert last.reason is not None
    assert last.reason.message.endswith(": looked at both")


@pytest.mark.usefixtures("ledger")
def test_only_what_is_quarantined_is_released(
    psoas: Psoas, capsys: pytest.CaptureFixture[str]
) -> None:
    assert psoas("release", UID) == 1
    assert "is receiving; this needs one that is quarantined" in capsys.readouterr().err


def test_completion_is_forced(psoas: Psoas, ledger: Ledger) -> None:
    assert psoas("complete", "2.3") == 0
    assert ledger.series(UID).state is SeriesState.COMPLETE


def test_dropped_series_stays_dropped_until_it_is_retried(psoas: Psoas, ledger: Ledger) -> None:
    assert psoas("drop", UID, "--yes") == 0
    ledger.record_instance(instance(2), CompletionSettings())
    assert ledger.series(UID).state is SeriesState.DROPPED
    assert ledger.series(UID).instance_count == 2
    assert psoas("retry", UID) == 0
    assert ledger.series(UID).state is SeriesState.COMPLETE


def test_drop_without_consent_changes_nothing(
    psoas: Psoas, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert psoas("drop", UID) == 1
    assert ledger.series(UID).state is SeriesState.RECEIVING


def test_results_of_a_dropped_series_are_not_sent(psoas: Psoas, ledger: Ledger) -> None:
    from dicom_node.records import DeliveryState, ResultFile

    ledger.advance(UID, SeriesEvent.QUIET_PERIOD_OVER, START)
    ledger.advance(UID, SeriesEvent.TASK_SENT, START)
    result = ResultFile("1.9", "1.8", "1.2.840.10008.1.2.1", Path("results/a.dcm"))
    ledger.deliveries.queue(UID, 1, [result], ["pacs"], START)
    ledger.advance(UID, SeriesEvent.MEASURED, START)
    assert psoas("drop", UID, "--yes") == 0
    assert [d.state for d in ledger.deliveries.of(UID)] == [DeliveryState.SUPERSEDED]
