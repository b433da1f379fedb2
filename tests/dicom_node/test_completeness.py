"""What the PACS of a source says of a series, and what becomes of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.completeness import ProofDesk, prove, record_proof
from dicom_node.config import CompletionSettings, NodeSettings
from dicom_node.demo.processes import free_port
from dicom_node.errors import PeerError
from dicom_node.ledger import Ledger
from tests.dicom_node.factories import (
    START,
    Node,
    RecordingDispatcher,
    instance,
    listening_node,
    node_settings,
)
from tests.orthanc import running_orthanc
from tests.peers import Scanner
from tests.phantoms import TorsoPhantom

UID = "1.2.3"


@dataclass
class Holdings:
    """A PACS with some images of the series; ``says`` is the count it claims."""

    uids: frozenset[str] = frozenset()
    says: int | None = None
    error: str = ""
    move_error: str = ""
    moved: list[str] = field(default_factory=list)

    def count(self, _study: str, _series: str) -> int | None:
        if self.error:
            raise PeerError(self.error)
        return self.says

    def instances(self, _study: str, _series: str) -> frozenset[str]:
        return self.uids

    def fetch(self, _study: str, _series: str, uids: Sequence[str]) -> None:
        if self.move_error:
            raise PeerError(self.move_error)
        self.moved += uids


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A series of three images."""
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        for number in (1, 2, 3):
            ledger.record_instance(instance(number), CompletionSettings())
        yield ledger


def images(*numbers: int) -> frozenset[str]:
    return frozenset(f"{UID}.{number}" for number in numbers)


@pytest.mark.parametrize(
    ("holdings", "sentence", "missing"),
    [
        (Holdings(says=3), "3 of 3, confirmed by PACS-A", 0),
        (Holdings(images(1, 2, 3)), "3 here, 3 at PACS-A so far, none missing", 0),
        (Holdings(images(1, 2), says=2), "3 here, 2 at PACS-A so far, none missing", 0),
        (Holdings(), "timer only: PACS-A knows nothing of this series", 0),
        (Holdings(error="PACS-A is away"), "timer only: PACS-A is away", 0),
        (Holdings(images(1, 2, 3, 4), says=4), "3 of 4 at PACS-A, 1 missing, fetched", 0),
        (
            Holdings(images(1, 2, 3, 4), says=4, move_error="refused"),
            "3 of 4 at PACS-A, 1 missing, which could not be fetched: refused",
            1,
        ),
    ],
)
def test_the_record_says_what_is_known(
    ledger: Ledger, holdings: Holdings, sentence: str, missing: int
) -> None:
    verdict = prove(ledger.series(UID), ledger, "PACS-A", holdings, holdings.fetch)
    assert (verdict.sentence, verdict.missing) == (sentence, missing)


def test_only_what_is_missing_is_fetched_and_only_where_it_may_be(ledger: Ledger) -> None:
    holdings = Holdings(images(1, 2, 3, 4, 5), says=5)
    prove(ledger.series(UID), ledger, "PACS-A", holdings, holdings.fetch)
    assert holdings.moved == ["1.2.3.4", "1.2.3.5"]
    assert prove(ledger.series(UID), ledger, "PACS-A", holdings).missing == 2
    assert len(holdings.moved) == 2


def source(**query: object) -> dict[str, object]:
    return {"ae_title": "SCANNER", "query": {"host": "127.0.0.1", "port": 104} | query}


def test_a_series_waits_for_the_word_of_its_pacs_but_not_for_ever(
    ledger: Ledger, tmp_path: Path
) -> None:
    settings = node_settings(tmp_path, sources=[source(ae_title="PACS-A", patience_s=60)])
    dispatcher = RecordingDispatcher()
    desk = ProofDesk(ledger, settings, dispatcher.send_proof)
    record = ledger.series(UID)
    assert not desk.is_settled(record, START)
    assert not desk.is_settled(record, START + timedelta(seconds=59))
    assert dispatcher.proofs == [(UID, 1)]
    assert desk.is_settled(record, START + timedelta(seconds=60))
    proof = ledger.proofs.of(UID, 1)
    assert proof is not None
    assert proof.sentence == "timer only: PACS-A was not heard in 60 s"


def test_without_a_pacs_nothing_is_waited_for(ledger: Ledger, tmp_path: Path) -> None:
    desk = ProofDesk(ledger, node_settings(tmp_path), RecordingDispatcher().send_proof)
    assert desk.is_settled(ledger.series(UID), START)
    assert ledger.proofs.of(UID, 1) is None


