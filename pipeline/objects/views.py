"""Turns slices of a volume into pictures as radiologists hang them."""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from pipeline.objects.codes import TISSUE_CONCEPTS
from pipeline.objects.spine import body_of, spine_outline
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import Analysis, CTVolume

_Scalar = TypeVar("_Scalar", bound=np.generic)

MARK: Final = (255, 220, 0)
"""Colour of what is neither anatomy nor tissue."""

_WINDOW_HU: Final = (-160.0, 240.0)  # width 400, level 40
_SPINE_WINDOW_HU: Final = (-200.0, 500.0)
_MARGIN_MM: Final = 6.0
_SLAB_MM: Final = 8.0
_TINT: Final = 0.3
_MUSCLE: Final = next(tissue for tissue in TISSUES if tissue.name == SKELETAL_MUSCLE)


def axial_view(analysis: Analysis, size_px: tuple[int, int]) -> Image.Image:
    """Show the measured slice, cut to the body, with skeletal muscle outlined.

    The patient's front is up and the right side on the left, however the image is stored.

    Parameters
    ----------
    analysis : Analysis
    size_px : tuple of int
        Width and height.
    """
    volume, index = analysis.volume, analysis.composition.level.slice_index
    hu = _upright(volume, volume.hu[index])
    muscle = _upright(volume, analysis.mask.slice_labels(index)) == _MUSCLE.label
    spacing_mm = _upright_spacing_mm(volume)
    window = _around(body_of(hu) | muscle, spacing_mm)
    image = _fitted(Image.fromarray(_grey(hu[window], _WINDOW_HU)), spacing_mm, size_px)
    mask = _fitted(
        Image.fromarray(muscle[window].astype(np.uint8)),
        spacing_mm,
        size_px,
        Image.Resampling.NEAREST,
    )
    return Image.fromarray(_outlined(np.asarray(image.convert("RGB")), np.asarray(mask) > 0))


