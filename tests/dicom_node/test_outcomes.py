from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import DeviceMemoryError, SpoolError
from dicom_node.outcomes import UNFORESEEN, Outcome, OutcomeKind, failure, reason_of
from dicom_node.records import Reason, ResultFile
from pipeline.errors import LevelNotCoveredError, LevelUncertainError, MixedSeriesError

uids = st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){1,5}", fullmatch=True)
results = st.builds(ResultFile, uids, uids, uids, st.just(Path("results/1.2/revision_1/seg.dcm")))
reasons = st.none() | st.builds(Reason, st.text(min_size=1), st.text())
measurements = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text())


@given(st.sampled_from(OutcomeKind), reasons, st.lists(results, max_size=3), measurements)
def test_outcome_survives_the_spool(
    kind: OutcomeKind,
    reason: Reason | None,
    files: list[ResultFile],
    measurement: dict[str, object],
) -> None:
    outcome = Outcome(kind, reason, tuple(files), measurement)
    assert Outcome.from_json(outcome.to_json()) == outcome


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b'{"kind": "odd", "reason": null, "results": []}', b"\xff"],
)
def test_damaged_outcome_is_named(content: bytes) -> None:
    with pytest.raises(SpoolError, match="damaged"):
        Outcome.from_json(content)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LevelNotCoveredError("above the scan"), OutcomeKind.SKIPPED),
        (LevelUncertainError("L2 or L3"), OutcomeKind.FAILED),
        (MixedSeriesError("two patients"), OutcomeKind.QUARANTINED),
        (ZeroDivisionError("a fault of ours"), OutcomeKind.FAILED),
    ],
)
def test_error_becomes_the_outcome_of_its_disposition(error: Exception, kind: OutcomeKind) -> None:
    outcome = failure(error)
    assert outcome is not None
    assert outcome.kind is kind
    assert outcome.reason == reason_of(error)


def test_work_that_may_succeed_later_has_no_outcome() -> None:
    assert failure(DeviceMemoryError("full")) is None


def test_unforeseen_error_is_named_without_its_text() -> None:
    reason = reason_of(ValueError("patient Doe^Jane"))
    assert reason.code == UNFORESEEN
    assert "ValueError" in reason.message
    assert "Doe" not in reason.message
