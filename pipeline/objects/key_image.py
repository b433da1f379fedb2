"""Builds the Secondary Capture that every viewer shows (PS3.3 A.8.1)."""

from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import SecondaryCaptureImageStorage

from pipeline.objects.attributes import quiet
from pipeline.objects.equipment import coded, put_contributing_equipment
from pipeline.objects.identity import (
    MANUFACTURER,
    MODEL_NAME,
    RESEARCH_NOTICE,
    ResultContext,
    level_frame,
    report_uid,
    software_versions,
    stamp,
)
from pipeline.objects.overlay import draw_page
from pipeline.objects.skeleton import (
    ResultSeries,
    begin,
    image_reference,
    lossy_history,
    one_sentence,
)
from pipeline.types import Analysis

SERIES: Final = ResultSeries("OT", 961, "AI SMA L3 overlay (RESEARCH)")

# CID 7202
_SOURCE_IMAGE: Final = Code("121322", "DCM", "Source Image for Image Processing Operation")


def build(analysis: Analysis, context: ResultContext) -> Dataset:
    """Store the page of ``draw_page`` as one RGB image.

    Parameters
    ----------
    analysis : Analysis
    context : ResultContext

    Returns
    -------
    Dataset
        Secondary Capture Image Storage, explicit VR little endian, with file meta information.
        No pixel names the patient, so Burned In Annotation is NO.
    """
    frame = level_frame(analysis, context)
    pixels = np.asarray(draw_page(analysis, context.prior))
    with quiet():
        result = begin(
            SecondaryCaptureImageStorage,
            SERIES,
            report_uid(analysis, context, "key image series"),
            report_uid(analysis, context, "key image"),
            frame.dataset,
        )
        stamp(result, analysis, context)
        put_contributing_equipment(result, analysis, context)
        result.BodyPartExamined = "ABDOMEN"
        result.PatientOrientation = None
        result.ConversionType = "WSD"
        result.SecondaryCaptureDeviceManufacturer = MANUFACTURER
        result.SecondaryCaptureDeviceManufacturerModelName = MODEL_NAME
        result.SecondaryCaptureDeviceSoftwareVersions = software_versions(analysis, context)
        result.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        result.DerivationDescription = one_sentence(analysis)
        source = image_reference(frame)
        source.PurposeOfReferenceCodeSequence = [coded(_SOURCE_IMAGE)]
        result.SourceImageSequence = [source]
        result.ImageComments = RESEARCH_NOTICE
        result.BurnedInAnnotation = "NO"
        result.RecognizableVisualFeatures = "NO"
        lossy_history(result, frame.dataset)
        result.SamplesPerPixel = 3
        result.PhotometricInterpretation = "RGB"
        result.PlanarConfiguration = 0
        result.Rows, result.Columns = pixels.shape[:2]
        result.BitsAllocated = result.BitsStored = 8
        result.HighBit = 7
        result.PixelRepresentation = 0
        encoded = pixels.tobytes()
        result.PixelData = encoded + b"\0" * (len(encoded) % 2)
        result["PixelData"].VR = "OB"
    return result
