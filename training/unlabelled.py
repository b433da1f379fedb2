"""Views of unlabelled CT for pre-training."""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.preprocess import body_grid, native_to_plane, slab
from pipeline.types import CTVolume
from training.config import PretrainRecipe
from training.data import read_images
from training.volume_views import draw_volume_views
from training.warp import draw_warp, warped_image

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
        stored volume, a DICOM file or folder, or a folder of NIfTI files, and ``share``.
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


def fingerprint(unlabelled: Unlabelled) -> str:
    """Name a set of volumes by their shapes, places and middle slices."""
    digest = hashlib.sha256()
    for volume, chance in zip(unlabelled.volumes, unlabelled.chances, strict=True):
        digest.update(f"{volume.hu.shape} {volume.affine.round(4).tolist()} {chance:.6g}".encode())
        digest.update(volume.hu[volume.hu.shape[0] // 2].tobytes())
    return digest.hexdigest()


def draw_views(
    unlabelled: Unlabelled, recipe: PretrainRecipe, dims: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Draw two crops that lie near each other in one random slice or volume.

    Parameters
    ----------
    unlabelled : Unlabelled
    recipe : PretrainRecipe
        Of its augmentation only changes of place are made, not those of HU; in three dimensions
        none.
    dims : int
        2 for slices, 3 for volumes.
    generator : numpy.random.Generator

    Returns
    -------
    NDArray[np.float32], shape (2, 1, crop, crop) or (2, 1, crop, crop, crop)
    """
    volume = unlabelled.volumes[generator.choice(len(unlabelled.volumes), p=unlabelled.chances)]
    sides = (recipe.region, recipe.crop)
    if dims == 3:
        window = recipe.preprocess.window
        return draw_volume_views(volume, window, recipe.volume_spacing_mm, sides, generator)
    spec = recipe.preprocess
    hu = slab(volume, int(generator.integers(volume.hu.shape[0])), spec)
    grid = body_grid(hu, native_to_plane(volume.affine), spec)
    warp = draw_warp(grid, recipe.augmentation, generator)
    image = warped_image(hu, warp.places(spec, hu.shape), spec)
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
