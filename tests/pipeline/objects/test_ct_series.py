import copy
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from pipeline.errors import (
    DerivedImageError,
    GeometryError,
    MissingAttributeError,
    MixedSeriesError,
    PipelineError,
    PixelDataError,
)
from pipeline.objects.ct_series import read_files, read_volume, series_remarks
from pipeline.types import CTVolume
from tests.phantoms import AXIAL, PixelStorage, TorsoPhantom, enhanced_dataset

SMALL = TorsoPhantom((12, 32, 32), 12.0, noise_hu=20.0)
DECUBITUS = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0)


def same(volume: CTVolume, expected: CTVolume) -> bool:
    return (
        np.array_equal(volume.hu, expected.hu)
        and np.allclose(volume.affine, expected.affine, atol=1e-4)
        and volume.sources == expected.sources
    )


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_the_objects_does_not_matter(order: random.Random) -> None:
    datasets = SMALL.datasets()
    order.shuffle(datasets)
    assert same(read_volume(datasets), SMALL.volume())


@pytest.mark.parametrize(
    "orientation",
    [AXIAL, (1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), DECUBITUS],
)
def test_turned_and_flipped_images_stay_as_stored(orientation: tuple[float, ...]) -> None:
    phantom = TorsoPhantom((10, 32, 32), 12.0, orientation=orientation, noise_hu=9.0)
    assert same(read_volume(phantom.datasets()), phantom.volume())


@pytest.mark.parametrize("tilt_deg", [-18.5, 22.0])
def test_a_tilted_gantry_is_read_and_measured(tilt_deg: float) -> None:
    phantom = TorsoPhantom((10, 32, 32), 12.0, tilt_deg=tilt_deg)
    volume = read_volume(phantom.datasets())
    assert same(volume, phantom.volume())
    assert volume.acquisition.gantry_tilt_deg == pytest.approx(abs(tilt_deg), abs=0.01)


@pytest.mark.parametrize(
    "storage",
    [
        PixelStorage(bits_stored=12, signed=False),
        PixelStorage(bits_stored=13, signed=True, intercept=0.0),
        PixelStorage(signed=False, intercept=-8192.0),
        PixelStorage(slope=0.5, intercept=-1024.0),
        PixelStorage(slope=1.0, intercept=-1024.5),
        PixelStorage(slope=-1.0, intercept=1000.0),
        PixelStorage(transfer_syntax_uid=ImplicitVRLittleEndian),
        PixelStorage(transfer_syntax_uid=RLELossless),
        PixelStorage(transfer_syntax_uid=JPEGLSLossless),
        PixelStorage(transfer_syntax_uid=JPEG2000Lossless),
        PixelStorage(bits_stored=12, signed=False, transfer_syntax_uid=JPEG2000Lossless),
    ],
    ids=repr,
)
def test_stored_pixels_become_hounsfield_units(storage: PixelStorage) -> None:
    volume = read_volume(SMALL.datasets(storage))
    assert np.abs(volume.hu.astype(int) - SMALL.hu).max() <= (1 if storage.intercept % 1 else 0)


def test_bits_above_the_stored_ones_are_ignored() -> None:
    datasets = SMALL.datasets(PixelStorage(bits_stored=12, signed=False))
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, "<u2") | 0xA000
        dataset.PixelData = pixels.astype("<u2").tobytes()
    assert np.array_equal(read_volume(datasets).hu, SMALL.hu)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits_above", [0, 0xA000])
def test_pixels_left_in_their_files_are_read_alike(
    syntax: str, signed: bool, bits_above: int, tmp_path: Path
) -> None:
    # Large enough for the pixels to stay in the file until they are asked for.
    phantom = TorsoPhantom((10, 128, 128), 3.0, noise_hu=20.0)
    storage = PixelStorage(bits_stored=13, signed=signed, transfer_syntax_uid=syntax)
    datasets = phantom.datasets(storage)
    for number, dataset in enumerate(datasets):
        pixels = np.frombuffer(dataset.PixelData, "<u2") ^ bits_above
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    (from_files,) = read_files(tmp_path).values()
    assert all(dict(dataset.items())[0x7FE00010].value is None for dataset in from_files)
    assert same(read_volume(from_files), read_volume(datasets))
    assert np.array_equal(read_volume(from_files).hu, phantom.hu)


