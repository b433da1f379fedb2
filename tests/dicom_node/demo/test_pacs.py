import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.demo.pacs import start_pacs
from dicom_node.demo.processes import DemoError, Parts
from dicom_node.errors import PeerError
from dicom_node.sender import OutgoingFile, Peer, echo, store
from tests.phantoms import TorsoPhantom

pytestmark = [pytest.mark.network, pytest.mark.slow]

PHANTOM = TorsoPhantom(shape=(2, 16, 16))


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(tmp_path, threading.Event()) as running:
        yield running


def answers(peer: Peer) -> bool:
    try:
        echo(peer, calling_ae_title="TEST", timeout_s=2)
    except PeerError:
        return False
    return True


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["builtin", "orthanc"])
def test_what_is_stored_is_read_back(kind: str, tmp_path: Path, parts: Parts) -> None:
    try:
        pacs = start_pacs(kind, tmp_path, parts)
    except DemoError as error:
        pytest.skip(str(error))
    parts.wait_until(lambda: answers(pacs.peer), "an answer", 60)
    datasets = PHANTOM.datasets()
    paths = PHANTOM.write_series(tmp_path / "ct")
    files = [
        OutgoingFile(d.SOPInstanceUID, d.SOPClassUID, d.file_meta.TransferSyntaxUID, path)
        for d, path in zip(datasets, paths, strict=True)
    ]
    stored = store(pacs.peer, files, calling_ae_title="TEST", timeout_s=10)
    assert {answer.status for answer in stored} == {0}
    found = pacs.results_of(PHANTOM.study_instance_uid)
    assert sorted(d.SOPInstanceUID for d in found) == sorted(d.SOPInstanceUID for d in datasets)
    assert pacs.results_of("1.2.3") == []
