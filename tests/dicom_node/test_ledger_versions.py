"""From the previous version with series in every state, and back."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, text

from dicom_node.database import Database, schema_version
from dicom_node.errors import LedgerError, SettingsError
from dicom_node.ledger import Ledger
from dicom_node.ledger_versions import take_back
from dicom_node.records import DeliveryState, SeriesEvent, SeriesState
from tests.dicom_node.conftest import Psoas
from tests.dicom_node.factories import START
from tests.servers import Server, postgresql

DUMP = Path(__file__).with_name("ledger_of_0_1.sql")
UIDS = {state: f"1.2.{number}" for number, state in enumerate(list(SeriesState), start=1)}
OLD_STATES = (
    *("receiving", "complete", "queued", "analyzing", "analyzed", "delivering", "delivered"),
    *("skipped", "quarantined", "failed"),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger that version 0.1 wrote."""
    path = tmp_path / "node" / "ledger.sqlite"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as old:
        old.executescript(DUMP.read_text())
    return path


def content(file: Path) -> dict[str, list[tuple[object, ...]]]:
    tables = ("series", "instance", "history", "delivery")
    with closing(sqlite3.connect(file)) as database:
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in tables}  # noqa: S608


def test_every_series_of_the_previous_version_is_where_it_was(file: Path) -> None:
    with closing(Ledger.open(f"sqlite:///{file}")) as ledger:
        for number, state in enumerate(OLD_STATES, start=1):
            record = ledger.series(f"1.2.{number}")
            assert (record.state.value, record.route) == (state, None)
            assert len(ledger.instances(record.series_instance_uid)) == 1
            assert ledger.history(record.series_instance_uid)[-1].state.value == state
        states = [ledger.deliveries.of(f"1.2.{number}")[0].state for number in (5, 6, 7, 10)]
    queued, accepted, dead = DeliveryState.QUEUED, DeliveryState.ACCEPTED, DeliveryState.DEAD
    assert states == [queued, queued, accepted, dead]


def test_every_series_of_the_previous_version_goes_on(file: Path) -> None:
    steps = {
        "1.2.1": SeriesEvent.QUIET_PERIOD_OVER,
        "1.2.2": SeriesEvent.TASK_SENT,
        "1.2.3": SeriesEvent.WORK_STARTED,
        "1.2.4": SeriesEvent.MEASURED,
        "1.2.5": SeriesEvent.DELIVERY_STARTED,
        "1.2.6": SeriesEvent.ALL_DELIVERED,
        "1.2.7": SeriesEvent.RETRY_REQUESTED,
        "1.2.8": SeriesEvent.RETRY_REQUESTED,
        "1.2.9": SeriesEvent.RELEASED,
        "1.2.10": SeriesEvent.RETRY_REQUESTED,
    }
    with closing(Ledger.open(f"sqlite:///{file}")) as ledger:
        later = START + timedelta(hours=1)
        assert [r.series_instance_uid for r in ledger.due_series(later)] == ["1.2.1"]
        assert {r.series_instance_uid for r in ledger.lost_work(later)} == {"1.2.3", "1.2.4"}
        assert len(ledger.deliveries.due(later)) == 2
        for uid, event in steps.items():
            ledger.advance(uid, event, later)


def test_ledger_that_was_only_opened_goes_back_unchanged(file: Path) -> None:
    before = content(file)
    url = f"sqlite:///{file}"
    Ledger.open(url).close()
    assert schema_version(url) != "m0001"
    assert take_back(url, "0.1") == "m0001"
    assert content(file) == before
    Ledger.open(url).close()


def test_what_the_previous_version_does_not_know_is_translated(file: Path) -> None:
    url = f"sqlite:///{file}"
    with closing(Ledger.open(url)) as ledger:
        ledger.advance("1.2.1", SeriesEvent.DROPPED, START)
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE delivery SET state = 'committed' WHERE state = 'accepted'")
        database.execute("UPDATE series SET state = 'partly_delivered' WHERE state = 'delivered'")
        database.commit()
    take_back(url, "0.1")
    went_back = content(file)
    assert {row[2] for row in went_back["series"]} <= set(OLD_STATES)
    assert {row[7] for row in went_back["delivery"]} == {"queued", "accepted", "dead"}


def test_way_back_is_a_command(
    file: Path, psoas: Psoas, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{file}"
    Ledger.open(url).close()
    assert psoas("ledger", "downgrade", "--to", "0.1", "--yes") == 0
    capsys.readouterr()
    assert psoas("ledger", "version") == 0
    assert capsys.readouterr().out == "m0001\n"


def test_unknown_version_is_refused(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"no version 7\.0"):
        take_back(f"sqlite:///{file}", "7.0")
    with pytest.raises(LedgerError, match="cannot be migrated"):
        take_back(f"sqlite:///{file}", "m9999")


@pytest.fixture
def server() -> Iterator[Server]:
    with postgresql() as running:
        yield running


@pytest.mark.network
@pytest.mark.slow
def test_postgresql_goes_forth_and_back_with_the_same_series(file: Path, server: Server) -> None:
    Ledger.open(server.url).close()
    take_back(server.url, "0.1")
    engine = create_engine(server.url)
    source = content(file)
    with engine.begin() as connection:
        from sqlalchemy import MetaData

        old = MetaData()
        old.reflect(connection)
        for name in ("series", "instance", "history", "delivery"):
            columns = [column.name for column in old.tables[name].columns]
            rows = [dict(zip(columns, row, strict=True)) for row in source[name]]
            for row in rows:
                row.pop("number", None)  # the server counts for itself
            connection.execute(insert(old.tables[name]), rows)
    with closing(Ledger.open(server.url)) as ledger:
        assert sum(ledger.counts().values()) == len(OLD_STATES)
        ledger.advance("1.2.9", SeriesEvent.RELEASED, START)
    take_back(server.url, "0.1")
    with engine.begin() as connection:
        count = connection.execute(text("SELECT count(*) FROM series")).scalar()
    engine.dispose()
    assert count == len(OLD_STATES)
    Database.open(server.url).close()
