"""Copy ledger and spool while the node runs, and bring them back.

A backup is a folder::

    ledger.sqlite   every table of the ledger as it was at one moment
    spool/          every file that this ledger names, whole ones that it does not name yet,
                    installed models, and the secret of the patient digests
    manifest.json   when, by which version, and the SHA-256 of each file

Files of the spool never change under their names, so the ledger is copied first: whatever it
names is there when its turn comes. After a power cut images that were acknowledged may lie there
without a record, and even without their name; they are copied too, and the first start after a
restore records them. What is being written at the moment was not acknowledged and is left out.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, insert, select

from dicom_node import __version__
from dicom_node.config import NodeSettings
from dicom_node.database import Database, freeze
from dicom_node.errors import BackupError
from dicom_node.ledger import Ledger
from dicom_node.model_store import model_files
from dicom_node.recovery import unrecorded
from dicom_node.schema import METADATA
from dicom_node.spool import Spool

_LEDGER: Final = "ledger.sqlite"
_SPOOL: Final = "spool"
_MANIFEST: Final = "manifest.json"
_SECRET: Final = Path("patient.key")
_ALL_SERIES: Final = 10_000_000
_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds, or what was restored.

    Parameters
    ----------
    series, files : int
    size_bytes : int
    """

    series: int
    files: int
    size_bytes: int


def back_up(settings: NodeSettings, folder: Path, now: datetime) -> BackupReport:
    """Copy the ledger and everything that it names to a folder; the node may run meanwhile.

    Parameters
    ----------
    settings : NodeSettings
    folder : Path
        New or empty.
    now : datetime

    Raises
    ------
    BackupError
        The folder is in use, or a file that the ledger names cannot be read.
    """
    _make_empty(folder)
    source = Database.open(settings.ledger_url)
    copy = Database.open(_url_in(folder))
    try:
        _copy_tables(source, copy)
    finally:
        source.close()
        copy.close()
    spool = Spool.of(settings.storage)
    digests: dict[str, str] = {}
    size_bytes = 0
    ledger = Ledger.open(_url_in(folder))
    try:
        series = sum(ledger.counts().values())
        for path in _files_of(ledger, spool):
            target = folder / _SPOOL / path
            digests[path.as_posix()] = _copy_flushed(spool.path(path), target)
            size_bytes += target.stat().st_size
        for path in unrecorded(ledger, spool):
            target = folder / _SPOOL / path
            digest = _copy_if_there(spool.path(path), target)
            if digest is not None:
                digests[path.as_posix()] = digest
                size_bytes += target.stat().st_size
    finally:
        ledger.close()
    digests[_LEDGER] = _digest(folder / _LEDGER)
    manifest = {"version": __version__, "made_at": now.isoformat(), "sha256": digests}
    _write_flushed(folder / _MANIFEST, json.dumps(manifest, indent=1).encode())
    return BackupReport(series, len(digests) - 1, size_bytes)


def restore(settings: NodeSettings, folder: Path) -> BackupReport:
    """Bring a backup back into a node that has neither ledger nor spool.

    Parameters
    ----------
    settings : NodeSettings
    folder : Path
        What ``back_up`` made, by this version or an earlier one.

    Raises
    ------
    BackupError
        The backup is damaged or incomplete, or the node already has something to lose.
    """
    digests = _read_manifest(folder)
    _check_files(folder, digests)
    spool = Spool.of(settings.storage)
    target = Database.open(settings.ledger_url)
    try:
        if target.read(_has_rows):
            raise BackupError("the ledger of this node is not empty: nothing was restored")
        size_bytes = 0
        for name in digests:
            if name != _LEDGER:
                _copy_flushed(folder / _SPOOL / name, spool.path(Path(name)))
                size_bytes += (folder / _SPOOL / name).stat().st_size
        # The ledger comes last: a restore that broke off is one that has not begun.
        work = folder / f".{_LEDGER}.restoring"
        shutil.copyfile(folder / _LEDGER, work)
        source = Database.open(f"sqlite:///{work}")
        try:
            _copy_tables(source, target)
        finally:
            source.close()
            for leftover in folder.glob(f"{work.name}*"):
                leftover.unlink()
    finally:
        target.close()
    ledger = Ledger.open(settings.ledger_url)
    try:
        return BackupReport(sum(ledger.counts().values()), len(digests) - 1, size_bytes)
    finally:
        ledger.close()


def _copy_tables(source: Database, target: Database) -> None:
    def write(to: Connection) -> None:
        def read(connection: Connection) -> None:
            freeze(connection)
            for table in METADATA.sorted_tables:
                # Numbers that the database gives are given anew, in the same order.
                columns = [c for c in table.columns if c.name != "number"]
                query = select(*columns).order_by(*table.primary_key.columns)
                rows = connection.execute(query).mappings()
                while batch := rows.fetchmany(_ROWS):
                    to.execute(insert(table), [dict(row) for row in batch])

        source.read(read)

    target.write(write)


def _has_rows(connection: Connection) -> bool:
    return any(
        connection.execute(select(table).limit(1)).first() is not None
        for table in METADATA.sorted_tables
    )


def _files_of(ledger: Ledger, spool: Spool) -> Iterator[Path]:
    """Files of the spool that a ledger names."""
    if spool.path(_SECRET).exists():
        yield _SECRET
    yield from model_files(spool)
    for record in ledger.list_series(limit=_ALL_SERIES):
        uid = record.series_instance_uid
        for instance in ledger.instances(uid):
            yield instance.path
        yield from spool.result_files(uid)


def _read_manifest(folder: Path) -> dict[str, str]:
    try:
        digests = json.loads((folder / _MANIFEST).read_bytes())["sha256"]
        return {str(name): str(digest) for name, digest in digests.items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BackupError(f"{folder} holds no complete backup: {type(error).__name__}") from None


def _check_files(folder: Path, digests: dict[str, str]) -> None:
    for name, expected in digests.items():
        file = folder / name if name == _LEDGER else folder / _SPOOL / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BackupError(f"the backup names a file outside of it: {name}")
        if not file.is_file() or _digest(file) != expected:
            raise BackupError(f"the backup is damaged: {name} is missing or has other content")


def _make_empty(folder: Path) -> None:
    try:
        _make_private(folder)
        if any(folder.iterdir()):
            raise BackupError(f"{folder} is not empty")
    except OSError as error:
        raise BackupError(f"{folder} cannot be used: {error.strerror}") from None


def _make_private(folder: Path) -> None:
    # Path.mkdir gives its mode to the last folder only.
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _copy_flushed(source: Path, target: Path) -> str:
    try:
        _make_private(target.parent)
        content = source.read_bytes()
        _write_flushed(target, content)
    except OSError as error:
        raise BackupError(f"{source} cannot be copied: {error.strerror}") from None
    return hashlib.sha256(content).hexdigest()


def _copy_if_there(source: Path, target: Path) -> str | None:
    try:
        return _copy_flushed(source, target)
    except BackupError:
        # Let go of meanwhile, or recorded under its name.
        if source.exists():
            raise
        return None


def _write_flushed(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _url_in(folder: Path) -> str:
    return f"sqlite:///{folder / _LEDGER}"
