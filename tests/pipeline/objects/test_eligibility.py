import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import keyword_dict
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage

from pipeline.errors import (
    DerivedImageError,
    LocalizerError,
    NotAxialError,
    NotCTError,
    TooFewSlicesError,
    UnsupportedSeriesError,
)
from pipeline.objects.ct_series import read_files
from pipeline.objects.eligibility import FEWEST_SLICES, check_eligibility
from tests.phantoms import TorsoPhantom, enhanced_dataset

PHANTOM = TorsoPhantom((12, 8, 8), 48.0)


def headers(**attributes: object) -> list[Dataset]:
    datasets = PHANTOM.datasets()
    for dataset in datasets:
        del dataset.PixelData
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
    return datasets


def test_an_axial_series_is_eligible() -> None:
    check_eligibility(headers())


def test_real_slices_that_call_themselves_derived_are_eligible(demo_folder: Path) -> None:
    (datasets,) = read_files(demo_folder).values()
    assert list(datasets[0].ImageType) == ["DERIVED", "SECONDARY", "PROCESSED"]
    check_eligibility(datasets)


@pytest.mark.parametrize(
    "image_type",
    [
        ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
        ["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"],
        ["DERIVED", "SECONDARY", "AXIAL"],
        ["DERIVED", "PRIMARY"],
        "",
    ],
)
def test_acquired_slices_are_eligible_whatever_became_of_them(image_type: list[str]) -> None:
    check_eligibility(headers(ImageType=image_type))


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"Modality": "MR", "SOPClassUID": MRImageStorage}, NotCTError),
        ({"Modality": "PT"}, NotCTError),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, DerivedImageError),
        ({"SamplesPerPixel": 3}, DerivedImageError),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, LocalizerError),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"]}, LocalizerError),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "SCOUT"]}, LocalizerError),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]}, DerivedImageError),
        ({"ImageType": ["DERIVED", "PRIMARY", "MPR"]}, DerivedImageError),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]}, DerivedImageError),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, DerivedImageError),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "DOSE_INFO"]}, DerivedImageError),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, NotAxialError),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, NotAxialError),
        ({"ImagePositionPatient": [0, 0, 61.5]}, TooFewSlicesError),
    ],
)
def test_other_series_are_refused_with_a_reason(
    attributes: dict[str, object], error: type[UnsupportedSeriesError]
) -> None:
    with pytest.raises(error) as caught:
        check_eligibility(headers(**attributes))
    assert len(str(caught.value)) > 20


def test_localizers_do_not_spoil_a_series() -> None:
    scouts = headers(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    check_eligibility([*scouts[:2], *headers()])


def test_localizers_do_not_count_as_slices() -> None:
    scouts = headers(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(TooFewSlicesError, match="5 axial slices"):
        check_eligibility([*scouts, *headers()[:5]])


def test_a_series_needs_ten_slices_unless_one_is_chosen() -> None:
    check_eligibility(headers()[:FEWEST_SLICES])
    with pytest.raises(TooFewSlicesError):
        check_eligibility(headers()[: FEWEST_SLICES - 1])
    check_eligibility(headers()[:1], fewest_slices=1)


def test_nothing_is_not_a_series() -> None:
    with pytest.raises(NotCTError):
        check_eligibility([])


def test_frames_of_an_enhanced_image_count_as_slices() -> None:
    check_eligibility([enhanced_dataset(PHANTOM)])


def test_a_perfusion_map_is_refused_for_what_its_frames_say() -> None:
    enhanced = enhanced_dataset(PHANTOM)
    shared = enhanced.SharedFunctionalGroupsSequence[0]
    shared.CTImageFrameTypeSequence[0].FrameType = ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]
    with pytest.raises(DerivedImageError):
        check_eligibility([enhanced])


KEYWORDS = ("ImageType", "Modality", "SOPClassUID", "ImagePositionPatient", "PixelSpacing")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([*KEYWORDS, "ImageOrientationPatient", "SamplesPerPixel"]),
            st.binary(max_size=40),
        ),
        max_size=4,
    )
)
def test_no_header_raises_anything_else(contents: list[dict[str, bytes]]) -> None:
    damaged = []
    for content in contents:
        dataset = Dataset()
        for keyword, value in content.items():
            dataset[keyword_dict[keyword]] = raw_element(keyword_dict[keyword], value)
        damaged.append(dataset)
    with pytest.raises(UnsupportedSeriesError):
        check_eligibility(damaged)


def raw_element(tag: int, value: bytes) -> RawDataElement:
    return RawDataElement(Tag(tag), None, len(value), value, 0, True, True)


def test_the_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, pipeline.objects.eligibility;"
        "print(sorted({'torch','monai','highdicom','SimpleITK','scipy'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"