def spine_views(analysis: Analysis, size_px: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Show a sagittal and a coronal slab through the spine, head up, with the level marked.

    Parameters
    ----------
    analysis : Analysis
    size_px : tuple of int
        Width and height of each.
    """
    volume, level = analysis.volume, analysis.composition.level
    stack = np.stack([_upright(volume, one) for one in volume.hu])
    rows_mm, columns_mm = _upright_spacing_mm(volume)
    row, column = _upright_spine(analysis)
    # The couch and the air round the body would only make the spine smaller.
    rows, columns = _around(body_of(stack[level.slice_index]), (rows_mm, columns_mm))
    sagittal = stack[:, rows, _slab(column, columns_mm, stack.shape[2])].mean(axis=2)
    coronal = stack[:, _slab(row, rows_mm, stack.shape[1]), columns].mean(axis=1)
    return (
        _with_level(sagittal, (volume.slice_spacing_mm, rows_mm), analysis, size_px),
        _with_level(coronal, (volume.slice_spacing_mm, columns_mm), analysis, size_px),
    )


def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow: the same on every machine."""
    return ImageFont.load_default(size_px)


def _outlined(grey: NDArray[np.uint8], muscle: NDArray[np.bool_]) -> NDArray[np.uint8]:
    colour = np.array(TISSUE_CONCEPTS[SKELETAL_MUSCLE].colour, dtype=np.float64)
    picture = grey.astype(np.float64)
    picture[muscle] = (1 - _TINT) * picture[muscle] + _TINT * colour
    picture[muscle & ~ndimage.binary_erosion(muscle)] = colour
    return picture.round().astype(np.uint8)


def _with_level(
    hu: NDArray[np.float64],
    spacing_mm: tuple[float, float],
    analysis: Analysis,
    size_px: tuple[int, int],
) -> Image.Image:
    level = analysis.composition.level
    picture = _fitted(
        Image.fromarray(_grey(hu[::-1], _SPINE_WINDOW_HU)), spacing_mm, size_px
    ).convert("RGB")
    height_px = hu.shape[0] * spacing_mm[0] * _scale(hu.shape, spacing_mm, size_px)
    from_top = (hu.shape[0] - level.slice_index - 0.5) / hu.shape[0]
    y = (size_px[1] - height_px) / 2 + from_top * height_px
    draw = ImageDraw.Draw(picture)
    draw.line((0, y, size_px[0], y), MARK, 2)
    draw.text((4, y - 3), level.name, MARK, font(18), "lb")
    return picture


def _around(region: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Return the window that holds a region and a margin, everything when the region is empty."""
    if not region.any():
        return slice(None), slice(None)
    rows, columns = (
        _span(np.flatnonzero(region.any(axis=1 - axis)), spacing_mm[axis]) for axis in (0, 1)
    )
    return rows, columns


def _span(filled: NDArray[np.intp], spacing_mm: float) -> slice:
    margin = round(_MARGIN_MM / spacing_mm)
    return slice(max(0, int(filled[0]) - margin), int(filled[-1]) + margin + 1)


def _upright(volume: CTVolume, image: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """Turn a stored image so that columns run to the patient's left and rows to the back."""
    turned = image.T if _lies_on_the_side(volume) else image
    along_rows, along_columns = _upright_axes(volume)
    if along_rows[1] < 0:
        turned = np.flip(turned, 0)
    if along_columns[0] < 0:
        turned = np.flip(turned, 1)
    return np.ascontiguousarray(turned)


def _lies_on_the_side(volume: CTVolume) -> bool:
    rows_mm, columns_mm = volume.pixel_spacing_mm
    return bool(abs(volume.affine[0, 1]) / rows_mm > abs(volume.affine[0, 2]) / columns_mm)


def _upright_axes(volume: CTVolume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = volume.affine[:3, 1], volume.affine[:3, 2]
    return (columns, rows) if _lies_on_the_side(volume) else (rows, columns)


def _upright_spacing_mm(volume: CTVolume) -> tuple[float, float]:
    rows_mm, columns_mm = volume.pixel_spacing_mm
    return (columns_mm, rows_mm) if _lies_on_the_side(volume) else (rows_mm, columns_mm)


def _upright_spine(analysis: Analysis) -> tuple[int, int]:
    volume, index = analysis.volume, analysis.composition.level.slice_index
    columns_and_rows: NDArray[np.float64] = spine_outline(volume, index)[:-1]
    column, row = (float(value) for value in columns_and_rows.mean(axis=0))
    place: NDArray[np.bool_] = np.zeros_like(volume.hu[index], dtype=np.bool_)
    place[min(int(row), place.shape[0] - 1), min(int(column), place.shape[1] - 1)] = True
    spine = np.argwhere(_upright(volume, place))[0]
    return int(spine[0]), int(spine[1])


def _slab(middle: int, spacing_mm: float, size: int) -> slice:
    half = max(1, round(_SLAB_MM / 2 / spacing_mm))
    return slice(max(0, middle - half), min(size, middle + half))


def _grey(hu: NDArray[np.generic], window_hu: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = window_hu
    scaled: NDArray[np.float64] = (hu.astype(np.float64) - low) / (high - low)
    return (np.clip(scaled, 0.0, 1.0) * 255).round().astype(np.uint8)


def _scale(
    shape: tuple[int, ...], spacing_mm: tuple[float, float], size_px: tuple[int, int]
) -> float:
    return min(size_px[0] / (shape[1] * spacing_mm[1]), size_px[1] / (shape[0] * spacing_mm[0]))


def _fitted(
    image: Image.Image,
    spacing_mm: tuple[float, float],
    size_px: tuple[int, int],
    resampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """Scale an image to square pixels and centre it on black."""
    scale = _scale((image.height, image.width), spacing_mm, size_px)
    size = (
        max(1, round(image.width * spacing_mm[1] * scale)),
        max(1, round(image.height * spacing_mm[0] * scale)),
    )
    canvas = Image.new("L", size_px)
    corner = ((size_px[0] - size[0]) // 2, (size_px[1] - size[1]) // 2)
    canvas.paste(image.resize(size, resampling), corner)
    return canvas