@pytest.mark.parametrize("padding", [-2000, -32768, 4000])
def test_padding_counts_as_air(padding: int) -> None:
    volume = read_volume(SMALL.datasets(PixelStorage(padding_value=padding)))
    assert (volume.hu[:, 0, 0] == -1024).all()
    assert np.array_equal(volume.hu[:, 8:24, 8:24], SMALL.hu[:, 8:24, 8:24])


def test_a_padding_value_that_is_also_tissue_spares_the_body() -> None:
    phantom = TorsoPhantom((10, 64, 64), 6.0)
    storage = PixelStorage(intercept=0.0, padding_value=phantom.muscle_hu)
    volume = read_volume(phantom.datasets(storage))
    assert (volume.hu[:, 0, 0] == -1024).all()
    assert (volume.hu[phantom.muscle_mask()] == phantom.muscle_hu).all()


@pytest.mark.parametrize(
    ("storage", "vr", "written"),
    [
        (PixelStorage(intercept=2000.0, padding_value=-2000), "US", 65536 - 2000),
        (PixelStorage(signed=False, padding_value=65536 - 2000), "SS", -2000),
    ],
)
def test_a_padding_value_may_be_written_with_the_other_sign(
    storage: PixelStorage, vr: str, written: int
) -> None:
    datasets = SMALL.datasets(storage)
    for dataset in datasets:
        dataset["PixelPaddingValue"].VR = vr
        dataset.PixelPaddingValue = written
    assert (read_volume(datasets).hu[:, 0, 0] == -1024).all()


def test_values_below_air_are_raised_to_air() -> None:
    datasets = SMALL.datasets()
    pixels = np.frombuffer(datasets[0].PixelData, "<i2").copy()
    pixels[0] = -2000
    datasets[0].PixelData = pixels.tobytes()
    assert read_volume(datasets).hu[0, 0, 0] == -1024


def test_copies_of_an_object_count_once() -> None:
    datasets = SMALL.datasets()
    assert same(read_volume([*datasets, *copy.deepcopy(datasets[3:6])]), SMALL.volume())


def test_a_copy_of_a_multi_frame_object_counts_once() -> None:
    volume = read_volume([enhanced_dataset(SMALL), enhanced_dataset(SMALL)])
    assert np.array_equal(volume.hu, SMALL.hu)


def test_images_sent_again_under_other_uids_count_once() -> None:
    again = copy.deepcopy(SMALL.datasets()[2:9:3])
    for dataset in again:
        dataset.SOPInstanceUID = generate_uid()
    volume = read_volume([*again, *SMALL.datasets()])
    assert np.array_equal(volume.hu, SMALL.hu)
    assert np.allclose(volume.affine, SMALL.affine, atol=1e-4)


def second_acquisition(**attributes: object) -> list[Dataset]:
    others = TorsoPhantom((12, 32, 32), 12.0, noise_hu=20.0, seed=2).datasets()
    for dataset, first in zip(others, SMALL.datasets(), strict=True):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(dataset, keyword, first[keyword].value)
        dataset.InstanceNumber += attributes.pop("instance_offset", 0)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
    return others


@pytest.mark.parametrize(
    "attributes", [{"AcquisitionNumber": 2}, {"AcquisitionTime": "101900"}], ids=["number", "time"]
)
def test_of_two_acquisitions_the_first_is_taken(attributes: dict[str, object]) -> None:
    datasets = [*second_acquisition(**attributes), *SMALL.datasets()]
    for dataset in datasets:
        if "AcquisitionTime" not in dataset:
            dataset.AcquisitionTime = "101500"
    assert same(read_volume(datasets), SMALL.volume())


def test_of_two_runs_of_instance_numbers_the_first_is_taken() -> None:
    later = second_acquisition()
    for dataset in later:
        dataset.InstanceNumber += 100
    assert same(read_volume([*later, *SMALL.datasets()]), SMALL.volume())


def test_a_few_slices_of_another_acquisition_do_not_spoil_a_complete_one() -> None:
    monitoring = second_acquisition(AcquisitionNumber=0)[4:5] * 1
    datasets = [*monitoring, *SMALL.datasets()]
    assert same(read_volume(datasets), SMALL.volume())


