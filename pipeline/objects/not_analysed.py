"""Builds the report on a series that could not be measured."""

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import BasicTextSRStorage

from pipeline.errors import (
    CutoffProfileError,
    DerivedImageError,
    LocalizerError,
    ModelError,
    NotAxialError,
    NotCTError,
    PipelineError,
    TooFewSlicesError,
)
from pipeline.objects import codes
from pipeline.objects.attributes import quiet
from pipeline.objects.frames import frames_of, sop_instance_uid
from pipeline.objects.identity import RESEARCH_NOTICE, ResultContext, hashed_uid, stamp_as
from pipeline.objects.report_header import put_predecessor
from pipeline.objects.skeleton import ResultSeries, begin
from pipeline.objects.text_sr import (
    code_item,
    image_item,
    put_evidence,
    put_text_document,
    text_item,
)
from pipeline.types import Verdict

SERIES: Final = ResultSeries("SR", 952, "AI SMA L3 not analysed (RESEARCH)")

_UNTOLD: Final = (
    *(NotCTError, LocalizerError, DerivedImageError, TooFewSlicesError, NotAxialError),
    *(ModelError, CutoffProfileError),
)


class Refusal(Protocol):
    """Why a series was not measured: a sentence, as ``str`` gives it, under a stable code."""

    @property
    def code(self) -> str:
        """Code of the error."""


def is_worth_telling(error: PipelineError) -> bool:
    """Say whether a reader may have expected a measurement.

    Nobody expects one of a localizer, a reformat or a series of three slices; and what is wrong
    with a model is no matter of one series.
    """
    return not isinstance(error, _UNTOLD)


def build(error: Refusal, datasets: Sequence[Dataset], context: ResultContext) -> Dataset:
    """Say why a series was not analysed.

    A Basic Text SR: viewers that want to place numbers on an image show an imaging measurement
    report without any as a black pane.

    Parameters
    ----------
    error : Refusal
    datasets : sequence of Dataset
        Objects of the series, headers suffice; the first one lends patient and study.
    context : ResultContext

    Returns
    -------
    Dataset
        Basic Text SR Storage, complete and unverified, with file meta information.
    """
    frame = frames_of(datasets[:1])[0]
    key = _key(error, datasets, context)
    with quiet():
        result = begin(
            BasicTextSRStorage,
            SERIES,
            hashed_uid([key, "not analysed series"]),
            hashed_uid([key, "not analysed"]),
            frame.dataset,
        )
        stamp_as(result, frame.dataset, [context.software_version], context)
        findings = [
            text_item(codes.REASON, f"Not analysed, because: {error}"),
            code_item(codes.LOW_MUSCLE_AREA, codes.VERDICTS[Verdict.NOT_ASSESSED]),
            code_item(codes.REFUSAL, Code(error.code, codes.LOCAL_SCHEME, _meaning(error))),
            text_item(codes.INTENDED_USE, RESEARCH_NOTICE),
            image_item(frame),
        ]
        put_text_document(result, findings, context)
        put_evidence(result, frame)
        put_predecessor(result, context)
    return result


def _key(error: Refusal, datasets: Sequence[Dataset], context: ResultContext) -> str:
    parts = [
        context.uid_root_key,
        context.software_version,
        error.code,
        str(error),
        *([repr(context.predecessor)] if context.predecessor else []),
        *sorted(sop_instance_uid(dataset) for dataset in datasets),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _meaning(error: Refusal) -> str:
    return error.code.replace("_", " ").capitalize()
