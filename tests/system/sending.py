"""Scanners that go on until every image is acknowledged, whatever happens to the node."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from dicom_node.answers import keep_answers
from tests.phantoms import TorsoPhantom

SLICES = 12
_PATIENCE_S = 240.0
_PAUSE_S = 0.1


@dataclass
class Sent:
    """A series with what the node acknowledged of it.

    ``acknowledged`` are SOP Instance UIDs answered with 0000; ``refusals`` counts the other
    statuses, ``breaks`` the times without an answer.
    """

    uid: str
    study_uid: str
    fault: str
    acknowledged: set[str] = field(default_factory=set)
    refusals: int = 0
    breaks: int = 0


def small_series(folder: Path, number: int, description: str = "") -> list[Path]:
    """Write a series of tiny CT slices that nobody has sent before."""
    paths = TorsoPhantom(shape=(SLICES, 8, 8), pixel_mm=40.0, seed=number).write_series(folder)
    if description:
        for path in paths:
            dataset = dcmread(path)
            dataset.SeriesDescription = description
            dataset.save_as(path)
    return paths


def opened(paths: Sequence[Path], fault: str) -> Sent:
    """The account of a series that is about to be sent."""
    header = dcmread(paths[0], stop_before_pixels=True)
    return Sent(str(header.SeriesInstanceUID), str(header.StudyInstanceUID), fault)


class SendingScanner(threading.Thread):
    """Sends files over as many associations as it takes, as a scanner does that retries."""

    def __init__(
        self, port: int, paths: Sequence[Path], account: Sent, ae_title: str = "SCANNER"
    ) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._datasets = {str(d.SOPInstanceUID): d for d in map(dcmread, paths)}
        self._account = account
        self._ae_title = ae_title

    def run(self) -> None:
        waiting = dict(self._datasets)
        deadline = time.monotonic() + _PATIENCE_S
        while waiting and time.monotonic() < deadline:
            self._send(waiting)
            if waiting:
                time.sleep(_PAUSE_S)

    def _send(self, waiting: dict[str, Dataset]) -> None:
        ae = AE(ae_title=self._ae_title)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5.0
        ae.add_requested_context(CTImageStorage)
        association = ae.associate("127.0.0.1", self._port, ae_title="PSOAS")
        keep_answers(association)
        if not association.is_established:
            self._account.breaks += 1
            return
        for uid, dataset in list(waiting.items()):
            try:
                status = getattr(association.send_c_store(dataset), "Status", None)
            except (RuntimeError, ValueError):
                status = None
            if status is None:
                self._account.breaks += 1
                break
            if status == 0x0000:
                self._account.acknowledged.add(uid)
                del waiting[uid]
            else:
                self._account.refusals += 1
        if association.is_established:
            association.release()
