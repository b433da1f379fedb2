"""Every form that a scanner, an archive or a person can give the bundled real CT is measured alike.

The answer is known: the bundled series as it is. A variant is derived from it, so it must be read
as the same volume, or measure the same muscle, or be refused for the right reason.
"""

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

from pipeline.composition import measure
from pipeline.errors import GeometryError, PipelineError
from pipeline.level.given import GivenSlice
from pipeline.objects.attributes import quiet
from pipeline.objects.ct_series import read_files, read_volume, series_remarks
from pipeline.segment import segment
from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import CTVolume
from pipeline.weights import LoadedModel, choose_device, load_model

L3_INDEX = 9

Change = Callable[[list[Dataset]], list[Dataset]]


@pytest.fixture(scope="module")
def original(demo_folder: Path) -> list[Dataset]:
    """The bundled slices from below, with their pixels."""
    datasets = [dcmread(path) for path in demo_folder.glob("*.dcm")]
    return sorted(datasets, key=lambda dataset: float(dataset.ImagePositionPatient[2]))


@pytest.fixture(scope="module")
def expected(original: list[Dataset]) -> CTVolume:
    return read_volume(original)


@pytest.fixture
def datasets(original: list[Dataset]) -> list[Dataset]:
    """Copies that a test may change."""
    return copy.deepcopy(original)


@pytest.fixture(scope="module")
def segmenter() -> LoadedModel:
    return load_model(None, choose_device("cpu"))


@pytest.fixture(scope="module")
def muscle_cm2(original: list[Dataset], expected: CTVolume, segmenter: LoadedModel) -> float:
    return muscle_area_cm2(segmenter, expected, str(original[L3_INDEX].SOPInstanceUID))


def stored(dataset: Dataset) -> NDArray[np.int16]:
    shape = (dataset.Rows, dataset.Columns)
    return np.frombuffer(dataset.PixelData, "<i2").reshape(shape).astype(np.int16)


def put(dataset: Dataset, pixels: NDArray[np.integer]) -> None:
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = (
        np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    )


def muscle_area_cm2(segmenter: LoadedModel, volume: CTVolume, sop_instance_uid: str) -> float:
    level = GivenSlice(sop_instance_uid).find(volume)
    found = segment(segmenter, volume, level)
    measured = measure(found.mask, found.measured_hu, level, volume.pixel_area_mm2)
    return measured.of(SKELETAL_MUSCLE).area_cm2


def shuffled(datasets: list[Dataset]) -> list[Dataset]:
    order = np.random.default_rng(4).permutation(len(datasets))
    return [datasets[index] for index in order]


def sent_twice(datasets: list[Dataset]) -> list[Dataset]:
    return [*copy.deepcopy(datasets), *datasets]


def with_a_second_acquisition(datasets: list[Dataset]) -> list[Dataset]:
    later = copy.deepcopy(datasets)
    for dataset in later:
        dataset.SOPInstanceUID = generate_uid()
        dataset.AcquisitionNumber += 1
        put(dataset, stored(dataset) + np.int16(25))
    return [*later, *datasets]


def with_localizers(datasets: list[Dataset]) -> list[Dataset]:
    localizers = copy.deepcopy(datasets[:2])
    for localizer, orientation in zip(
        localizers, ([1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]), strict=True
    ):
        localizer.SOPInstanceUID = generate_uid()
        localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        localizer.ImageOrientationPatient = orientation
        put(localizer, stored(localizer)[:400, :300])
    return [*localizers, *datasets]


def rescaled(slope: float, intercept: float, dtype: str, bits: int) -> Change:
    def apply(datasets: list[Dataset]) -> list[Dataset]:
        for dataset in datasets:
            hu = stored(dataset).astype(np.int64) - 1024
            values = np.rint((np.maximum(hu, -1024) - intercept) / slope).astype(dtype)
            put(dataset, values)
            dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), str(intercept)
            dataset.PixelRepresentation = int(dtype[0] == "i")
            dataset.BitsStored, dataset.HighBit = bits, bits - 1
        return datasets

    return apply


def encoded(syntax: str) -> Change:
    def apply(datasets: list[Dataset]) -> list[Dataset]:
        for dataset in datasets:
            dataset.compress(syntax, generate_instance_uid=False)
        return datasets

    return apply


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(shuffled, id="shuffled"),
        pytest.param(sent_twice, id="sent twice"),
        pytest.param(with_a_second_acquisition, id="two acquisitions"),
        pytest.param(with_localizers, id="localizers"),
        pytest.param(rescaled(1, -1024, "u2", 12), id="12 bits unsigned"),
        pytest.param(rescaled(1, 0, "i2", 16), id="signed without intercept"),
        pytest.param(rescaled(0.5, -1024, "u2", 16), id="slope of a half"),
        pytest.param(rescaled(0.25, -512, "i2", 16), id="slope of a quarter"),
        pytest.param(rescaled(-1, 1024, "i2", 16), id="negative slope"),
        pytest.param(encoded(RLELossless), id="RLE"),
        pytest.param(encoded(JPEGLSLossless), id="JPEG-LS"),
        pytest.param(encoded(JPEG2000Lossless), id="JPEG 2000"),
    ],
)
def test_a_lossless_variant_is_the_same_volume(
    change: Change, datasets: list[Dataset], expected: CTVolume
) -> None:
    volume = read_volume(change(datasets))
    assert np.array_equal(volume.hu, expected.hu)
    assert np.allclose(volume.affine, expected.affine, atol=1e-6)
    assert volume.sources == expected.sources


