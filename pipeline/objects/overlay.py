"""Draws the picture by which a person checks a measurement at a glance."""

import io
import textwrap
from collections.abc import Iterator
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from pipeline.objects.codes import TISSUE_CONCEPTS
from pipeline.objects.spine import spine_outline
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import Analysis, CTVolume, Severity, Verdict

_Scalar = TypeVar("_Scalar", bound=np.generic)

_WINDOW_HU: Final = (-160.0, 240.0)  # width 400, level 40
_SPINE_WINDOW_HU: Final = (-200.0, 500.0)

_AXIAL_PX: Final = 640
_SIDE_PX: Final = 320
_BANNER_PX: Final = 34
_LINE_PX: Final = 24
_TEXT_WIDTH: Final = 104
_SLAB_MM: Final = 8.0
_TINT: Final = 0.35
_MARK: Final = (255, 220, 0)

_BANNER: Final = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS - COMPUTED WITHOUT HUMAN REVIEW"

_VERDICT_TEXTS: Final = {
    Verdict.BELOW_CUTOFF: "LOW skeletal muscle area",
    Verdict.ABOVE_CUTOFF: "skeletal muscle area not low",
    Verdict.INDETERMINATE: "BORDERLINE skeletal muscle area",
    Verdict.NOT_ASSESSED: "skeletal muscle area not classified",
}


def overlay_png(analysis: Analysis) -> bytes:
    """Draw the measured slice with its mask, its place along the spine, and the numbers.

    The patient lies as radiologists look at them, front up and right side on the left, however
    the images are stored. The picture names nobody.

    Returns
    -------
    bytes
        A PNG file, the same for the same analysis.
    """
    lines = list(_lines(analysis))
    height = _BANNER_PX + _AXIAL_PX + _LINE_PX * len(lines) + 16
    canvas = Image.new("RGB", (_AXIAL_PX + _SIDE_PX, height))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, canvas.width, _BANNER_PX), fill=_MARK)
    draw.text((canvas.width / 2, _BANNER_PX / 2), _BANNER, "black", _font(20), "mm")
    canvas.paste(_axial(analysis), (0, _BANNER_PX))
    for side, x, anchor in (("R", 8, "lm"), ("L", _AXIAL_PX - 8, "rm")):
        draw.text((x, _BANNER_PX + _AXIAL_PX / 2), side, "white", _font(24), anchor)
    for place, view in enumerate(_along_the_spine(analysis)):
        canvas.paste(view, (_AXIAL_PX, _BANNER_PX + place * _SIDE_PX))
    for number, line in enumerate(lines):
        top = _BANNER_PX + _AXIAL_PX + 8 + number * _LINE_PX
        draw.text((12, top), line, "white", _font(18))
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return file.getvalue()


def _axial(analysis: Analysis) -> Image.Image:
    volume, index = analysis.volume, analysis.composition.level.slice_index
    image = _grey(_upright(volume, volume.hu[index]), _WINDOW_HU)
    labels = _upright(volume, analysis.mask.slice_labels(index))
    fitted = _fitted(Image.fromarray(image), _upright_spacing_mm(volume), _AXIAL_PX)
    mask = _fitted(
        Image.fromarray(labels), _upright_spacing_mm(volume), _AXIAL_PX, Image.Resampling.NEAREST
    )
    return Image.fromarray(_tinted(np.asarray(fitted.convert("RGB")), np.asarray(mask)))


def _tinted(grey: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = grey.astype(np.float64)
    for tissue in TISSUES:
        here = labels == tissue.label
        colour = np.array(TISSUE_CONCEPTS[tissue.name].colour, dtype=np.float64)
        strength = _TINT if tissue.name == SKELETAL_MUSCLE else _TINT / 2
        picture[here] = (1 - strength) * picture[here] + strength * colour
        if tissue.name == SKELETAL_MUSCLE:
            picture[here & ~ndimage.binary_erosion(here)] = colour
    return picture.round().astype(np.uint8)


def _along_the_spine(analysis: Analysis) -> tuple[Image.Image, Image.Image]:
    """Draw a sagittal and a coronal slab through the spine, head up, with the level marked."""
    volume, level = analysis.volume, analysis.composition.level
    stack = np.stack([_upright(volume, one) for one in volume.hu])
    rows_mm, columns_mm = _upright_spacing_mm(volume)
    row, column = _upright_spine(analysis)
    sagittal = stack[:, :, _slab(column, columns_mm, stack.shape[2])].mean(axis=2)
    coronal = stack[:, _slab(row, rows_mm, stack.shape[1])].mean(axis=1)
    return (
        _with_level(sagittal, (volume.slice_spacing_mm, rows_mm), level.slice_index, level.name),
        _with_level(coronal, (volume.slice_spacing_mm, columns_mm), level.slice_index, level.name),
    )


def _with_level(
    hu: NDArray[np.float64], spacing_mm: tuple[float, float], index: int, name: str
) -> Image.Image:
    view = _fitted(Image.fromarray(_grey(hu[::-1], _SPINE_WINDOW_HU)), spacing_mm, _SIDE_PX)
    scale = _SIDE_PX / max(hu.shape[0] * spacing_mm[0], hu.shape[1] * spacing_mm[1])
    used = hu.shape[0] * spacing_mm[0] * scale
    y = (_SIDE_PX - used) / 2 + (hu.shape[0] - index - 0.5) * spacing_mm[0] * scale
    picture = view.convert("RGB")
    draw = ImageDraw.Draw(picture)
    draw.line((0, y, _SIDE_PX, y), _MARK)
    draw.text((4, y - 2), name, _MARK, _font(16), "lb")
    return picture


def _lines(analysis: Analysis) -> Iterator[str]:
    composition = analysis.composition
    muscle = composition.of(SKELETAL_MUSCLE)
    level = composition.level
    area = f"Skeletal muscle area at {level.name}: {muscle.area_cm2:.1f} cm2"
    if analysis.interval is not None:
        one = analysis.interval
        kind = "customary" if one.coverage is None else f"{one.coverage:.0%}"
        area += f" ({kind} interval {one.lower_cm2:.1f} to {one.upper_cm2:.1f})"
    yield area
    more = []
    if muscle.mean_hu is not None:
        more.append(f"mean {muscle.mean_hu:.1f} HU")
    if composition.skeletal_muscle_index_cm2_m2 is not None:
        more.append(f"index {composition.skeletal_muscle_index_cm2_m2:.1f} cm2/m2")
    more.append(f"slice {level.slice_index + 1} of {len(analysis.volume.sources)} from below")
    more.append(f"level confidence {level.confidence:.2f}")
    yield ", ".join(more)
    verdict = _VERDICT_TEXTS[analysis.assessment.verdict]
    yield from textwrap.wrap(f"Result: {verdict}. {analysis.assessment.reason}", _TEXT_WIDTH)
    for flag in analysis.quality:
        if flag.severity is Severity.WARNING:
            yield from textwrap.wrap(f"Warning: {flag.message}", _TEXT_WIDTH)


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


def _fitted(
    image: Image.Image,
    spacing_mm: tuple[float, float],
    side_px: int,
    resampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """Scale an image to square pixels and centre it on a black square."""
    height_mm, width_mm = image.height * spacing_mm[0], image.width * spacing_mm[1]
    scale = side_px / max(height_mm, width_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    square = Image.new("L", (side_px, side_px))
    square.paste(
        image.resize(size, resampling), ((side_px - size[0]) // 2, (side_px - size[1]) // 2)
    )
    return square


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
