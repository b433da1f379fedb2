"""The way from Hounsfield units to network input, back to the native grid included.

A slice is brought onto a grid whose axes point to the patient's right and front (the R and A of
RAS), whatever the stored rows and columns do; MONAI's ``RAS`` order, first axis R, is kept. One
affine map from grid to native indices does orientation, rotation and resampling in one step, and
its inverse brings probabilities back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import reduce
from typing import Any, Final

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its manual uses
from monai.transforms import ScaleIntensityRange
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import ModelError
from pipeline.tissues import Compartment
from pipeline.types import CTVolume

AIR_HU: Final = -1000.0
_BODY_HU: Final = -300.0
_TISSUE_HU: Final = -200.0
"""Below fat, which starts at -190 HU; sheets and pads between an arm and the trunk are thinner."""
_BLUR_PIXELS: Final = 3
"""How far an edge reaches beyond what opening leaves of a piece."""
_PAIRWISE_FROM: Final = 8  # from so many values on NumPy adds in another order


@dataclass(frozen=True, slots=True)
class HUWindow:
    """Clip to ``[lower_hu, upper_hu]`` and map linearly to ``[0, 1]``.

    The defaults are those of the reference paper, arXiv 2508.17275.
    """

    lower_hu: float = -175.0
    upper_hu: float = 250.0

    def __post_init__(self) -> None:
        if not self.lower_hu < self.upper_hu:
            raise ValueError(f"window {self.lower_hu} to {self.upper_hu} HU is empty")

    def scale(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``hu`` clipped and scaled, float32 of the same shape."""
        scaler = ScaleIntensityRange(self.lower_hu, self.upper_hu, 0.0, 1.0, clip=True)
        scaled: NDArray[np.float32] = np.asarray(scaler(hu), dtype=np.float32)
        return scaled


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """Everything that decides what a network sees of a slice; travels in the model manifest.

    Parameters
    ----------
    window : HUWindow
    spacing_mm : tuple of float
        Of the network grid along R and A.
    oversampling : int
        Each grid cell is the mean of this many samples along each axis, which averages over the
        area of the cell when the grid is coarser than the image.
    thin_slice_mm, slab_mm : float
        Slices thinner than the first are averaged to a slab of the second: pixel noise pushes
        muscle out of its range of HU.
    margin_mm : float
        Air left around the body.
    side_multiple, smallest_side : int
        Sides of the grid in cells.
    """

    window: HUWindow = field(default_factory=HUWindow)
    spacing_mm: tuple[float, ...] = (1.5, 1.5)
    oversampling: int = 3
    thin_slice_mm: float = 3.0
    slab_mm: float = 5.0
    margin_mm: float = 9.0
    side_multiple: int = 32
    smallest_side: int = 192

    def __post_init__(self) -> None:
        if len(self.spacing_mm) != 2 or min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing {self.spacing_mm} must be two positive numbers of mm")
        if self.oversampling < 1 or self.side_multiple < 1 or self.smallest_side < 1:
            raise ValueError("oversampling and sides must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "spacing_mm": list(self.spacing_mm)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PreprocessSpec":
        """Rebuild a spec, refusing what this code does not implement.

        Raises
        ------
        ModelError
            On an unknown or missing field or an impossible value.
        """
        wanted = {f.name for f in fields(cls)}
        if set(values) != wanted:
            odd = ", ".join(sorted(wanted.symmetric_difference(values)))
            raise ModelError(f"preprocessing fields differ from those of this version: {odd}")
        try:
            return cls(
                **{
                    **values,
                    "window": HUWindow(**values["window"]),
                    "spacing_mm": tuple(values["spacing_mm"]),
                }
            )
        except (TypeError, ValueError) as error:
            raise ModelError(f"preprocessing cannot be used: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the cells of a network grid lie in a slice.

    Parameters
    ----------
    shape : tuple[int, int]
        Cells along R and A.
    to_plane : NDArray[np.float64], shape (3, 3)
        Cell index to millimetres along R and A in the plane of the slice.
    plane_to_native : NDArray[np.float64], shape (3, 3)
        Those millimetres to (row, column) of the stored slice.
    """

    shape: tuple[int, int]
    to_plane: NDArray[np.float64]
    plane_to_native: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """A slice as the network sees it and as it is stored.

    Parameters
    ----------
    image : NDArray[np.float32], shape (1, R, A)
        Values 0 to 1.
    native_hu : NDArray[np.int16], shape (rows, columns)
        The stored slice, averaged to a slab when slices are thin; HU limits apply to it.
    grid : Grid
    """

    image: NDArray[np.float32]
    native_hu: NDArray[np.int16]
    grid: Grid


def prepare(volume: CTVolume, slice_index: int, spec: PreprocessSpec) -> NetworkInput:
    """Turn one slice of ``volume`` into network input.

    Parameters
    ----------
    volume : CTVolume
    slice_index : int
        Counted from the most inferior slice.
    spec : PreprocessSpec

    Returns
    -------
    NetworkInput
    """
    native_hu = slab(volume, slice_index, spec)
    grid = body_grid(native_hu, native_to_plane(volume.affine), spec)
    return NetworkInput(network_image(native_hu, grid, spec), native_hu, grid)


def slab(volume: CTVolume, slice_index: int, spec: PreprocessSpec) -> NDArray[np.int16]:
    """Average thin slices around ``slice_index``, each by its share of the slab.

    Returns
    -------
    NDArray[np.int16], shape (rows, columns)
        The slice itself when it is not thin.
    """
    spacing = volume.slice_spacing_mm
    thickness = volume.acquisition.slice_thickness_mm or spacing
    if thickness >= spec.thin_slice_mm or spacing <= 0:
        stored: NDArray[np.int16] = volume.hu[slice_index]
        return stored
    middles = (np.arange(volume.hu.shape[0]) - slice_index) * spacing
    upper = np.minimum(middles + spacing / 2, spec.slab_mm / 2)
    lower = np.maximum(middles - spacing / 2, -spec.slab_mm / 2)
    shares = np.clip(upper - lower, 0, None)
    used = np.flatnonzero(shares)
    mean = np.tensordot(shares[used] / shares[used].sum(), volume.hu[used].astype(float), axes=1)
    averaged: NDArray[np.int16] = np.rint(mean).astype(np.int16)
    return averaged


def native_to_plane(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map (row, column) to millimetres towards the patient's right and front, in the plane.

    The R axis is the patient's right projected into the plane of the slice, the A axis stands at a
    right angle to it. A tilted gantry therefore costs no pixel, and a slice that was stored
    flipped or turned comes out upright.

    Parameters
    ----------
    affine : NDArray[np.float64], shape (4, 4)
        Of the volume, to LPS millimetres.

    Returns
    -------
    NDArray[np.float64], shape (3, 3)
        Homogeneous; pixel (0, 0) is the origin.
    """
    row_step, column_step = affine[:3, 1], affine[:3, 2]
    normal = np.cross(column_step, row_step)
    normal = normal / np.linalg.norm(normal)
    right = np.array([-1.0, 0.0, 0.0])
    right = right - (right @ normal) * normal
    right = right / np.linalg.norm(right)
    front = np.cross(normal, right)
    front = front if front[1] < 0 else -front
    matrix = np.eye(3)
    matrix[0, :2] = row_step @ right, column_step @ right
    matrix[1, :2] = row_step @ front, column_step @ front
    return matrix


def body_grid(
    native_hu: NDArray[np.int16], to_plane: NDArray[np.float64], spec: PreprocessSpec
) -> Grid:
    """Lay the network grid over the body.

    The body is the largest piece above -300 HU once thin connections, such as those to the table,
    are cut; without one the grid covers the whole slice.
    """
    body = body_mask(native_hu)
    rows, columns = _row_ends(body if body.any() else np.ones_like(body))
    right = to_plane[0, 0] * rows + to_plane[0, 1] * columns
    front = to_plane[1, 0] * rows + to_plane[1, 1] * columns
    low = np.array([right.min(), front.min()])
    high = np.array([right.max(), front.max()])
    spacing = np.array(spec.spacing_mm)
    cells = (high - low + 2 * spec.margin_mm) / spacing / spec.side_multiple
    sides = np.ceil(cells - 1e-6).astype(int) * spec.side_multiple
    sides = np.maximum(sides, spec.smallest_side)
    matrix = np.eye(3)
    matrix[0, 0], matrix[1, 1] = spacing
    matrix[:2, 2] = (low + high) / 2 - (sides - 1) / 2 * spacing
    inverse: NDArray[np.float64] = np.linalg.inv(to_plane).astype(np.float64)
    return Grid((int(sides[0]), int(sides[1])), matrix, inverse)


def body_mask(native_hu: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the largest piece of a slice that is denser than air and lung."""
    pieces, largest = _pieces(native_hu > _BODY_HU)
    mask: NDArray[np.bool_] = (pieces == largest) & (pieces > 0)
    return mask


def beside_body(native_hu: NDArray[Any]) -> NDArray[np.bool_]:
    """Return what lies beside the body: arms, table, and the blur around them."""
    pieces, largest = _pieces(native_hu > _TISSUE_HU)
    others = (pieces > 0) & (pieces != largest)
    mask: NDArray[np.bool_] = ndimage.binary_dilation(others, iterations=_BLUR_PIXELS)
    mask &= pieces != largest
    return mask


def _pieces(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Numbers of what hangs together once thin connections are cut, and that of the largest."""
    pieces, count = ndimage.label(_opened(mask))
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])) if count else 0
    return pieces, largest


