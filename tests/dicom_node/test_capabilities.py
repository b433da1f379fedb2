from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from dicom_node.acceptance import (
    Capability,
    gets_the_report_alone,
    names_accepted,
    never_delivered,
)
from dicom_node.capabilities import ask
from dicom_node.checks import CheckResult, check_node
from dicom_node.contexts import RESULT_SOP_CLASSES
from dicom_node.demo.processes import free_port
from dicom_node.errors import PeerError
from dicom_node.ledger import Ledger
from dicom_node.sender import Peer
from tests.dicom_node.factories import START, destination
from tests.orthanc import running_orthanc
from tests.peers import ScriptedPacs

pytestmark = pytest.mark.network

TIMEOUT_S = 10.0
SIMPLE = [Comprehensive3DSRStorage, SecondaryCaptureImageStorage]


def answer_of(port: int, ae_title: str = "PACS") -> list[str]:
    peer = Peer(ae_title, "127.0.0.1", port)
    return names_accepted(ask(peer, calling_ae_title="PSOAS", timeout_s=TIMEOUT_S))


def test_pacs_is_taken_at_its_word() -> None:
    with ScriptedPacs(sop_classes=SIMPLE) as pacs:
        assert answer_of(pacs.port) == ["sr", "key_image", "sr_alone"]
        assert pacs.attempts == []


def test_every_syntax_is_asked_for_alone() -> None:
    with ScriptedPacs(sop_classes=SIMPLE, transfer_syntaxes=[ImplicitVRLittleEndian]) as pacs:
        peer = Peer("PACS", "127.0.0.1", pacs.port)
        answer = ask(peer, calling_ae_title="PSOAS", timeout_s=TIMEOUT_S)
    accepted = {one.transfer_syntax_uid for one in answer if one.accepted}
    assert accepted == {ImplicitVRLittleEndian}
    assert {one.transfer_syntax_uid for one in answer} >= {ExplicitVRLittleEndian}


def test_pacs_that_takes_nothing_says_so() -> None:
    with ScriptedPacs(sop_classes=[]) as pacs:
        assert answer_of(pacs.port) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_absent_pacs_is_a_peer_error() -> None:
    with pytest.raises(PeerError):
        answer_of(free_port())


def test_orthanc_takes_every_object(tool: Callable[[str], str], tmp_path: Path) -> None:
    with running_orthanc(tool("Orthanc"), tmp_path) as orthanc:
        accepted = answer_of(orthanc.port, orthanc.ae_title)
    # Orthanc 1.10 is older than label map segmentations.
    assert set(accepted) >= set(RESULT_SOP_CLASSES) - {"labelmap"}
    assert {"query", "retrieval by C-GET"} <= set(accepted)


def test_object_counts_as_delivered_when_its_replacement_is_accepted() -> None:
    with ScriptedPacs(sop_classes=SIMPLE) as pacs:
        peer = Peer("PACS", "127.0.0.1", pacs.port)
        answer = ask(peer, calling_ae_title="PSOAS", timeout_s=TIMEOUT_S)
    assert never_delivered(destination(), answer) == ["seg"]
    assert never_delivered(destination(instead={"seg": "key_image"}), answer) == []


def test_report_on_a_segmentation_that_is_refused_is_noticed() -> None:
    answer = [
        Capability(name, sop_class, "1.2.840.10008.1.2.1", sop_class in SIMPLE)
        for name, sop_class in RESULT_SOP_CLASSES.items()
    ]
    assert gets_the_report_alone(destination(), answer)
    assert not gets_the_report_alone(destination(objects=["sr", "key_image"]), answer)
    assert not gets_the_report_alone(destination(), [replace(one, accepted=True) for one in answer])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_check_records_the_answer_and_repeats_it(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"

    def accepted() -> CheckResult:
        results = check_node(config, accepts=True)
        return next(result for result in results if result.subject == "accepts pacs")

    with ScriptedPacs(sop_classes=SIMPLE) as pacs:
        config.write_text(
            '[storage]\nfolder = "node"\nfree_space_watermark_mib = 0\n'
            f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\n'
            f'port = {pacs.port}\nobjects = ["sr", "seg"]\n'
        )
        refused = accepted()
        assert (refused.passed, refused.code) == (False, "OBJECT_REFUSED")
        config.write_text(config.read_text() + 'instead = {seg = "key_image"}\n')
        assert "it takes sr but not the seg that sr refers to" in accepted().message
        config.write_text(config.read_text().replace('"sr", "seg"', '"sr"'))
        assert "it took sr, key_image, sr_alone when asked on" in accepted().message
    repeated = [result.message for result in check_node(config)]
    assert any("it took sr, key_image, sr_alone when asked on" in message for message in repeated)


def test_new_answer_replaces_the_old_one(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert ledger.capabilities.of("pacs") == (None, ())
    for sop_classes in (SIMPLE, []):
        with ScriptedPacs(sop_classes=sop_classes) as pacs:
            peer = Peer("PACS", "127.0.0.1", pacs.port)
            answer = ask(peer, calling_ae_title="PSOAS", timeout_s=TIMEOUT_S)
        ledger.capabilities.record("pacs", answer, START)
    assert ledger.capabilities.of("pacs") == (START, answer)
    ledger.close()
