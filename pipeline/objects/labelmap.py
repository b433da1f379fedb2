"""Builds the label map segmentation (PS3.3 A.98), for sites whose archive prefers it."""

from typing import Final

from pydicom.dataset import Dataset

from pipeline.objects.identity import ResultContext
from pipeline.objects.seg import Encoding, encode
from pipeline.objects.skeleton import ResultSeries
from pipeline.types import Analysis

LABELMAP: Final = Encoding(
    "labelmap", "LABELMAP", ResultSeries("SEG", 902, "AI SMA L3 label map (RESEARCH)")
)


def build(analysis: Analysis, context: ResultContext) -> Dataset:
    """Encode the mask as one label a pixel, beside the binary segmentation or instead of it.

    Pixels of no tissue hold the Pixel Padding Value 0. There is no segment for them: viewers of
    2026 count it as the first segment and give every tissue the colour of the one before.

    Parameters
    ----------
    analysis : Analysis
    context : ResultContext

    Returns
    -------
    Dataset
        Label Map Segmentation Storage, explicit VR little endian, with file meta information.

    Raises
    ------
    ValueError
        The mask is empty.
    """
    result = encode(analysis, context, LABELMAP)
    result.SegmentSequence = [item for item in result.SegmentSequence if item.SegmentNumber]
    return result
