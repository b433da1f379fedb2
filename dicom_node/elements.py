"""Walk over an encoded data set without decoding values.

What a peer sent is untrusted: the walk uses no recursion, keeps no copy and looks at nothing but
tags and lengths, so that nesting, forged lengths and broken values cost nothing and raise one
error only. References: DICOM PS3.5 sections 7.1, 7.5 and A.4.
"""

import struct
from collections.abc import Container, Iterator
from typing import Final, NamedTuple

from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

_UNDEFINED: Final = 0xFFFFFFFF
_DELIMITERS: Final = 0xFFFE
"""Group of the elements that have no VR in any transfer syntax (PS3.5 7.5)."""
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_DEEPEST: Final = 32
"""Levels of nesting that are believed; real objects have fewer than ten."""

# PS3.5 table 7.1-1: two reserved bytes, then a length of four.
_LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS: Final = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN"}
    | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)


class MalformedDataSetError(ValueError):
    """The bytes are no data set in their transfer syntax; the message holds no values."""


class Element(NamedTuple):
    """Where a value lies in the encoded data set.

    Parameters
    ----------
    tag : int
        Group and element as one number.
    start, end : int
        Of the value, in bytes; of a value of undefined length, its delimiter is included.
    """

    tag: int
    start: int
    end: int


class _Coding(NamedTuple):
    explicit: bool
    head: struct.Struct
    """Group, element, then VR and short length, or the length alone."""
    length: struct.Struct


_IMPLICIT: Final = _Coding(False, struct.Struct("<HHI"), struct.Struct("<I"))
_EXPLICIT: Final = _Coding(True, struct.Struct("<HH2sH"), struct.Struct("<I"))
_BIG_ENDIAN: Final = _Coding(True, struct.Struct(">HH2sH"), struct.Struct(">I"))
_CODINGS: Final[dict[str, _Coding]] = {
    ImplicitVRLittleEndian: _IMPLICIT,
    ExplicitVRBigEndian: _BIG_ENDIAN,
}
"""By transfer syntax; every other one is Explicit VR Little Endian (PS3.5 A.4)."""


def walk(
    data: memoryview, transfer_syntax_uid: str, wanted: Container[int] | None = None
) -> Iterator[Element]:
    """Find the elements of the outermost level, in their order.

    Parameters
    ----------
    data : memoryview
        One encoded data set.
    transfer_syntax_uid : str
        Not a deflated one.
    wanted : container of int, optional
        Tags of the elements that are returned; all of them are stepped over to the end.

    Raises
    ------
    MalformedDataSetError
        Where the data breaks off, is nested too deeply or makes no sense.
    """
    coding = _CODINGS.get(transfer_syntax_uid, _EXPLICIT)
    position, size = 0, len(data)
    try:
        while position < size:
            tag, vr, length, start = _head(data, position, coding)
            if length == _UNDEFINED:
                end = _end_of_undefined(data, start, _inside(vr, coding))
            else:
                end = start + length
            if end > size:
                raise MalformedDataSetError(
                    f"the data set breaks off within {_name(tag)}: "
                    f"{length} bytes announced, {size - start} there"
                )
            if wanted is None or tag in wanted:
                yield Element(tag, start, end)
            position = end
    except struct.error:
        raise MalformedDataSetError(f"the data set breaks off at byte {size}") from None


def _end_of_undefined(data: memoryview, start: int, coding: _Coding) -> int:
    """Skip a sequence, or a value in fragments, of undefined length; return where it ends."""
    # Sequences and items take turns: at odd depth items are expected, at even depth elements.
    nesting = [coding]
    position = start
    while nesting:
        if len(nesting) > _DEEPEST:
            raise MalformedDataSetError(f"sequences are nested more than {_DEEPEST // 2} deep")
        coding = nesting[-1]
        expects_items = len(nesting) % 2 == 1
        tag, vr, length, position = _head(data, position, coding)
        if tag == (_SEQUENCE_END if expects_items else _ITEM_END):
            nesting.pop()
        elif expects_items != (tag == _ITEM):
            raise MalformedDataSetError(f"{_name(tag)} stands where it cannot")
        elif length == _UNDEFINED:
            nesting.append(coding if expects_items else _inside(vr, coding))
        else:
            position += length
    return position


def _head(data: memoryview, position: int, coding: _Coding) -> tuple[int, bytes, int, int]:
    """Tag, VR, length of value and where the value starts."""
    explicit, head, long_length = coding
    if not explicit:
        group, number, length = head.unpack_from(data, position)
        return group << 16 | number, b"", length, position + 8
    group, number, vr, length = head.unpack_from(data, position)
    tag = group << 16 | number
    if vr in _SHORT_VRS:
        return tag, vr, length, position + 8
    if vr in _LONG_VRS:
        (length,) = long_length.unpack_from(data, position + 8)
        return tag, vr, length, position + 12
    if group == _DELIMITERS:
        (length,) = long_length.unpack_from(data, position + 4)
        return tag, b"", length, position + 8
    raise MalformedDataSetError(f"{_name(tag)} has no value representation that exists")


def _inside(vr: bytes, coding: _Coding) -> _Coding:
    # A sequence whose VR was lost is Implicit VR Little Endian inside (PS3.5 6.2.2, note 2).
    return _IMPLICIT if vr == b"UN" else coding


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