@pytest.mark.parametrize(
    ("syntax", "arguments", "largest_error_hu"),
    [(JPEGLSNearLossless, {"jls_error": 2}, 2), (JPEG2000, {"j2k_cr": [4]}, 20)],
    ids=["JPEG-LS near lossless", "JPEG 2000 lossy"],
)
def test_a_lossy_encoding_costs_no_more_than_it_must(
    syntax: str,
    arguments: dict[str, object],
    largest_error_hu: int,
    datasets: list[Dataset],
    expected: CTVolume,
) -> None:
    for dataset in datasets:
        dataset.compress(syntax, generate_instance_uid=False, **arguments)
    error_hu = np.abs(read_volume(datasets).hu.astype(int) - expected.hu)
    assert error_hu.max() <= largest_error_hu


@pytest.mark.parametrize(
    ("program", "option"),
    [
        ("dcmcjpeg", "--encode-lossless"),
        ("dcmcjpeg", "--encode-lossless-sv1"),
        ("dcmcjpls", "--encode-lossless"),
        ("dcmcrle", "--write-xfer-same"),
        ("dcmconv", "--write-xfer-implicit"),
        ("dcmconv", "--write-xfer-big"),
        ("dcmconv", "--write-xfer-deflated"),
    ],
)
def test_what_another_toolkit_encodes_is_the_same_volume(
    program: str,
    option: str,
    demo_folder: Path,
    tmp_path: Path,
    tool: Callable[[str], str],
    expected: CTVolume,
) -> None:
    options = [] if program == "dcmcrle" else [option]
    for path in demo_folder.glob("*.dcm"):
        command = [tool(program), *options, str(path), str(tmp_path / path.name)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    (datasets,) = read_files(tmp_path).values()
    volume = read_volume(datasets)
    assert np.array_equal(volume.hu, expected.hu)
    assert volume.sources == expected.sources


def test_an_enhanced_multi_frame_object_is_the_same_volume(
    datasets: list[Dataset], expected: CTVolume
) -> None:
    with quiet():
        enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(
            datasets,
            series_instance_uid=generate_uid(),
            series_number=9,
            sop_instance_uid=generate_uid(),
            instance_number=1,
        )
    volume = read_volume([enhanced])
    assert np.array_equal(volume.hu, expected.hu)
    assert np.allclose(volume.affine, expected.affine, atol=1e-6)


def test_padding_round_the_reconstruction_is_air(
    datasets: list[Dataset], expected: CTVolume
) -> None:
    rows, columns = np.indices(expected.hu.shape[1:])
    outside = np.hypot(rows - 255.5, columns - 255.5) > 255.5
    for dataset in datasets:
        pixels = stored(dataset).copy()
        pixels[outside] = -2000
        put(dataset, pixels)
        dataset.PixelPaddingValue = -2000
        dataset["PixelPaddingValue"].VR = "SS"
    hu = read_volume(datasets).hu
    assert (hu[:, outside] == -1024).all()
    assert np.array_equal(hu[:, ~outside], expected.hu[:, ~outside])


def test_slices_beyond_a_missing_one_are_left_out_and_remarked(
    datasets: list[Dataset], expected: CTVolume
) -> None:
    del datasets[2]
    volume = read_volume(datasets)
    assert np.array_equal(volume.hu, expected.hu[3:])
    assert [flag.code for flag in series_remarks(datasets, volume)] == ["SLICES_LEFT_OUT"]


def without_the_middle_ones(datasets: list[Dataset]) -> list[Dataset]:
    return [*datasets[:6], *datasets[7:13], *datasets[14:]]


def at_uneven_distances(datasets: list[Dataset]) -> list[Dataset]:
    for index, dataset in enumerate(datasets):
        dataset.ImagePositionPatient[2] = -380 + 0.15 * (index + 12) ** 2
    return datasets


@pytest.mark.parametrize("change", [without_the_middle_ones, at_uneven_distances])
def test_what_is_no_regular_stack_is_refused(change: Change, datasets: list[Dataset]) -> None:
    with pytest.raises(GeometryError, match="distance of neighbouring slices varies") as caught:
        read_volume(change(datasets))
    assert isinstance(caught.value, PipelineError)
    assert caught.value.code == "GEOMETRY_IRREGULAR"


def leaning(axis: str, degrees: float) -> NDArray[np.float64]:
    """Rotation of patient coordinates about one axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if axis == "x":
        return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


def place(dataset: Dataset, position: NDArray[np.float64], cosines: NDArray[np.float64]) -> None:
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.9f}" for value in cosines.ravel()]


def tilted(datasets: list[Dataset]) -> list[Dataset]:
    """Lean the slices about x while the table still moves along z: a sheared volume."""
    for dataset in datasets:
        cosines = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        position = np.array(dataset.ImagePositionPatient, float)
        place(dataset, position, cosines @ leaning("x", 18.5).T)
    return datasets


def oblique(datasets: list[Dataset]) -> list[Dataset]:
    """Turn everything about y: a straight volume that leans."""
    turn = leaning("y", 12.0)
    for dataset in datasets:
        cosines = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        position = np.array(dataset.ImagePositionPatient, float)
        place(dataset, turn @ position, cosines @ turn.T)
    return datasets


def upside_down(datasets: list[Dataset]) -> list[Dataset]:
    return turned(datasets, lambda pixels: pixels[::-1], (0, -1), (1, 0))


def mirrored(datasets: list[Dataset]) -> list[Dataset]:
    return turned(datasets, lambda pixels: pixels[:, ::-1], (1, 0), (0, -1))


def prone(datasets: list[Dataset]) -> list[Dataset]:
    return turned(datasets, lambda pixels: pixels[::-1, ::-1], (0, -1), (0, -1))


def decubitus(datasets: list[Dataset]) -> list[Dataset]:
    """A quarter turn: rows run along what were columns."""
    for dataset in datasets:
        cosines = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        last = (dataset.Columns - 1) * float(dataset.PixelSpacing[1]) * cosines[0]
        position = np.array(dataset.ImagePositionPatient, float) + last
        put(dataset, np.rot90(stored(dataset)))
        place(dataset, position, np.array([cosines[1], -cosines[0]]))
    return datasets


def turned(
    datasets: list[Dataset],
    flip: Callable[[NDArray[np.int16]], NDArray[np.int16]],
    along_rows: tuple[int, int],
    along_columns: tuple[int, int],
) -> list[Dataset]:
    """Flip pixels; a pair is (1, 0) for an axis that stays and (0, -1) for one that is flipped."""
    for dataset in datasets:
        along_row, along_column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        position = np.array(dataset.ImagePositionPatient, float)
        if along_rows[1]:
            position += (dataset.Rows - 1) * float(dataset.PixelSpacing[0]) * along_column
            along_column = -along_column
        if along_columns[1]:
            position += (dataset.Columns - 1) * float(dataset.PixelSpacing[1]) * along_row
            along_row = -along_row
        put(dataset, flip(stored(dataset)))
        place(dataset, position, np.array([along_row, along_column]))
    return datasets


TURNS = [tilted, oblique, upside_down, mirrored, prone, decubitus]


@pytest.mark.parametrize("change", [shuffled, *TURNS])
def test_affine_agrees_with_simpleitk_to_a_hundredth_of_a_millimetre(
    change: Change, datasets: list[Dataset], tmp_path: Path
) -> None:
    changed = change(datasets)
    volume = read_volume(changed)
    by_uid = {str(dataset.SOPInstanceUID): dataset for dataset in changed}
    # File by file: SimpleITK's series reader straightens what is sheared.
    for index, source in enumerate(volume.sources):
        path = tmp_path / f"{index}.dcm"
        by_uid[source.sop_instance_uid].save_as(path)
        image = SimpleITK.ReadImage(str(path))
        theirs = np.maximum(SimpleITK.GetArrayFromImage(image)[0], -1024)
        assert np.array_equal(theirs, volume.hu[index])
        for row, column in [(0, 0), (511, 0), (0, 511), (200, 300)]:
            place_mm = image.TransformIndexToPhysicalPoint((column, row, 0))
            assert np.allclose((volume.affine @ [index, row, column, 1])[:3], place_mm, atol=0.01)


@pytest.mark.parametrize("change", [upside_down, mirrored, prone, decubitus])
def test_a_turned_series_has_the_same_muscle(
    change: Change,
    original: list[Dataset],
    datasets: list[Dataset],
    expected: CTVolume,
    segmenter: LoadedModel,
    muscle_cm2: float,
) -> None:
    uid = str(original[L3_INDEX].SOPInstanceUID)
    volume = read_volume(change(datasets))
    assert volume.sources == expected.sources
    area_cm2 = muscle_area_cm2(segmenter, volume, uid)
    assert area_cm2 == pytest.approx(muscle_cm2, rel=0.002)
