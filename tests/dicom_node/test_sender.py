from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from dicom_node.demo.processes import free_port
from dicom_node.errors import PeerError
from dicom_node.sender import Answer, OutgoingFile, Peer, Problem, echo, store
from tests.peers import OUT_OF_RESOURCES, SUCCESS, Fault, ScriptedPacs, ct_contexts
from tests.phantoms import PixelStorage, TorsoPhantom

pytestmark = pytest.mark.network

PHANTOM = TorsoPhantom(shape=(3, 16, 16))
TIMEOUT_S = 5.0


def outgoing(folder: Path, syntax: str = ExplicitVRLittleEndian) -> list[OutgoingFile]:
    paths = PHANTOM.write_series(folder, PixelStorage(transfer_syntax_uid=syntax))
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    return [
        OutgoingFile(header.SOPInstanceUID, header.SOPClassUID, syntax, path)
        for header, path in zip(headers, paths, strict=True)
    ]


def send(
    pacs: ScriptedPacs, files: Sequence[OutgoingFile], timeout_s: float = TIMEOUT_S
) -> tuple[Answer, ...]:
    peer = Peer(pacs.ae_title, "127.0.0.1", pacs.port)
    return store(peer, files, calling_ae_title="PSOAS", timeout_s=timeout_s)


def test_every_file_is_stored_over_one_association(tmp_path: Path) -> None:
    with ScriptedPacs() as pacs:
        answers = send(pacs, outgoing(tmp_path))
    assert [answer.status for answer in answers] == [SUCCESS] * 3
    assert len(pacs.received) == 3
    assert pacs.associations == 1


def test_each_file_gets_its_own_status(tmp_path: Path) -> None:
    with ScriptedPacs([SUCCESS, OUT_OF_RESOURCES, SUCCESS]) as pacs:
        answers = send(pacs, outgoing(tmp_path))
    assert [answer.status for answer in answers] == [SUCCESS, OUT_OF_RESOURCES, SUCCESS]
    assert answers[1].detail == "status A700"


@pytest.mark.parametrize("fault", list(Fault))
def test_files_after_a_break_have_no_answer(fault: Fault, tmp_path: Path) -> None:
    with ScriptedPacs([SUCCESS, fault]) as pacs:
        answers = send(pacs, outgoing(tmp_path), timeout_s=0.5)
    assert [answer.status for answer in answers] == [SUCCESS, None, None]
    assert {answer.problem for answer in answers[1:]} == {Problem.NO_ANSWER}


def test_compressed_file_goes_as_it_is(tmp_path: Path) -> None:
    files = outgoing(tmp_path, RLELossless)
    with ScriptedPacs(transfer_syntaxes=[ImplicitVRLittleEndian, RLELossless]) as pacs:
        send(pacs, files)
    stored = pacs.received[files[0].sop_instance_uid]
    assert stored.file_meta.TransferSyntaxUID == RLELossless
    assert stored.PixelData == dcmread(files[0].path).PixelData


def test_uncompressed_file_falls_back_to_the_default_syntax(tmp_path: Path) -> None:
    files = outgoing(tmp_path)
    with ScriptedPacs(transfer_syntaxes=[ImplicitVRLittleEndian]) as pacs:
        answers = send(pacs, files)
    assert {answer.status for answer in answers} == {SUCCESS}
    stored = pacs.received[files[0].sop_instance_uid]
    assert stored.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert stored == dcmread(files[0].path)


def test_every_class_and_syntax_is_proposed_in_a_context_of_its_own(tmp_path: Path) -> None:
    plain, packed = outgoing(tmp_path / "a"), outgoing(tmp_path / "b", RLELossless)
    with ScriptedPacs(transfer_syntaxes=[ExplicitVRLittleEndian, RLELossless]) as pacs:
        send(pacs, [*plain, *packed])
    assert pacs.proposed == [
        (str(CTImageStorage), (syntax,))
        for syntax in (ExplicitVRLittleEndian, RLELossless, ImplicitVRLittleEndian)
    ]


def test_no_more_is_proposed_than_an_association_can_hold(tmp_path: Path) -> None:
    (file, *_) = outgoing(tmp_path)
    many = [replace(file, sop_class_uid=f"1.2.3.{number}") for number in range(100)]
    with ScriptedPacs() as pacs:
        answers = send(pacs, [file, *many])
    assert len(pacs.proposed) == len(set(pacs.proposed)) == 128
    assert answers[0].status == SUCCESS
    assert {answer.problem for answer in answers[1:]} == {Problem.CONTEXT_REJECTED}


def test_rejected_context_is_told_from_silence(tmp_path: Path) -> None:
    files = outgoing(tmp_path, RLELossless)
    with ScriptedPacs(sop_classes=ct_contexts()) as pacs:
        answers = send(pacs, files)
    assert {answer.problem for answer in answers} == {Problem.CONTEXT_REJECTED}
    assert answers[0].detail == "CT Image Storage in RLE Lossless is not accepted"


def test_file_that_vanished_does_not_hold_up_the_others(tmp_path: Path) -> None:
    files = outgoing(tmp_path)
    files[0] = replace(files[0], path=tmp_path / "gone.dcm")
    with ScriptedPacs() as pacs:
        answers = send(pacs, files)
    assert [answer.problem for answer in answers] == [Problem.FILE_UNREADABLE, None, None]


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_missing_peer_is_named() -> None:
    port = free_port()
    with pytest.raises(PeerError, match=f"PACS at 127.0.0.1:{port} cannot be reached"):
        echo(Peer("PACS", "127.0.0.1", port), calling_ae_title="PSOAS", timeout_s=TIMEOUT_S)


def test_unknown_host_is_named() -> None:
    with pytest.raises(PeerError, match=r"PACS at nowhere\.invalid:104 cannot be reached"):
        echo(Peer("PACS", "nowhere.invalid", 104), calling_ae_title="PSOAS", timeout_s=TIMEOUT_S)


def test_rejected_association_says_why() -> None:
    with (
        ScriptedPacs() as pacs,
        pytest.raises(PeerError, match="Called AE title not recognised"),
    ):
        echo(Peer("OTHER", "127.0.0.1", pacs.port), calling_ae_title="PSOAS", timeout_s=TIMEOUT_S)


def test_echo_of_a_living_peer_says_nothing() -> None:
    with ScriptedPacs() as pacs:
        echo(Peer("PACS", "127.0.0.1", pacs.port), calling_ae_title="PSOAS", timeout_s=TIMEOUT_S)
        assert pacs.associations == 1
