import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import MODE_ACCEPTOR, Association
from pynetdicom.sop_class import Verification

from dicom_node.guarded_socket import GuardedSocket, SocketLimits
from dicom_node.lobby import MAXIMUM_REQUEST_BYTES
from tests.dicom_node.factories import Node, listening_node, node_settings
from tests.peers import SUCCESS, Scanner

pytestmark = pytest.mark.network

RELEASE = struct.pack(">BxII", 5, 4, 0)
ABORTED, REJECTED = 7, 3


@contextmanager
def node(folder: Path, **sections: Any) -> Iterator[Node]:
    with listening_node(node_settings(folder, **sections)) as made:
        yield made


def connected(node: Node) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", node.port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def answer_to(node: Node, content: bytes) -> bytes:
    """What the node says to bytes, until it closes."""
    with connected(node) as connection:
        connection.sendall(content)
        return all_of(connection)


def all_of(connection: socket.socket) -> bytes:
    said = b""
    try:
        while chunk := connection.recv(4096):
            said += chunk
    except ConnectionResetError:
        return said
    return said


def is_cut_off(connection: socket.socket, pieces: list[bytes]) -> bool:
    """Send pieces until the node ends the connection, if it does."""
    for piece in pieces:
        try:
            connection.settimeout(20)
            connection.sendall(piece)
            connection.settimeout(0.02)
            if connection.recv(1) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def echo_request() -> bytes:
    """A-ASSOCIATE-RQ for Verification, as pynetdicom encodes it."""
    return associate_request("SCANNER", "PSOAS")


def associate_request(calling: str, called: str) -> bytes:
    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(content)) + content

    context = item(
        0x20,
        struct.pack(">Bxxx", 1)
        + item(0x30, b"1.2.840.10008.1.1")
        + item(0x40, b"1.2.840.10008.1.2"),
    )
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BxI", 1, len(body)) + body


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def test_idle_connections_cost_no_association(tmp_path: Path) -> None:
    with node(tmp_path, listener={"maximum_associations": 2}) as made, ExitStack() as idle:
        for _ in range(100):
            idle.enter_context(connected(made))
        assert Scanner(made.port).echo() == SUCCESS


def test_an_announced_gigabyte_is_neither_read_nor_kept(tmp_path: Path) -> None:
    with node(tmp_path) as made:
        before = resident_kib()
        said = answer_to(made, struct.pack(">BxI", 1, 2**30) + bytes(2**20))
        assert resident_kib() - before < 2**16
    assert said[:1] in (b"", bytes([ABORTED]))  # a reset may overtake the abort


@pytest.mark.parametrize("length", [0, 67, MAXIMUM_REQUEST_BYTES + 1, 2**32 - 1])
def test_a_request_of_an_impossible_length_is_aborted(tmp_path: Path, length: int) -> None:
    with node(tmp_path) as made:
        assert answer_to(made, struct.pack(">BxI", 1, length))[0] == ABORTED


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 5, 6, 7, 255])
def test_another_first_pdu_is_aborted(tmp_path: Path, kind: int) -> None:
    with node(tmp_path) as made:
        assert answer_to(made, struct.pack(">BxI", kind, 100))[0] == ABORTED


