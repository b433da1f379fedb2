"""A patient goes through the whole node, and only the images and results know who it is."""

import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from pydicom import Dataset, dcmread

from dicom_node.records import SeriesState
from tests.peers import CANNOT_UNDERSTAND, Scanner
from tests.system.running_node import DEADLINE_S, RunningNode, renewed_series, wait_until

pytestmark = [pytest.mark.network, pytest.mark.redis, pytest.mark.slow]

MARKERS = {
    "PatientName": "Xerxesmark^Quillfeather",
    "PatientID": "MRKID-7734190",
    "PatientBirthDate": "18991231",
    "AccessionNumber": "ACCMRK90210",
}


ENDS = {SeriesState.DELIVERED, SeriesState.QUARANTINED, SeriesState.FAILED}


def marked(folder: Path) -> list[Path]:
    """Give every image of a series the patient that is looked for."""
    paths = sorted(folder.glob("*.dcm"))
    for path in paths:
        dataset = dcmread(path)
        for keyword, value in MARKERS.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    return paths


def traces(content: bytes) -> set[str]:
    """Attributes of the patient that some bytes give away."""
    words = {
        keyword: [part.encode() for part in value.split("^")] for keyword, value in MARKERS.items()
    }
    return {keyword for keyword, parts in words.items() if any(part in content for part in parts)}


def files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path


def leaks(folder: Path) -> dict[str, set[str]]:
    """Files that are no DICOM objects and give the patient away."""
    found = {}
    for path in files_below(folder):
        if path.suffix != ".dcm" and (seen := traces(path.read_bytes())):
            found[str(path.relative_to(folder))] = seen
    return found


def spoiled(path: Path, folder: Path) -> Path:
    """An image without a study: refused at the door."""
    dataset: Dataset = dcmread(path)
    del dataset.StudyInstanceUID
    dataset.save_as(folder / "spoiled.dcm")
    return folder / "spoiled.dcm"


def metrics_of(node: RunningNode) -> bytes:
    """The page that Prometheus reads, with every series that the node gave up in it."""
    given_up = len(node.ledger.list_series((SeriesState.QUARANTINED,)))
    port = node.settings.metrics.port
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_S) as page:
        content: bytes = page.read()
    assert given_up
    assert f'psoas_series{{state="quarantined"}} {given_up}.0\n'.encode() in content
    return content


def test_nothing_but_images_and_results_knows_the_patient(
    node: RunningNode, series: Path, demo_series: Path, tmp_path: Path
) -> None:
    images = marked(series)
    assert Scanner(node.settings.listener.port).send([spoiled(images[0], tmp_path)]) == [
        CANNOT_UNDERSTAND
    ]
    uid = node.send(series)
    # One that fails inside the worker: its pixels are not what the header says.
    broken = renewed_series(demo_series, tmp_path / "broken")
    for path in marked(broken):
        dataset = dcmread(path)
        dataset.BitsStored = 40
        dataset.save_as(path)
    bad = node.send(broken)
    node.wait_for(bad, SeriesState.QUARANTINED)
    # A slow machine may give the good one up; whatever its end is, it tells nobody.
    wait_until(lambda: node.ledger.series(uid).state in ENDS, "end of the series")
    shown = node.psoas("show", uid)
    assert shown.returncode == 0, shown.stderr
    assert traces((shown.stdout + shown.stderr).encode()) == set()
    assert traces(metrics_of(node)) == set()
    root = node.config.parent
    assert leaks(root) == {}
    # The search finds what is there: the image in the spool has all of it.
    instance = node.ledger.instances(uid)[0]
    stored = node.settings.storage.folder / "spool" / instance.path
    assert traces(stored.read_bytes()) == set(MARKERS)


def test_nobody_else_may_read_what_the_node_keeps(node: RunningNode, series: Path) -> None:
    node.send(series)
    storage = node.settings.storage.folder
    open_to_others = [
        str(path.relative_to(storage))
        for path in (storage / "spool", storage / "audit", storage / "broker")
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert open_to_others == []
    ledger = list(storage.glob("ledger.sqlite*"))
    assert ledger
    assert [path.name for path in ledger if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
