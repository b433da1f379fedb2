"""Against an archive of our own on loopback: C-FIND, C-GET and C-MOVE over real sockets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    CTImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.demo.processes import free_port
from dicom_node.errors import PeerError
from dicom_node.pulling import Wanted, pull_by_get, pull_by_move
from dicom_node.sender import Peer
from tests.phantoms import TorsoPhantom
from tests.training.intake.drawings import write_seg
from training.intake.layouts import find_cases

PHANTOM = TorsoPhantom(shape=(3, 32, 32), pixel_mm=12.0)


class Archive:
    """A query/retrieve SCP that holds a few objects."""

    def __init__(self, objects: list[Dataset], mover: tuple[str, int]) -> None:
        self.objects = objects
        self.mover = mover
        entity = AE("ARCHIVE")
        for model in (
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelGet,
            StudyRootQueryRetrieveInformationModelMove,
        ):
            entity.add_supported_context(model)
        for sop_class in (CTImageStorage, SegmentationStorage):
            entity.add_supported_context(sop_class, scu_role=True, scp_role=True)
            entity.add_requested_context(sop_class)
        handlers: list[Any] = [
            (evt.EVT_C_FIND, self._find), (evt.EVT_C_GET, self._get), (evt.EVT_C_MOVE, self._move),
        ]  # fmt: skip
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.peer = Peer("ARCHIVE", "127.0.0.1", self.server.socket.getsockname()[1])

    def _matching(self, query: Dataset) -> list[Dataset]:
        wanted = str(query.get("SeriesInstanceUID") or "")
        return [o for o in self.objects if not wanted or o.SeriesInstanceUID == wanted]

    def _find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        if query.QueryRetrieveLevel == "SERIES" and not query.StudyInstanceUID:
            yield 0xA900, None
            return
        key = f"{query.QueryRetrieveLevel.title()}InstanceUID"
        for uid in sorted({str(o[key].value) for o in self.objects}):
            one = next(o for o in self.objects if o[key].value == uid)
            answer = Dataset()
            answer.QueryRetrieveLevel = query.QueryRetrieveLevel
            answer.StudyInstanceUID = one.StudyInstanceUID
            answer.SeriesInstanceUID, answer.Modality = one.SeriesInstanceUID, one.Modality
            yield 0xFF00, answer

    def _get(self, event: Event) -> Iterator[object]:
        found = self._matching(event.identifier)
        yield len(found)
        for one in found:
            yield 0xFF00, one

    def _move(self, event: Event) -> Iterator[object]:
        found = self._matching(event.identifier)
        if event.move_destination != self.mover[0]:
            yield None, None
            return
        yield "127.0.0.1", self.mover[1]
        yield len(found)
        for one in found:
            yield 0xFF00, one


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    write_seg(tmp_path / "seg.dcm", PHANTOM)
    objects = [*PHANTOM.datasets(), dcmread(tmp_path / "seg.dcm")]
    made = Archive(objects, ("PSOAS_PULL", free_port()))
    yield made
    made.server.shutdown()


WANTED = Wanted(studies=(PHANTOM.study_instance_uid,))


@pytest.mark.network
def test_series_and_its_drawing_are_fetched_and_training_reads_them(
    archive: Archive, tmp_path: Path
) -> None:
    fetched = list(pull_by_get(archive.peer, "PSOAS_PULL", WANTED, tmp_path / "out"))
    assert sorted(series.modality for series in fetched) == ["CT", "SEG"]
    (case,) = find_cases(tmp_path / "out", "dicom", {}, b"k")
    volume = case.read_volume()
    assert np.array_equal(volume.hu, PHANTOM.hu)
    assert case.read_labels is not None
    drawn = case.read_labels(volume)
    assert np.array_equal(drawn.slices[1] == 1, PHANTOM.muscle_mask()[1])


@pytest.mark.network
def test_days_find_studies_and_moving_brings_the_same(archive: Archive, tmp_path: Path) -> None:
    wanted = Wanted(dates="20260101-20260131", modalities=("CT",))
    title, port = archive.mover
    fetched = list(pull_by_move(archive.peer, title, port, wanted, tmp_path / "out"))
    assert [series.series_instance_uid for series in fetched] == [PHANTOM.series_instance_uid]
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 3


@pytest.mark.network
def test_archive_that_does_not_know_us_is_named(archive: Archive, tmp_path: Path) -> None:
    moving = pull_by_move(archive.peer, "STRANGER", free_port(), WANTED, tmp_path / "out")
    with pytest.raises(PeerError, match="answered C-MOVE to STRANGER with status A801"):
        list(moving)


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.network
def test_nobody_there_is_one_sentence(tmp_path: Path) -> None:
    nobody = Peer("ARCHIVE", "127.0.0.1", free_port())
    with pytest.raises(PeerError, match="nothing accepts the connection"):
        list(pull_by_get(nobody, "PSOAS_PULL", WANTED, tmp_path))
