from pathlib import Path

import numpy as np
import pytest

from tests.phantoms import TorsoPhantom
from tests.training.cases import labels as labels_of
from tests.training.intake.drawings import write_nifti, write_seg, write_structures
from training.intake.intake import IntakeOptions, bring_in
from training.intake.layouts import LayoutError, find_cases, pseudonym_key

KEY = b"k" * 32
PHANTOM = TorsoPhantom(shape=(3, 96, 96), pixel_mm=4.0)
VOLUME = PHANTOM.volume()
MUSCLE = PHANTOM.muscle_mask()


def _labels_of_slice(folder: Path, layout: str, out: Path, index: int) -> np.ndarray:
    """Labels in the data folder of the only case, and that images came through unchanged."""
    bring_in(find_cases(folder, layout, {}, KEY), out, IntakeOptions())
    (image,) = (out / "volumes").glob("*.npy")
    assert np.array_equal(np.load(image), PHANTOM.hu)
    (drawn,) = (out / "labels").glob("*.npy")
    labels: np.ndarray = np.load(drawn)[index]
    return labels


def test_series_with_seg(tmp_path: Path) -> None:
    PHANTOM.write_series(tmp_path / "in" / "ct")
    write_seg(tmp_path / "in" / "seg.dcm", PHANTOM)
    labels = _labels_of_slice(tmp_path / "in", "dicom", tmp_path / "out", 1)
    assert np.array_equal(labels == 1, MUSCLE[1])


def test_series_with_structure_set(tmp_path: Path) -> None:
    PHANTOM.write_series(tmp_path / "in")
    write_structures(tmp_path / "in" / "rt.dcm", PHANTOM, [2])
    labels = _labels_of_slice(tmp_path / "in", "dicom", tmp_path / "out", 0)
    assert np.mean((labels == 1) != MUSCLE[2]) < 0.01


def test_saros(tmp_path: Path) -> None:
    # SAROS: 1 subcutaneous tissue, 2 muscle, 3 abdominal cavity, 5 bones; 255 on most slices.
    regions = np.array([0, 2, 1, 3, 5], dtype=np.uint8)[PHANTOM.compartments]
    regions[0] = 255
    case = tmp_path / "in" / "data" / "case_000"
    write_nifti(case / "image.nii.gz", VOLUME, PHANTOM.hu)
    write_nifti(case / "body-regions.nii.gz", VOLUME, regions)
    labels = _labels_of_slice(tmp_path / "in", "saros", tmp_path / "out", 0)
    assert np.load(next((tmp_path / "out" / "labels").glob("*.npy"))).shape[0] == 2
    assert np.array_equal(labels, labels_of(PHANTOM, 1))


def test_body_composition_labels_on_lits(tmp_path: Path) -> None:
    masks = np.zeros(PHANTOM.hu.shape, dtype=np.uint8)
    masks[1][MUSCLE[1]] = 1
    masks[1][PHANTOM.compartments[1] == 2] = 2
    write_nifti(tmp_path / "in" / "data" / "studies" / "7.nii.gz", VOLUME, PHANTOM.hu)
    write_nifti(tmp_path / "in" / "data" / "masks" / "7.nii.gz", VOLUME, masks)
    labels = _labels_of_slice(tmp_path / "in", "lits", tmp_path / "out", 0)
    assert np.array_equal(labels == 1, MUSCLE[1])
    assert np.array_equal(labels == 3, PHANTOM.compartments[1] == 2)
    assert np.isin(labels[PHANTOM.compartments[1] == 3], (4, 6)).mean() > 0.99


def test_totalsegmentator(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "s0001"
    write_nifti(folder / "ct.nii.gz", VOLUME, PHANTOM.hu)
    masks = folder / "segmentations"
    write_nifti(masks / "skeletal_muscle.nii.gz", VOLUME, MUSCLE.astype(np.uint8))
    (tmp_path / "in" / "meta.csv").write_text("\ufeffimage_id;age;gender\ns0001;61;f\n")
    labels = _labels_of_slice(tmp_path / "in", "totalsegmentator", tmp_path / "out", 0)
    assert np.array_equal(labels == 1, MUSCLE[0])
    assert 'sex = "F"' in (tmp_path / "out" / "cases.toml").read_text()


@pytest.mark.parametrize(
    ("image", "label"),
    [("images/a.nii.gz", "labels/a.nii.gz"), ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")],
)
def test_pairs(tmp_path: Path, image: str, label: str) -> None:
    write_nifti(tmp_path / "in" / image, VOLUME, PHANTOM.hu)
    write_nifti(tmp_path / "in" / label, VOLUME, MUSCLE.astype(np.uint8))
    labels = _labels_of_slice(tmp_path / "in", "nifti", tmp_path / "out", 2)
    assert np.array_equal(labels == 1, MUSCLE[2])


def test_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="saros"):
        find_cases(tmp_path, "saros", {}, KEY)


def test_pseudonyms_need_the_key_of_the_folder(tmp_path: Path) -> None:
    PHANTOM.write_series(tmp_path / "in")
    first, again, other = (
        find_cases(tmp_path / "in", "dicom", {}, key)[0].patient
        for key in (pseudonym_key(tmp_path / "a"), pseudonym_key(tmp_path / "a"), KEY)
    )
    assert first == again != other
    assert "PHANTOM" not in first
