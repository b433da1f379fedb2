"""What was backed up comes back whole, on whatever kind of database."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from dicom_node.backup import back_up, restore
from dicom_node.config import CompletionSettings, NodeSettings
from dicom_node.database import Database, schema_version
from dicom_node.errors import BackupError
from dicom_node.ledger import Ledger
from dicom_node.records import Announcement, DeliveryState, ResultFile, SeriesEvent, SeriesState
from dicom_node.recovery import Recovery
from dicom_node.spool import FileIdentity, Spool
from dicom_node.work_order import WorkOrder
from tests.dicom_node.datasets import ct_header, encoded
from tests.dicom_node.factories import START, instance, listening_node, node_settings
from tests.raw_peer import RawPeer, whole_store

UID = "1.2.3"
SR = ResultFile("2.25.2", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.1.2.1", Path("sr.dcm"))


def used_node(folder: Path) -> NodeSettings:
    """A node with a delivered series, one that waits for a worker, and an alarm."""
    settings = node_settings(folder)
    spool = Spool.of(settings.storage)
    spool.patient_secret()
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        for number, uid in enumerate((UID, "1.2.9"), start=1):
            identity = FileIdentity("1.2", f"1.2.3.{number}", uid, "1.2.840.10008.1.2.1", "CT1")
            stored = spool.put_instance(identity, bytes(100 * number))
            arrived = instance(
                number, series_instance_uid=uid, path=stored.path, sha256=stored.sha256
            )
            ledger.record_instance(arrived, CompletionSettings())
            ledger.advance(uid, SeriesEvent.QUIET_PERIOD_OVER, START)
            ledger.advance(uid, SeriesEvent.TASK_SENT, START)
            spool.put_work(uid, 1, WorkOrder((stored.path,), START, 1))
        ledger.advance(UID, SeriesEvent.MEASURED, START)
        spool.put_results(UID, 1, {"sr.dcm": b"sr"})
        ledger.deliveries.queue(UID, 1, [SR], ["pacs"], START)
        (delivery,) = ledger.deliveries.of(UID)
        ledger.commitments.request([delivery], "1.9.9", START, START)
        ledger.deliveries.record(
            delivery, DeliveryState.ACCEPTED, START, next_attempt_at=START, status=0, detail=""
        )
        ledger.announcements.record(
            [Announcement(UID, "IAN", "CT1", START, frozenset({"1.2.3.1"}))]
        )
        ledger.alarms.raise_("CLOCK_STEPPED", "clock", "the clock stepped", START)
    return settings


def contents(settings: NodeSettings) -> tuple[object, ...]:
    """Everything that a node knows and has."""
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        series = ledger.list_series()
        uids = [record.series_instance_uid for record in series]
        known = [(ledger.instances(u), ledger.history(u), ledger.deliveries.of(u)) for u in uids]
        alarms = ledger.alarms.standing(), ledger.announcements.of(UID)
    spool = Spool.of(settings.storage).path(Path())
    found = [p.relative_to(spool) for p in spool.rglob("*") if p.is_file()]
    # What waits for images that nobody has sent yet is nobody's.
    files = {p: (spool / p).read_bytes() for p in found if p.parts[0] != "incoming"}
    return series, known, alarms, files


def test_a_backup_brings_back_everything(tmp_path: Path) -> None:
    before = used_node(tmp_path / "old")
    report = back_up(before, tmp_path / "copy", START)
    assert (report.series, report.files) == (2, 6)
    after = node_settings(tmp_path / "new")
    assert restore(after, tmp_path / "copy") == report
    assert contents(after) == contents(before)
    with closing(Ledger.open(after.ledger_url)) as ledger:
        # The numbers of the history go on where they were.
        ledger.advance("1.2.9", SeriesEvent.WORK_STARTED, START)
        assert ledger.history("1.2.9")[-1].event == "work_started"


def test_a_backup_is_private(tmp_path: Path) -> None:
    back_up(used_node(tmp_path / "old"), tmp_path / "copy", START)
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "copy").rglob("*")}
    assert modes == {0}


def test_a_backup_after_a_power_cut_holds_what_the_ledger_lost(tmp_path: Path) -> None:
    settings = node_settings(tmp_path / "old")
    with listening_node(settings) as node, RawPeer(node.port) as peer:
        for number in (1, 2, 3):
            uid = f"1.2.3.{number}"
            peer.send(whole_store(encoded(ct_header(SOPInstanceUID=uid)), uid))
            assert peer.status() == 0x0000
        peer.release()
        before = node.ledger.instances(UID)
    spool = Spool.of(settings.storage)
    # The ledger is empty, one image has no name, another one broke off.
    for path in settings.storage.folder.glob("ledger.sqlite*"):
        path.unlink()
    spool.path(before[0].path).rename(spool.path(Path("incoming/0123.part")))
    spool.path(Path("incoming/4567.part")).write_bytes(b"broken off")
    with closing(Spool.of(settings.storage)) as living:
        living.new_part().write(memoryview(b"not acknowledged"))
        report = back_up(settings, tmp_path / "copy", START)
    assert (report.series, report.files) == (0, 5)
    after = node_settings(tmp_path / "new")
    restore(after, tmp_path / "copy")
    with closing(Ledger.open(after.ledger_url)) as ledger:
        assert Recovery(after, ledger, Spool.of(after.storage)).run() == 3
        assert ledger.instances(UID) == before


def test_a_node_with_something_to_lose_is_not_overwritten(tmp_path: Path) -> None:
    settings = used_node(tmp_path / "old")
    back_up(settings, tmp_path / "copy", START)
    with pytest.raises(BackupError, match="not empty"):
        restore(settings, tmp_path / "copy")
    with pytest.raises(BackupError, match="not empty"):
        back_up(settings, tmp_path / "copy", START)


@pytest.mark.parametrize("what", ["spool/patient.key", "ledger.sqlite", "manifest.json"])
def test_a_damaged_backup_is_noticed_before_anything_is_written(tmp_path: Path, what: str) -> None:
    back_up(used_node(tmp_path / "old"), tmp_path / "copy", START)
    with (tmp_path / "copy" / what).open("r+b") as file:
        file.write(b"!")
    after = node_settings(tmp_path / "new")
    with pytest.raises(BackupError):
        restore(after, tmp_path / "copy")
    assert not Spool.of(after.storage).path(Path("instances")).exists()


def test_a_file_that_the_ledger_names_must_be_there(tmp_path: Path) -> None:
    settings = used_node(tmp_path / "old")
    spool = Spool.of(settings.storage)
    next(spool.path(Path("instances")).rglob("*.dcm")).unlink()
    with pytest.raises(BackupError, match="cannot be copied"):
        back_up(settings, tmp_path / "copy", START)


def ledger_of_the_first_version(file: Path) -> str:
    """A ledger as version 0.1 left it, with a series that was being analysed."""
    url = f"sqlite:///{file}"
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", "dicom_node:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "m0001")
        times = dict.fromkeys(
            ("first_received_at", "last_received_at", "revision_started_at", "updated_at"),
            "2026-01-02 10:00:00.000000",
        )
        series = times | {
            "series_instance_uid": UID,
            "study_instance_uid": "1.2",
            "state": "analyzing",
            "revision": 2,
            "attempt": 1,
            "instance_count": 1,
            "source_ae_title": "CT1",
            "patient_key": "a" * 64,
            "due_at": "2026-01-02 11:00:00.000000",
        }
        names = ", ".join(series)
        places = ", ".join(f":{name}" for name in series)
        connection.execute(text(f"INSERT INTO series ({names}) VALUES ({places})"), series)  # noqa: S608
    engine.dispose()
    return url


def test_the_ledger_of_the_previous_version_is_carried_over(tmp_path: Path) -> None:
    url = ledger_of_the_first_version(tmp_path / "ledger.sqlite")
    assert schema_version(url) == "m0001"
    with closing(Ledger.open(url)) as ledger:
        record = ledger.series(UID)
        assert (record.state, record.revision, record.attempt) == (SeriesState.ANALYZING, 2, 1)
        assert (record.order_number, record.released_at) == (0, None)
        # Its work goes on: what is lost is sent again under the next number.
        later = START + timedelta(hours=2)
        assert len(ledger.lost_work(later)) == 1
        ledger.advance(UID, SeriesEvent.WORK_LOST, later)
        assert ledger.advance(UID, SeriesEvent.TASK_SENT, later).order_number == 1
    assert schema_version(url) != "m0001"


def test_a_database_without_tables_has_no_version(tmp_path: Path) -> None:
    assert schema_version(f"sqlite:///{tmp_path / 'new.sqlite'}") is None
    Database.open(f"sqlite:///{tmp_path / 'new.sqlite'}").close()
    assert schema_version(f"sqlite:///{tmp_path / 'new.sqlite'}") is not None
