"""The demo: a real CT through a real node into a PACS, and the results read back from there."""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dicom_node.config import NodeSettings, load_settings
from dicom_node.demo.pacs import Pacs, start_pacs
from dicom_node.demo.picture import draw_overlay, write_image
from dicom_node.demo.processes import DemoError, Parts, free_port
from dicom_node.demo.readback import Finding, Stored, stored_results, understand
from dicom_node.errors import NodeError, PeerError
from dicom_node.ledger import Ledger
from dicom_node.records import HistoryEntry, SeriesState
from dicom_node.sender import OutgoingFile, Peer, echo, store_each

SUCCESS: Final = 0
FAILURE: Final = 1
INTERRUPTED: Final = 130

_CALLING_AE_TITLE: Final = "SCANNER"
_START_TIMEOUT_S: Final = 180.0  # a first start compiles every module that torch brings
_WORK_TIMEOUT_S: Final = 300.0
_ECHO_TIMEOUT_S: Final = 2.0
_QUIET_S: Final = 2.0
_SEND_TIMEOUT_S: Final = 30.0
_READY: Final = b"ready to work"
_ACCEPTED_EVENT: Final = "delivery_accepted"
_OFF_THE_ROAD: Final = frozenset({SeriesState.SKIPPED, SeriesState.QUARANTINED, SeriesState.FAILED})

_SETTINGS: Final = """\
[storage]
folder = "node"
free_space_watermark_mib = 64

[listener]
port = {port}

[completion]
quiet_after_release_s = {quiet_s}

[[destinations]]
name = "pacs"
ae_title = "{pacs.ae_title}"
host = "{pacs.host}"
port = {pacs.port}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo plays.

    Parameters
    ----------
    folder : Path
    console : Console
    parts : Parts
    """

    folder: Path
    console: Console
    parts: Parts

    def say(self, sentence: str) -> None:
        """Print one line of progress."""
        self.console.print(f"  {sentence}", markup=False)


def run_demo(pacs_kind: str, keep: Path | None) -> int:
    """Run the demo.

    Parameters
    ----------
    pacs_kind : str
        As for ``start_pacs``.
    keep : Path or None
        An empty or new folder to work in and to leave as it is; a temporary one when ``None``.

    Returns
    -------
    int
        0 when every step was seen to happen, 1 when one was not, 130 after Ctrl-C. No process
        outlives the call.
    """
    console = Console(highlight=False, soft_wrap=True)
    # A flag instead of an exception: no process is left behind that was just about to be noted.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        with _working_folder(keep) as folder:
            with Parts(folder, stop) as parts:
                _play(Stage(folder, console, parts), pacs_kind, keep)
            console.print("Everything that was started is stopped.")
    except (DemoError, NodeError) as error:
        console.print(f"\nThe demo failed: {error}", style="red", markup=False)
        if keep is None:
            console.print("To read the logs, run it with --keep and the name of a new folder.")
        return FAILURE
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything that was started is stopped.")
        return INTERRUPTED
    return SUCCESS


def _play(stage: Stage, pacs_kind: str, keep: Path | None) -> None:
    stage.console.print("Psoas demo", style="bold")
    paths = sorted((Path(__file__).parent / "ct").glob("*.dcm"))
    series = sorted((dcmread(path) for path in paths), key=_height_mm)
    pacs = start_pacs(pacs_kind, stage.folder, stage.parts)
    settings = _start_node(stage, pacs)
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        _send(stage, settings, paths, series)
        _wait_until_delivered(stage, ledger, series[0].SeriesInstanceUID)
        stored = _stored(pacs, series[0])
        finding = understand(stored, series)
        stage.say(
            f"read SEG, SR and key image back from {pacs.name}: same patient, same study, same area"
        )
        elapsed_s = _time_to_pacs_s(ledger, series[0].SeriesInstanceUID)
    picture, key_image = (_picture_path(keep, name) for name in ("overlay", "key-image"))
    draw_overlay(finding.source, finding.mask, picture)
    write_image(stored.key_image, key_image)
    stage.console.print(_table(finding, len(series), elapsed_s))
    stage.console.print(f"Overlay: {picture}", markup=False)
    stage.console.print(f"Key image, as the PACS shows it: {key_image}", markup=False)


def _start_node(stage: Stage, pacs: Pacs) -> NodeSettings:
    port = free_port()
    config = stage.folder / "node.toml"
    config.write_text(
        _SETTINGS.format(quiet_s=_QUIET_S, port=port, pacs=pacs.peer), encoding="utf-8"
    )
    settings = load_settings(config)
    parts = stage.parts
    parts.start_psoas("listener", "serve", "--config", str(config))
    listener = Peer(settings.listener.ae_title, settings.listener.host, port)
    for name, peer in (("listener", listener), (pacs.name, pacs.peer)):
        parts.wait_until(partial(_answers, peer), f"an answer of {name}", _START_TIMEOUT_S)
        stage.say(f"{name} answers C-ECHO as {peer.label}")
    workers = [
        parts.start_psoas(f"worker-{queue}", "worker", "--queue", queue, "--config", str(config))
        for queue in ("gpu", "node")
    ]
    for worker in workers:
        parts.wait_until(
            partial(_is_ready, worker.log), f"the start of {worker.name}", _START_TIMEOUT_S
        )
        stage.say(f"{worker.name} is ready")
    return settings


