"""Alarms: what is wrong is found, kept in the ledger, and told once to people."""

import json
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dicom_node.alarm_channels import News, channels
from dicom_node.alarms import (
    certificate_files,
    expiring_certificates,
    full_disk,
    quarantined,
    refusing_destinations,
    silent_sources,
)
from dicom_node.config import AlarmSettings, CompletionSettings
from dicom_node.errors import AlarmChannelError, SettingsError
from dicom_node.ledger import Ledger
from dicom_node.ledger_activity import Backlog
from dicom_node.records import Reason, ResultFile, SeriesEvent
from dicom_node.watch import Watch
from tests.dicom_node.factories import START, instance, node_settings

pytestmark = pytest.mark.network

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
BERLIN = AlarmSettings(time_zone="Europe/Berlin", working_hours="Mon-Fri 08:00-17:00")


@pytest.mark.parametrize(
    ("hour", "last_hour", "silent"),
    [
        (12.0, 7.5, True),  # 13:00 in Berlin, the last one at 8:30
        (11.4, 7.5, False),
        (10.9, -20.0, False),  # the day began at 7:00 UTC
        (11.1, -20.0, True),
        (16.1, 1.0, False),  # the work is over
        (5 * 24 + 12.0, 1.0, False),  # Saturday
    ],
)
def test_a_scanner_is_silent_in_its_working_hours_only(
    hour: float, last_hour: float, silent: bool
) -> None:
    last = {"CT1": MONDAY + timedelta(hours=last_hour)}
    found = list(silent_sources(last, BERLIN, MONDAY + timedelta(hours=hour)))
    assert [one.subject for one in found] == (["CT1"] if silent else [])


def test_a_pacs_refuses_when_results_wait_too_long() -> None:
    now = START + timedelta(hours=1)
    backlogs = [
        Backlog("pacs", "queued", 2, START),
        Backlog("pacs", "sent", 1, START),
        Backlog("archive", "queued", 1, now),
        Backlog("old", "dead", 9, START),
    ]
    (found,) = refusing_destinations(backlogs, AlarmSettings(), now)
    assert (found.code, found.subject) == ("PACS_REFUSES", "pacs")
    assert "3 results" in found.message


def test_a_disk_is_nearly_full_below_its_limit() -> None:
    assert list(full_disk(10_240, AlarmSettings())) == []
    (found,) = full_disk(10_239, AlarmSettings())
    assert found.code == "DISK_FULL"


def test_quarantined_series_wait_for_a_person() -> None:
    assert list(quarantined(0)) == []
    (found,) = quarantined(3)
    assert found.code == "SERIES_QUARANTINED"


def certificate(path: Path, days: int) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "psoas")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START - timedelta(days=400))
        .not_valid_after(START + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(("days", "words"), [(30, ""), (20, "in 20 days"), (-1, "has expired")])
def test_a_certificate_is_named_before_it_expires(tmp_path: Path, days: int, words: str) -> None:
    path = certificate(tmp_path / "own.pem", days)
    found = list(expiring_certificates([path], AlarmSettings(), START))
    assert len(found) == bool(words)
    assert all(words in one.message for one in found)


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (found,) = expiring_certificates([tmp_path / "none.pem"], AlarmSettings(), START)
    assert "cannot be read" in found.message


def test_every_certificate_of_the_settings_is_watched(tmp_path: Path) -> None:
    named = {name: tmp_path / f"{name}.pem" for name in ("console", "own", "key", "authorities")}
    settings = node_settings(
        tmp_path,
        console={"tls_certificate": named["console"], "tls_key": named["key"]},
        tls={
            "certificate": named["own"],
            "private_key": named["key"],
            "authorities": named["authorities"],
        },
    )
    assert set(certificate_files(settings)) == set(named.values()) - {named["key"]}
    assert certificate_files(node_settings(tmp_path)) == ()


@dataclass
class Listener:
    """Somebody who is told; refuses while ``broken``."""

    heard: list[str] = field(default_factory=list)
    broken: bool = False

    def __call__(self, node: str, news: Sequence[News]) -> None:
        if self.broken:
            raise AlarmChannelError("it does not answer")
        self.heard += [f"{node}: {one.line}" for one in news]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(node_settings(tmp_path).ledger_url)) as ledger:
        ledger.record_instance(instance(), CompletionSettings())
        yield ledger


def test_an_alarm_is_kept_told_once_and_ended(tmp_path: Path, ledger: Ledger) -> None:
    settings = node_settings(tmp_path, alarms={"free_space_mib": 0})
    chat, mail = Listener(), Listener(broken=True)
    watch = Watch(settings, ledger, {"chat": chat, "mail": mail})
    watch.look(START)
    assert chat.heard == []
    ledger.advance("1.2.3", SeriesEvent.CONFLICT_FOUND, START, reason=Reason("X", "two patients"))
    for _ in range(2):
        watch.look(START)
    (line,) = chat.heard
    assert line.startswith("PSOAS: ALARM SERIES_QUARANTINED")
    (standing,) = ledger.alarms.standing()
    assert standing.code == "SERIES_QUARANTINED"
    # Another listener of the same folder, or this one after a restart, tells nobody again ...
    again = Watch(settings, ledger, {"chat": chat, "mail": mail})
    again.look(START)
    assert len(chat.heard) == 1
    # ... but whoever could not be told is told later.
    mail.broken = False
    again.look(START)
    assert mail.heard == chat.heard
    ledger.advance("1.2.3", SeriesEvent.RETRY_REQUESTED, START)
    again.look(START)
    assert ledger.alarms.standing() == ()
    assert chat.heard[1].startswith("PSOAS: over SERIES_QUARANTINED")


