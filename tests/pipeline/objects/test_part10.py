import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.errors import PixelDataError, UnreadableFileError
from pipeline.objects.ct_series import read_files, read_volume
from pipeline.objects.part10 import _LARGEST_INFLATED_BYTES, read_series
from tests.phantoms import TorsoPhantom

PHANTOM = TorsoPhantom((4, 64, 64), 6.0)


def test_series_are_told_apart(tmp_path: Path) -> None:
    other = TorsoPhantom((3, 64, 64), 6.0, seed=2)
    PHANTOM.write_series(tmp_path / "a")
    other.write_series(tmp_path / "b")
    series = read_files(tmp_path)
    assert {uid: len(datasets) for uid, datasets in series.items()} == {
        PHANTOM.series_instance_uid: 4,
        other.series_instance_uid: 3,
    }


def test_other_files_are_left_out(tmp_path: Path) -> None:
    PHANTOM.write_series(tmp_path)
    (tmp_path / "LICENCE").write_text("free")
    (tmp_path / "empty").write_bytes(b"")
    (datasets,) = read_files(tmp_path).values()
    assert len(datasets) == 4


def test_single_paths_are_read_in_the_order_given(tmp_path: Path) -> None:
    paths = PHANTOM.write_series(tmp_path)
    (datasets,) = read_files([paths[2], paths[0]]).values()
    assert [dataset.SOPInstanceUID for dataset in datasets] == [
        PHANTOM.sop_instance_uid(2),
        PHANTOM.sop_instance_uid(0),
    ]


def test_pixels_stay_in_the_file_until_they_are_needed(tmp_path: Path) -> None:
    paths = TorsoPhantom((2, 128, 128)).write_series(tmp_path)
    (datasets,) = read_files(tmp_path).values()
    paths[1].unlink()
    with pytest.raises(PixelDataError):
        read_volume(datasets)


@pytest.mark.parametrize("content", [{}, {"notes.txt": b"not DICOM"}])
def test_a_folder_without_dicom_is_refused(content: dict[str, bytes], tmp_path: Path) -> None:
    for name, value in content.items():
        (tmp_path / name).write_bytes(value)
    with pytest.raises(UnreadableFileError, match=f"none of {len(content)} files"):
        read_files(tmp_path)


def end_of(path: Path, keyword: str) -> int:
    """Position in a file behind an element."""
    dataset = dcmread(path, stop_before_pixels=True)
    value = dataset[keyword]
    assert value.file_tell is not None
    return value.file_tell + len(str(value.value))


@pytest.mark.parametrize(
    "keyword", ["StudyDate", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize("lost_bytes", [0, 3, 9])
def test_an_image_cut_inside_its_header_is_never_left_out_without_a_word(
    keyword: str, lost_bytes: int, tmp_path: Path
) -> None:
    paths = PHANTOM.write_series(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[: end_of(paths[2], keyword) - lost_bytes])
    with pytest.raises(UnreadableFileError, match=paths[2].name):
        read_files(tmp_path)
    with pytest.raises(UnreadableFileError, match=paths[2].name):
        read_series(paths, PHANTOM.series_instance_uid)


@pytest.mark.parametrize("kept_bytes", [0, 100, 140, 200])
def test_no_file_of_a_series_may_be_missing(kept_bytes: int, tmp_path: Path) -> None:
    paths = PHANTOM.write_series(tmp_path)
    assert len(read_series(paths, PHANTOM.series_instance_uid)) == 4
    paths[1].write_bytes(paths[1].read_bytes()[:kept_bytes])
    with pytest.raises(UnreadableFileError, match=paths[1].name):
        read_series(paths, PHANTOM.series_instance_uid)


def test_a_file_of_another_series_is_not_left_out_of_a_series(tmp_path: Path) -> None:
    paths = PHANTOM.write_series(tmp_path / "a")
    other = TorsoPhantom((1, 64, 64), 6.0, seed=2).write_series(tmp_path / "b")
    with pytest.raises(UnreadableFileError, match="no object of the series any more"):
        read_series([*paths, *other], PHANTOM.series_instance_uid)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError):
        read_files(tmp_path / "nowhere")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="damaged or breaks off"):
        read_files([tmp_path / "nothing.dcm"])


def test_deflated_data_without_an_end_is_not_inflated_beyond_a_limit(tmp_path: Path) -> None:
    dataset = PHANTOM.datasets()[0]
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "bomb.dcm"
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    end_of_meta = 144 + int.from_bytes(content[140:144], "little")
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = bytes(1 << 24)
    bomb = b"".join(deflater.compress(block) for _ in range(_LARGEST_INFLATED_BYTES // len(block)))
    bomb += deflater.compress(block) + deflater.flush()
    path.write_bytes(content[:end_of_meta] + bomb)
    assert len(bomb) < 1 << 20
    with pytest.raises(UnreadableFileError):
        read_files(tmp_path)
