from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.config import CompletionSettings
from dicom_node.errors import LedgerError
from dicom_node.ledger import Ledger
from dicom_node.ledger_arrivals import Arrival
from dicom_node.records import ReceivedInstance, SeriesEvent, StoredAs
from tests.dicom_node.factories import START, instance

COMPLETION = CompletionSettings(quiet_s=60, cap_s=100)

arrivals = st.builds(
    lambda number, series, digest, patient, second: instance(
        number,
        series_instance_uid=f"1.2.{series}",
        sha256=f"{digest:064x}",
        patient_key=f"{patient}" * 64,
        received_at=START + timedelta(seconds=second),
    ),
    number=st.integers(1, 9),
    series=st.integers(3, 4),
    digest=st.integers(1, 2),
    patient=st.sampled_from("aaaab"),
    second=st.integers(0, 150),
)


def as_arrivals(batch: list[ReceivedInstance]) -> list[Arrival]:
    return [Arrival(instance, COMPLETION) for instance in batch]


def account(ledger: Ledger) -> list[object]:
    series = sorted(ledger.list_series(), key=lambda record: record.series_instance_uid)
    uids = [record.series_instance_uid for record in series]
    return [
        series,
        *(ledger.instances(uid) for uid in uids),
        *(ledger.history(uid) for uid in uids),
    ]


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(arrivals, min_size=1, max_size=4), max_size=4))
def test_a_batch_is_recorded_as_one_by_one(batches: list[list[ReceivedInstance]]) -> None:
    with (
        TemporaryDirectory() as folder,
        closing(Ledger.open(f"sqlite:///{folder}/ledger.sqlite")) as quick,
        closing(Ledger.open("sqlite://")) as single,
    ):
        for batch in batches:
            # Series are taken in the order of their UIDs.
            ordered = sorted(batch, key=lambda item: item.series_instance_uid)
            found = quick.record_arrivals(as_arrivals(ordered))
            assert found == [single.record_instance(item, COMPLETION) for item in ordered]
        assert account(quick) == account(single)


def test_a_late_image_in_a_batch_starts_a_new_revision(tmp_path: Path) -> None:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        ledger.record_arrivals(as_arrivals([instance(1)]))
        ledger.advance("1.2.3", SeriesEvent.QUIET_PERIOD_OVER, START)
        found = ledger.record_arrivals(as_arrivals([instance(2), instance(1)]))
        assert found == [StoredAs.NEW, StoredAs.DUPLICATE]
        assert ledger.series("1.2.3").revision == 2


def test_a_batch_that_cannot_be_recorded_leaves_no_part_of_it(tmp_path: Path) -> None:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        ledger.record_arrivals(as_arrivals([instance(1)]))
        broken = instance(3, sender_address=None)
        for batch in ([instance(2), broken], [instance(4, series_instance_uid="1.2.9"), broken]):
            try:
                ledger.record_arrivals(as_arrivals(batch))
            except LedgerError:
                continue
            raise AssertionError("an instance without an address was recorded")
        assert ledger.record_arrivals(as_arrivals([instance(5)])) == [StoredAs.NEW]
        assert [i.sop_instance_uid for i in ledger.instances("1.2.3")] == ["1.2.3.1", "1.2.3.5"]
        assert len(ledger.list_series()) == 1
