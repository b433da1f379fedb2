import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from dicom_node.audit import AuditTrail, DailyFiles, keep_forwarding, record_user_action
from dicom_node.audit_digest import AuditDigest
from dicom_node.audit_events import (
    AuditedPeer,
    Deed,
    User,
    UserAction,
    application_activity,
    association_refused,
    instances_received,
    user_action,
)
from dicom_node.audit_messages import AuditMessage, Study
from dicom_node.audit_reserve import AuditReserve
from dicom_node.errors import AuditError
from tests.dicom_node.factories import START, listening_node, node_settings
from tests.peers import Scanner

SCANNER = AuditedPeer("CT1", "192.0.2.10")


def trail_in(folder: Path) -> AuditTrail:
    return AuditTrail(folder / "waiting", "psoas", "PSOAS")


def parsed(message: bytes) -> ET.Element:
    return ET.fromstring(message.rpartition(b"\xef\xbb\xbf")[2])  # noqa: S314 - our own


def waiting(trail: AuditTrail) -> list[ET.Element]:
    return [parsed(path.read_bytes()) for path in sorted(trail.folder.glob("*.msg"))]


def codes(root: ET.Element) -> list[str | None]:
    event = root.find("EventIdentification")
    assert event is not None
    return [element.get("csd-code") for element in event if element.get("csd-code")]


