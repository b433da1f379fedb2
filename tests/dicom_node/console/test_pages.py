"""What the pages of the console show and do."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from dicom_node.config import CompletionSettings
from dicom_node.console.actions import _BY_NAME
from dicom_node.console.rendering import event_words
from dicom_node.ledger import Ledger
from dicom_node.model_store import ModelKind
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import DeliveryState, Reason, ResultFile, SeriesEvent, SeriesState, Switch
from dicom_node.search_keys import SearchAttribute, search_key
from tests.dicom_node.console.conftest import UID, Visitor
from tests.dicom_node.factories import START, instance, result_entry

OTHER = "1.2.4"
MEASUREMENT = {
    "level": {"name": "L3", "slice_index_from_inferior": 8, "confidence": 0.97},
    "skeletal_muscle_area_cm2": 141.26,
    "interval_cm2": {"lower": 137.0, "upper": 146.0, "coverage": 0.9},
    "mean_attenuation_hu": 31.4,
    "assessment": {"verdict": "below_cutoff", "reason": "below 144 cm²"},
    "second_opinion": {"low": False, "probability_of_low": 0.124, "threshold": 0.5},
    "quality": [{"code": "CUT_BODY", "message": "the body is cut at the edge"}],
    "model": {"name": "smit", "version": "1.2", "sha256": "ab" * 32},
    "software_version": "0.1",
}


def measure(visitor: Visitor) -> ResultFile:
    """A second series that was measured and delivered, with a picture."""
    ledger, spool = visitor.desk.ledger, visitor.desk.spool
    secret = spool.patient_secret()
    keys = {
        "accession_key": search_key(SearchAttribute.ACCESSION_NUMBER, b"A4711", secret),
        "patient_id_key": search_key(SearchAttribute.PATIENT_ID, b"P12", secret),
    }
    ledger.record_instance(instance(9, series_instance_uid=OTHER, **keys), CompletionSettings())
    for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.MEASURED):
        ledger.advance(OTHER, event, START)
    seg = ResultFile("2.25.1", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1", Path("s.dcm"))
    ledger.deliveries.queue(OTHER, 1, [seg], ["pacs"], START)
    outcome = Outcome(OutcomeKind.MEASURED, None, (seg,), MEASUREMENT)
    spool.put_outcome(OTHER, 1, outcome.to_json())
    spool.put_results(OTHER, 1, {"overlay.png": b"picture"})
    return seg


def test_the_overview_counts_and_lists(operator: Visitor) -> None:
    measure(operator)
    page = operator.client.get("/").text
    assert f'href="/series/{UID}"' in page
    assert f'href="/series/{OTHER}"' in page
    assert "<b>1</b> <span>failed</span>" in page
    assert "<b>1</b> <span>analyzed</span>" in page
    assert "<b>0</b> <span>receiving</span>" in page


def test_the_overview_tells_what_the_node_was_told(operator: Visitor) -> None:
    ledger, now = operator.desk.ledger, operator.clock()
    assert "paused" not in operator.client.get("/").text
    ledger.turn_on(Switch.ANALYSIS_PAUSED, "olga", now)
    ledger.models.use(ModelKind.SEGMENTER, "candidate-1-0a1b2c3d", "olga", now)
    ledger.alarms.raise_("SERIES_QUARANTINED", UID, "another patient", now)
    page = operator.client.get("/").text
    for words in ("Analysis paused", "by olga", "candidate-1-0a1b2c3d", "another patient"):
        assert words in page
    assert f'href="/series/{UID}"' in operator.client.get("/peers").text


def test_the_list_is_filtered(operator: Visitor) -> None:
    measure(operator)
    for query, shown in (
        ("state=failed", {UID}),
        ("state=analyzed", {OTHER}),
        ("source=SCANNER", {UID, OTHER}),
        ("source=NONE", set()),
        ("reason=L3_UNCERTAIN", {UID}),
    ):
        page = operator.client.get(f"/series?{query}").text
        assert {uid for uid in (UID, OTHER) if f'"/series/{uid}"' in page} == shown, query
    assert operator.client.get("/series?state=nonsense").status_code == 400
    for place in ("yesterday_1.2", "2026-01-01_1.2", "2026-01-01T00:00:00+00:00_x"):
        assert operator.client.get("/series", params={"before": place}).status_code == 400


def test_the_page_of_a_series_tells_its_whole_story(operator: Visitor) -> None:
    seg = measure(operator)
    page = operator.client.get(f"/series/{OTHER}").text
    for told in (
        "SCANNER",  # from whom
        "127.0.0.1",
        "Measured",  # history
        "<b>141.3</b>",
        "137.0 to 146.0",
        "below 144 cm²",
        "CUT_BODY",
        "not low: probability of low muscle 12 % (advisory; low from 50 %)",
        "smit 1.2",
        "not for diagnosis",
        f"/series/{OTHER}/overlay.png",
        seg.sop_instance_uid,
        "pacs",
        UID,  # the other series of the study
    ):
        assert told in page, told
    assert operator.trail.deeds == [("olga", "viewed", ("1.2",), True, "")]
    picture = operator.client.get(f"/series/{OTHER}/overlay.png")
    assert (picture.content, picture.headers["content-type"]) == (b"picture", "image/png")


def test_a_series_without_measurement_says_why(operator: Visitor) -> None:
    page = operator.client.get(f"/series/{UID}").text
    assert "which vertebra &lt;is&gt; L3 cannot be told" in page
    assert "L3_UNCERTAIN" in page
    assert operator.client.get(f"/series/{UID}/overlay.png").status_code == 404
    for unknown in ("9.9", "nonsense"):
        assert operator.client.get(f"/series/{unknown}").status_code == 404


def test_a_retry_is_confirmed_and_audited(operator: Visitor) -> None:
    page = operator.client.get(f"/series/{UID}").text
    assert f'href="/series/{UID}/retry"' in page
    confirmation = operator.client.get(f"/series/{UID}/retry").text
    assert "Analyse again?" in confirmation
    assert operator.desk.ledger.series(UID).state is SeriesState.FAILED
    operator.trail.deeds.clear()
    assert operator.submit(f"/series/{UID}/retry") == 303
    assert operator.desk.ledger.series(UID).state is SeriesState.COMPLETE
    assert operator.trail.deeds == [("olga", "changed", ("1.2",), True, f"retry of series {UID}")]
    assert "Asked for once more" in operator.client.get(f"/series/{UID}").text


def test_what_is_not_possible_is_said_and_audited(operator: Visitor) -> None:
    operator.submit(f"/series/{UID}/retry")
    operator.trail.deeds.clear()
    assert operator.submit(f"/series/{UID}/retry") == 409
    ((account, deed, _studies, succeeded, description),) = operator.trail.deeds
    assert (account, deed, succeeded) == ("olga", "changed", False)
    assert "TRANSITION_ILLEGAL" in description


@pytest.mark.parametrize(
    ("kind", "term", "found"),
    [
        ("uid", "1.2", {UID, OTHER}),
        ("uid", "1.2.3.9", {OTHER}),
        ("uid", "2.25.1", {OTHER}),
        ("accession", "A4711", {OTHER}),
        ("patient", " P12 ", {OTHER}),
        ("patient", "A4711", set()),
        ("uid", "A4711", set()),
    ],
)
def test_series_are_found(operator: Visitor, kind: str, term: str, found: set[str]) -> None:
    measure(operator)
    page = operator.found(kind=kind, term=term)
    assert {uid for uid in (UID, OTHER) if f'href="/series/{uid}"' in page} == found


def test_a_search_by_patient_is_audited_without_what_was_typed(operator: Visitor) -> None:
    measure(operator)
    page = operator.found(kind="patient", term="P12")
    assert operator.trail.deeds == [("olga", "viewed", ("1.2",), True, "searched by patient id")]
    assert "P12" not in page
    assert "P12" not in json.dumps(operator.trail.deeds)


def test_an_event_without_words_is_shown_by_its_name() -> None:
    assert event_words("measured") == "Measured"
    assert event_words("never_heard_of") == "Never heard of"


def test_a_ledger_that_is_away_is_said_in_a_sentence(operator: Visitor) -> None:
    operator.desk.ledger._database._engine.dispose()
    operator.desk.ledger._database.write(
        lambda connection: connection.exec_driver_sql("ALTER TABLE series RENAME TO elsewhere")
    )
    answer = operator.client.get("/series")
    assert answer.status_code == 503
    assert "LEDGER_UNUSABLE" in answer.text


@pytest.mark.parametrize(
    ("before", "action", "after", "event"),
    [
        (SeriesEvent.CONFLICT_FOUND, "release", SeriesState.COMPLETE, "released"),
        (SeriesEvent.INSTANCE_STORED, "force", SeriesState.COMPLETE, "completion_forced"),
        (SeriesEvent.CONFLICT_FOUND, "drop", SeriesState.DROPPED, "dropped"),
    ],
)
def test_what_operators_do_stands_in_the_history_with_who_and_why(
    operator: Visitor, before: SeriesEvent, action: str, after: SeriesState, event: str
) -> None:
    ledger = operator.desk.ledger
    ledger.advance(UID, before, operator.clock(), due_at=operator.clock())
    assert f'href="/series/{UID}/{action}"' in operator.client.get(f"/series/{UID}").text
    assert operator.submit(f"/series/{UID}/{action}", because="asked by the ward") == 303
    assert ledger.series(UID).state is after
    entry = ledger.history(UID)[-1]
    assert entry.event == event
    assert entry.reason is not None
    assert entry.reason.message == "asked for by olga: asked by the ward"
    assert operator.trail.deeds[-1][1:4] == ("changed", ("1.2",), True)


def give_up(ledger: Ledger, uid: str, now: datetime) -> None:
    """Let a PACS never take the result of a series."""
    ledger.advance(uid, SeriesEvent.DELIVERY_STARTED, now)
    (delivery,) = ledger.deliveries.claim(uid, "pacs", now, 60)
    ledger.deliveries.record(
        delivery, DeliveryState.DEAD, now, next_attempt_at=now, status=0xA900, detail="no"
    )
    ledger.advance(uid, SeriesEvent.DELIVERY_ABANDONED, now, reason=Reason("X", "no"))


def test_what_a_destination_gave_up_on_is_sent_again_for_this_series_alone(
    operator: Visitor,
) -> None:
    measure(operator)
    ledger, now = operator.desk.ledger, operator.clock()
    give_up(ledger, OTHER, now)
    third = "1.2.33"
    ledger.record_instance(instance(33, series_instance_uid=third), CompletionSettings())
    for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.MEASURED):
        ledger.advance(third, event, START)
    seg = ResultFile("2.25.3", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1", Path("t.dcm"))
    ledger.deliveries.queue(third, 1, [seg], ["pacs"], START)
    give_up(ledger, third, now)
    assert operator.submit(f"/series/{OTHER}/resend") == 303
    assert ledger.series(OTHER).state is SeriesState.DELIVERING
    assert [one.state for one in ledger.deliveries.of(OTHER)] == [DeliveryState.QUEUED]
    assert ledger.series(third).state is SeriesState.FAILED
    assert [one.state for one in ledger.deliveries.of(third)] == [DeliveryState.DEAD]


def test_every_measurement_of_the_same_images_is_shown(operator: Visitor) -> None:
    measure(operator)
    ledger = operator.desk.ledger
    assert "All measurements" not in operator.client.get(f"/series/{OTHER}").text
    for number in (1, 2):
        entry = result_entry(number, source_series_uid=OTHER, series_instance_uid=OTHER)
        ledger.results.record(replace(entry, by_reader=number == 2), START)
    key = (OTHER, 1, "candidate-1-0a1b2c3d")
    ledger.shadows.ask(key, "settings", START)
    ledger.shadows.end(key, START, {}, Reason("L3_UNCERTAIN", "L2 or L3"))
    page = operator.client.get(f"/series/{OTHER}").text
    for words in ("101.0", "102.0", "Corrected by a reader", "Shadow, never sent", "L2 or L3"):
        assert words in page


def test_only_what_is_possible_is_offered(operator: Visitor) -> None:
    page = operator.client.get(f"/series/{UID}").text
    offered = {name for name in _BY_NAME if f'href="/series/{UID}/{name}"' in page}
    assert offered == {"retry", "drop", "resend"}
    assert operator.submit(f"/series/{UID}/release") == 409
