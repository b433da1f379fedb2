"""Trends and peers: what is counted, drawn and told."""

import xml.etree.ElementTree as ET
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from dicom_node.config import CompletionSettings, DestinationSettings
from dicom_node.console.charts import line_chart
from dicom_node.console.insight import rates
from dicom_node.ledger import Ledger
from dicom_node.ledger_findings import Finding, tallies
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import Reason, SeriesEvent
from dicom_node.watch import Watch
from dicom_node.worklog import WorkLog
from tests.dicom_node.console.conftest import Visitor
from tests.dicom_node.factories import START, instance, node_settings
from tests.peers import ScriptedPacs

FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def found(tmp_path: Path) -> Ledger:
    """Five series of two scanners in two months."""
    ledger = Ledger.open(node_settings(tmp_path).ledger_url)
    rows = [
        ("CT1", START, Finding("measured", None, 140.0)),
        ("CT1", START, Finding("measured", None, 160.0)),
        ("CT1", START, Finding("failed", "L3_UNCERTAIN")),
        ("CT1", START, Finding("skipped", "L3_NOT_COVERED")),
        ("CT2", FEBRUARY, Finding("measured", None, 100.0)),
    ]
    for number, (source, at, finding) in enumerate(rows):
        uid = f"1.2.{number}"
        one = instance(number, series_instance_uid=uid, calling_ae_title=source)
        ledger.record_instance(one, CompletionSettings())
        ledger.findings.record(uid, finding, at)
    return ledger


def test_results_are_counted_by_scanner_and_month(found: Ledger) -> None:
    with closing(found):
        january, february = rates(found.read(partial(tallies, since_month="2025-12")))
        assert (january.month, january.source, january.count) == ("2026-01", "CT1", 4)
        assert (january.mean_cm2, january.failed, january.unmeasured) == (150.0, 0.25, 0.25)
        assert (february.source, february.mean_cm2, february.failed) == ("CT2", 100.0, 0.0)
        assert len(rates(found.read(partial(tallies, since_month="2026-02")))) == 1


def test_a_later_revision_replaces_what_was_found(found: Ledger) -> None:
    with closing(found):
        found.findings.record("1.2.4", Finding("failed", "X"), FEBRUARY)
        _, february = rates(found.read(partial(tallies, since_month="2025-12")))
        assert (february.count, february.failed, february.mean_cm2) == (1, 1.0, None)


def test_trends_are_read_from_an_index_alone(found: Ledger) -> None:
    query = (
        "EXPLAIN QUERY PLAN SELECT month, source_ae_title, kind, count(*), avg(muscle_cm2)"
        " FROM finding WHERE month >= '2025-12' GROUP BY month, source_ae_title, kind"
    )
    with closing(found):
        steps = found.read(lambda connection: connection.exec_driver_sql(query).all())
        assert [step[3] for step in steps] == [
            "SEARCH finding USING COVERING INDEX ix_finding_month (month>?)"
        ]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (
            Outcome(OutcomeKind.MEASURED, measurement={"skeletal_muscle_area_cm2": 141.2}),
            ("measured", 141.2),
        ),
        (Outcome(OutcomeKind.FAILED, Reason("L3_UNCERTAIN", "no")), ("failed", None)),
    ],
)
def test_the_end_of_the_work_is_what_trends_count(
    tmp_path: Path, outcome: Outcome, expected: tuple[str, float | None]
) -> None:
    with closing(Ledger.open(node_settings(tmp_path).ledger_url)) as ledger:
        ledger.record_instance(instance(), CompletionSettings())
        for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT):
            ledger.advance("1.2.3", event, START)
        WorkLog(ledger, [], 3).ended("1.2.3", 1, outcome, START)
        (tally,) = ledger.read(partial(tallies, since_month="2026-01"))
        assert (tally.kind, tally.mean_cm2) == expected


def test_a_chart_is_a_picture_with_a_name_and_every_point() -> None:
    lines = {"CT<1>": {"2026-01": 140.0, "2026-03": 150.0}, "CT2": {"2026-02": 130.0}}
    months = ["2026-01", "2026-02", "2026-03"]
    text = line_chart(lines, months, "Mean area", " cm²", from_zero=False)
    root = ET.fromstring(text)  # noqa: S314 - drawn here
    assert root.get("role") == "img"
    assert root.get("aria-label") == "Mean area"
    assert len(root.findall("polyline")) == 2
    points = [one.get("points", "").split() for one in root.findall("polyline")]
    assert [len(one) for one in points] == [2, 1]
    heights = [float(point.split(",")[1]) for point in points[0]]
    assert heights[0] > heights[1]  # more is higher
    assert "CT<1>" in [one.text for one in root.findall("text")]
    assert "style" not in text


def test_the_axis_has_numbers_that_people_like_to_read() -> None:
    text = line_chart({"CT": {"2026-01": 13.3, "2026-02": 3.3}}, ["2026-01", "2026-02"], "", " %")
    texts = [one.text for one in ET.fromstring(text).findall("text")]  # noqa: S314 - drawn here
    assert texts[:5] == ["0", "5", "10", "15", "20 %"]


def test_an_empty_chart_can_be_drawn() -> None:
    assert ET.fromstring(line_chart({}, [], "Nothing", "")).tag == "svg"  # noqa: S314 - drawn here


def test_the_pages_of_trends_and_peers_tell(operator: Visitor) -> None:
    ledger, now = operator.desk.ledger, operator.clock()
    assert "Nothing was analysed" in operator.client.get("/trends").text
    ledger.findings.record("1.2.3", Finding("measured", None, 141.26), now)
    trends = operator.client.get("/trends").text
    assert "141.3 cm²" in trends
    assert trends.count("<svg") == 3
    ledger.alarms.raise_("DISK_FULL", "spool", "3 MiB are free", now)
    operator.clock.forward(1200)
    peers = operator.client.get("/peers").text
    assert "SCANNER" in peers
    assert "20 min" in peers
    assert "DISK_FULL" in peers


@pytest.mark.network
def test_every_destination_is_verified_and_the_answer_kept(tmp_path: Path) -> None:
    with ScriptedPacs() as pacs:
        here = {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}
        named = [{"name": "pacs"} | here, {"name": "wrong"} | here | {"ae_title": "OTHER"}]
        settings = node_settings(tmp_path, destinations=named)
        assert isinstance(settings.destinations[0], DestinationSettings)
        with closing(Ledger.open(settings.ledger_url)) as ledger:
            Watch(settings, ledger, {}).verify(START)
            echoes = ledger.findings.echoes()
            assert echoes["pacs"].complaint == ""
            assert echoes["wrong"].complaint != ""
            Watch(settings, ledger, {}).verify(START + timedelta(hours=1))
            assert ledger.findings.echoes()["pacs"].at == START + timedelta(hours=1)