def test_a_connection_that_the_peer_reset_is_closed_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
        reset = struct.pack("ii", 1, 0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        peer.close()
        # The shutdown of a connection fails once its reset was seen.
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        association = Association(AE(), MODE_ACCEPTOR)
        limits = SocketLimits(pdu_bytes=1, pdu_s=1.0, message_bytes=1)
        guarded = GuardedSocket(association, connection, b"", limits)
        guarded.close()
        assert connection.fileno() == -1


def test_silence_ends_a_connection(tmp_path: Path) -> None:
    with node(tmp_path, listener={"association_timeout_s": 0.2}) as made:
        assert answer_to(made, b"") == b""
        assert answer_to(made, echo_request()[:40]) == b""
        assert Scanner(made.port).echo() == SUCCESS


def test_one_byte_at_a_time_does_not_stretch_the_time(tmp_path: Path) -> None:
    with (
        node(tmp_path, listener={"association_timeout_s": 0.3}) as made,
        connected(made) as connection,
    ):
        assert is_cut_off(connection, [bytes([byte]) for byte in echo_request()[:-1]])


def test_the_oldest_of_too_many_connections_goes(tmp_path: Path) -> None:
    listener = {"connections_per_address": 3, "association_timeout_s": 60}
    with node(tmp_path, listener=listener) as made, ExitStack() as idle:
        connections = [idle.enter_context(connected(made)) for _ in range(4)]
        assert all_of(connections[0]) == b""
        connections[3].sendall(echo_request())
        assert connections[3].recv(1) == b"\2"


@pytest.mark.parametrize(
    ("calling", "called", "reason"), [("SCANNER", "OTHER", 7), ("STRANGER", "PSOAS", 3)]
)
def test_strangers_are_rejected_with_the_reason(
    tmp_path: Path, calling: str, called: str, reason: int
) -> None:
    with node(tmp_path, sources=[{"ae_title": "SCANNER"}]) as made:
        said = answer_to(made, associate_request(calling, called))
    assert said == struct.pack(">BxIxBBB", REJECTED, 4, 1, 1, reason)


def test_an_address_of_nobody_gets_no_answer(tmp_path: Path) -> None:
    sources = [{"ae_title": "SCANNER", "host": "192.0.2.10"}]
    with node(tmp_path, sources=sources) as made:
        assert answer_to(made, associate_request("SCANNER", "PSOAS")) == b""


def test_a_peer_may_have_so_many_associations_and_others_go_on(tmp_path: Path) -> None:
    sources = [{"ae_title": "GREEDY", "maximum_associations": 2}, {"ae_title": "SCANNER"}]
    with node(tmp_path, sources=sources) as made, ExitStack() as held:
        for _ in range(2):
            connection = held.enter_context(connected(made))
            connection.sendall(associate_request("GREEDY", "PSOAS"))
            assert connection.recv(1) == b"\2"
        said = answer_to(made, associate_request("GREEDY", "PSOAS"))
        assert said == struct.pack(">BxIxBBB", REJECTED, 4, 2, 3, 2)
        assert Scanner(made.port).echo() == SUCCESS


def test_a_peer_that_may_only_echo_cannot_store(tmp_path: Path) -> None:
    sources = [{"ae_title": "WARD", "services": ["echo"]}]
    with node(tmp_path, sources=sources) as made:
        ae = AE(ae_title="WARD")
        ae.add_requested_context(Verification)
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", made.port, ae_title="PSOAS")
        accepted = [str(context.abstract_syntax) for context in association.accepted_contexts]
        association.release()
    assert accepted == [str(Verification)]


def test_a_scanner_still_stores(tmp_path: Path, demo_series: Path) -> None:
    paths = sorted(demo_series.glob("*.dcm"))[:3]
    uid = str(dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)
    with node(tmp_path) as made:
        assert Scanner(made.port).send(paths) == [SUCCESS] * 3
        assert len(made.ledger.instances(uid)) == 3


def test_a_long_pdu_of_a_peer_that_was_let_in_ends_its_association(tmp_path: Path) -> None:
    with node(tmp_path) as made, connected(made) as connection:
        connection.sendall(echo_request())
        assert connection.recv(4096)[0] == 2
        before = resident_kib()
        connection.sendall(struct.pack(">BxI", 4, 2**30) + bytes(1000))
        assert all_of(connection)[:1] in (b"", bytes([ABORTED]))
        assert resident_kib() - before < 2**16
        assert Scanner(made.port).echo() == SUCCESS


def test_a_message_that_never_ends_ends_its_association(tmp_path: Path) -> None:
    with (
        node(tmp_path, listener={"largest_instance_mib": 1}) as made,
        connected(made) as connection,
    ):
        connection.sendall(echo_request())
        assert connection.recv(4096)[0] == 2
        fragment = struct.pack(">IBB", 2**16 + 2, 1, 1) + bytes(2**16)
        pdu = struct.pack(">BxI", 4, len(fragment)) + fragment
        assert is_cut_off(connection, [pdu] * 1000)
        assert Scanner(made.port).echo() == SUCCESS


def test_an_association_ends_after_its_lifetime(tmp_path: Path) -> None:
    with (
        node(tmp_path, listener={"association_lifetime_s": 0.2}) as made,
        connected(made) as connection,
    ):
        connection.sendall(echo_request())
        assert connection.recv(4096)[0] == 2
        assert all_of(connection)[0] == ABORTED
