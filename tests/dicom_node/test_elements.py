from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.elements import MalformedDataSetError, walk
from tests.dicom_node.datasets import encoded

SYNTAXES = [ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def nested(depth: int, *, defined: bool) -> Dataset:
    outermost = Dataset()
    inner = outermost
    for _ in range(depth):
        item = Dataset()
        item.is_undefined_length_sequence_item = not defined
        inner.ReferencedStudySequence = Sequence([item])
        inner["ReferencedStudySequence"].is_undefined_length = not defined
        inner = item
    inner.PatientID = "X"
    outermost.StudyInstanceUID = "1.2.3"
    return outermost


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_value_is_found_where_it_lies(syntax: str, demo_series: Path) -> None:
    dataset = dcmread(next(demo_series.glob("*.dcm")))
    data = encoded(dataset, syntax)
    found = {
        element.tag: data[element.start : element.end] for element in walk(memoryview(data), syntax)
    }
    assert list(found) == [element.tag for element in dataset]
    assert found[0x0020000E].rstrip(b"\0").decode() == dataset.SeriesInstanceUID
    assert len(found[0x7FE00010]) == len(dataset.PixelData)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("defined", [True, False])
def test_sequences_are_stepped_over(syntax: str, defined: bool) -> None:
    data = encoded(nested(5, defined=defined), syntax)
    assert [element.tag for element in walk(memoryview(data), syntax)] == [0x00081110, 0x0020000D]


def test_a_sequence_that_lost_its_vr_is_implicit_inside() -> None:
    inside = encoded(nested(0, defined=True), ImplicitVRLittleEndian)
    # Of undefined length, so that the walk has to read what is inside.
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inside + b"\xfe\xff\x0d\xe0\0\0\0\0"
    sequence = b"\x09\x00\x10\x10UN\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    tail = b"\x20\x00\x0d\x00UI\x04\x001.2\0"
    elements = list(walk(memoryview(sequence + tail), ExplicitVRLittleEndian))
    assert [element.tag for element in elements] == [0x00091010, 0x0020000D]


def test_deep_nesting_is_refused_without_recursion() -> None:
    levels = 100_000
    start = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(MalformedDataSetError, match="nested"):
        list(walk(memoryview(start * levels), ExplicitVRLittleEndian))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_data_that_breaks_off_is_never_taken_for_whole(syntax: str) -> None:
    data = encoded(nested(2, defined=False), syntax)
    ends = {element.end for element in walk(memoryview(data), syntax)}
    for length in set(range(1, len(data))) - ends:
        with pytest.raises(MalformedDataSetError):
            list(walk(memoryview(data[:length]), syntax))


@given(data=st.binary(max_size=300), syntax=st.sampled_from(SYNTAXES))
def test_any_bytes_give_elements_or_the_one_error(data: bytes, syntax: str) -> None:
    position = 0
    try:
        for element in walk(memoryview(data), syntax):
            assert position < element.start <= element.end <= len(data)
            position = element.end
    except MalformedDataSetError:
        return
    assert position == len(data)