def test_what_the_ledger_raises_itself_is_told_and_left_standing(
    tmp_path: Path, ledger: Ledger
) -> None:
    chat = Listener()
    settings = node_settings(tmp_path, alarms={"free_space_mib": 0})
    ledger.alarms.raise_("DELIVERY_DEAD", "pacs", "pacs did not take 2.25.1", START)
    Watch(settings, ledger, {"chat": chat}).look(START)
    assert len(ledger.alarms.standing()) == 1
    assert chat.heard == ["PSOAS: ALARM DELIVERY_DEAD (pacs): pacs did not take 2.25.1"]


NEWS = [
    News("DISK_FULL", "spool", "the volume of the spool has 3 MiB free", is_over=False),
    News("PACS_REFUSES", "pacs", "pacs has not taken 2 results", is_over=True),
]


@contextmanager
def serving(server: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [200, 500])
def test_a_webhook_gets_json_that_chat_services_show(status: int) -> None:
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            bodies.append(json.loads(self.rfile.read(length)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as port:
        secret = f"http://127.0.0.1:{port}/hooks/geheim"
        channel = channels(AlarmSettings.model_validate({"webhook": secret}))["webhook"]
        if status == 200:
            channel("PSOAS", NEWS)
        else:
            with pytest.raises(AlarmChannelError) as caught:
                channel("PSOAS", NEWS)
            assert "geheim" not in str(caught.value)
    (body,) = bodies
    assert body["text"].splitlines()[0].startswith("Psoas PSOAS: ALARM DISK_FULL")
    assert [one["state"] for one in body["alarms"]] == ["raised", "over"]


class MailServer(socketserver.TCPServer):
    """Takes one mail after the other, as RFC 5321 says."""

    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.mails: list[str] = []
        self.recipients: list[str] = []


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.say("220 ready")
        while line := self.rfile.readline().decode().strip():
            verb = line[:4].upper()
            if verb == "DATA":
                self.say("354 go on")
                self.server.mails.append(self.body())  # type: ignore[attr-defined]  # MailServer
            elif verb == "RCPT":
                self.server.recipients.append(line)  # type: ignore[attr-defined]  # MailServer
            self.say("221 bye" if verb == "QUIT" else "250 ok")
            if verb == "QUIT":
                return

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def body(self) -> str:
        lines = []
        while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
            lines.append(line)
        return "\n".join(lines)


def test_a_mail_reaches_everybody_named() -> None:
    server = MailServer()
    with serving(server) as port:
        settings = AlarmSettings(
            mail_to=("a@example.org", "b@example.org"), smtp_host="127.0.0.1", smtp_port=port
        )
        channels(settings)["mail"]("PSOAS", NEWS)
    (mail,) = server.mails
    assert "Subject: Psoas PSOAS: 1 alarms, 1 over" in mail
    assert "ALARM DISK_FULL (spool)" in mail
    assert len(server.recipients) == 2
    with pytest.raises(AlarmChannelError, match="mail server"):
        channels(settings)["mail"]("PSOAS", NEWS)


def test_everything_that_can_go_wrong_is_told_by_mail_and_webhook(tmp_path: Path) -> None:
    now = START + timedelta(hours=5)  # a Friday, 15:00
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    mails = MailServer()
    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as hook, serving(mails) as smtp:
        told = {"mail_to": ["a@example.org"], "smtp_host": "127.0.0.1", "smtp_port": smtp}
        settings = node_settings(
            tmp_path,
            sources=[{"ae_title": "SCANNER"}],
            console={
                "tls_certificate": certificate(tmp_path / "console.pem", 3),
                "tls_key": tmp_path / "key.pem",
            },
            alarms={
                "webhook": f"http://127.0.0.1:{hook}/hooks/secret",
                "free_space_mib": 10**9,
                **told,
            },
        )
        with closing(Ledger.open(settings.ledger_url)) as ledger:
            ledger.record_instance(instance(), CompletionSettings())
            for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT):
                ledger.advance("1.2.3", event, START)
            ledger.advance("1.2.3", SeriesEvent.MEASURED, START)
            file = ResultFile(
                "2.25.1", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1", Path("seg.dcm")
            )
            ledger.deliveries.queue("1.2.3", 1, [file], ["pacs"], START)
            ledger.alarms.raise_("DELIVERY_DEAD", "archive", "archive did not take 2.25.2", START)
            Watch(settings, ledger).look(now)
    expected = {
        ("DELIVERY_DEAD", "archive"),
        ("SOURCE_SILENT", "SCANNER"),
        ("PACS_REFUSES", "pacs"),
        ("DISK_FULL", "spool"),
        ("CERTIFICATE_EXPIRES", "console.pem"),
    }
    (body,), (mail,) = bodies, mails.mails
    assert {(one["code"], one["subject"]) for one in body["alarms"]} == expected
    assert all(f"ALARM {code} ({subject})" in mail for code, subject in expected)


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    from dicom_node.config import load_settings

    file = tmp_path / "node.toml"
    for line in ('working_hours = "always"', 'time_zone = "Mars"', 'webhook = "ftp://x"'):
        file.write_text(f'[storage]\nfolder = "x"\n[alarms]\n{line}\n')
        with pytest.raises(SettingsError, match="alarms"):
            load_settings(file)


def test_nobody_is_told_without_settings() -> None:
    assert channels(AlarmSettings()) == {}
