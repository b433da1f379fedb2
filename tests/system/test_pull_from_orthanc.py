"""Training data out of a real Orthanc, over DICOMweb and over DIMSE."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.demo.processes import free_port
from dicom_node.errors import PeerError
from dicom_node.pulling import Wanted, pull_by_get, pull_by_web
from dicom_node.sender import Peer
from tests.conftest import find_tool
from tests.orthanc import RunningOrthanc, running_orthanc
from tests.phantoms import TorsoPhantom
from tests.training.intake.drawings import write_seg
from training.intake.layouts import find_cases

pytestmark = [pytest.mark.network, pytest.mark.slow]

PHANTOM = TorsoPhantom(shape=(3, 32, 32), pixel_mm=12.0)
STUDY = Wanted(studies=(PHANTOM.study_instance_uid,))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningOrthanc]:
    folder = tmp_path_factory.mktemp("orthanc")
    write_seg(folder / "seg.dcm", PHANTOM)
    with running_orthanc(find_tool("Orthanc"), folder) as running:
        for dataset in [*PHANTOM.datasets(), dcmread(folder / "seg.dcm")]:
            running.store(dataset)
        yield running


def assert_training_reads(folder: Path) -> None:
    (case,) = find_cases(folder, "dicom", {}, b"k")
    volume = case.read_volume()
    assert np.array_equal(volume.hu, PHANTOM.hu)
    assert case.read_labels is not None
    assert np.array_equal(case.read_labels(volume).slices[1] == 1, PHANTOM.muscle_mask()[1])


def test_series_and_drawing_come_over_dicomweb_and_training_reads_them(
    orthanc: RunningOrthanc, tmp_path: Path
) -> None:
    fetched = list(pull_by_web(orthanc.dicomweb_url, STUDY, tmp_path))
    assert sorted(series.modality for series in fetched) == ["CT", "SEG"]
    assert len(list(tmp_path.rglob("*.dcm"))) == 4
    assert_training_reads(tmp_path)


def test_command_finds_studies_by_day(orthanc: RunningOrthanc, tmp_path: Path) -> None:
    words = ["pull", "--source", orthanc.dicomweb_url, "--dates", "20260101-20260131"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert f"2 series fetched into {tmp_path}" in result.output
    assert_training_reads(tmp_path)


def test_the_same_comes_over_dimse(orthanc: RunningOrthanc, tmp_path: Path) -> None:
    peer = Peer(orthanc.ae_title, "127.0.0.1", orthanc.port)
    assert len(list(pull_by_get(peer, "PSOAS_PULL", STUDY, tmp_path))) == 2
    assert_training_reads(tmp_path)


def test_service_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="does not answer"):
        list(pull_by_web(f"http://127.0.0.1:{free_port()}/dicom-web", STUDY, tmp_path))


def test_study_that_nobody_has_brings_nothing(orthanc: RunningOrthanc, tmp_path: Path) -> None:
    assert list(pull_by_web(orthanc.dicomweb_url, Wanted(studies=("1.2.3",)), tmp_path)) == []
    assert not list(tmp_path.iterdir())
