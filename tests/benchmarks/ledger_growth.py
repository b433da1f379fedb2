"""How the questions that the node asks its ledger grow with the number of series."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from sqlalchemy import Connection, insert

from dicom_node.config import CompletionSettings
from dicom_node.database import Database
from dicom_node.ledger import Ledger
from dicom_node.ledger_arrivals import Arrival
from dicom_node.records import SeriesState
from dicom_node.schema import SERIES
from tests.dicom_node.factories import instance

NOW = datetime(2026, 6, 1, tzinfo=UTC)
_AT_ONCE = 10_000
_REPEATS = 5

Times = dict[str, float]
"""Milliseconds by question."""


def run_ledger(folder: Path, series: int) -> Times:
    """Fill a ledger with delivered series, then ask it."""
    url = f"sqlite:///{folder / f'{series}.sqlite'}"
    _fill(url, series)
    with closing(Ledger.open(url)) as ledger:
        asked: dict[str, Callable[[], object]] = {
            "newest 100 series": ledger.list_series,
            "series that are due": lambda: ledger.due_series(NOW),
            "numbers by state": ledger.counts,
            "one series": lambda: ledger.series(f"1.2.{series // 2}"),
            "record an image": lambda: ledger.record_arrivals([next(arrivals)]),
        }
        arrivals = _arrivals()
        return {name: _median_ms(question) for name, question in asked.items()}


def ledger_table(results: dict[int, Times]) -> Iterator[str]:
    """The answers' times in milliseconds as rows of a Markdown table."""
    yield "| question, ms | " + " | ".join(f"{series:,} series" for series in results) + " |"
    yield "|---" * (len(results) + 1) + "|"
    for name in next(iter(results.values())):
        row = " | ".join(f"{times[name]:.1f}" for times in results.values())
        yield f"| {name} | {row} |"


def _fill(url: str, series: int) -> None:
    database = Database.open(url)
    with closing(database):
        for start in range(0, series, _AT_ONCE):
            rows = [series_row(number) for number in range(start, min(start + _AT_ONCE, series))]

            def write(connection: Connection, rows: list[dict[str, object]] = rows) -> None:
                connection.execute(insert(SERIES), rows)

            database.write(write)


def series_row(number: int) -> dict[str, object]:
    """Row of a series whose results were delivered."""
    at = NOW - timedelta(seconds=number)
    return {
        "series_instance_uid": f"1.2.{number}",
        "study_instance_uid": f"1.3.{number}",
        "state": SeriesState.DELIVERED.value,
        "revision": 1,
        "attempt": 1,
        "instance_count": 300,
        "source_ae_title": "CT1",
        "patient_key": f"{number:064x}",
        "first_received_at": at,
        "last_received_at": at,
        "revision_started_at": at,
        "queued_at": at,
        "updated_at": at,
    }


def _arrivals() -> Iterator[Arrival]:
    for number in range(1, 1000):
        image = instance(number, series_instance_uid="9.9", received_at=NOW)
        yield Arrival(replace(image, sop_instance_uid=f"9.9.{number}"), CompletionSettings())


def _median_ms(question: Callable[[], object]) -> float:
    question()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        question()
        times.append((time.perf_counter() - start) * 1e3)
    return median(times)
