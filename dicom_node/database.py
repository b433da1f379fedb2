"""Open the database of the ledger: connections, transactions, migrations."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from dicom_node.errors import LedgerError, SettingsError

BUSY_TIMEOUT_MS: Final = 30_000
_WRITES: Final = "ledger_writes"
_FLUSHED: Final = "ledger_flushed"
_MIGRATION_LOCK: Final = 0x50534F41  # "PSOA"; any number that others do not use

Result = TypeVar("Result")


class Database:
    """Transactions on the tables of ``dicom_node.schema``, from any thread.

    Parameters
    ----------
    engine : Engine
        Of a database that has the present tables; ``Database.open`` makes sure of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITES: True, _FLUSHED: True})
        self._quick_writer = engine.execution_options(**{_WRITES: True, _FLUSHED: False})
        # SQLite lets one writer in at a time; waiting here is fair, waiting there polls.
        self._write_lock = threading.Lock()

    @classmethod
    def open(cls, url: str) -> Self:
        """Open a database and bring its tables up to date.

        Parameters
        ----------
        url : str
            SQLAlchemy URL.

        Raises
        ------
        SettingsError
            When the URL names no database that can be used.
        LedgerError
            When it cannot be opened or migrated.
        """
        database = cls.connect(url)
        database.write(migrate)
        return database

    @classmethod
    def connect(cls, url: str) -> Self:
        """Open a database with the tables that it has.

        Raises
        ------
        SettingsError, LedgerError
        """
        engine = _engine(url)
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        return cls(engine)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` on one consistent state of the database.

        Raises
        ------
        LedgerError
        """
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise _unusable("read", error) from error

    def write(self, work: Callable[[Connection], Result], *, flushed: bool = True) -> Result:
        """Run ``work`` as one transaction.

        Parameters
        ----------
        work : callable
        flushed : bool
            Whether it is on disk when this returns; otherwise everybody sees it and it outlives
            this process, but a power cut may undo it.

        Raises
        ------
        LedgerError
            Nothing of the transaction was kept.
        """
        try:
            writer = self._writer if flushed else self._quick_writer
            with self._write_lock, writer.begin() as connection:
                if not flushed and connection.dialect.name == "postgresql":
                    connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
                return work(connection)
        except SQLAlchemyError as error:
            raise _unusable("written", error) from error

    @property
    def file(self) -> str | None:
        """Path of an SQLite file, ``None`` for any other database."""
        name = self._engine.url.database
        is_file = self._engine.dialect.name == "sqlite" and name not in {None, "", ":memory:"}
        return name if is_file else None

    def write_beside(self, work: Callable[[], Result]) -> Result:
        """Run ``work``, which writes by a connection of its own, while nobody writes here.

        Raises
        ------
        LedgerError
        """
        try:
            with self._write_lock:
                return work()
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger cannot be written: {error}") from error


def freeze(connection: Connection) -> None:
    """Let everything that a transaction reads be of one moment; call it first."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def schema_version(url: str) -> str | None:
    """Version of the tables of a database, ``None`` when it has none.

    Raises
    ------
    SettingsError, LedgerError
    """
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise _unusable("read", error) from error
    finally:
        engine.dispose()


def migrate(connection: Connection, revision: str = "head", *, back: bool = False) -> None:
    """Bring the tables to a revision, forward or back.

    Raises
    ------
    LedgerError
        There is no such revision, or it does not lie in that direction.
    """
    if connection.dialect.name == "postgresql":
        # Listeners that start together migrate one after the other.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
    config = Config()
    config.set_main_option("script_location", "dicom_node:migrations")
    config.attributes["connection"] = connection
    try:
        (command.downgrade if back else command.upgrade)(config, revision)
    except CommandError as error:
        raise LedgerError(f"the ledger cannot be migrated to {revision}: {error}") from None


def _engine(url: str) -> Engine:
    try:
        # A server that was started again has closed the connections of before.
        return create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise SettingsError(f"storage.ledger_url cannot be used: {error}") from None


def _unusable(verb: str, error: SQLAlchemyError) -> LedgerError:
    # The cause of the driver says what is wrong; SQLAlchemy's own text quotes the parameters.
    cause = getattr(error, "orig", None) or type(error).__name__
    return LedgerError(f"the ledger cannot be {verb}: {cause}")


def _prepare_sqlite(engine: Engine) -> None:
    """Make commits durable, readers free of writers, and the file private."""
    if engine.url.database:
        _create_private(Path(engine.url.database))

    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # Python's driver would begin transactions on its own, and too late.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A transaction that reads before it writes must hold the lock from its start.
        options = connection.get_execution_options()
        if options.get(_WRITES, False):
            level = "FULL" if options[_FLUSHED] else "NORMAL"
            connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")


def _create_private(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError as error:
        raise LedgerError(f"the ledger {file} cannot be opened: {error.strerror}") from None