def test_acquisitions_that_cover_different_parts_are_refused() -> None:
    upper = second_acquisition(AcquisitionNumber=2)[5:]
    with pytest.raises(GeometryError, match="no single acquisition"):
        read_volume([*SMALL.datasets()[:7], *upper])


def test_a_missing_slice_in_the_middle_is_refused() -> None:
    datasets = SMALL.datasets()
    del datasets[6]
    with pytest.raises(GeometryError, match=r"5\.00 to 10\.00 mm"):
        read_volume(datasets)


def test_a_long_regular_run_beyond_a_gap_is_used() -> None:
    phantom = TorsoPhantom((24, 16, 16), 24.0)
    datasets = phantom.datasets()
    del datasets[3]
    volume = read_volume(datasets)
    assert volume.sources == phantom.volume().sources[4:]
    assert np.allclose(volume.affine[:3, 3], (phantom.affine @ [4, 0, 0, 1])[:3])


def test_a_run_that_holds_the_smaller_part_is_not_used() -> None:
    datasets = TorsoPhantom((30, 8, 8), 48.0).datasets()
    del datasets[20], datasets[10]
    with pytest.raises(GeometryError, match="holds 10 of 28 slices"):
        read_volume(datasets)


def test_images_left_out_are_remarked() -> None:
    phantom = TorsoPhantom((24, 16, 16), 24.0)
    datasets = phantom.datasets()
    assert series_remarks(datasets, read_volume(datasets)) == ()
    assert series_remarks([*datasets, datasets[0]], read_volume(datasets)) == ()
    del datasets[3]
    (remark,) = series_remarks(datasets, read_volume(datasets))
    assert remark.code == "SLICES_LEFT_OUT"
    assert "3 of 23" in remark.message


def test_uneven_distances_are_refused() -> None:
    datasets = SMALL.datasets()
    for index, dataset in enumerate(datasets):
        dataset.ImagePositionPatient[2] = -300 + 0.2 * index**2
    with pytest.raises(GeometryError, match="varies"):
        read_volume(datasets)


def test_localizers_among_the_slices_are_left_out() -> None:
    scout = copy.deepcopy(SMALL.datasets()[0])
    scout.SOPInstanceUID = generate_uid()
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    scout.Rows, scout.PixelData = 16, scout.PixelData[: 16 * 32 * 2]
    assert same(read_volume([scout, *SMALL.datasets()]), SMALL.volume())


def change(keyword: str, value: object) -> Callable[[list[Dataset]], None]:
    def apply(datasets: list[Dataset]) -> None:
        for dataset in datasets[3:]:
            setattr(dataset, keyword, value)

    return apply


def drop(keyword: str) -> Callable[[list[Dataset]], None]:
    def apply(datasets: list[Dataset]) -> None:
        del datasets[3][keyword]

    return apply


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (change("PatientID", "SOMEBODY ELSE"), MixedSeriesError),
        (change("FrameOfReferenceUID", "1.2.3"), MixedSeriesError),
        (change("SeriesInstanceUID", "1.2.3"), MixedSeriesError),
        (change("PixelSpacing", [1, 1]), MixedSeriesError),
        (change("ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]), MixedSeriesError),
        (change("Rows", 16), MixedSeriesError),
        (change("Rows", 0), PixelDataError),
        (change("Rows", 65535), PixelDataError),
        (change("BitsStored", 40), PixelDataError),
        (change("HighBit", 3), PixelDataError),
        (change("PixelData", b"\0\0"), PixelDataError),
        (change("RescaleSlope", 0), MissingAttributeError),
        (change("RescaleSlope", [1, 2]), MissingAttributeError),
        (change("RescaleType", "Z_EFF"), DerivedImageError),
        (change("PixelSpacing", ""), MissingAttributeError),
        (drop("ImagePositionPatient"), MissingAttributeError),
        (drop("ImageOrientationPatient"), MissingAttributeError),
        (drop("PixelSpacing"), MissingAttributeError),
        (drop("RescaleIntercept"), MissingAttributeError),
        (drop("PixelData"), PixelDataError),
        (drop("Columns"), PixelDataError),
    ],
)
def test_what_cannot_be_placed_or_scaled_is_refused(
    spoil: Callable[[list[Dataset]], None], error: type[PipelineError]
) -> None:
    datasets = SMALL.datasets()
    spoil(datasets)
    with pytest.raises(error) as caught:
        read_volume(datasets)
    assert len(str(caught.value)) > 15
    assert "SOMEBODY" not in str(caught.value)


