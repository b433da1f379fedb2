from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.demo.picture import draw_overlay, write_image
from dicom_node.demo.processes import DemoError
from dicom_node.demo.readback import Stored, stored_results, understand
from pipeline.objects import key_image, seg, sr
from pipeline.objects.identity import ResultContext
from pipeline.objects.overlay import draw_page
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.pipeline.objects.results import CREATED_AT, saved

PHANTOM = TorsoPhantom((5, 64, 64), 6.0)
SLICES = PHANTOM.datasets()


def results() -> Stored:
    analysis = phantom_analysis(PHANTOM)
    context = ResultContext(tuple(SLICES), CREATED_AT, "9.9")
    return Stored(*(one.build(analysis, context) for one in (seg, sr, key_image)))


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    made = results()
    folders = [tmp_path / name for name in ("seg", "sr", "key_image")]
    for folder in folders:
        folder.mkdir()
    objects = (made.segmentation, made.report, made.key_image)
    return Stored(*(saved(one, folder) for one, folder in zip(objects, folders, strict=True)))


def test_finding_is_what_was_measured(stored: Stored) -> None:
    finding = understand(stored, SLICES)
    assert finding.slice_index == 2
    assert finding.source is SLICES[2]
    assert np.array_equal(finding.mask, PHANTOM.muscle_mask()[2])
    assert finding.area_cm2 == pytest.approx(PHANTOM.muscle_area_cm2, rel=0.05)
    assert finding.mean_hu == 50
    assert finding.verdict in {"below_cutoff", "above_cutoff"}


def test_results_are_picked_out_of_their_study(stored: Stored) -> None:
    study = [*SLICES, stored.key_image, stored.report, stored.segmentation]
    assert stored_results(study, SLICES[0]) == stored


def test_results_are_incomplete_while_one_is_missing(stored: Stored) -> None:
    assert stored_results([*SLICES, stored.report, stored.key_image], SLICES[0]) is None


def test_twins_are_noticed(stored: Stored) -> None:
    objects = [stored.segmentation, stored.report, stored.key_image]
    with pytest.raises(DemoError, match="holds 2 Segmentation Storage"):
        stored_results([*objects, stored.segmentation], SLICES[0])


def test_results_of_another_patient_are_noticed(stored: Stored) -> None:
    stored.report.PatientID = "OTHER"
    with pytest.raises(DemoError, match="PatientID"):
        stored_results([stored.segmentation, stored.report, stored.key_image], SLICES[0])


def test_segmentation_that_contradicts_the_report_is_noticed(stored: Stored) -> None:
    stored.segmentation.PixelData = bytes(len(stored.segmentation.PixelData))
    with pytest.raises(DemoError, match=r"the SEG covers 0\.00 cm², the SR says"):
        understand(stored, SLICES)


def test_report_on_other_images_is_noticed(stored: Stored) -> None:
    others = [dcm for dcm in SLICES if dcm is not SLICES[2]]
    with pytest.raises(DemoError, match="refers to no image"):
        understand(stored, others)


def test_overlay_marks_the_mask_on_the_right_half(stored: Stored, tmp_path: Path) -> None:
    finding = understand(stored, SLICES)
    path = tmp_path / "overlay.png"
    draw_overlay(_with_meta(finding.source, tmp_path), finding.mask, path)
    with Image.open(path) as image:
        picture = np.asarray(image).astype(int)
    plain, marked = picture[:, :64], picture[:, 64:]
    assert np.array_equal((plain != marked).any(axis=2), finding.mask)
    reddish = marked[finding.mask]
    assert (reddish[:, 0] > reddish[:, 1]).all()


def test_key_image_is_written_as_it_is_stored(stored: Stored, tmp_path: Path) -> None:
    path = tmp_path / "key-image.png"
    write_image(stored.key_image, path)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(draw_page(phantom_analysis(PHANTOM))))


def _with_meta(source: Dataset, folder: Path) -> Dataset:
    path = folder / "slice.dcm"
    source.save_as(path, enforce_file_format=True)
    return dcmread(path)