class Repository:
    """Takes messages unless it is away."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.away = False

    def write(self, messages: Sequence[bytes]) -> None:
        if self.away:
            raise AuditError("the repository is away")
        self.taken += messages


def test_message_is_a_line_of_rfc_5424(tmp_path: Path) -> None:
    trail = trail_in(tmp_path)
    trail.record(application_activity("PSOAS", START, started=True))
    (path,) = trail.folder.iterdir()
    header = rb"<85>1 2026-01-02T10:00:00\.000Z \S+ psoas \d+ DICOM\+RFC3881 - \xef\xbb\xbf<AuditM"
    assert re.match(header, path.read_bytes())
    assert b"\n" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert trail.folder.stat().st_mode & 0o777 == 0o700
    settings = node_settings(tmp_path / "node")
    record_user_action(settings, User("ada"), UserAction.VIEWED)
    assert (tmp_path / "node" / "audit").stat().st_mode & 0o777 == 0o700


def test_start_and_stop_have_their_codes() -> None:
    for started, code in ((True, "110120"), (False, "110121")):
        root = parsed(application_activity("PSOAS", START, started=started).to_xml("s"))
        assert codes(root) == ["110100", code]
        assert [p.get("UserIsRequestor") for p in root.findall("ActiveParticipant")] == [
            "false",
            "true",
        ]


def test_received_instances_name_peer_study_and_digest() -> None:
    message = instances_received("PSOAS", SCANNER, Study("1.2", {"1.9": 20}), "f" * 64, START)
    root = parsed(message.to_xml("psoas"))
    assert codes(root) == ["110104"]
    source, target = root.findall("ActiveParticipant")
    assert source.get("AlternativeUserID") == "AETITLES=CT1"
    assert source.get("NetworkAccessPointID") == "192.0.2.10"
    assert target.get("AlternativeUserID") == "AETITLES=PSOAS"
    study, patient = root.findall("ParticipantObjectIdentification")
    assert study.get("ParticipantObjectID") == "1.2"
    assert study.find("ParticipantObjectDescription/SOPClass[@NumberOfInstances='20']") is not None
    assert patient.get("ParticipantObjectID") == "f" * 64


def test_a_title_with_control_characters_cannot_break_the_line() -> None:
    hostile = AuditedPeer('A\n<x a="\0">', "192.0.2.66")
    xml = association_refused("PSOAS", hostile, "unknown", START).to_xml("psoas")
    assert b"\n" not in xml
    peer = parsed(xml).findall("ActiveParticipant")[1]
    assert peer.get("AlternativeUserID") == 'AETITLES=A?<x a="?">'


@pytest.mark.parametrize("action", UserAction)
def test_each_user_action_names_the_person(action: UserAction) -> None:
    user = User("ada", "Ada", "192.0.2.7")
    message = user_action("PSOAS", START, Deed(user, action, ["1.2"], succeeded=False))
    root = parsed(message.to_xml("psoas"))
    person = root.findall("ActiveParticipant")[0]
    assert (person.get("UserID"), person.get("UserIsRequestor")) == ("ada", "true")
    event = root.find("EventIdentification")
    assert event is not None
    assert event.get("EventOutcomeIndicator") == "4"
    assert event.get("EventActionCode") == action.value[2]


def test_user_action_that_cannot_be_recorded_is_not_done(tmp_path: Path) -> None:
    settings = node_settings(tmp_path)
    (tmp_path / "audit").write_text("in the way")
    with pytest.raises(AuditError, match="cannot be written"):
        record_user_action(settings, User("ada"), UserAction.DELETED, ["1.2"])


def test_messages_wait_while_the_repository_is_away_and_keep_their_order(tmp_path: Path) -> None:
    trail, repository = trail_in(tmp_path), Repository()
    for seconds in (3, 1, 2):
        at = START + timedelta(seconds=seconds)
        trail.record(association_refused("PSOAS", SCANNER, f"reason {seconds}", at))
    repository.away = True
    with pytest.raises(AuditError):
        trail.forward(repository)
    assert trail.waiting() == 3
    repository.away = False
    assert trail.forward(repository) == 3
    assert trail.waiting() == 0
    said = [parsed(m).findtext(".//EventOutcomeDescription") for m in repository.taken]
    assert said == ["reason 1", "reason 2", "reason 3"]


def refusal(number: int) -> AuditMessage:
    at = START + timedelta(seconds=number)
    return association_refused("PSOAS", SCANNER, f"reason {number}", at)


def reasons(repository: Repository) -> list[str | None]:
    return [parsed(m).findtext(".//EventOutcomeDescription") for m in repository.taken]


def test_a_full_disk_loses_no_message(tmp_path: Path, tool: Callable[[str], str]) -> None:
    # A volume of its own, in a name space of its own: most systems let everybody do that.
    inside = [tool("unshare"), "--map-root-user", "--mount"]
    mount = [*inside, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a volume in a name space")
    script = [sys.executable, "-m", "tests.dicom_node.audit_on_full_disk", str(tmp_path)]
    command = [*inside, *script]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["28", "3", "before", "full-1", "full-2", "0"]


def test_where_no_file_can_be_made_the_reserve_keeps_messages_in_order(tmp_path: Path) -> None:
    trail, repository = trail_in(tmp_path), Repository()
    trail.prepare()
    trail.record(refusal(1))
    trail.folder.rename(tmp_path / "aside")
    trail.folder.write_text("in the way")
    trail.record(refusal(3))
    trail.note(refusal(2))
    trail.folder.unlink()
    (tmp_path / "aside").rename(trail.folder)
    assert trail.waiting() == 3
    repository.away = True
    with pytest.raises(AuditError):
        trail.forward(repository)
    repository.away = False
    assert trail.forward(repository) == 3
    assert reasons(repository) == ["reason 1", "reason 2", "reason 3"]
    assert trail.waiting() == trail.forward(repository) == 0


def test_the_reserve_is_private_and_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    reserve = AuditReserve(tmp_path / "reserve")
    reserve.prepare()
    size = reserve.path.stat().st_size
    assert reserve.path.stat().st_mode & 0o777 == 0o600
    assert not reserve.keep("1", bytes(5000))
    taken = 0
    while reserve.keep(str(taken), b"message"):
        taken += 1
    reserve.prepare()  # changes nothing: a restart must not empty it
    assert len(reserve.kept()) == taken > 400
    reserve.clear([0, 7])
    assert reserve.keep("again", b"message")
    assert reserve.kept()[0] == ("again", b"message")
    assert reserve.path.stat().st_size == size


def test_a_message_that_a_power_cut_left_half_written_is_left_out(tmp_path: Path) -> None:
    reserve = AuditReserve(tmp_path / "reserve")
    reserve.prepare()
    reserve.keep("1", b"first")
    reserve.keep("2", b"second")
    whole = reserve.path.read_bytes()
    reserve.path.write_bytes(whole.replace(b"first", b"fi\0\0\0"))
    assert list(reserve.kept().values()) == [("2", b"second")]
    assert reserve.keep("3", b"third")
    assert set(reserve.kept().values()) == {("2", b"second"), ("3", b"third")}


def test_what_waits_at_the_stop_is_passed_on(tmp_path: Path) -> None:
    trail, repository, stop = trail_in(tmp_path), Repository(), threading.Event()
    stop.set()
    prepare: Callable[[], None] = lambda: trail.record(  # noqa: E731
        application_activity("PSOAS", START, started=False)
    )
    keep_forwarding(trail, repository, stop, prepare)
    assert len(repository.taken) == 1


def test_daily_files_are_private_and_old_ones_go(tmp_path: Path) -> None:
    files = DailyFiles(tmp_path / "audit", 30, lambda: START)
    files.write([b"<85>1 first"])
    (tmp_path / "audit" / "audit-2025-12-03.log").write_text("just old enough to stay")
    (tmp_path / "audit" / "audit-2025-12-02.log").write_text("too old")
    files.write([b"<85>1 second"])
    names = sorted(path.name for path in (tmp_path / "audit").iterdir())
    assert names == ["audit-2025-12-03.log", "audit-2026-01-02.log"]
    today = tmp_path / "audit" / "audit-2026-01-02.log"
    assert today.read_bytes() == b"<85>1 first\n<85>1 second\n"
    assert today.stat().st_mode & 0o777 == 0o600


def test_a_series_is_one_message(tmp_path: Path) -> None:
    trail = trail_in(tmp_path)
    digest = AuditDigest(trail)
    for second in range(8):
        digest.received(SCANNER, ("1.2", "a" * 64), "1.9", START + timedelta(seconds=second))
        digest.write_due(START + timedelta(seconds=second))
    assert trail.waiting() == 0
    digest.write_due(START + timedelta(seconds=17))
    (root,) = waiting(trail)
    assert root.find(".//SOPClass[@NumberOfInstances='8']") is not None


def test_patients_get_messages_of_their_own(tmp_path: Path) -> None:
    trail = trail_in(tmp_path)
    digest = AuditDigest(trail)
    for patient in "ab":
        digest.received(SCANNER, ("1.2", patient * 64), "1.9", START)
    digest.write_all(START)
    assert len(waiting(trail)) == 2


def test_a_scan_of_refusals_is_summed_up(tmp_path: Path) -> None:
    trail = trail_in(tmp_path)
    digest = AuditDigest(trail)
    for _ in range(500):
        digest.refused(SCANNER, "unknown", START)
    assert trail.waiting() == 1
    digest.write_due(START + timedelta(seconds=60))
    said = [root.findtext(".//EventOutcomeDescription") for root in waiting(trail)]
    assert said == ["unknown", "unknown (499 more times)"]


def test_forged_titles_do_not_fill_the_memory(tmp_path: Path) -> None:
    trail = trail_in(tmp_path)
    digest = AuditDigest(trail)
    for number in range(1100):
        digest.refused(AuditedPeer(f"FORGED{number}", "192.0.2.66"), "unknown", START)
    assert trail.waiting() == 1001


@pytest.mark.network
def test_a_refused_association_is_a_security_alert(tmp_path: Path) -> None:
    settings = node_settings(tmp_path)
    with listening_node(settings) as node:
        assert Scanner(node.port, called="SOMEBODY").echo() is None
    (root,) = waiting(AuditTrail.of(settings))
    assert codes(root) == ["110113", "110126"]
    caller = root.findall("ActiveParticipant")[1]
    assert caller.get("AlternativeUserID") == "AETITLES=SCANNER"
    assert caller.get("NetworkAccessPointID") == "127.0.0.1"
