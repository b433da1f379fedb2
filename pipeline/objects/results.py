"""Lists the DICOM objects that can be made of an analysis."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset

from pipeline.objects.identity import ResultContext
from pipeline.objects.key_image import build as build_key_image
from pipeline.objects.labelmap import build as build_labelmap
from pipeline.objects.pdf import build as build_pdf
from pipeline.objects.rtstruct import build as build_rtstruct
from pipeline.objects.seg import build as build_seg
from pipeline.objects.sr import build as build_sr
from pipeline.objects.sr import build_alone as build_sr_alone
from pipeline.objects.text_sr import build as build_text_sr
from pipeline.types import Analysis

RESULT_BUILDERS: Final[Mapping[str, Callable[[Analysis, ResultContext], Dataset]]] = (
    MappingProxyType(
        {
            "seg": build_seg,
            "sr": build_sr,
            "key_image": build_key_image,
            "labelmap": build_labelmap,
            "pdf": build_pdf,
            "rtstruct": build_rtstruct,
            "text_sr": build_text_sr,
            "sr_alone": build_sr_alone,
        }
    )
)
"""Name of an output to the function that builds it."""

DEFAULT_OUTPUTS: Final = ("seg", "sr", "key_image")
"""What a site gets that asks for nothing else."""
