"""Turns the stored pixels of one image plane into Hounsfield units."""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.config import IGNORE
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from scipy import ndimage

from pipeline.errors import DerivedImageError, MissingAttributeError, PixelDataError
from pipeline.objects.attributes import DAMAGE, number, quiet, required_number, text
from pipeline.objects.frames import Frame, sop_instance_uid

AIR_HU: Final = -1024
"""Stands for what was not reconstructed, and is the least value of a volume."""

_PIXEL_DATA: Final = 0x7FE00010
_LARGEST_SIDE: Final = 4096
_HU_LIMIT: Final = np.iinfo(np.int16).max

# A padding value in this range may also be tissue.
_TISSUE_HU: Final = (-500.0, 3000.0)


def hounsfield(frame: Frame) -> NDArray[np.int16]:
    """Decode one image plane.

    Parameters
    ----------
    frame : Frame
        With pixel data in its dataset.

    Returns
    -------
    NDArray[np.int16], shape (rows, columns)
        Hounsfield units, not less than ``AIR_HU``; padding counts as air.

    Raises
    ------
    PixelDataError
        The pixels are absent, damaged, larger than a CT slice, or in no decodable syntax.
    MissingAttributeError
        Nothing says how stored values become Hounsfield units.
    DerivedImageError
        The values mean something else than Hounsfield units.
    """
    rescale_type = text(frame.header, "RescaleType").upper()
    # US is "unspecified" (PS3.3 C.11.1.1.2), which older scanners write for Hounsfield units.
    if rescale_type and not rescale_type.startswith("HU") and rescale_type != "US":
        raise DerivedImageError(f"the values are {rescale_type[:16]}, not Hounsfield units")
    slope = required_number(frame.header, "RescaleSlope")
    intercept = required_number(frame.header, "RescaleIntercept")
    if slope == 0:
        raise MissingAttributeError("RescaleSlope is 0")
    stored = _stored_values(frame)
    padding = _padding(frame.dataset, stored, slope, intercept)
    values = _rescaled(stored, slope, intercept)
    # In place: fresh memory costs more than the arithmetic.
    hu = np.clip(values, AIR_HU, _HU_LIMIT, out=values).astype(np.int16)
    if padding is not None:
        hu[padding] = AIR_HU
    return hu


def matrix_of(dataset: Dataset) -> tuple[int, int]:
    """Return the numbers of rows and of columns.

    Raises
    ------
    PixelDataError
        They are absent, or larger than any CT slice.
    """
    rows, columns = (int(number(dataset, keyword) or 0) for keyword in ("Rows", "Columns"))
    if not (0 < rows <= _LARGEST_SIDE and 0 < columns <= _LARGEST_SIDE):
        raise PixelDataError(
            f"a matrix of {rows} x {columns} pixels is not that of a CT slice (at most "
            f"{_LARGEST_SIDE} x {_LARGEST_SIDE})"
        )
    return rows, columns


def _stored_values(frame: Frame) -> NDArray[np.int32]:
    dataset = frame.dataset
    uid = sop_instance_uid(dataset)
    shape = matrix_of(dataset)
    meta = getattr(dataset, "file_meta", Dataset())
    syntax = UID(text(meta, "TransferSyntaxUID"), validation_mode=IGNORE)
    _check_bits(dataset)
    if "PixelData" not in dataset:
        raise PixelDataError(f"image {uid} has no pixel data")
    plain = _values_in_file(dataset, syntax, shape)
    if plain is not None:
        return plain.astype(np.int32)
    try:
        with quiet():
            if syntax.is_encapsulated:
                _check_codestream(dataset, frame.index or 0, shape)
            pixels, _ = get_decoder(syntax).as_array(dataset, index=frame.index or 0, raw=True)
    except DAMAGE as error:
        raise PixelDataError(
            f"the pixel data of image {uid} ({_syntax_name(syntax)}) cannot be decoded "
            f"({type(error).__name__})"
        ) from error
    if pixels.shape != shape:
        raise PixelDataError(f"image {uid} decodes to {pixels.shape} pixels instead of {shape}")
    return pixels.astype(np.int32)


