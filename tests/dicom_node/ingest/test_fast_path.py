import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import CTImageStorage
from pynetdicom.events import Event

from dicom_node.arrival import MEMORY_BYTES
from dicom_node.contexts import TRANSFER_SYNTAXES
from dicom_node.ledger import Ledger
from dicom_node.receiver import Receiver
from dicom_node.serve import listening
from dicom_node.spool import Spool
from tests.dicom_node.datasets import ct_header, encoded
from tests.dicom_node.factories import ManualClock, Node, listening_node, node_settings
from tests.raw_peer import (
    ABORT,
    COMMAND,
    LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    STORE_CT,
    VERIFICATION,
    RawPeer,
    echo_command,
    fragment,
    pdu,
    status_of,
    store_command,
    whole_store,
)

Soon = Callable[[Callable[[], bool]], None]
pytestmark = pytest.mark.network

_numbers = count(1)

CLOSED = 0
"""What a peer reads when the connection ended without an abort."""


class CountingReceiver(Receiver):
    """Counts what pynetdicom read."""

    slow = 0

    def on_c_store(self, event: Event) -> int:
        self.slow += 1
        return super().on_c_store(event)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with listening_node(node_settings(tmp_path_factory.mktemp("node"))) as node:
        yield node


def new_image(pixel_bytes: int = 2000) -> tuple[bytes, str]:
    uid = f"1.2.3.{next(_numbers)}"
    header = ct_header(SOPInstanceUID=uid, BitsAllocated=8, PixelData=bytes(pixel_bytes))
    return encoded(header), uid


def kept(node: Node, uid: str) -> bytes:
    (found,) = [i for i in node.ledger.instances("1.2.3") if i.sop_instance_uid == uid]
    return node.spool.path(found.path).read_bytes()[-found.size_bytes :]


def half_received(node: Node) -> list[Path]:
    return [path for path in node.spool.parts() if path.stat().st_size]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_data_set_arrives_whole_however_it_is_cut(node: Node, data: st.DataObject) -> None:
    content, uid = new_image(data.draw(st.integers(0, 3000), label="pixels") * 2)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(content) - 1), max_size=8), label="cuts"))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    fragments = [fragment(1, COMMAND | LAST, store_command(uid))]
    fragments += [fragment(1, 0, piece) for piece in pieces[:-1]]
    fragments += [fragment(1, LAST, pieces[-1])]
    ends = data.draw(st.lists(st.booleans(), min_size=len(fragments), max_size=len(fragments)))
    stream, open_pdu = b"", b""
    for piece, ends_pdu in zip(fragments, [*ends[:-1], True], strict=True):
        open_pdu += piece
        if ends_pdu:
            stream, open_pdu = stream + pdu(P_DATA, open_pdu), b""
    step = data.draw(st.integers(40, len(stream)), label="TCP segment")
    with RawPeer(node.port) as peer:
        peer.send(*(stream[start : start + step] for start in range(0, len(stream), step)))
        assert peer.status() == 0x0000
        peer.release()
    assert kept(node, uid) == content


def test_plain_requests_take_the_fast_path_and_are_answered_alike(tmp_path: Path) -> None:
    settings = node_settings(tmp_path)
    spool = Spool.of(settings.storage)
    content, uid = new_image()
    command = store_command(uid)
    halves = fragment(1, COMMAND, command[:50]) + fragment(1, COMMAND | LAST, command[50:])
    with closing(spool), closing(Ledger.open(settings.ledger_url)) as ledger:
        receiver = CountingReceiver(settings, ledger, spool, ManualClock())
        with listening(settings, receiver) as port, RawPeer(port) as peer:
            peer.send(whole_store(content, uid))
            fast = peer.receive()
            assert receiver.slow == 0
            peer.send(pdu(P_DATA, halves), pdu(P_DATA, fragment(1, LAST, content)))
            slow = peer.receive()
            assert receiver.slow == 1
            peer.send(whole_store(content, uid))
            assert peer.receive() == fast
            assert receiver.slow == 1
            peer.release()
    assert fast == slow


@pytest.mark.parametrize("syntax", [syntax.uid for syntax in TRANSFER_SYNTAXES])
def test_every_transfer_syntax_is_kept_with_its_name(node: Node, syntax: str) -> None:
    uid = f"1.2.3.{next(_numbers)}"
    content = encoded(ct_header(SOPInstanceUID=uid), syntax)
    with RawPeer(node.port, [(5, CTImageStorage, syntax)]) as peer:
        peer.send(whole_store(content, uid, context_id=5))
        assert peer.status() == 0x0000
        peer.release()
    (found,) = [i for i in node.ledger.instances("1.2.3") if i.sop_instance_uid == uid]
    assert found.transfer_syntax_uid == syntax
    assert dcmread(node.spool.path(found.path)).file_meta.TransferSyntaxUID == syntax
    assert kept(node, uid) == content


def test_more_than_fits_in_memory_is_kept_byte_for_byte(node: Node) -> None:
    content, uid = new_image(2 * MEMORY_BYTES + 77777)
    with RawPeer(node.port) as peer:
        peer.send(whole_store(content, uid))
        assert peer.status() == 0x0000
        assert kept(node, uid) == content
        peer.send(whole_store(content[:-2], uid))
        assert peer.status() == 0xC000
        peer.release()
    assert half_received(node) == []


def test_echo_and_store_take_turns_on_one_association(node: Node) -> None:
    with RawPeer(node.port, [STORE_CT, (3, VERIFICATION, "1.2.840.10008.1.2")]) as peer:
        for _ in range(2):
            peer.send(pdu(P_DATA, fragment(3, COMMAND | LAST, echo_command())))
            assert status_of(peer.receive()[1]) == 0x0000
            peer.send(whole_store(*new_image()))
            assert peer.status() == 0x0000
        peer.release()


