"""Lists the DICOM objects that can be made of an analysis."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset

from pipeline.objects.identity import ResultContext
from pipeline.objects.seg import build as build_seg
from pipeline.objects.sr import build as build_sr
from pipeline.types import Analysis

RESULT_BUILDERS: Final[Mapping[str, Callable[[Analysis, ResultContext], Dataset]]] = (
    MappingProxyType({"seg": build_seg, "sr": build_sr})
)
"""Name of an output to the function that builds it."""
