import hashlib
import stat
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.errors import SpoolError
from dicom_node.spool import FileIdentity, Spool
from dicom_node.uids import IMPLEMENTATION_CLASS_UID
from dicom_node.work_order import WorkOrder
from tests.dicom_node.datasets import ct_header, encoded
from tests.dicom_node.factories import START

IDENTITY = FileIdentity(CTImageStorage, "1.2.3.1", "1.2.3", ExplicitVRLittleEndian, "SCANNER")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path.suffix != ".part")


def test_an_instance_is_kept_byte_for_byte_behind_our_meta_information(spool: Spool) -> None:
    data = encoded(ct_header())
    stored = spool.put_instance(IDENTITY, data)
    content = spool.path(stored.path).read_bytes()
    assert content.endswith(data)
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert stored.size_bytes == len(data)
    read = dcmread(spool.path(stored.path))
    assert read == ct_header()
    assert read.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert read.file_meta.SourceApplicationEntityTitle == "SCANNER"


def test_the_same_bytes_twice_are_one_file(spool: Spool, tmp_path: Path) -> None:
    data = encoded(ct_header())
    assert spool.put_instance(IDENTITY, data) == spool.put_instance(IDENTITY, data)
    assert len(files(tmp_path)) == 1


def test_other_bytes_under_one_uid_are_both_kept(spool: Spool) -> None:
    first = spool.put_instance(IDENTITY, encoded(ct_header()))
    second = spool.put_instance(IDENTITY, encoded(ct_header(PatientID="OTHER")))
    assert first.path != second.path
    assert dcmread(spool.path(first.path)).PatientID == "PHANTOM"
    assert dcmread(spool.path(second.path)).PatientID == "OTHER"


@pytest.mark.parametrize("uid", ["..", "../../x", "", "1.2/3", "1" * 65])
def test_no_uid_leads_out_of_the_folder(spool: Spool, tmp_path: Path, uid: str) -> None:
    for identity in (
        FileIdentity(CTImageStorage, uid, "1.2.3", ExplicitVRLittleEndian, "A"),
        FileIdentity(CTImageStorage, "1.2.3.1", uid, ExplicitVRLittleEndian, "A"),
    ):
        with pytest.raises(SpoolError):
            spool.put_instance(identity, b"")
    with pytest.raises(SpoolError):
        spool.put_results(uid, 1, {"seg.dcm": b""})
    assert files(tmp_path) == []


def test_results_replace_themselves(spool: Spool) -> None:
    spool.put_results("1.2.3", 1, {"seg.dcm": b"old"})
    paths = spool.put_results("1.2.3", 1, {"seg.dcm": b"new", "sr.dcm": b"sr"})
    assert {name: spool.path(path).read_bytes() for name, path in paths.items()} == {
        "seg.dcm": b"new",
        "sr.dcm": b"sr",
    }


def test_work_orders_and_outcomes_are_read_back(spool: Spool) -> None:
    paths = (Path("instances/1.2.3/a.dcm"), Path("instances/1.2.3/b.dcm"))
    spool.put_work("1.2.3", 2, WorkOrder(paths, START, 5))
    assert spool.read_work("1.2.3", 2) == WorkOrder(paths, START, 5)
    assert spool.read_outcome("1.2.3", 2) is None
    spool.put_outcome("1.2.3", 2, b"{}")
    assert spool.read_outcome("1.2.3", 2) == b"{}"
    spool.discard_outcome("1.2.3", 2)
    assert spool.read_outcome("1.2.3", 2) is None


def test_a_damaged_or_absent_work_order_is_a_sentence(spool: Spool) -> None:
    with pytest.raises(SpoolError, match="work order"):
        spool.read_work("1.2.3", 1)
    spool.put_work("1.2.3", 1, WorkOrder((), START, 1))
    (order,) = spool.path(Path("results")).rglob("work.json")
    order.write_text("[]")
    with pytest.raises(SpoolError, match="work order"):
        spool.read_work("1.2.3", 1)


def test_a_file_that_cannot_be_written_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    with pytest.raises(SpoolError) as caught:
        spool.put_instance(IDENTITY, b"")
    assert "incoming" in str(caught.value)
    with pytest.raises(SpoolError):
        spool.free_mib()


def test_everything_is_private_to_the_user(spool: Spool, tmp_path: Path) -> None:
    spool.put_instance(IDENTITY, b"")
    spool.put_results("1.2.3", 1, {"seg.dcm": b""})
    spool.patient_secret()
    for path in (tmp_path / "spool").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) & 0o077 == 0


def test_the_secret_stays_the_same(spool: Spool, tmp_path: Path) -> None:
    secret = spool.patient_secret()
    assert len(secret) == 32
    assert Spool(tmp_path / "spool").patient_secret() == secret
    assert Spool(tmp_path / "other").patient_secret() != secret
