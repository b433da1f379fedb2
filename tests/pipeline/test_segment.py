from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from pipeline.objects.ct_series import read_volume
from pipeline.preprocess import prepare, to_native
from pipeline.segment import label_tissues, native_views, segment
from pipeline.tissues import TISSUES, Compartment
from pipeline.types import AnatomicLevel, CTVolume
from pipeline.weights import load_model
from tests.models import write_tiny_model
from tests.phantoms import TorsoPhantom

CPU = torch.device("cpu")


def probabilities(compartment: Compartment, value: float, size: int = 4) -> np.ndarray:
    """``value`` for one compartment, the rest spread evenly."""
    p = np.full((len(Compartment), 1, size), (1 - value) / 4, dtype=np.float32)
    p[compartment] = value
    return p


def test_mask_lies_on_the_native_grid_of_the_level(tmp_path: Path) -> None:
    volume = TorsoPhantom(shape=(5, 120, 150)).volume()
    model = load_model(write_tiny_model(tmp_path / "tiny", members=2), CPU)
    found = segment(model, volume, AnatomicLevel("L3", 3, 1.0))
    assert found.mask.labels.shape == (1, 120, 150)
    assert found.mask.first_slice_index == 3
    assert np.array_equal(found.measured_hu, volume.hu[3])
    assert not found.measured_hu.flags.writeable


def test_segmentation_repeats_bit_for_bit(tmp_path: Path) -> None:
    volume = TorsoPhantom(shape=(3, 120, 150), noise_hu=10.0).volume()
    model = load_model(write_tiny_model(tmp_path / "tiny"), CPU)
    first, second = (segment(model, volume, AnatomicLevel("L3", 1, 1.0)) for _ in range(2))
    assert np.array_equal(first.mask.labels, second.mask.labels)
    assert first.ensemble_spread_cm2 == second.ensemble_spread_cm2


def test_members_that_disagree_give_a_spread(tmp_path: Path) -> None:
    volume = TorsoPhantom(shape=(3, 120, 150)).volume()
    model = load_model(write_tiny_model(tmp_path / "tiny", members=2), CPU)
    alike = replace(model, networks=model.networks[:1] * 2)
    level = AnatomicLevel("L3", 1, 1.0)
    assert segment(model, volume, level).ensemble_spread_cm2 > 0
    one = segment(replace(model, networks=model.networks[:1]), volume, level)
    assert segment(alike, volume, level).ensemble_spread_cm2 == one.ensemble_spread_cm2


def test_slices_around_a_found_level_give_a_spread_but_not_around_a_chosen_one(
    tmp_path: Path,
) -> None:
    thin, thick = (TorsoPhantom(shape=(1, 120, 150), thickness_mm=mm) for mm in (15.0, 30.0))
    stack = TorsoPhantom(shape=(9, 120, 150)).volume()
    hu = np.concatenate([thin.volume().hu] * 4 + [thick.volume().hu] * 5)
    volume = CTVolume(hu, stack.affine, stack.sources, stack.series_instance_uid)
    model = load_model(write_tiny_model(tmp_path / "tiny"), CPU)
    found = AnatomicLevel("L3", 4, 0.9, extent=(2, 6))
    assert segment(model, volume, found).level_spread_cm2 > 0
    assert segment(model, stack, found).level_spread_cm2 == pytest.approx(0, abs=1e-6)
    assert segment(model, volume, AnatomicLevel("L3", 4, 1.0)).level_spread_cm2 == 0


def test_thin_slices_are_measured_as_a_slab(tmp_path: Path) -> None:
    volume = TorsoPhantom(shape=(9, 120, 150), slice_mm=1.0, noise_hu=40.0).volume()
    model = load_model(write_tiny_model(tmp_path / "tiny"), CPU)
    found = segment(model, volume, AnatomicLevel("L3", 4, 1.0))
    assert np.abs(found.measured_hu - volume.hu[2:7].mean(axis=0)).max() <= 0.5


