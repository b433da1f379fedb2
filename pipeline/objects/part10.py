"""Reads DICOM files from disk without trusting them."""

import io
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from pipeline.errors import UnreadableFileError
from pipeline.objects.attributes import DAMAGE, quiet, text
from pipeline.objects.frames import CT_SOP_CLASSES

_LARGEST_INFLATED_BYTES: Final = 1 << 28
"""Room for 500 slices in one object; a few deflated kilobytes can claim any size."""

_DEFERRED_BYTES: Final = 1 << 14
"""Larger values, the pixels, stay in the file until they are asked for."""

_PREAMBLE_BYTES: Final = 132


def read_files(source: Path | Iterable[Path]) -> dict[str, list[Dataset]]:
    """Read the headers of DICOM files; pixels are fetched from the files when needed.

    Parameters
    ----------
    source : Path or iterable of Path
        A folder, searched through all levels, or files.

    Returns
    -------
    dict[str, list[Dataset]]
        The objects of each series by Series Instance UID, empty where the UID is absent. Files
        that are not DICOM Part 10, and media directories, are left out.

    Raises
    ------
    UnreadableFileError
        A DICOM file breaks off or is damaged, or there is none.
    """
    paths = _files(source)
    series: dict[str, list[Dataset]] = {}
    for path in paths:
        dataset = _read_whole(path)
        if dataset is not None and "DirectoryRecordSequence" not in dataset:
            series.setdefault(text(dataset, "SeriesInstanceUID"), []).append(dataset)
    if not series:
        raise UnreadableFileError(f"none of {len(paths)} files is a DICOM Part 10 file")
    return series


def read_series(paths: Iterable[Path], series_instance_uid: str) -> list[Dataset]:
    """Read the headers of the files of one series, of which none may be missing.

    Parameters
    ----------
    paths : iterable of Path
    series_instance_uid : str

    Returns
    -------
    list of Dataset
        One for each file, in order.

    Raises
    ------
    UnreadableFileError
        A file breaks off or is damaged, or it is none of this series.
    """
    found = []
    for path in paths:
        dataset = _read_whole(path)
        if dataset is None or text(dataset, "SeriesInstanceUID") != series_instance_uid:
            raise UnreadableFileError(
                f"the file {path.name} is no object of the series any more: damaged, or cut off"
            )
        found.append(dataset)
    return found


def readable_files(paths: Iterable[Path]) -> list[Dataset]:
    """Read the headers of those DICOM files that can be read."""
    found = []
    for path in paths:
        with suppress(UnreadableFileError):
            dataset = _read(path)
            if dataset is not None and text(dataset, "SOPInstanceUID"):
                found.append(dataset)
    return found


def encoded(dataset: Dataset) -> bytes:
    """Return an object as the bytes of a DICOM Part 10 file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _files(source: Path | Iterable[Path]) -> list[Path]:
    if not isinstance(source, Path):
        return list(source)
    try:
        if source.is_file():
            return [source]
        return sorted(path for path in source.rglob("*") if path.is_file())
    except OSError as error:
        raise UnreadableFileError(f"{source.name} cannot be read ({error.strerror})") from error


def _read(path: Path) -> Dataset | None:
    try:
        with quiet():
            with path.open("rb") as file:
                if file.read(_PREAMBLE_BYTES)[-4:] != b"DICM":
                    return None
            meta = read_file_meta_info(path)
            if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                return _inflated(path.read_bytes(), meta)
            return dcmread(path, defer_size=_DEFERRED_BYTES)
    except (*DAMAGE, InvalidDicomError) as error:
        raise UnreadableFileError(
            f"the file {path.name} is damaged or breaks off ({type(error).__name__})"
        ) from error


def _read_whole(path: Path) -> Dataset | None:
    """Read a file, unless it is an image that is cut before its matrix (PS3.3 C.7.6.3).

    Elements are in ascending order: what else is missing then is missing without a word, the UID
    that says which series it belongs to included.
    """
    dataset = _read(path)
    if dataset is None or "Columns" in dataset or "PixelData" in dataset:
        return dataset
    sop_class = dataset.file_meta.get("MediaStorageSOPClassUID")
    if sop_class is None or sop_class in CT_SOP_CLASSES:
        raise UnreadableFileError(f"the file {path.name} breaks off in its header")
    return dataset


def _inflated(content: bytes, meta: FileMetaDataset) -> Dataset:
    # The group length is the first element of the meta information (PS3.10 7.1).
    end_of_meta = _PREAMBLE_BYTES + 12 + int(meta.FileMetaInformationGroupLength)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(content[end_of_meta:], _LARGEST_INFLATED_BYTES)
    if not inflater.eof:
        raise ValueError(f"no end of deflated data within {_LARGEST_INFLATED_BYTES} bytes")
    dataset = read_dataset(io.BytesIO(inflated), is_implicit_VR=False, is_little_endian=True)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset
