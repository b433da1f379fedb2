"""Small stand-ins for the parts of a node: records, a clock, a dispatcher, a listening receiver."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from dicom_node.config import DestinationSettings, NodeSettings
from dicom_node.errors import BrokerError
from dicom_node.ledger import Ledger
from dicom_node.receiver import Receiver
from dicom_node.records import ReceivedInstance, ResultEntry, ResultObject
from dicom_node.serve import listening
from dicom_node.spool import Spool

START = datetime(2026, 1, 2, 10, 0, tzinfo=UTC)


@dataclass
class ManualClock:
    """Time that passes when a test says so."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


@dataclass
class RecordingDispatcher:
    """Keeps what it is asked to send; raises instead while ``broken``."""

    analyses: list[tuple[str, int]] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    proofs: list[tuple[str, int]] = field(default_factory=list)
    searches: list[tuple[str, int]] = field(default_factory=list)
    deliveries: list[tuple[str, str]] = field(default_factory=list)
    shadows: list[tuple[str, int, str]] = field(default_factory=list)
    broken: bool = False

    def send_analysis(self, series_instance_uid: str, revision: int, order: int) -> None:
        self._check()
        self.analyses.append((series_instance_uid, revision))
        self.orders.append(order)

    def send_delivery(self, series_instance_uid: str, destination: str) -> None:
        self._check()
        self.deliveries.append((series_instance_uid, destination))

    def send_proof(self, series_instance_uid: str, revision: int) -> None:
        self._check()
        self.proofs.append((series_instance_uid, revision))

    def send_search(self, series_instance_uid: str, revision: int) -> None:
        self._check()
        self.searches.append((series_instance_uid, revision))

    def send_shadow(self, series_instance_uid: str, revision: int, model: str) -> None:
        self._check()
        self.shadows.append((series_instance_uid, revision, model))

    def _check(self) -> None:
        if self.broken:
            raise BrokerError("the broker is away")


def node_settings(folder: Path, **sections: Any) -> NodeSettings:
    """Settings of a node on a free port of loopback that asks for no free space."""
    storage = {"folder": folder, "free_space_watermark_mib": 0} | sections.pop("storage", {})
    listener = {"port": 0} | sections.pop("listener", {})
    return NodeSettings.model_validate({"storage": storage, "listener": listener} | sections)


def destination(name: str = "pacs", **changes: Any) -> DestinationSettings:
    """A PACS on loopback that is never called."""
    address = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    return DestinationSettings.model_validate({"name": name, **address} | changes)


def instance(number: int = 1, **changes: Any) -> ReceivedInstance:
    """An instance of series 1.2.3; ``number`` makes it differ from others."""
    made = ReceivedInstance(
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        series_instance_uid="1.2.3",
        study_instance_uid="1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title="SCANNER",
        sender_address="127.0.0.1",
        path=Path(f"instances/1.2.3/{number}.dcm"),
        sha256=f"{number:064x}",
        size_bytes=1000,
        patient_key="a" * 64,
        received_at=START,
    )
    return replace(made, **changes)


def result_entry(number: int = 1, **changes: Any) -> ResultEntry:
    """A measurement of series 1.2.3 with a report; ``number`` makes it differ from others."""
    made = ResultEntry(
        series_instance_uid="1.2.3",
        revision=1,
        version=f"version {number}",
        source_series_uid="1.2.3",
        study_instance_uid="1.2",
        study_date=date(2026, 1, 2),
        by_reader=False,
        measurement={"skeletal_muscle_area_cm2": 100.0 + number},
        objects=(
            ResultObject("seg", "1.2.840.10008.5.1.4.1.1.66.4", f"2.25.{number}1", "2.25.1"),
            ResultObject("sr", "1.2.840.10008.5.1.4.1.1.88.34", f"2.25.{number}2", "2.25.2"),
        ),
    )
    return replace(made, **changes)


@dataclass(frozen=True)
class Node:
    """A receiver that listens, with what it writes to."""

    port: int
    ledger: Ledger
    spool: Spool
    clock: ManualClock


@contextmanager
def listening_node(settings: NodeSettings) -> Iterator[Node]:
    """Listen on a free port; time stands still unless the test moves it."""
    spool = Spool.of(settings.storage)
    clock = ManualClock()
    with closing(spool), closing(Ledger.open(settings.ledger_url)) as ledger:
        receiver = Receiver(settings, ledger, spool, clock)
        with listening(settings, receiver) as port:
            yield Node(port, ledger, spool, clock)