def _values_in_file(
    dataset: Dataset, syntax: UID, shape: tuple[int, int]
) -> NDArray[np.int16] | NDArray[np.uint16] | None:
    """Read uncompressed values from where they lie in the file.

    A toolkit opens and parses the file anew for each image; this is ten times as fast.

    Returns
    -------
    NDArray of int16 or uint16, shape (rows, columns), or None
        ``None`` for whatever is not the plain case: compressed, several frames or samples, other
        than 16 bits, already in memory, or not as long as it has to be.
    """
    element = _as_read(dataset)
    path = getattr(dataset, "filename", None)
    rows, columns = shape
    is_plain = (
        syntax in {ExplicitVRLittleEndian, ImplicitVRLittleEndian}
        and isinstance(element, RawDataElement)
        and element.value is None  # left in the file
        and element.length == rows * columns * 2
        and (number(dataset, "NumberOfFrames") or 1) == 1
        and number(dataset, "SamplesPerPixel") == 1
        and number(dataset, "BitsAllocated") == 16
    )
    if not is_plain or path is None or not isinstance(element, RawDataElement):
        return None
    stored_type = "<i2" if number(dataset, "PixelRepresentation") else "<u2"
    try:
        values = np.fromfile(path, stored_type, rows * columns, offset=element.value_tell)
    except OSError:
        return None
    if values.size < rows * columns:
        return None
    # What stands above the stored bits is no part of the value (PS3.5 8.1.1).
    unused = 16 - int(required_number(dataset, "BitsStored"))
    return ((values << unused) >> unused).reshape(shape)


def _as_read(dataset: Dataset) -> object:
    # Asking for the element by its name would fetch its value.
    return dict(dataset.items()).get(BaseTag(_PIXEL_DATA))


def _check_bits(dataset: Dataset) -> None:
    bits = int(required_number(dataset, "BitsStored"))
    high_bit = number(dataset, "HighBit")
    if not 1 < bits <= 16 or (high_bit is not None and int(high_bit) != bits - 1):
        raise PixelDataError(f"Bits Stored {bits} with High Bit {high_bit} is no CT pixel")


def _rescaled(
    stored: NDArray[np.int32], slope: float, intercept: float
) -> NDArray[np.int32] | NDArray[np.float64]:
    # Nearly all scanners write slope 1; whole numbers are exact and several times faster.
    if slope == 1 and intercept.is_integer() and abs(intercept) < _HU_LIMIT:
        stored += np.int32(intercept)
        return stored
    hu: NDArray[np.float64] = np.rint(stored * slope + intercept)
    return hu


def _padding(
    dataset: Dataset, stored: NDArray[np.int32], slope: float, intercept: float
) -> NDArray[np.bool_] | None:
    value = _as_stored(dataset, number(dataset, "PixelPaddingValue"))
    if value is None:
        return None
    limit = _as_stored(dataset, number(dataset, "PixelPaddingRangeLimit"))
    ends = sorted((value, value if limit is None else limit))
    padding: NDArray[np.bool_] = (stored >= ends[0]) & (stored <= ends[1])
    lowest, highest = sorted(end * slope + intercept for end in ends)
    if lowest < _TISSUE_HU[1] and highest > _TISSUE_HU[0]:
        # Padding surrounds the body; the same value inside it is tissue.
        border = np.pad(
            np.zeros(np.subtract(stored.shape, 2), dtype=np.bool_), 1, constant_values=True
        )
        padding = ndimage.binary_propagation(border & padding, mask=padding)
    return padding


def _as_stored(dataset: Dataset, value: float | None) -> int | None:
    # The attribute may be written in the other of US and SS than the pixels are.
    if value is None:
        return None
    bits = 16 if number(dataset, "PixelRepresentation") else 0
    wrapped = int(value) & 0xFFFF
    return wrapped - 0x10000 if bits and wrapped >= 0x8000 else wrapped


def _check_codestream(dataset: Dataset, index: int, shape: tuple[int, int]) -> None:
    # A decoder allocates what the codestream asks for, whatever the header says.
    frames = int(number(dataset, "NumberOfFrames") or 1)
    codestream = get_frame(dataset.PixelData, index, number_of_frames=frames)
    declared = _jpeg_2000_shape(codestream) or _jpeg_shape(codestream)
    if declared is not None and declared != shape:
        raise ValueError(f"the codestream holds {declared} pixels")


def _jpeg_2000_shape(codestream: bytes) -> tuple[int, int] | None:
    start = codestream.find(b"\xff\x4f\xff\x51", 0, 256)
    if start < 0:
        return None
    x_end, y_end, x_start, y_start = struct.unpack_from(">4I", codestream, start + 8)
    return y_end - y_start, x_end - x_start


def _jpeg_shape(codestream: bytes) -> tuple[int, int] | None:
    if not codestream.startswith(b"\xff\xd8"):
        return None
    start = 2
    while start + 9 <= len(codestream) and codestream[start] == 0xFF:
        marker, length = codestream[start + 1], struct.unpack_from(">H", codestream, start + 2)[0]
        # Every start-of-frame marker; C4, C8 and CC are tables, F7 is that of JPEG-LS.
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            rows, columns = struct.unpack_from(">2H", codestream, start + 5)
            return rows, columns
        start += 2 + length
    return None


def _syntax_name(syntax: UID) -> str:
    return syntax.name if syntax else "no transfer syntax"
