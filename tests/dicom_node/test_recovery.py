import shutil
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.arrival_record import NO_RECORD, PREAMBLE_BYTES, ArrivalRecord
from dicom_node.config import NodeSettings
from dicom_node.ledger import Ledger
from dicom_node.records import ReceivedInstance
from dicom_node.recovery import Recovery
from dicom_node.spool import Spool
from dicom_node.spool_paths import instance_path
from tests.dicom_node.datasets import ct_header, encoded
from tests.dicom_node.factories import START, listening_node, node_settings
from tests.raw_peer import RawPeer, whole_store

pytestmark = pytest.mark.network
IMAGES = 4


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return node_settings(tmp_path)


@pytest.fixture
def received(settings: NodeSettings) -> tuple[ReceivedInstance, ...]:
    """What a listener received and recorded, of which the ledger then lost the second half."""
    ledger = settings.storage.folder / "ledger.sqlite"
    with listening_node(settings) as node:
        with RawPeer(node.port) as peer:
            for number in range(IMAGES):
                if number == IMAGES // 2:
                    save(ledger)
                uid = f"1.2.3.{number}"
                peer.send(whole_store(encoded(ct_header(SOPInstanceUID=uid)), uid))
                assert peer.status() == 0x0000
            peer.release()
        before = node.ledger.instances("1.2.3")
    for path in ledger.parent.glob("ledger.sqlite*"):
        path.unlink()
    for path in (ledger.parent / "saved").iterdir():
        path.rename(ledger.parent / path.name)
    return before


def save(ledger: Path) -> None:
    folder = ledger.parent / "saved"
    folder.mkdir()
    for path in ledger.parent.glob("ledger.sqlite*"):
        shutil.copy(path, folder)


def recover(settings: NodeSettings) -> tuple[int, tuple[ReceivedInstance, ...]]:
    with (
        closing(Spool.of(settings.storage)) as spool,
        closing(Ledger.open(settings.ledger_url)) as ledger,
    ):
        number = Recovery(settings, ledger, spool).run()
        return number, ledger.instances("1.2.3") if ledger.list_series() else ()


def test_what_the_ledger_lost_is_recorded_again(
    settings: NodeSettings, received: tuple[ReceivedInstance, ...]
) -> None:
    assert recover(settings) == (IMAGES // 2, received)
    assert recover(settings) == (0, received)


def test_a_whole_ledger_is_rebuilt(
    settings: NodeSettings, received: tuple[ReceivedInstance, ...]
) -> None:
    for path in settings.storage.folder.glob("ledger.sqlite*"):
        path.unlink()
    assert recover(settings) == (IMAGES, received)


def test_a_file_that_lost_its_name_gets_it_back(
    settings: NodeSettings, received: tuple[ReceivedInstance, ...]
) -> None:
    spool = Spool.of(settings.storage)
    last = spool.path(received[-1].path)
    last.rename(spool.path(Path("incoming")) / "0123.part")
    assert recover(settings) == (IMAGES // 2, received)
    assert last.is_file()
    assert spool.parts() == []


@pytest.mark.parametrize("harm", ["cut off", "other bytes", "no record", "empty"])
def test_what_did_not_arrive_whole_is_removed(
    settings: NodeSettings, received: tuple[ReceivedInstance, ...], harm: str
) -> None:
    spool = Spool.of(settings.storage)
    last = spool.path(received[-1].path)
    content = last.read_bytes()
    last.unlink()
    harmed = {
        "cut off": content[:-2],
        "other bytes": content[:-1] + b"\xff",
        "no record": NO_RECORD + content[PREAMBLE_BYTES:],
        "empty": b"",
    }
    (spool.path(Path("incoming")) / "0123.part").write_bytes(harmed[harm])
    assert recover(settings) == (IMAGES // 2 - 1, received[:-1])
    assert spool.parts() == []


def test_a_restart_leaves_alone_what_another_listener_is_writing(settings: NodeSettings) -> None:
    with closing(Spool.of(settings.storage)) as living:
        part = living.new_part()
        part.write(memoryview(b"half an image"))
        recover(settings)
        assert [path.read_bytes() for path in living.parts()] == [b"half an image"]
        part.flush()
        recover(settings)
        path = instance_path("1.2.3", "1.2.3.1", "ab" * 32)
        assert living.publish(part, path) is None
        assert living.path(path).read_bytes() == b"half an image"


def test_images_arrive_while_another_listener_of_the_spool_restarts(
    settings: NodeSettings,
) -> None:
    with listening_node(settings) as node, RawPeer(node.port) as peer:
        for number in range(IMAGES):
            uid = f"1.2.3.{number}"
            peer.send(whole_store(encoded(ct_header(SOPInstanceUID=uid)), uid))
            assert peer.status() == 0x0000
            recover(settings)
        peer.release()
        assert len(node.ledger.instances("1.2.3")) == IMAGES


def test_a_record_is_read_back_as_it_was_written() -> None:
    record = ArrivalRecord("ab" * 32, START + timedelta(microseconds=7), "2001:db8::1")
    assert ArrivalRecord.from_preamble(record.to_preamble()) == record
    assert ArrivalRecord.from_preamble(NO_RECORD) is None
    assert ArrivalRecord.from_preamble(b"") is None
