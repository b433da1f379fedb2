import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pydicom import dcmread

from dicom_node.audit_syslog import SyslogOverTls
from dicom_node.checks import _try_tls
from dicom_node.config import NodeSettings, TlsSettings
from dicom_node.destinations import peer_of
from dicom_node.errors import AuditError, PeerError, TlsError
from dicom_node.sender import Peer, echo
from dicom_node.tls import Credentials, client_context, expiry_warning, server_context
from tests.certificates import Authority, Pair
from tests.dicom_node.factories import Node, listening_node, node_settings
from tests.peers import SUCCESS, Scanner

pytestmark = pytest.mark.network

Tool = Callable[[str], str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Pair:
    return authority.issue("psoas")


@pytest.fixture(scope="module")
def theirs(authority: Authority) -> Pair:
    return authority.issue("scanner")


def tls_settings(authority: Authority, pair: Pair, **changes: Any) -> dict[str, Any]:
    return {
        "certificate": pair.certificate,
        "private_key": pair.private_key,
        "authorities": authority.certificate,
        "port": 0,
        "only": True,
    } | changes


@contextmanager
def secure_node(folder: Path, tls: dict[str, Any]) -> Iterator[Node]:
    with listening_node(node_settings(folder, tls=tls)) as made:
        yield made


def client(authority: Authority, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.private_key)
    return context


def shake_hands(node: Node, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Connect; with TLS 1.3 a refused certificate shows at the first read only."""
    connection = socket.create_connection(("127.0.0.1", node.port), timeout=20)
    try:
        connection = secure = context.wrap_socket(
            connection, server_hostname="127.0.0.1", do_handshake_on_connect=False
        )
        secure.do_handshake()
        secure.send(b"\x04\0\0\0\0\0")  # no A-ASSOCIATE-RQ: answered with an abort
        assert secure.recv(1) == b"\x07"
    except BaseException:
        connection.close()
        raise
    return secure


def of_dcmtk(name: str, tool: Tool) -> str:
    """A program of DCMTK; pynetdicom installs others under the same names, which know no TLS."""
    return str(Path(tool("dcmdump")).with_name(name))


def dcmtk(tool: str, authority: Authority, pair: Pair, *arguments: object) -> int:
    security = ["+tls", pair.private_key, pair.certificate, "+cf", authority.certificate]
    command = [tool, *security, "-aec", "PSOAS", *arguments]
    run = subprocess.run(
        [str(part) for part in command], capture_output=True, check=False, timeout=60
    )
    return run.returncode


def test_dcmtk_verifies_and_stores_over_tls(
    tmp_path: Path, authority: Authority, ours: Pair, theirs: Pair, tool: Tool, demo_series: Path
) -> None:
    paths = sorted(demo_series.glob("*.dcm"))[:2]
    series = str(dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)
    with secure_node(tmp_path, tls_settings(authority, ours)) as node:
        assert dcmtk(of_dcmtk("echoscu", tool), authority, theirs, "127.0.0.1", node.port) == 0
        sent = dcmtk(
            of_dcmtk("storescu", tool), authority, theirs, "-xs", "127.0.0.1", node.port, *paths
        )
        assert sent == 0
        assert len(node.ledger.instances(series)) == 2


def test_our_own_echo_goes_over_tls(tmp_path: Path, authority: Authority, ours: Pair) -> None:
    tls = tls_settings(authority, ours)
    with secure_node(tmp_path, tls) as node:
        peer = peer_of(*destination(node, tls))
        assert not fault_of_echo(peer)
        # The very same call in the clear is not understood, so the first one was not.
        assert "PSOAS at 127.0.0.1" in fault_of_echo(replace(peer, security=None))


def fault_of_echo(peer: Peer) -> str:
    try:
        echo(peer, calling_ae_title="PSOAS", timeout_s=20)
    except PeerError as error:
        return str(error)
    return ""


def destination(node: Node, tls: dict[str, Any], **changes: Any) -> tuple[Any, NodeSettings]:
    place = {"name": "pacs", "ae_title": "PSOAS", "host": "127.0.0.1", "port": node.port}
    settings = node_settings(
        Path("unused"), tls=tls, destinations=[place | {"tls": True} | changes]
    )
    return settings.destinations[0], settings


def test_a_pacs_with_a_certificate_of_another_name_is_not_called(
    tmp_path: Path, authority: Authority, ours: Pair
) -> None:
    tls = tls_settings(authority, ours)
    with secure_node(tmp_path, tls) as node:
        peer = peer_of(*destination(node, tls, tls_name="pacs.example"))
        with pytest.raises(PeerError, match="by TLS"):
            echo(peer, calling_ae_title="PSOAS", timeout_s=20)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_good_versions_are_served(
    tmp_path: Path, authority: Authority, ours: Pair, theirs: Pair, version: ssl.TLSVersion
) -> None:
    context = client(authority, theirs)
    context.minimum_version = context.maximum_version = version
    with (
        secure_node(tmp_path, tls_settings(authority, ours)) as node,
        shake_hands(node, context) as connection,
    ):
        cipher = connection.cipher()
    assert cipher is not None
    assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


def test_tls_1_1_and_old_suites_are_not_offered(authority: Authority, ours: Pair) -> None:
    context = server_context(TlsSettings.model_validate(tls_settings(authority, ours)))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    old = [suite for suite in context.get_ciphers() if suite["protocol"] == "TLSv1.2"]
    assert old
    assert all(s["name"].startswith("ECDHE-") and "GCM" in s["name"] for s in old)


def test_who_shows_no_certificate_or_a_foreign_one_is_refused(
    tmp_path: Path, authority: Authority, ours: Pair
) -> None:
    foreign = Authority(tmp_path / "foreign", "foreign").issue("stranger")
    with secure_node(tmp_path / "node", tls_settings(authority, ours)) as node:
        for pair in (None, foreign):
            with pytest.raises(OSError):  # noqa: PT011 - an alert of TLS or a reset
                shake_hands(node, client(authority, pair))


def test_a_handshake_that_never_comes_holds_up_nobody(
    tmp_path: Path, authority: Authority, ours: Pair, theirs: Pair
) -> None:
    with (
        secure_node(tmp_path, tls_settings(authority, ours)) as node,
        socket.create_connection(("127.0.0.1", node.port)) as silent,
    ):
        silent.send(b"\x16\x03\x01")
        with shake_hands(node, client(authority, theirs)) as other:
            assert other.version() in {"TLSv1.2", "TLSv1.3"}


def test_the_clear_port_stays_beside_it_unless_tls_is_alone(
    tmp_path: Path, authority: Authority, ours: Pair
) -> None:
    with secure_node(tmp_path, tls_settings(authority, ours, only=False)) as node:
        assert Scanner(node.port).echo() == SUCCESS


def test_renewed_files_are_used_without_a_restart(tmp_path: Path) -> None:
    renewing = Authority(tmp_path / "ca")
    pair, peer = renewing.issue("psoas"), renewing.issue("peer")
    with secure_node(tmp_path / "node", tls_settings(renewing, pair)) as node:
        serials = []
        for _ in range(2):
            with shake_hands(node, client(renewing, peer)) as connection:
                shown = connection.getpeercert(binary_form=True)
            assert shown is not None
            serials.append(x509.load_der_x509_certificate(shown).serial_number)
            renewing.issue("psoas")
    assert serials[0] != serials[1]


def test_half_a_renewal_leaves_the_old_certificate_in_use(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("psoas")
    credentials = Credentials(
        TlsSettings.model_validate(tls_settings(authority, pair)), lambda: datetime.now(UTC)
    )
    before = credentials.server()
    pair.certificate.write_text("half a file")
    assert credentials.server() is before
    authority.issue("psoas")
    assert credentials.server() is not before


def test_a_key_with_a_password_takes_it_from_its_file(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("psoas", password=b"correct horse")
    (tmp_path / "password").write_text("correct horse\n")
    tls = tls_settings(authority, pair, password_file=tmp_path / "password")
    client_context(TlsSettings.model_validate(tls))
    with pytest.raises(TlsError):
        client_context(TlsSettings.model_validate(tls_settings(authority, pair)))


@pytest.mark.parametrize(("days", "said"), [(90, ""), (20, "in 19 days"), (-1, "expired on")])
def test_an_end_that_is_near_is_said(tmp_path: Path, days: float, said: str) -> None:
    authority = Authority(tmp_path)
    tls = TlsSettings.model_validate(tls_settings(authority, authority.issue("p", days=days)))
    warning = expiry_warning(tls, datetime.now(UTC))
    assert said in warning
    assert bool(said) == bool(warning)


def test_the_log_warns_once_a_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(tmp_path)
    tls = TlsSettings.model_validate(tls_settings(authority, authority.issue("p", days=5)))
    now = [datetime.now(UTC)]
    credentials = Credentials(tls, lambda: now[0])
    for hours in (0, 1, 25):
        now[0] += timedelta(hours=hours)
        credentials.server()
    said = caplog.text + capsys.readouterr().out
    assert said.count("expires on") == 2


def test_check_tells_of_the_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    soon, over = authority.issue("soon", days=20), authority.issue("over", days=-1)
    assert "WARNING" in _try_tls(TlsSettings.model_validate(tls_settings(authority, soon)))
    with pytest.raises(TlsError, match="expired on"):
        _try_tls(TlsSettings.model_validate(tls_settings(authority, over)))


class Repository:
    """A syslog server with TLS that takes what one connection brings."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.taken = b""
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        plain, _ = self._listener.accept()
        with plain, self._context.wrap_socket(plain, server_side=True) as connection:
            while chunk := connection.recv(65536):
                self.taken += chunk

    def join(self) -> bytes:
        self._thread.join(20)
        self._listener.close()
        return self.taken


def test_audit_messages_reach_their_repository_over_tls(
    authority: Authority, ours: Pair, theirs: Pair
) -> None:
    repository = Repository(
        server_context(TlsSettings.model_validate(tls_settings(authority, theirs)))
    )
    tls = TlsSettings.model_validate(tls_settings(authority, ours))
    sink = SyslogOverTls("127.0.0.1", repository.port, lambda: client_context(tls))
    sink.write([b"<85>1 first", b"<84>1 zweite \xc3\xa4"])
    assert repository.join() == b"11 <85>1 first15 <84>1 zweite \xc3\xa4"


def test_a_repository_that_is_away_takes_nothing(authority: Authority, ours: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    tls = TlsSettings.model_validate(tls_settings(authority, ours))
    with pytest.raises(AuditError, match="does not take messages"):
        SyslogOverTls("127.0.0.1", port, lambda: client_context(tls)).write([b"<85>1 lost?"])