def _answers(peer: Peer) -> bool:
    try:
        echo(peer, calling_ae_title=_CALLING_AE_TITLE, timeout_s=_ECHO_TIMEOUT_S)
    except PeerError:
        return False
    return True


def _is_ready(log: Path) -> bool:
    return _READY in log.read_bytes()


def _send(
    stage: Stage, settings: NodeSettings, paths: Sequence[Path], series: Sequence[Dataset]
) -> None:
    listener = settings.listener
    outgoing = [
        OutgoingFile(
            sop_instance_uid=dataset.SOPInstanceUID,
            sop_class_uid=dataset.SOPClassUID,
            transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
            path=Path(dataset.filename),
        )
        for dataset in series
    ]
    peer = Peer(listener.ae_title, listener.host, listener.port)
    sending = store_each(
        peer, outgoing, calling_ae_title=_CALLING_AE_TITLE, timeout_s=_SEND_TIMEOUT_S
    )
    label = f"  sending {len(paths)} CT images"
    for answer in track(sending, label, total=len(paths), console=stage.console):
        stage.parts.heed_stop()
        if answer.status != 0:
            raise DemoError(f"image {answer.sop_instance_uid} was answered with {answer.detail}")


def _wait_until_delivered(stage: Stage, ledger: Ledger, series_uid: str) -> None:
    shown: list[HistoryEntry] = []

    def is_delivered() -> bool:
        history = ledger.history(series_uid)
        for entry in history[len(shown) :]:
            shown.append(entry)
            stage.say(_in_words(entry))
        record = ledger.series(series_uid)
        if record.state in _OFF_THE_ROAD:
            why = f": {record.reason.message} [{record.reason.code}]" if record.reason else ""
            raise DemoError(f"the series is {record.state.value}{why}")
        return record.state is SeriesState.DELIVERED

    stage.parts.wait_until(is_delivered, "the delivery of the results", _WORK_TIMEOUT_S)


def _in_words(entry: HistoryEntry) -> str:
    words = entry.event.replace("_", " ")
    answer = f" ({entry.reason.message})" if entry.reason else ""
    return f"{entry.at:%H:%M:%S} {words}{answer}"


def _stored(pacs: Pacs, source: Dataset) -> Stored:
    stored = stored_results(pacs.results_of(source.StudyInstanceUID), source)
    if stored is None:
        raise DemoError(f"{pacs.name} does not hold SEG, SR and key image")
    return stored


def _time_to_pacs_s(ledger: Ledger, series_uid: str) -> float:
    stored_at = max(
        entry.at for entry in ledger.history(series_uid) if entry.event == _ACCEPTED_EVENT
    )
    return (stored_at - ledger.series(series_uid).last_received_at).total_seconds()


def _table(finding: Finding, slice_count: int, elapsed_s: float) -> Table:
    table = Table(title="Measurement, as read back from the PACS", show_header=False)
    height_mm = _height_mm(finding.source)
    place = f"slice {finding.slice_index + 1} of {slice_count} from below, z {height_mm:.1f} mm"
    table.add_row("level", f"L3, {place}")
    table.add_row("skeletal muscle area", f"{finding.area_cm2:.1f} cm²")
    table.add_row("interval", _interval(finding))
    if finding.cutoff_cm2 is not None:
        table.add_row("cut-off", f"{finding.cutoff_cm2:g} cm²")
    table.add_row("verdict", finding.verdict.replace("_", " "))
    table.add_row("mean attenuation", f"{finding.mean_hu:.1f} HU")
    for remark in finding.remarks:
        table.add_row("remark", remark)
    waited = f"{elapsed_s:.1f} s, {_QUIET_S:g} s of them waiting for more images"
    table.add_row("last image to stored result", waited)
    return table


def _interval(finding: Finding) -> str:
    if finding.interval_cm2 is None:
        return "none"
    lower, upper = finding.interval_cm2
    coverage = finding.coverage_percent
    kind = "of customary width" if coverage is None else f"{coverage:.0f} % coverage"
    return f"{lower:.1f} to {upper:.1f} cm², {kind}"


def _height_mm(dataset: Dataset) -> float:
    return float(dataset.ImagePositionPatient[2])


def _picture_path(keep: Path | None, name: str) -> Path:
    if keep is not None:
        return keep / f"{name}.png"
    descriptor, path = tempfile.mkstemp(prefix=f"psoas-demo-{name}-", suffix=".png")
    os.close(descriptor)
    return Path(path)


@contextmanager
def _working_folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="psoas-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise DemoError(f"{keep} is not empty; name a new folder")
    except OSError as error:
        raise DemoError(f"{keep} cannot be used: {error.strerror}") from None
    yield keep.resolve()
