import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, insert, select, text

from dicom_node.database import Database
from dicom_node.errors import LedgerError, SettingsError
from dicom_node.schema import METADATA, SERIES


def tables(connection: Connection) -> list[str]:
    names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
    return sorted(names.scalars())


def test_the_migrations_make_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Database.open(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    first = Database.open(url)
    before = first.read(tables)
    first.close()
    second = Database.open(url)
    assert second.read(tables) == before
    assert "alembic_version" in before
    second.close()


def test_commits_are_flushed_and_readers_do_not_wait(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")

    def pragma(name: str) -> object:
        return database.read(lambda c: c.execute(text(f"PRAGMA {name}")).scalar())

    assert pragma("synchronous") == 2
    assert pragma("journal_mode") == "wal"
    assert pragma("foreign_keys") == 1

    def read_meanwhile(_connection: Connection) -> list[str]:
        return database.read(tables)

    assert "series" in database.write(read_meanwhile)
    database.close()


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")

    def fail(connection: Connection) -> None:
        connection.execute(text("INSERT INTO history (series_instance_uid) VALUES ('1')"))

    with pytest.raises(LedgerError) as caught:
        database.write(fail)
    assert "NOT NULL" in str(caught.value)
    assert database.read(lambda c: c.execute(select(SERIES)).all()) == []
    with pytest.raises(LedgerError):
        database.write(lambda c: c.execute(insert(SERIES).values(series_instance_uid="1")))
    database.close()


def test_the_file_is_private(tmp_path: Path) -> None:
    file = tmp_path / "node" / "ledger.sqlite"
    Database.open(f"sqlite:///{file}").close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_what_is_no_database_is_said_in_a_sentence(tmp_path: Path) -> None:
    for url in ("nonsense", "nosuchdatabase://x/y"):
        with pytest.raises(SettingsError, match=r"storage\.ledger_url"):
            Database.open(url)
    file = tmp_path / "ledger.sqlite"
    file.write_bytes(b"this is not a database, but it is long enough to be taken for one" * 20)
    with pytest.raises(LedgerError, match="not a database"):
        Database.open(f"sqlite:///{file}")
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be opened"):
        Database.open(f"sqlite:///{tmp_path / 'file' / 'ledger.sqlite'}")
