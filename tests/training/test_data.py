from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from pipeline.preprocess import PreprocessSpec
from tests.phantoms import TorsoPhantom
from tests.training.cases import labelled_phantoms, labels
from training.augment import Augmentation
from training.data import draw_order, read_images, read_labelled, sample
from training.habitus import Habitus

CASES = """
[[case]]
name = "a"
patient = "first"
images = "a"
labels = "a.npz"
"""


def test_labelled_slices_are_read_with_their_image(tmp_path: Path) -> None:
    phantom = TorsoPhantom(shape=(4, 64, 64), pixel_mm=6.0)
    phantom.write_series(tmp_path / "a")
    np.savez(
        tmp_path / "a.npz",
        labels=np.stack([labels(phantom, 1), labels(phantom, 3)]),
        slice_index_from_inferior=np.array([1, 3]),
        confidence=np.array([0.5, 0.9]),
        pixel_spacing_mm=np.array([6.0, 6.0]),
    )
    (tmp_path / "cases.toml").write_text(CASES)
    slices = read_labelled(tmp_path, tmp_path / "cases.toml")
    assert [(s.patient, s.slice_index, s.confidence) for s in slices] == [
        ("first", 1, 0.5),
        ("first", 3, 0.9),
    ]
    assert np.array_equal(slices[1].muscle, phantom.muscle_mask()[3])
    assert np.array_equal(slices[1].volume.hu, phantom.hu)
    assert np.allclose(slices[1].volume.affine, phantom.affine, atol=1e-4)


def test_nifti_is_turned_so_that_rows_run_from_anterior(tmp_path: Path) -> None:
    phantom = TorsoPhantom(shape=(3, 40, 60))
    # NIfTI's axes are (x, y, z) to the right, front and head: LPS with two signs changed.
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ phantom.affine[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(phantom.hu.transpose(2, 1, 0), affine)
    nibabel.save(nibabel.as_closest_canonical(image), tmp_path / "a.nii.gz")
    volume = read_images(tmp_path / "a.nii.gz")
    assert np.array_equal(volume.hu, phantom.hu)
    assert np.allclose(volume.affine, phantom.affine, atol=1e-4)


def test_array_of_hu_takes_its_spacing_from_the_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((10, 12), 40.4, dtype=np.float32))
    volume = read_images(tmp_path / "a.npy", (0.7, 0.8))
    assert volume.hu.shape == (1, 10, 12)
    assert volume.hu.max() == 40
    assert volume.pixel_spacing_mm == pytest.approx((0.7, 0.8))


def test_targets_are_shares_of_the_compartments() -> None:
    for augmentation in (None, Augmentation(elastic_chance=1, truncation_chance=1)):
        drawn = sample(
            labelled_phantoms()[0], PreprocessSpec(), augmentation, np.random.default_rng(0)
        )
        assert np.allclose(drawn.fractions.sum(axis=0), 1, atol=1e-6)
        assert drawn.image.shape[1:] == drawn.fractions.shape[1:]
        assert drawn.image.min() >= 0
        assert drawn.image.max() <= 1


def test_image_and_target_move_together() -> None:
    quiet = Augmentation(
        contrast_chance=0, noise_chance=0, blur_chance=0, sharpen_chance=0, tone_chance=0,
        truncation_chance=0, elastic_chance=1,
        habitus=Habitus(layer_chance=1, wasting_chance=1, infiltration_chance=0),
    )  # fmt: skip
    for seed in range(5):
        drawn = sample(labelled_phantoms()[0], PreprocessSpec(), quiet, np.random.default_rng(seed))
        # The phantom's muscle has 50 HU, everything else is far from it.
        looks_like_muscle = np.abs(drawn.image[0] - (50 + 175) / 425) < 0.02
        # Nearest labels and interpolated HU differ within one of the phantom's pixels of an edge.
        is_muscle = ndimage.binary_erosion(drawn.fractions[1] > 0.99, iterations=2)
        assert looks_like_muscle[is_muscle].mean() > 0.98


def test_same_seed_draws_the_same_sample() -> None:
    first, second = (
        sample(labelled_phantoms()[0], PreprocessSpec(), Augmentation(), np.random.default_rng(5))
        for _ in range(2)
    )
    assert np.array_equal(first.image, second.image)


def test_patient_with_many_slices_does_not_drown_the_others() -> None:
    one, _, other = labelled_phantoms()
    drawn = draw_order([*[one] * 16, other], 4000, np.random.default_rng(0))
    assert np.mean(drawn == 16) == pytest.approx(1 / 3, abs=0.03)
