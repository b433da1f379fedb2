import dataclasses
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from pipeline.objects import key_image
from pipeline.objects.overlay import draw_page
from pipeline.types import PriorMeasurement
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.pipeline.objects.results import context_of, saved

PHANTOM = TorsoPhantom((5, 32, 32), 12.0)


def test_the_pixels_are_the_page(tmp_path: Path) -> None:
    analysis = phantom_analysis(PHANTOM)
    result = saved(key_image.build(analysis, context_of(PHANTOM)), tmp_path)
    assert result.SOPClassUID == SecondaryCaptureImageStorage
    assert result.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(result.pixel_array, np.asarray(draw_page(analysis)))


def test_it_refers_to_the_measured_slice_and_names_nobody_in_its_pixels() -> None:
    result = key_image.build(phantom_analysis(PHANTOM), context_of(PHANTOM))
    (source,) = result.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == PHANTOM.sop_instance_uid(2)
    assert result.BurnedInAnnotation == "NO"
    assert list(result.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
    assert "RESEARCH" in result.SeriesDescription
    assert "RESEARCH USE ONLY" in result.ImageComments


def test_a_prior_is_drawn_and_makes_another_object() -> None:
    analysis, context = phantom_analysis(PHANTOM), context_of(PHANTOM)
    prior = PriorMeasurement(100.0, date(2025, 3, 4))
    told = key_image.build(analysis, dataclasses.replace(context, prior=prior))
    plain = key_image.build(analysis, context)
    assert told.Rows > plain.Rows
    assert told.SOPInstanceUID != plain.SOPInstanceUID


@pytest.mark.parametrize(("source", "expected"), [(None, "00"), ("00", "00"), ("01", "01")])
def test_pixels_that_were_compressed_with_loss_stay_marked(
    source: str | None, expected: str
) -> None:
    datasets = PHANTOM.datasets()
    for dataset in datasets:
        if source is not None:
            dataset.LossyImageCompression = source
            dataset.LossyImageCompressionRatio = "8"
    result = key_image.build(phantom_analysis(PHANTOM), context_of(PHANTOM, datasets))
    assert result.LossyImageCompression == expected
    assert ("LossyImageCompressionRatio" in result) == (expected == "01")