@contextmanager
def query_pacs(uids: frozenset[str]) -> Iterator[tuple[int, list[list[str]]]]:
    """A PACS that answers C-FIND from a list and keeps what it is to move."""
    moves: list[list[str]] = []

    def on_find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.QueryRetrieveLevel == "SERIES":
            answer = Dataset()
            answer.QueryRetrieveLevel = "SERIES"
            answer.NumberOfSeriesRelatedInstances = str(len(uids))
            yield 0xFF00, answer
            return
        for uid in sorted(uids):
            answer = Dataset()
            answer.QueryRetrieveLevel = "IMAGE"
            answer.SOPInstanceUID = uid
            yield 0xFF00, answer

    def on_move(event: Event) -> Iterator[object]:
        wanted = event.identifier.SOPInstanceUID
        moves.append([wanted] if isinstance(wanted, str) else list(wanted))
        yield None, None

    ae = AE(ae_title="PACS-A")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    handlers = [(evt.EVT_C_FIND, on_find), (evt.EVT_C_MOVE, on_move)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield server.socket.getsockname()[1], moves
    finally:
        ae.shutdown()


def proof_of(ledger: Ledger, settings: NodeSettings) -> str:
    record_proof(UID, 1, ledger, settings, START)
    proof = ledger.proofs.of(UID, 1)
    assert proof is not None
    assert proof.settled
    return proof.sentence


@pytest.mark.network
def test_a_pacs_confirms_by_c_find(ledger: Ledger, tmp_path: Path) -> None:
    with query_pacs(images(1, 2, 3)) as (port, moves):
        settings = node_settings(tmp_path, sources=[source(ae_title="PACS-A", port=port)])
        assert proof_of(ledger, settings) == "3 of 3, confirmed by PACS-A"
        assert moves == []
        assert ledger.alarms.standing() == ()


@pytest.mark.network
def test_missing_images_are_asked_for_by_c_move_and_raise_an_alarm_when_refused(
    ledger: Ledger, tmp_path: Path
) -> None:
    with query_pacs(images(1, 2, 3, 4, 5)) as (port, moves):
        asked = source(ae_title="PACS-A", port=port, fetch_missing=True)
        sentence = proof_of(ledger, node_settings(tmp_path, sources=[asked]))
        assert moves == [["1.2.3.4", "1.2.3.5"]]
        # This PACS knows no destination, as one does that was never told of us.
        assert sentence.startswith("3 of 5 at PACS-A, 2 missing, which could not be fetched")
        (alarm,) = ledger.alarms.standing()
        assert (alarm.code, alarm.subject) == ("SERIES_INCOMPLETE", UID)


Tool = Callable[[str], str]


@dataclass(frozen=True)
class Site:
    """An Orthanc with a whole series, and a node that got some images of it."""

    settings: NodeSettings
    node: Node
    uid: str

    def proof(self) -> str:
        record_proof(self.uid, 1, self.node.ledger, self.settings, START)
        proof = self.node.ledger.proofs.of(self.uid, 1)
        assert proof is not None
        return proof.sentence


@contextmanager
def site(tool: Tool, folder: Path, sent: int, **query: object) -> Iterator[Site]:
    """Start both; ``sent`` of five images go to the node."""
    node_port = free_port()
    modalities = {"psoas": ["PSOAS", "127.0.0.1", node_port]}
    (folder / "orthanc").mkdir()
    with running_orthanc(tool("Orthanc"), folder / "orthanc", DicomModalities=modalities) as pacs:
        paths = TorsoPhantom(shape=(5, 16, 16), pixel_mm=20.0).write_series(folder / "series")
        for path in paths:
            pacs.store(dcmread(path))
        asked = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.port} | query
        if asked.pop("by_web", False):
            asked["web"] = {"url": pacs.dicomweb_url}
        settings = node_settings(
            folder / "node",
            listener={"port": node_port},
            sources=[{"ae_title": "ORTHANC"}, {"ae_title": "SCANNER", "query": asked}],
        )
        with listening_node(settings) as node:
            Scanner(node.port).send(paths[:sent])
            uid = str(dcmread(paths[0]).SeriesInstanceUID)
            yield Site(settings, node, uid)


@pytest.mark.network
@pytest.mark.parametrize("by_web", [False, True], ids=["C-FIND", "QIDO-RS"])
@pytest.mark.parametrize(
    ("sent", "sentence", "alarms"),
    [
        (5, "5 of 5, confirmed by ORTHANC", []),
        (3, "3 of 5 at ORTHANC, 2 missing", ["SERIES_INCOMPLETE"]),
    ],
)
def test_orthanc_confirms_what_is_whole_and_names_what_is_missing(
    tool: Tool, tmp_path: Path, by_web: bool, sent: int, sentence: str, alarms: list[str]
) -> None:
    with site(tool, tmp_path, sent, by_web=by_web) as place:
        assert place.proof() == sentence
        assert [alarm.code for alarm in place.node.ledger.alarms.standing()] == alarms


@pytest.mark.network
@pytest.mark.parametrize("way", ["move", "get"])
def test_orthanc_hands_over_what_is_missing_and_the_bytes_are_kept(
    tool: Tool, tmp_path: Path, way: str
) -> None:
    with site(tool, tmp_path, sent=2, fetch_missing=True, fetch_by=way) as place:
        assert place.proof() == "2 of 5 at ORTHANC, 3 missing, fetched"
        assert len(place.node.ledger.instances(place.uid)) == 5
        assert place.node.ledger.alarms.standing() == ()
        for instance_here in place.node.ledger.instances(place.uid):
            content = place.node.spool.path(instance_here.path).read_bytes()
            digest = sha256(content[-instance_here.size_bytes :]).hexdigest()
            assert digest == instance_here.sha256
        fetched = {one.calling_ae_title for one in place.node.ledger.instances(place.uid)}
        assert fetched == {"SCANNER", "ORTHANC"}