def test_mirrored_view_is_mirrored_back(tmp_path: Path) -> None:
    volume = TorsoPhantom(shape=(1, 120, 150)).volume()
    model = load_model(write_tiny_model(tmp_path / "tiny"), CPU)
    prepared = prepare(volume, 0, model.spec)
    plain, mirrored = native_views(model, prepared, model.networks)
    network = model.networks[0]
    with torch.no_grad():
        image = torch.from_numpy(prepared.image[None, :, ::-1].copy())
        expected = torch.softmax(network(image), dim=1).numpy()[0][:, ::-1]
    assert np.allclose(mirrored, to_native(expected, prepared.grid, (120, 150)), atol=1e-5)
    assert not np.allclose(plain, mirrored, atol=1e-5)


@pytest.mark.parametrize("tissue", TISSUES, ids=lambda tissue: tissue.name)
def test_limits_of_hu_belong_to_the_tissue(tissue: object) -> None:
    chosen = next(t for t in TISSUES if t is tissue)
    low, high = chosen.lower_hu, chosen.upper_hu
    hu = np.array([[low, high, low - 1, high + 1]], dtype=np.int16)
    labels = label_tissues(probabilities(chosen.compartment, 0.9), hu, 0.45)
    assert labels[0, :2].tolist() == [chosen.label] * 2
    assert chosen.label not in labels[0, 2:].tolist()


@pytest.mark.parametrize(("probability", "is_muscle"), [(0.45, True), (0.44, False)])
def test_muscle_goes_by_its_threshold(probability: float, is_muscle: bool) -> None:
    p = probabilities(Compartment.MUSCLE, probability)
    p[Compartment.CAVITY] = 1 - probability
    p[[Compartment.OTHER, Compartment.SUBCUTANEOUS, Compartment.BONE]] = 0
    labels = label_tissues(p, np.full((1, 4), 50, dtype=np.int16), 0.45)
    assert bool((labels == 1).all()) is is_muscle


def test_pixel_below_the_threshold_goes_to_the_likeliest_other_compartment() -> None:
    p = probabilities(Compartment.MUSCLE, 0.4)
    p[Compartment.CAVITY] = 0.3
    p[Compartment.SUBCUTANEOUS] = 0.2
    hu = np.full((1, 4), -100, dtype=np.int16)
    assert set(label_tissues(p, hu, 0.45)[0].tolist()) == {4}


def test_an_arm_beside_the_trunk_is_not_measured() -> None:
    hu = np.full((40, 60), -1000, dtype=np.int16)
    hu[5:35, 5:40] = 50
    hu[15:25, 47:57] = 50
    hu[20:, 40:47] = -250  # a pad
    p = np.zeros((len(Compartment), 40, 60), dtype=np.float32)
    p[Compartment.MUSCLE] = 1.0
    labels = label_tissues(p, hu, 0.45)
    assert (labels[6:34, 6:39] == 1).all()
    assert not labels[:, 43:].any()


def test_shipped_weights_find_the_muscle_of_a_real_slice(demo_series: Path) -> None:
    volume = read_volume([pydicom.dcmread(path) for path in sorted(demo_series.glob("*.dcm"))])
    found = segment(load_model(None, CPU), volume, AnatomicLevel("L3", 9, 1.0))
    area_cm2 = (found.mask.labels == 1).sum() * volume.pixel_area_mm2 / 100
    # Drawn by hand: 119.9 cm2 of muscle, 232 of subcutaneous and 80 of visceral fat.
    assert area_cm2 == pytest.approx(119.9, rel=0.10)
    for label, drawn_cm2 in ((3, 232.0), (4, 80.4)):
        fat_cm2 = (found.mask.labels == label).sum() * volume.pixel_area_mm2 / 100
        assert fat_cm2 == pytest.approx(drawn_cm2, rel=0.10)
