"""Volumes and labels as arrays on disk that are mapped into memory rather than read.

A volume is ``NAME.npy`` (int16 HU, slices x rows x columns, slice 0 the most inferior) with
``NAME.json`` beside it: the affine to LPS millimetres and how the images were made. Labels are an
array of the labelled slices with a file that says which slices they are. Decoding happens once,
when data is brought in; training then touches only the slices that it uses.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Acquisition, CTVolume, SliceSource


def write_volume(path: Path, volume: CTVolume, source: str = "") -> None:
    """Write a volume and its description, never half of either.

    Parameters
    ----------
    path : Path
        Ends in ``.npy``.
    volume : CTVolume
    source : str
        Fingerprint of the files that it was read from.
    """
    _write_array(path, np.asarray(volume.hu, dtype=np.int16))
    description = {
        "affine": volume.affine.tolist(),
        "acquisition": asdict(volume.acquisition),
        "sources": [one.sop_instance_uid for one in volume.sources],
        "series_instance_uid": volume.series_instance_uid,
        "source": source,
        "sha256": hashlib.sha256(volume.hu.tobytes()).hexdigest(),
    }
    write_text(path.with_suffix(".json"), json.dumps(description))


def read_volume(path: Path) -> CTVolume:
    """Map a volume into memory.

    Parameters
    ----------
    path : Path
        As ``write_volume`` left it.
    """
    description = describe(path)
    return CTVolume(
        hu=np.load(path, mmap_mode="r"),
        affine=np.array(description["affine"], dtype=np.float64),
        sources=tuple(SliceSource(uid) for uid in description["sources"]),
        series_instance_uid=description["series_instance_uid"],
        acquisition=Acquisition(**description["acquisition"]),
    )


def is_stored(path: Path) -> bool:
    """Whether ``path`` is an array with its description beside it."""
    return path.suffix == ".npy" and path.with_suffix(".json").exists()


def describe(path: Path) -> dict[str, Any]:
    """Read what stands beside an array."""
    description: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return description


def write_labels(
    path: Path, slices: Mapping[int, NDArray[np.uint8]], confidence: float, source: str = ""
) -> None:
    """Write the labelled slices of a volume.

    Parameters
    ----------
    path : Path
        Ends in ``.npy``.
    slices : Mapping
        Slice of the volume to labels, shape (rows, columns), as ``training.data`` numbers them.
    confidence : float
        0 to 1, of all of them.
    source : str
        Fingerprint of the files that they were read from.
    """
    indices = sorted(slices)
    _write_array(path, np.stack([slices[index] for index in indices]).astype(np.uint8))
    description = {
        "slices": [int(index) for index in indices],
        "confidence": [confidence] * len(indices),
        "source": source,
    }
    write_text(path.with_suffix(".json"), json.dumps(description))


def fingerprint(paths: list[Path]) -> str:
    """Name the state of files by their names, sizes and times, without reading them."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        state = path.stat()
        digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file that is either the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)  # noqa: PTH105 - says that it is the atomic one


def _write_array(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    os.replace(partial, path)  # noqa: PTH105 - says that it is the atomic one
