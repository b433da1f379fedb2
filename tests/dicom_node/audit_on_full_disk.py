"""Record audit messages on a volume that is full; started by ``test_audit`` in a name space.

Prints the error of the system when a file is written, how many messages wait, their
descriptions as they are passed on, and how many wait then.
"""

import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

from dicom_node.audit import AuditTrail
from dicom_node.audit_events import AuditedPeer, association_refused
from dicom_node.audit_messages import AuditMessage
from tests.dicom_node.factories import START


class Screen:
    """Prints what it takes."""

    def write(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            xml = message.rpartition(b"\xef\xbb\xbf")[2]
            root = ET.fromstring(xml)  # noqa: S314 - our own
            say(root.findtext(".//EventOutcomeDescription"))


def say(value: object) -> None:
    sys.stdout.write(f"{value}\n")


def refusal(reason: str, seconds: int) -> AuditMessage:
    peer = AuditedPeer("CT1", "192.0.2.10")
    return association_refused("PSOAS", peer, reason, START + timedelta(seconds=seconds))


def fill(folder: Path) -> int:
    """Leave no block; return the error of the system."""
    try:
        with (folder / "rest").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError as error:
        return error.errno or 0


def main(volume: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(volume)], check=True)
    trail = AuditTrail(volume / "audit" / "waiting", "psoas", "PSOAS")
    trail.prepare()
    trail.record(refusal("before", 1))
    say(fill(volume))
    trail.record(refusal("full-1", 2))
    trail.note(refusal("full-2", 3))
    say(trail.waiting())
    trail.forward(Screen())
    say(trail.waiting())


main(Path(sys.argv[1]))
