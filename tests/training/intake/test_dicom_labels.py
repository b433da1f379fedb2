from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.phantoms import TorsoPhantom
from tests.training.intake.drawings import write_seg, write_structures
from training.intake.dicom_labels import fill_polygon, read_segmentation, read_structures
from training.intake.found import label_of_name
from training.labels import MUSCLE

PHANTOM = TorsoPhantom(shape=(4, 128, 128))


def test_segments_come_back_where_they_were_drawn(tmp_path: Path) -> None:
    write_seg(tmp_path / "seg.dcm", PHANTOM)
    drawn = read_segmentation(dcmread(tmp_path / "seg.dcm"), PHANTOM.volume(), {})
    assert drawn.faults == ()
    assert sorted(drawn.slices) == [0, 1, 2, 3]
    for index, labels in drawn.slices.items():
        assert np.array_equal(labels == MUSCLE, PHANTOM.muscle_mask()[index])


def test_segments_drawn_on_turned_rows_are_turned_back(tmp_path: Path) -> None:
    turned = replace(PHANTOM, orientation=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    write_seg(tmp_path / "seg.dcm", turned)
    drawn = read_segmentation(dcmread(tmp_path / "seg.dcm"), PHANTOM.volume(), {})
    assert drawn.faults == ()
    for index, labels in drawn.slices.items():
        assert np.array_equal(labels == MUSCLE, PHANTOM.muscle_mask()[index])


def test_segments_of_another_place_are_a_fault(tmp_path: Path) -> None:
    write_seg(tmp_path / "seg.dcm", replace(PHANTOM, lowest_z_mm=-350.0 + 2.5))
    drawn = read_segmentation(dcmread(tmp_path / "seg.dcm"), PHANTOM.volume(), {})
    assert "a drawing lies between or across the slices of the images" in drawn.faults


def test_contours_with_a_hole_become_a_ring(tmp_path: Path) -> None:
    write_structures(tmp_path / "rt.dcm", PHANTOM, [1, 2])
    drawn = read_structures(dcmread(tmp_path / "rt.dcm"), PHANTOM.volume(), {})
    assert drawn.faults == ()
    assert sorted(drawn.slices) == [1, 2]
    for index, labels in drawn.slices.items():
        differs = (labels == MUSCLE) != PHANTOM.muscle_mask()[index]
        assert np.count_nonzero(differs) <= 0.01 * PHANTOM.muscle_mask()[index].sum()


def test_polygon_holds_the_pixels_whose_middle_it_holds() -> None:
    filled = fill_polygon(np.array([[0.5, 0.5], [0.5, 3.5], [2.5, 3.5], [2.5, 0.5]]), (4, 5))
    assert filled.astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("name", "label"),
    [("Skeletal muscle", 1), ("SMA", 1), ("Intermuscular fat", 2), ("IMAT", 2), ("sat", 3),
     ("torso_fat", 4), ("vertebrae_L3", 5), ("Liver", None), ("Tumour", None)],
)  # fmt: skip
def test_names_of_segments_are_understood(name: str, label: int | None) -> None:
    assert label_of_name(name, {}) == label


def test_names_that_are_given_stand_alone() -> None:
    assert label_of_name("psoas MAJOR", {"Psoas major": 1}) == 1
    assert label_of_name("Skeletal muscle", {"Psoas major": 1}) is None