def _row_ends(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the first and the last true pixel of each row that has any.

    No other pixel can be the outermost one in any direction.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    return np.concatenate([rows, rows]), np.concatenate([first, last])


def _opened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Open with a cross, twice; what ``scipy.ndimage.binary_opening`` does, in a tenth of the time.

    Outside of the image nothing is true.
    """
    for combine in (np.logical_and, np.logical_and, np.logical_or, np.logical_or):
        padded = np.pad(mask, 1)
        mask = padded[1:-1, 1:-1].copy()
        for shifted in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
            combine(mask, shifted, out=mask)
    return mask


def network_image(native_hu: NDArray[Any], grid: Grid, spec: PreprocessSpec) -> NDArray[np.float32]:
    """Sample a slice on the grid and apply the window.

    Parameters
    ----------
    native_hu : NDArray, shape (rows, columns)
    grid : Grid
    spec : PreprocessSpec

    Returns
    -------
    NDArray[np.float32], shape (1, R, A)
    """
    fine = _sample(native_hu.astype(np.float32), grid, spec.oversampling, sitk.sitkLinear)
    return image_of_samples(fine, spec)


def image_of_samples(fine: NDArray[Any], spec: PreprocessSpec) -> NDArray[np.float32]:
    """Average the samples of each cell and apply the window.

    Parameters
    ----------
    fine : NDArray, shape (R * oversampling, A * oversampling)
        HU.
    spec : PreprocessSpec

    Returns
    -------
    NDArray[np.float32], shape (1, R, A)
    """
    return spec.window.scale(_block_mean(fine, spec.oversampling))[None]


def compartment_fractions(
    compartments: NDArray[np.uint8], grid: Grid, spec: PreprocessSpec
) -> NDArray[np.float32]:
    """Share of each grid cell that each compartment covers.

    Parameters
    ----------
    compartments : NDArray[np.uint8], shape (rows, columns)
        Values of ``Compartment``.
    grid, spec
        As for ``network_image``.

    Returns
    -------
    NDArray[np.float32], shape (compartments, R, A)
        Sums to 1 over the first axis.
    """
    fine = _sample(compartments, grid, spec.oversampling, sitk.sitkNearestNeighbor)
    return fractions_of_samples(fine, spec)


def fractions_of_samples(fine: NDArray[Any], spec: PreprocessSpec) -> NDArray[np.float32]:
    """Share of the samples of each cell that each compartment has.

    Parameters
    ----------
    fine : NDArray, shape (R * oversampling, A * oversampling)
        Values of ``Compartment``.
    spec : PreprocessSpec

    Returns
    -------
    NDArray[np.float32], shape (compartments, R, A)
    """
    shares = [_block_share(fine == c, spec.oversampling) for c in Compartment]
    return np.stack(shares).astype(np.float32)


def to_native(
    probabilities: NDArray[np.float32], grid: Grid, native_shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Interpolate probabilities linearly at the pixels of the stored slice.

    Parameters
    ----------
    probabilities : NDArray[np.float32], shape (compartments, R, A)
    grid : Grid
    native_shape : tuple[int, int]

    Returns
    -------
    NDArray[np.float32], shape (compartments, rows, columns)
        Outside of the grid everything is ``Compartment.OTHER``.
    """
    cell_to_native = grid.plane_to_native @ grid.to_plane
    native_to_cell: NDArray[np.float64] = np.linalg.inv(cell_to_native).astype(np.float64)
    transform = _itk_affine(native_to_cell)
    outside = [float(compartment is Compartment.OTHER) for compartment in Compartment]
    channels = [
        _resample(channel, transform, native_shape, sitk.sitkLinear, default)
        for channel, default in zip(probabilities, outside, strict=True)
    ]
    return np.stack(channels)


def _sample(image: NDArray[Any], grid: Grid, oversampling: int, interpolator: int) -> NDArray[Any]:
    """Sample ``image`` at ``oversampling`` points per cell and axis."""
    fine_to_cell = np.diag([1 / oversampling, 1 / oversampling, 1.0])
    fine_to_cell[:2, 2] = (1 / oversampling - 1) / 2
    fine_to_plane = grid.to_plane @ fine_to_cell
    transform = _itk_affine(grid.plane_to_native @ fine_to_plane)
    shape = (grid.shape[0] * oversampling, grid.shape[1] * oversampling)
    default = 0.0 if interpolator == sitk.sitkNearestNeighbor else AIR_HU
    return _resample(image, transform, shape, interpolator, default)


def _itk_affine(matrix: NDArray[np.float64]) -> sitk.Transform:
    """Homogeneous matrix in array order to SimpleITK's, whose first axis is our last."""
    affine = sitk.AffineTransform(2)
    affine.SetMatrix(matrix[1::-1, 1::-1].ravel().tolist())
    affine.SetTranslation(matrix[1::-1, 2].tolist())
    return affine


def _resample(
    image: NDArray[Any],
    output_to_input: sitk.Transform,
    shape: tuple[int, int],
    interpolator: int,
    default: float,
) -> NDArray[Any]:
    """Resample between index spaces: both images have unit spacing and no orientation."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize((shape[1], shape[0]))
    resampler.SetTransform(output_to_input)
    resampler.SetInterpolator(interpolator)
    resampler.SetDefaultPixelValue(default)
    resampled: NDArray[Any] = sitk.GetArrayFromImage(
        resampler.Execute(sitk.GetImageFromArray(image))
    )
    return resampled


def _block_mean(fine: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Mean over blocks of ``factor`` x ``factor``, bit for bit that of ``numpy.mean``.

    Whole arrays are added in the order in which NumPy reduces short axes, which is several times
    as fast as the reduction itself.
    """
    rows, columns = fine.shape[0] // factor, fine.shape[1] // factor
    blocks = fine.reshape(rows, factor, columns, factor)
    mean: NDArray[np.float32]
    if factor >= _PAIRWISE_FROM:
        mean = blocks.mean(axis=(1, 3), dtype=np.float32)
    else:
        total = reduce(np.add, _row_sums(blocks))
        mean = np.divide(total, factor * factor, dtype=np.float32)
    return mean


def _row_sums(blocks: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """Sum of each row of all blocks, from the first to the last."""
    for row in blocks.transpose(1, 3, 0, 2):
        total = row[0].astype(np.float32)
        for samples in row[1:]:
            total += samples
        yield total


def _block_share(fine: NDArray[np.bool_], factor: int) -> NDArray[np.float32]:
    """Share of each block that is true; counts are whole, so that any order gives the same."""
    rows, columns = fine.shape[0] // factor, fine.shape[1] // factor
    along_rows = fine.view(np.uint8).reshape(rows, factor, columns * factor)
    counts = along_rows.sum(axis=1, dtype=np.uint16).reshape(rows, columns, factor)
    total = reduce(np.add, (counts[..., i] for i in range(factor)))
    share: NDArray[np.float32] = np.divide(total, factor * factor, dtype=np.float32)
    return share