@pytest.mark.parametrize("cut", [0, 1, 5, 6, 11, 12, 500])
def test_an_abort_within_an_image_leaves_nothing(node: Node, soon: Soon, cut: int) -> None:
    content, uid = new_image()
    start = pdu(P_DATA, fragment(1, COMMAND | LAST, store_command(uid)))
    first = pdu(P_DATA, fragment(1, 0, content[:1000]))
    with RawPeer(node.port) as peer:
        peer.send(start + first, pdu(ABORT, b"\0" * 4)[:cut])
        if cut < 10:
            peer.socket.close()
    soon(lambda: not associations())
    assert half_received(node) == []
    assert uid not in {i.sop_instance_uid for i in node.ledger.instances("1.2.3")}
    with RawPeer(node.port) as peer:
        peer.send(whole_store(content, uid))
        assert peer.status() == 0x0000
        peer.release()


def associations() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name]


def test_a_release_within_an_image_is_answered(node: Node) -> None:
    content, uid = new_image()
    with RawPeer(node.port) as peer:
        peer.send(pdu(P_DATA, fragment(1, COMMAND | LAST, store_command(uid))))
        peer.send(pdu(P_DATA, fragment(1, 0, content[:1000])), pdu(RELEASE_RQ, b"\0" * 4))
        assert peer.receive()[0] == RELEASE_RP
    assert half_received(node) == []


@pytest.mark.parametrize(
    "wrong",
    [
        pdu(P_DATA, fragment(3, 0, b"other context")),
        pdu(P_DATA, fragment(1, COMMAND, b"a command within a data set")),
        pdu(P_DATA, b"\0\0\0\1\1\0"),
        pdu(P_DATA, b"\xff\xff\xff\xff\1\0"),
        pdu(P_DATA, b"\0\0\0\x20\1\0" + b"longer than its PDU"),
        pdu(P_DATA, b""),
        pdu(P_DATA, fragment(1, LAST, b"end") + fragment(1, COMMAND | LAST, b"next message")),
        b"\x09\0\0\0\0\x04junkjunk",
    ],
)
def test_what_breaks_the_rules_within_an_image_is_aborted(node: Node, wrong: bytes) -> None:
    content, uid = new_image()
    with RawPeer(node.port) as peer:
        # The first request comes before pynetdicom calls the association established when that is
        # slow, and is its own to read then: the guard of the socket closes some of these.
        peer.send(whole_store(*new_image()))
        assert peer.status() == 0x0000
        peer.send(pdu(P_DATA, fragment(1, COMMAND | LAST, store_command(uid))))
        peer.send(pdu(P_DATA, fragment(1, 0, content[:100])), wrong + b"\0" * 12)
        assert peer.receive()[0] == ABORT
    assert half_received(node) == []


def test_a_peer_that_falls_silent_within_an_image_loses_the_association(tmp_path: Path) -> None:
    listener = {"network_timeout_s": 0.3}
    with listening_node(node_settings(tmp_path, listener=listener)) as node:
        content, uid = new_image()
        with RawPeer(node.port) as peer:
            peer.send(pdu(P_DATA, fragment(1, COMMAND | LAST, store_command(uid))))
            peer.send(pdu(P_DATA, fragment(1, 0, content[:100])))
            assert peer.receive()[0] == ABORT
        assert half_received(node) == []


def test_a_data_set_longer_than_allowed_ends_the_association(tmp_path: Path) -> None:
    listener = {"largest_instance_mib": 1}
    with listening_node(node_settings(tmp_path, listener=listener)) as node:
        # The guard of the socket closes it, the loop of the fast path aborts: whoever reads first.
        for pixel_bytes, kinds in ((2**19, {P_DATA}), (2**20, {ABORT, CLOSED})):
            with RawPeer(node.port) as peer:
                peer.send(whole_store(*new_image(pixel_bytes)))
                assert peer.receive()[0] in kinds
        assert len(node.ledger.instances("1.2.3")) == 1
        assert half_received(node) == []


def test_a_command_for_another_class_than_its_context_is_refused_as_before(node: Node) -> None:
    content, uid = new_image()
    command = store_command(uid, sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
    with RawPeer(node.port) as peer:
        peer.send(
            pdu(P_DATA, fragment(1, COMMAND | LAST, command)),
            pdu(P_DATA, fragment(1, LAST, content)),
        )
        assert peer.status() == 0xA900


def test_a_full_disk_within_an_image_is_out_of_resources_and_the_association_goes_on(
    tmp_path: Path,
) -> None:
    with listening_node(node_settings(tmp_path)) as node, RawPeer(node.port) as peer:
        in_the_way = node.spool.path(Path("incoming"))
        in_the_way.parent.mkdir(exist_ok=True)
        in_the_way.write_text("in the way")
        content, uid = new_image(2 * MEMORY_BYTES)
        peer.send(whole_store(content, uid))
        assert peer.status() == 0xA700
        in_the_way.unlink()
        peer.send(whole_store(content, uid))
        assert peer.status() == 0x0000
        assert kept(node, uid) == content
        peer.release()


def test_associations_at_the_same_time_lose_nothing(node: Node) -> None:
    sent: dict[str, bytes] = {}
    failures: list[BaseException] = []

    def send() -> None:
        try:
            with RawPeer(node.port) as peer:
                for _ in range(5):
                    content, uid = new_image()
                    peer.send(whole_store(content, uid))
                    assert peer.status() == 0x0000
                    sent[uid] = content
                peer.release()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(sent) == 30
    assert all(kept(node, uid) == content for uid, content in sent.items())
