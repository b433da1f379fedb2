"""A series goes in, SEG, SR and key image come out, whatever breaks on the way."""

import json
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.demo.readback import stored_results, understand
from dicom_node.records import SeriesState
from tests.reader import values_of
from tests.system.running_node import RunningNode, wait_until

pytestmark = [pytest.mark.network, pytest.mark.redis, pytest.mark.slow]


def test_series_comes_back_as_segmentation_report_and_key_image(
    node: RunningNode, series: Path
) -> None:
    uid = node.send(series)
    node.wait_for(uid, SeriesState.DELIVERED)
    assert sorted(d.SOPClassUID for d in node.pacs.received.values()) == sorted(
        [SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage]
    )
    sent = [dcmread(path) for path in sorted(series.glob("*.dcm"))]
    stored = stored_results(list(node.pacs.received.values()), sent[0])
    assert stored is not None
    finding = understand(stored, sent)
    assert abs(finding.slice_index - 9) <= 2
    assert finding.area_cm2 == pytest.approx(113, rel=0.15)


def test_results_reach_a_pacs_that_was_down(node: RunningNode, series: Path) -> None:
    node.pacs.stop()
    uid = node.send(series)
    wait_until(
        lambda: min((d.attempts for d in node.deliveries(uid)), default=0) >= 2, "second attempt"
    )
    assert node.ledger.series(uid).state is SeriesState.DELIVERING
    assert node.pacs.received == {}
    node.restart_pacs()
    node.wait_for(uid, SeriesState.DELIVERED)
    assert set(node.pacs.received) == set(node.results(uid))


def test_pacs_that_refuses_segmentations_gets_one_report_that_refers_to_none(
    node: RunningNode, series: Path
) -> None:
    node.pacs.refused = {SegmentationStorage}
    uid = node.send(series)
    node.wait_for(uid, SeriesState.PARTLY_DELIVERED)
    (report,) = [d for d in node.pacs.received.values() if d.Modality == "SR"]
    assert SegmentationStorage not in report.to_json()
    assert sorted(d.Modality for d in node.pacs.received.values()) == ["OT", "SR"]
    assert len(node.pacs.attempts) == len(set(node.pacs.attempts)) == 3
    account = json.loads(node.psoas("show", uid, "--json").stdout)
    assert account["series"]["state"] == "partly_delivered"
    assert sorted(d["state"] for d in account["deliveries"]) == ["accepted"] * 2 + ["refused"] * 2


def test_series_that_cannot_be_read_is_reported_with_the_reason(
    node: RunningNode, series: Path
) -> None:
    path = series / "slice_05.dcm"
    image = dcmread(path)
    image.PixelData = image.PixelData[:1000]
    image.save_as(path)
    uid = node.send(series)
    node.wait_for(uid, SeriesState.QUARANTINED)
    wait_until(lambda: bool(node.pacs.received), "report of the reason")
    (report,) = node.pacs.received.values()
    assert report.SOPClassUID == BasicTextSRStorage
    assert report.StudyInstanceUID == image.StudyInstanceUID
    reason = node.ledger.series(uid).reason
    assert reason is not None
    assert reason.code == "PIXEL_DATA_UNREADABLE"
    assert any(reason.message in said for said in values_of(report, "TextValue"))


def test_series_is_analysed_after_the_broker_was_killed(node: RunningNode, series: Path) -> None:
    uid = node.send(series)
    node.kill_broker()
    node.wait_for(uid, SeriesState.DELIVERED)
    assert len(node.pacs.received) == 3


def test_series_survives_the_process_that_measures_it(node: RunningNode, series: Path) -> None:
    uid = node.send(series)
    node.wait_for(uid, SeriesState.ANALYZING)
    node.kill_child("gpu")
    node.wait_for(uid, SeriesState.DELIVERED)
    assert node.events(uid).count("work_lost") == 1
    assert len(node.pacs.received) == 3


def test_series_survives_the_whole_worker(node: RunningNode, series: Path) -> None:
    uid = node.send(series)
    node.wait_for(uid, SeriesState.ANALYZING)
    node.kill("gpu")
    node.start("gpu")
    node.wait_for(uid, SeriesState.DELIVERED)
    assert node.events(uid).count("task_sent") == 2
    assert len(node.pacs.received) == 3


def test_repeated_work_makes_no_twins(node: RunningNode, series: Path) -> None:
    uid = node.send(series)
    node.wait_for(uid, SeriesState.DELIVERED)
    before = node.results(uid)
    again = node.psoas("retry", uid)
    assert again.returncode == 0, again.stderr
    wait_until(lambda: node.events(uid).count("measured") == 2, "second measurement")
    node.wait_for(uid, SeriesState.DELIVERED)
    assert node.results(uid) == before
    assert set(node.pacs.attempts) == set(before)


def test_administrator_sees_what_happened(node: RunningNode, series: Path) -> None:
    uid = node.send(series)
    node.wait_for(uid, SeriesState.DELIVERED)
    account = json.loads(node.psoas("show", uid, "--json").stdout)
    assert account["series"]["state"] == "delivered"
    assert account["measurement"]["skeletal_muscle_area_cm2"] > 0
    assert [delivery["state"] for delivery in account["deliveries"]] == ["accepted"] * 3
    overview = json.loads(node.psoas("status", "--json").stdout)
    assert uid in {record["series_instance_uid"] for record in overview["series"]}
