"""Every error has a row, a code of its own, and a line in its tree."""

from collections import Counter

import pytest

from dicom_node import errors as node
from dicom_node.dispositions import DISPOSITIONS, Disposition, disposition_of
from pipeline import errors as pipeline


def leaves(base: type[Exception]) -> list[type[Exception]]:
    below = base.__subclasses__()
    return [leaf for child in below for leaf in leaves(child)] if below else [base]


LEAVES = [*leaves(pipeline.PipelineError), *leaves(node.NodeError)]


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_error_has_a_disposition(error: type[Exception]) -> None:
    assert error in DISPOSITIONS


def test_no_row_is_left_over() -> None:
    assert set(DISPOSITIONS) <= set(LEAVES)


def test_codes_are_unique() -> None:
    codes = Counter(error.code for error in LEAVES)  # type: ignore[attr-defined]
    assert [code for code, count in codes.items() if count > 1] == []


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_error_stands_in_the_tree_of_its_module(error: type[Exception]) -> None:
    module = pipeline if issubclass(error, pipeline.PipelineError) else node
    lines = (module.__doc__ or "").splitlines()
    assert any(
        line.split()[-2:] == [error.__name__, error.code]  # type: ignore[attr-defined]
        for line in lines
    )


def test_series_that_is_not_for_us_raises_no_alarm() -> None:
    for error in leaves(pipeline.UnsupportedSeriesError):
        assert DISPOSITIONS[error] is Disposition.SKIP


def test_unforeseen_error_fails() -> None:
    assert disposition_of(ZeroDivisionError()) is Disposition.FAIL
