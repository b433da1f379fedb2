from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from dicom_node.background import Background, Notice, predecessor_among, prior_among
from dicom_node.errors import SpoolError
from tests.dicom_node.factories import result_entry

FIRST, SECOND, THIRD = (result_entry(number) for number in (1, 2, 3))


def test_background_is_read_as_it_was_written() -> None:
    undated = replace(SECOND, study_date=None)
    background = Background("1.2.3", Path("instances/1/2.dcm"), (FIRST,), (undated, THIRD))
    assert Background.from_json(background.to_json()) == background
    told = replace(background, notices=(Notice(2, "1.2", "1.3", "1.4", "1.5"),))
    assert Background.from_json(told.to_json()) == told
    alone = Background("1.2.3")
    assert Background.from_json(alone.to_json()) == alone


@pytest.mark.parametrize("content", [b"", b"{}", b'{"source_series_uid": "1", "earlier": 3}'])
def test_damaged_background_is_a_spool_error(content: bytes) -> None:
    with pytest.raises(SpoolError, match="damaged"):
        Background.from_json(content)


def test_new_version_replaces_the_last_one() -> None:
    assert predecessor_among([], FIRST.origin) is None
    assert predecessor_among([FIRST, SECOND], THIRD.origin) is SECOND


def test_repeated_work_never_replaces_itself() -> None:
    assert predecessor_among([FIRST, SECOND, THIRD], FIRST.origin) is None
    assert predecessor_among([FIRST, SECOND, THIRD], SECOND.origin) is FIRST


def test_prior_is_of_the_latest_earlier_study() -> None:
    days = [date(2025, 1, 1), date(2025, 6, 1), date(2026, 6, 1), None]
    priors = [result_entry(number, study_date=day) for number, day in enumerate(days)]
    assert prior_among(priors, date(2026, 1, 2)) is priors[1]
    assert prior_among(priors, date(2025, 1, 1)) is None
    assert prior_among(priors, None) is None


def test_correction_counts_more_than_what_it_corrects() -> None:
    corrected = replace(FIRST, version="2", by_reader=True)
    assert prior_among([FIRST, corrected], date(2027, 1, 1)) is corrected
