"""Views of unlabelled slices for pre-training."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.preprocess import PreprocessSpec, body_grid, native_to_plane, network_image, slab
from pipeline.types import CTVolume
from training.augment import Augmentation, draw_warp
from training.data import read_images

_LEAST_TISSUE: Final = 0.25
_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Unlabelled:
    """Volumes without labels and how often each is drawn.

    Parameters
    ----------
    volumes : tuple of CTVolume
    chances : NDArray[np.float64], shape (volumes,)
        Sum to 1.
    """

    volumes: tuple[CTVolume, ...]
    chances: NDArray[np.float64]


def read_unlabelled(data_folder: Path, image_list: Path) -> Unlabelled:
    """Read all volumes that a list names.

    Parameters
    ----------
    data_folder : Path
    image_list : Path
        TOML with tables ``images``: ``path``, relative to ``data_folder``, of a NIfTI file, a
        DICOM file or folder, or a folder of NIfTI files, and ``share``.
    """
    volumes: list[CTVolume] = []
    shares: list[float] = []
    for entry in tomllib.loads(image_list.read_text())["images"]:
        path = data_folder / entry["path"]
        parts = sorted(path.glob("*.nii.gz")) if path.is_dir() else []
        volumes += [read_images(part) for part in parts or [path]]
        shares += [entry["share"] / len(parts or [path])] * len(parts or [path])
    chances = np.array(shares)
    return Unlabelled(tuple(volumes), chances / chances.sum())


def draw_views(
    unlabelled: Unlabelled,
    spec: PreprocessSpec,
    sides: tuple[int, int],
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw two crops that lie near each other in one random slice.

    Parameters
    ----------
    unlabelled : Unlabelled
    spec : PreprocessSpec
    sides : tuple[int, int]
        Of the region both crops come from, and of the crops, in cells.
    augmentation : Augmentation
        Only its changes of place are made, not those of HU.
    generator : numpy.random.Generator

    Returns
    -------
    NDArray[np.float32], shape (2, 1, crop, crop)
    """
    volume = unlabelled.volumes[generator.choice(len(unlabelled.volumes), p=unlabelled.chances)]
    hu = slab(volume, int(generator.integers(volume.hu.shape[0])), spec)
    grid = body_grid(hu, native_to_plane(volume.affine), spec)
    grid, warp = draw_warp(grid, augmentation, generator)
    image = network_image(hu, grid, spec, warp)
    region = _crop(image, sides[0], generator)
    for _ in range(_ATTEMPTS):
        if (region > 0).mean() > _LEAST_TISSUE:
            break
        region = _crop(image, sides[0], generator)
    return np.stack([_crop(region, sides[1], generator) for _ in range(2)])


def _crop(
    image: NDArray[np.float32], side: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    corner = [int(generator.integers(size - side + 1)) for size in image.shape[1:]]
    return image[:, corner[0] : corner[0] + side, corner[1] : corner[1] + side]
