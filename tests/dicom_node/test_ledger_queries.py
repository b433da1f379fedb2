"""Pages of the ledger: what they list, and that a hundred thousand series cost no scan."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Select

from dicom_node.config import CompletionSettings
from dicom_node.ledger import Ledger
from dicom_node.ledger_queries import (
    Place,
    SeriesFilter,
    keys_query,
    page_query,
    series_page,
    series_with_keys,
    series_with_uid,
    uid_queries,
)
from dicom_node.records import SeriesState
from tests.dicom_node.factories import START, instance
from tests.dicom_node.many import MANY, fill

ANY = CompletionSettings()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("large")
    with closing(Ledger.open(f"sqlite:///{folder / 'ledger.sqlite'}")) as ledger:
        fill(ledger)
        yield ledger


def plan(connection: Connection, query: Select[tuple[object]]) -> list[str]:
    compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
    return [step[3] for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]


def check_plan(ledger: Ledger, query: Select[tuple[object]], *, allowed: str = "SEARCH") -> None:
    """Every step begins as ``allowed`` says; nothing is sorted that an index has in order."""
    steps = ledger.read(partial(plan, query=query))
    assert all(re.match(allowed, step) for step in steps), steps


# What was found is little, so sorting it costs nothing.
FOUND = "SEARCH|MULTI-INDEX OR|INDEX|LIST SUBQUERY|CREATE BLOOM|USE TEMP B-TREE FOR ORDER BY"
FILTERS = [
    SeriesFilter(),
    SeriesFilter(state=SeriesState.DELIVERED),
    SeriesFilter(source_ae_title="CT1"),
    SeriesFilter(reason_code="L3_UNCERTAIN"),
    SeriesFilter(state=SeriesState.FAILED, source_ae_title="CT0", reason_code="L3_UNCERTAIN"),
]


@pytest.mark.parametrize("wanted", FILTERS)
@pytest.mark.parametrize("direction", ["older_than", "newer_than", "newest"])
def test_a_page_among_many_is_read_along_an_index(
    large: Ledger, wanted: SeriesFilter, direction: str
) -> None:
    place = Place(START + timedelta(seconds=MANY / 2), "1.2.3.50000")
    where = {} if direction == "newest" else {direction: place}
    in_order = "SCAN series USING INDEX ix_series_first_received_at"
    everything = direction == "newest" and wanted == SeriesFilter()
    allowed = in_order if everything else "SEARCH"
    check_plan(large, page_query(wanted, 50, **where), allowed=allowed)


def test_a_search_among_many_scans_nothing(large: Ledger) -> None:
    for query in uid_queries("1.2.3.4711"):
        check_plan(large, query, allowed=FOUND)
    check_plan(large, keys_query([f"{4711:064x}"]), allowed=FOUND)


def test_pages_hold_every_series_once_in_both_directions(large: Ledger) -> None:
    wanted = SeriesFilter(state=SeriesState.FAILED)
    read = partial(series_page, wanted=wanted, size=70)
    page = large.read(read)
    assert page.newer is None
    forward = [page]
    while page.older is not None:
        page = large.read(partial(read, older_than=page.older))
        forward.append(page)
    backward = [page]
    while page.newer is not None:
        page = large.read(partial(read, newer_than=page.newer))
        backward.append(page)
    uids = [record.series_instance_uid for page in forward for record in page.series]
    assert uids == [f"1.2.3.{number}" for number in range(MANY - 100, -1, -100)]
    again = [record.series_instance_uid for page in reversed(backward) for record in page.series]
    assert again == uids


def test_series_of_the_same_moment_are_told_apart(tmp_path: Path) -> None:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        for number in range(5):
            of_series = f"1.2.{number}"
            ledger.record_instance(instance(number, series_instance_uid=of_series), ANY)
        first = ledger.read(partial(series_page, wanted=SeriesFilter(), size=3))
        second = ledger.read(
            partial(series_page, wanted=SeriesFilter(), size=3, older_than=first.older)
        )
        uids = [record.series_instance_uid for record in (*first.series, *second.series)]
        assert uids == ["1.2.4", "1.2.3", "1.2.2", "1.2.1", "1.2.0"]
        assert second.older is None


@pytest.mark.parametrize("uid", ["1.2.3.4711", "1.2.1570"])
def test_a_series_is_found_by_its_own_uid_and_its_study(large: Ledger, uid: str) -> None:
    found = large.read(partial(series_with_uid, uid=uid))
    assert "1.2.3.4711" in {record.series_instance_uid for record in found}


def test_a_series_is_found_by_an_image_and_by_the_beginning_of_its_uid(tmp_path: Path) -> None:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        ledger.record_instance(instance(7, series_instance_uid="1.9.3"), ANY)
        for uid in ("1.2.3.7", "1.9"):
            (found,) = ledger.read(partial(series_with_uid, uid=uid))
            assert found.series_instance_uid == "1.9.3"
        assert ledger.read(partial(series_with_uid, uid="9")) == ()


def test_a_series_is_found_by_the_digests_of_its_first_image(tmp_path: Path) -> None:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        taken = instance(1, accession_key="c" * 64, patient_id_key="d" * 64)
        ledger.record_instance(taken, ANY)
        for key in ("c" * 64, "d" * 64):
            (found,) = ledger.read(partial(series_with_keys, keys=[key]))
            assert found.series_instance_uid == "1.2.3"
        assert ledger.read(partial(series_with_keys, keys=["e" * 64])) == ()