def test_a_codestream_larger_than_the_header_says_is_not_decoded() -> None:
    datasets = SMALL.datasets(PixelStorage(transfer_syntax_uid=JPEG2000Lossless))
    start = datasets[0].PixelData.index(b"\xff\x4f\xff\x51") + 8
    huge = (60000).to_bytes(4, "big") * 2
    content = datasets[0].PixelData
    datasets[0].PixelData = content[:start] + huge + content[start + 8 :]
    with pytest.raises(PixelDataError, match="cannot be decoded") as caught:
        read_volume(datasets)
    assert "codestream holds (60000, 60000)" in str(caught.value.__cause__)


@pytest.mark.parametrize("noise", [b"\xff\x4f", b"", b"\xff\xd8\xff\xc0\x00"])
def test_a_damaged_codestream_is_refused(noise: bytes) -> None:
    datasets = SMALL.datasets(PixelStorage(transfer_syntax_uid=JPEGLSLossless))
    datasets[0].PixelData = datasets[0].PixelData[:16] + noise
    with pytest.raises(PixelDataError):
        read_volume(datasets)


def test_an_enhanced_multi_frame_image_is_read_like_its_slices() -> None:
    volume = read_volume([enhanced_dataset(SMALL)])
    assert np.array_equal(volume.hu, SMALL.hu)
    assert np.allclose(volume.affine, SMALL.affine, atol=1e-4)
    assert [source.frame_number for source in volume.sources] == list(range(12, 0, -1))
    assert volume.acquisition.tube_voltage_kv == 120
    assert enhanced_dataset(SMALL).SOPClassUID == EnhancedCTImageStorage


@pytest.mark.parametrize(
    "phantom",
    [
        TorsoPhantom((10, 32, 24), (1.5, 1.25), 2.5),
        TorsoPhantom((10, 32, 24), 1.5, orientation=(1, 0, 0, 0, -1, 0)),
        TorsoPhantom((10, 32, 24), 1.5, orientation=DECUBITUS),
        TorsoPhantom((10, 32, 24), 1.5, orientation=(1, 0, 0, 0, 0.9659258, -0.2588190)),
    ],
    ids=["plain", "flipped", "decubitus", "oblique"],
)
def test_affine_agrees_with_simpleitk(phantom: TorsoPhantom, tmp_path: Path) -> None:
    volume = read_volume(phantom.datasets())
    paths = phantom.write_series(tmp_path)
    image = SimpleITK.ReadImage([str(path) for path in paths])
    for index in [(0, 0, 0), (9, 31, 23), (4, 7, 19)]:
        theirs = image.TransformIndexToPhysicalPoint(index[::-1])
        assert np.allclose((volume.affine @ [*index, 1])[:3], theirs, atol=0.01)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), volume.hu)


def test_real_slices_agree_with_simpleitk(demo_folder: Path) -> None:
    paths = sorted(demo_folder.glob("*.dcm"))
    (datasets,) = read_files(demo_folder).values()
    volume = read_volume(datasets)
    image = SimpleITK.ReadImage([str(path) for path in paths])
    assert np.array_equal(np.maximum(SimpleITK.GetArrayFromImage(image), -1024), volume.hu)
    last = (19, 511, 511)
    theirs = image.TransformIndexToPhysicalPoint(last[::-1])
    assert np.allclose((volume.affine @ [*last, 1])[:3], theirs, atol=0.01)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_retired_and_deflated_encodings_are_read_from_files(syntax: str, tmp_path: Path) -> None:
    for index, dataset in enumerate(SMALL.datasets()):
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        dataset.save_as(tmp_path / str(index), enforce_file_format=True)
    (datasets,) = read_files(tmp_path).values()
    assert same(read_volume(datasets), SMALL.volume())
