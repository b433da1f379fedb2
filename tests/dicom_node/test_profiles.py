from pathlib import Path

import pytest

from dicom_node.config import DestinationSettings
from dicom_node.errors import UnknownResultError
from dicom_node.profiles import NOT_ANALYSED, needed, replacement, wanted
from dicom_node.records import ResultFile
from pipeline.objects.results import DEFAULT_OUTPUTS, RESULT_BUILDERS


def destination(*objects: str, **instead: str) -> DestinationSettings:
    return DestinationSettings(
        name="pacs", ae_title="A", host="127.0.0.1", port=104, objects=objects, instead=instead
    )


def test_what_any_destination_gets_is_made_once() -> None:
    destinations = [destination("seg", "sr", seg="rtstruct"), destination("sr", "pdf")]
    assert needed(destinations) == ("seg", "sr", "rtstruct", "sr_alone", "pdf")


def test_who_may_refuse_the_segmentation_can_get_the_report_without_it() -> None:
    assert needed([destination("seg", "sr")]) == ("seg", "sr", "sr_alone")
    assert needed([destination("seg", "key_image")]) == ("seg", "key_image")


def test_what_replaces_a_report_replaces_the_one_without_segmentation_too() -> None:
    profile = destination("seg", "sr", sr="text_sr", seg="rtstruct")
    names = {name: replacement(name, profile) for name in ("sr", "sr_alone", "seg", "key_image")}
    assert names == {"sr": "text_sr", "sr_alone": "text_sr", "seg": "rtstruct", "key_image": None}


def test_a_node_without_destinations_makes_the_default() -> None:
    assert needed([]) == DEFAULT_OUTPUTS


def test_the_reason_for_no_measurement_is_told_only_on_request() -> None:
    assert NOT_ANALYSED not in DEFAULT_OUTPUTS
    assert NOT_ANALYSED not in RESULT_BUILDERS
    report = ResultFile("1.2", "1.2.840.10008.5.1.4.1.1.88.11", "1.2", Path("not_analysed.dcm"))
    assert wanted([report], destination(*DEFAULT_OUTPUTS)) == ()
    assert wanted([report], destination(NOT_ANALYSED)) == (report,)


def results(*names: str) -> list[ResultFile]:
    return [ResultFile(f"1.2.{name}", "1.2", "1.2", Path(f"{name}.dcm")) for name in names]


def test_who_gets_no_segmentation_gets_a_report_that_refers_to_none() -> None:
    made = results("seg", "sr", "sr_alone", "key_image")
    assert [one.path.stem for one in wanted(made, destination("sr", "key_image"))] == [
        "sr_alone",
        "key_image",
    ]
    assert [one.path.stem for one in wanted(made, destination("seg", "sr"))] == ["seg", "sr"]
    assert [one.path.stem for one in wanted(made, destination("sr", "sr_alone"))] == ["sr_alone"]


def test_result_that_nobody_would_ever_get_is_an_error() -> None:
    with pytest.raises(UnknownResultError, match="the work left seggs, which is no kind"):
        wanted(results("seg", "seggs"), destination("seg"))
