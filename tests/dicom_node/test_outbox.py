from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.commitment import Request
from dicom_node.config import CompletionSettings, DeliverySettings
from dicom_node.custody import Custody
from dicom_node.errors import CommitmentRefusedError, NodeError, PeerError
from dicom_node.ledger import Ledger
from dicom_node.outbox import Outbox, Verdict, store_at, verdict_on, waiting_time_s
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import (
    DELIVERY_TRANSITIONS,
    CommitmentReport,
    DeliveryEvent,
    DeliveryState,
    Reason,
    ResultFile,
    SeriesEvent,
    SeriesState,
)
from dicom_node.sender import Answer, OutgoingFile, Problem
from dicom_node.spool import Spool
from tests.dicom_node.factories import ManualClock, destination, instance, node_settings

UID = "1.2.3"
TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
SETTINGS = DeliverySettings(first_wait_s=30, longest_wait_s=200, give_up_after_s=3600)
RESULTS = [
    ResultFile(f"2.25.{n}", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1", Path(name))
    for n, name in enumerate(("seg.dcm", "sr.dcm"), start=1)
]


@dataclass
class Peer:
    """Answers with what the test put in, keeps what it was sent."""

    statuses: dict[str, int] = field(default_factory=dict)
    away: bool = False
    sent: list[str] = field(default_factory=list)

    def __call__(self, files: Sequence[OutgoingFile]) -> list[Answer]:
        if self.away:
            raise PeerError("PACS at 127.0.0.1:104 cannot be reached")
        self.sent += [file.sop_instance_uid for file in files]
        return [
            Answer(uid, self.statuses.get(uid, 0), None, "answered")
            for uid in (file.sop_instance_uid for file in files)
        ]


@dataclass
class Bench:
    ledger: Ledger
    outbox: Outbox
    clock: ManualClock
    peer: Peer

    def deliver(self, after_s: float = 0.0, destination: str = "pacs") -> SeriesState:
        now = self.clock.forward(after_s)
        self.outbox.deliver(UID, destination, self.peer, now)
        return self.ledger.series(UID).state

    def states(self) -> list[DeliveryState]:
        return [delivery.state for delivery in self.ledger.deliveries.of(UID)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A measured series with two results for one destination."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    clock = ManualClock()
    ledger.record_instance(instance(), CompletionSettings())
    for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.MEASURED):
        ledger.advance(UID, event, clock.now)
    ledger.deliveries.queue(UID, 1, RESULTS, ["pacs"], clock.now)
    yield Bench(ledger, Outbox(ledger, Spool(tmp_path), SETTINGS), clock, Peer())
    ledger.close()


def test_accepted_results_end_the_series(bench: Bench) -> None:
    assert bench.deliver() is SeriesState.DELIVERED
    assert bench.states() == [DeliveryState.ACCEPTED] * 2


def test_repeated_task_sends_nothing_twice(bench: Bench) -> None:
    bench.deliver()
    bench.deliver(after_s=60)
    assert bench.peer.sent == ["2.25.1", "2.25.2"]


def test_only_what_was_not_taken_is_sent_again(bench: Bench) -> None:
    bench.peer.statuses["2.25.2"] = 0xA700
    assert bench.deliver() is SeriesState.DELIVERING
    bench.peer.statuses.clear()
    assert bench.deliver(after_s=31) is SeriesState.DELIVERED
    assert bench.peer.sent == ["2.25.1", "2.25.2", "2.25.2"]


def test_absent_peer_is_tried_again_with_growing_patience(bench: Bench) -> None:
    bench.peer.away = True
    waits = []
    for _ in range(5):
        bench.deliver()
        due = bench.ledger.deliveries.of(UID)[0].next_attempt_at
        waits.append((due - bench.clock.now).total_seconds())
        bench.clock.now = due
    assert waits == [30, 60, 120, 200, 200]


def test_a_pacs_that_was_down_for_an_hour_gets_everything_once(bench: Bench) -> None:
    bench.outbox = replace(bench.outbox, settings=DeliverySettings())
    bench.peer.away = True
    back_at = bench.clock.now + timedelta(hours=1)
    waits = []
    while bench.clock.now < back_at:
        assert bench.deliver() is SeriesState.DELIVERING
        due = bench.ledger.deliveries.of(UID)[0].next_attempt_at
        waits.append((due - bench.clock.now).total_seconds())
        bench.clock.now = due
    bench.peer.away = False
    assert bench.deliver() is SeriesState.DELIVERED
    bench.deliver(after_s=86400)
    assert waits == [30, 60, 120, 240, 480, 960, 1800]
    assert bench.peer.sent == ["2.25.1", "2.25.2"]
    assert bench.ledger.alarms.standing() == ()


def test_nothing_is_sent_before_it_is_due(bench: Bench) -> None:
    bench.peer.away = True
    bench.deliver()
    bench.peer.away = False
    assert bench.deliver(after_s=29) is SeriesState.DELIVERING
    assert bench.peer.sent == []


def test_peer_that_stays_away_is_given_up(bench: Bench) -> None:
    bench.peer.away = True
    assert bench.deliver(after_s=3600) is SeriesState.FAILED
    reason = bench.ledger.series(UID).reason
    assert reason is not None
    assert reason.code == "DELIVERY_ABANDONED"
    assert "given up after 1.0 h and 1 attempts" in reason.message


def test_destination_that_refuses_one_object_is_partly_served(bench: Bench) -> None:
    bench.peer.statuses["2.25.1"] = 0xC000
    assert bench.deliver() is SeriesState.PARTLY_DELIVERED
    assert sorted(bench.states()) == [DeliveryState.ACCEPTED, DeliveryState.REFUSED]
    reason = bench.ledger.series(UID).reason
    assert reason is not None
    assert reason.code == "OBJECT_REFUSED"
    assert "pacs did not take seg: answered" in reason.message


def test_destination_that_refuses_everything_fails_the_series(bench: Bench) -> None:
    bench.peer.statuses |= {"2.25.1": 0xC000, "2.25.2": 0xA900}
    assert bench.deliver() is SeriesState.FAILED
    assert bench.states() == [DeliveryState.REFUSED] * 2


def test_other_destination_does_not_make_up_for_one_that_refused(bench: Bench) -> None:
    bench.ledger.deliveries.queue(UID, 1, RESULTS[:1], ["other"], bench.clock.now)
    bench.deliver()
    bench.peer.statuses["2.25.1"] = 0xC000
    assert bench.deliver(destination="other") is SeriesState.FAILED


def test_simpler_object_goes_out_instead_of_a_refused_one(bench: Bench) -> None:
    simpler = replace(RESULTS[0], sop_instance_uid="2.25.3", path=Path("rtstruct.dcm"))
    outcome = Outcome(OutcomeKind.MEASURED, results=(*RESULTS, simpler))
    bench.outbox.spool.put_outcome(UID, 1, outcome.to_json())
    profile = destination("pacs", instead={"seg": "rtstruct"})
    bench.outbox = replace(bench.outbox, destinations=(profile,))
    bench.peer.statuses["2.25.1"] = 0xA900
    assert bench.deliver() is SeriesState.DELIVERING
    assert bench.deliver(after_s=1) is SeriesState.PARTLY_DELIVERED
    assert bench.peer.sent == ["2.25.1", "2.25.2", "2.25.3"]


ALONE = replace(RESULTS[1], sop_instance_uid="2.25.4", path=Path("sr_alone.dcm"))
TEXT = replace(RESULTS[1], sop_instance_uid="2.25.5", path=Path("text_sr.dcm"))


def with_alternatives(bench: Bench, **instead: str) -> None:
    """Let the measurement have the report without segmentation too, and one of plain text."""
    outcome = Outcome(OutcomeKind.MEASURED, results=(*RESULTS, ALONE, TEXT))
    bench.outbox.spool.put_outcome(UID, 1, outcome.to_json())
    bench.outbox = replace(bench.outbox, destinations=(destination("pacs", instead=instead),))


def test_a_report_never_goes_where_its_segmentation_was_refused(bench: Bench) -> None:
    with_alternatives(bench)
    bench.peer.statuses["2.25.1"] = 0xA900
    assert bench.deliver() is SeriesState.DELIVERING
    assert bench.deliver(after_s=1) is SeriesState.PARTLY_DELIVERED
    assert bench.deliver(after_s=1) is SeriesState.PARTLY_DELIVERED
    assert bench.peer.sent == ["2.25.1", "2.25.4"]
    reason = bench.ledger.series(UID).reason
    assert reason is not None
    assert "pacs did not take seg, nor 1 more: answered" in reason.message


def test_a_report_waits_until_its_segmentation_is_there(bench: Bench) -> None:
    with_alternatives(bench)
    bench.peer.statuses["2.25.1"] = 0xA700
    assert bench.deliver() is SeriesState.DELIVERING
    assert bench.peer.sent == ["2.25.1"]
    bench.peer.statuses.clear()
    assert bench.deliver(after_s=31) is SeriesState.DELIVERED
    assert bench.peer.sent == ["2.25.1", "2.25.1", "2.25.2"]


def test_a_segmentation_that_is_given_up_takes_its_report_along(bench: Bench) -> None:
    with_alternatives(bench)
    bench.peer.statuses["2.25.1"] = 0xA700
    assert bench.deliver(after_s=3600) is SeriesState.FAILED
    assert bench.states() == [DeliveryState.DEAD] * 2
    assert bench.peer.sent == ["2.25.1"]


def test_a_report_that_is_there_already_is_followed_by_the_one_without_segmentation(
    bench: Bench,
) -> None:
    with_alternatives(bench)
    report = next(d for d in bench.ledger.deliveries.of(UID) if d.result == RESULTS[1])
    now = bench.clock.now
    bench.ledger.deliveries.record(
        report, DeliveryState.ACCEPTED, now, next_attempt_at=now, status=0, detail=""
    )
    bench.peer.statuses["2.25.1"] = 0xC000
    bench.deliver()
    assert bench.deliver(after_s=1) is SeriesState.PARTLY_DELIVERED
    assert bench.peer.sent == ["2.25.1", "2.25.4"]


def test_a_pacs_that_takes_neither_kind_of_report_gets_what_is_named_instead(bench: Bench) -> None:
    with_alternatives(bench, sr="text_sr")
    bench.peer.statuses |= dict.fromkeys(("2.25.1", "2.25.4"), 0x0122)
    for _ in range(2):
        assert bench.deliver(after_s=1) is SeriesState.DELIVERING
    assert bench.deliver(after_s=1) is SeriesState.PARTLY_DELIVERED
    assert bench.peer.sent == ["2.25.1", "2.25.4", "2.25.5"]


def test_series_waits_for_every_destination(bench: Bench) -> None:
    bench.ledger.deliveries.queue(UID, 1, RESULTS, ["other"], bench.clock.now)
    assert bench.deliver() is SeriesState.DELIVERING
    assert bench.deliver(destination="other") is SeriesState.DELIVERED


def test_results_that_late_images_superseded_stay_here(bench: Bench) -> None:
    late = instance(2, received_at=bench.clock.now + timedelta(seconds=5))
    bench.ledger.record_instance(late, CompletionSettings())
    assert bench.deliver(after_s=10) is SeriesState.RECEIVING
    assert bench.peer.sent == []


def test_series_whose_task_died_after_the_last_answer_is_closed(bench: Bench) -> None:
    now = bench.clock.now
    bench.ledger.advance(UID, SeriesEvent.DELIVERY_STARTED, now)
    for delivery in bench.ledger.deliveries.of(UID):
        bench.ledger.deliveries.record(
            delivery, DeliveryState.ACCEPTED, now, next_attempt_at=now, status=0, detail=""
        )
    assert bench.deliver(after_s=1) is SeriesState.DELIVERED


def test_destination_that_was_removed_takes_nothing_for_ever(bench: Bench, tmp_path: Path) -> None:
    send = store_at("pacs", node_settings(tmp_path))
    bench.outbox.deliver(UID, "pacs", send, bench.clock.now)
    assert bench.ledger.series(UID).state is SeriesState.FAILED
    assert bench.states() == [DeliveryState.DEAD] * 2


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.ACCEPTED),
        (0x0111, Verdict.ACCEPTED),
        (0xB000, Verdict.ACCEPTED),
        (0xB006, Verdict.ACCEPTED),
        (0xB007, Verdict.ACCEPTED),
        (0xA700, Verdict.RETRY),
        (0xA7FF, Verdict.RETRY),
        (0x0110, Verdict.RETRY),
        (0xA900, Verdict.REFUSED),
        (0xC000, Verdict.REFUSED),
        (0xCFFF, Verdict.REFUSED),
        (0x0122, Verdict.REFUSED),
        (0x0124, Verdict.REFUSED),
        (0x0117, Verdict.REFUSED),
    ],
)
def test_status_is_judged_as_the_standard_says(status: int, verdict: Verdict) -> None:
    assert verdict_on(Answer("1", status, None, "")) is verdict


@pytest.mark.parametrize(
    ("problem", "verdict"),
    [
        (Problem.NO_ANSWER, Verdict.RETRY),
        (Problem.CONTEXT_REJECTED, Verdict.REFUSED),
        (Problem.HTTP_REFUSED, Verdict.REFUSED),
        (Problem.FILE_UNREADABLE, Verdict.DEAD),
        (Problem.UNKNOWN_DESTINATION, Verdict.DEAD),
    ],
)
def test_problem_is_judged_by_whether_time_heals_it(problem: Problem, verdict: Verdict) -> None:
    assert verdict_on(Answer("1", None, problem, "")) is verdict


@given(failures=st.integers(0, 10_000))
def test_waiting_time_never_shrinks_nor_passes_its_limit(failures: int) -> None:
    wait_s = waiting_time_s(failures, SETTINGS)
    assert 30 <= wait_s <= waiting_time_s(failures + 1, SETTINGS) <= 200


@dataclass
class Provider:
    """Takes requests for commitment; raises what the test put in."""

    error: NodeError | None = None
    requests: list[Request] = field(default_factory=list)

    def __call__(
        self, request: Request, _on_report: object, _is_answered: Callable[[], bool]
    ) -> None:
        self.requests.append(request)
        if self.error is not None:
            raise self.error

    def report(self, number: int = -1, failed: Sequence[str] = ()) -> CommitmentReport:
        request = self.requests[number]
        uids = {result.sop_instance_uid for result in request.results}
        reasons = dict.fromkeys(failed, 0x0112)
        return CommitmentReport(request.transaction_uid, frozenset(uids - set(failed)), reasons)


@pytest.fixture
def committing(bench: Bench) -> tuple[Bench, Provider]:
    """A bench whose destination must commit within 100 s and has accepted everything."""
    bench.outbox = replace(
        bench.outbox, destinations=[destination("pacs", commitment={"timeout_s": 100.0})]
    )
    assert bench.deliver() is SeriesState.DELIVERING
    return bench, Provider()


def seek(bench: Bench, provider: Provider, after_s: float = 0.0) -> list[DeliveryState]:
    Custody(bench.outbox).seek(UID, "pacs", provider, bench.clock.forward(after_s))
    return bench.states()


def test_acceptance_is_not_enough_where_commitment_is_asked_for(
    committing: tuple[Bench, Provider],
) -> None:
    bench, provider = committing
    assert seek(bench, provider) == [DeliveryState.ACCEPTED] * 2
    assert seek(bench, provider, 50) == [DeliveryState.ACCEPTED] * 2
    assert len(provider.requests) == 1
    assert Custody(bench.outbox).record_report(provider.report(), bench.clock.now) == 0x0000
    assert bench.states() == [DeliveryState.COMMITTED] * 2
    assert bench.ledger.series(UID).state is SeriesState.DELIVERED


def test_only_what_was_not_committed_is_stored_again(committing: tuple[Bench, Provider]) -> None:
    bench, provider = committing
    seek(bench, provider)
    Custody(bench.outbox).record_report(provider.report(failed=["2.25.2"]), bench.clock.now)
    assert sorted(bench.states()) == [DeliveryState.COMMITTED, DeliveryState.QUEUED]
    bench.deliver()
    assert bench.peer.sent == ["2.25.1", "2.25.2", "2.25.2"]
    seek(bench, provider)
    assert [r.sop_instance_uid for r in provider.requests[-1].results] == ["2.25.2"]


def test_a_commitment_that_never_comes_is_asked_for_after_storing_again(
    committing: tuple[Bench, Provider],
) -> None:
    bench, provider = committing
    seek(bench, provider)
    assert seek(bench, provider, 100) == [DeliveryState.QUEUED] * 2
    bench.deliver()
    assert bench.peer.sent == ["2.25.1", "2.25.2"] * 2
    seek(bench, provider)
    assert len({request.transaction_uid for request in provider.requests}) == 2


def test_a_late_report_counts_when_it_is_good_and_not_when_it_is_bad(
    committing: tuple[Bench, Provider],
) -> None:
    bench, provider = committing
    seek(bench, provider)
    seek(bench, provider, 100)
    bench.deliver()
    seek(bench, provider)
    Custody(bench.outbox).record_report(provider.report(0, failed=["2.25.1"]), bench.clock.now)
    assert sorted(bench.states()) == [DeliveryState.ACCEPTED, DeliveryState.COMMITTED]


def test_an_absent_provider_is_asked_again_later(committing: tuple[Bench, Provider]) -> None:
    bench, provider = committing
    provider.error = PeerError("PACS cannot be reached")
    seek(bench, provider)
    assert seek(bench, provider, 29) == [DeliveryState.ACCEPTED] * 2
    assert len(provider.requests) == 1
    provider.error = None
    seek(bench, provider, 1)
    assert len(provider.requests) == 2
    assert bench.peer.sent == ["2.25.1", "2.25.2"]


def test_a_provider_that_never_reports_is_given_up_after_a_day(
    committing: tuple[Bench, Provider],
) -> None:
    bench, provider = committing
    seek(bench, provider, 3600)
    assert seek(bench, provider, 100) == [DeliveryState.DEAD] * 2
    assert bench.ledger.series(UID).state is SeriesState.FAILED


def test_a_refusal_to_commit_is_permanent_with_its_reason(
    committing: tuple[Bench, Provider],
) -> None:
    bench, provider = committing
    provider.error = CommitmentRefusedError("PACS does not support storage commitment")
    assert seek(bench, provider) == [DeliveryState.DEAD] * 2
    reason = bench.ledger.series(UID).reason
    assert reason is not None
    assert "does not support storage commitment" in reason.message


def test_what_was_given_up_raises_an_alarm_and_goes_out_again_on_command(bench: Bench) -> None:
    bench.peer.away = True
    assert bench.deliver(after_s=3600) is SeriesState.FAILED
    (alarm,) = bench.ledger.alarms.standing()
    assert (alarm.code, alarm.subject, alarm.occurrences) == ("DELIVERY_DEAD", "pacs", 2)
    assert bench.ledger.deliveries.resume("elsewhere", bench.clock.now) == ()
    assert len(bench.ledger.deliveries.resume(None, bench.clock.now)) == 2
    assert bench.ledger.alarms.standing() == ()
    assert bench.deliver() is SeriesState.DELIVERING
    bench.peer.away = False
    assert bench.deliver(after_s=30) is SeriesState.DELIVERED


def test_what_was_superseded_is_not_resumed(bench: Bench) -> None:
    bench.peer.statuses["2.25.1"] = 0xC000
    bench.deliver()
    late = instance(2, received_at=bench.clock.forward(5))
    bench.ledger.record_instance(late, CompletionSettings())
    assert bench.ledger.deliveries.resume(None, bench.clock.now) == ()
    assert bench.ledger.series(UID).state is SeriesState.RECEIVING


def test_a_delivery_in_flight_says_so(bench: Bench) -> None:
    seen: list[list[DeliveryState]] = []

    def look(files: Sequence[OutgoingFile]) -> list[Answer]:
        seen.append(bench.states())
        return bench.peer(files)

    bench.outbox.deliver(UID, "pacs", look, bench.clock.now)
    assert seen[0] == [DeliveryState.SENT] * 2


STATES, EVENTS = list(DeliveryState), list(DeliveryEvent)


@given(events=st.lists(st.sampled_from(EVENTS), max_size=30))
def test_a_delivery_ends_by_the_word_of_the_destination_alone(events: list[DeliveryEvent]) -> None:
    state = DeliveryState.QUEUED
    for event in events:
        before, state = state, DELIVERY_TRANSITIONS.get((state, event), state)
        if state is DeliveryState.COMMITTED and before is not state:
            assert event is DeliveryEvent.COMMITTED
        if state is DeliveryState.ACCEPTED and before is not state:
            assert event is DeliveryEvent.ACCEPTED
        # Once the destination has taken responsibility, nothing brings it into question.
        if before is DeliveryState.COMMITTED:
            assert state is before
        # And what it has accepted is not given up by an answer about storing.
        if before is DeliveryState.ACCEPTED and event is DeliveryEvent.REFUSED:
            assert state is before


def test_every_state_but_the_last_can_still_be_delivered() -> None:
    for state in STATES:
        reached = {state}
        while more := {
            after
            for (before, _), after in DELIVERY_TRANSITIONS.items()
            if before in reached and after not in reached
        }:
            reached |= more
        assert DeliveryState.COMMITTED in reached


def unmeasured(tmp_path: Path, event: SeriesEvent, reason: Reason | None = None) -> Bench:
    """A series that was not measured, with a report on that for one destination."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'unmeasured.sqlite'}")
    clock = ManualClock()
    ledger.record_instance(instance(), CompletionSettings())
    for step in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT):
        ledger.advance(UID, step, clock.now)
    report = ResultFile("2.25.9", TEXT_SR, "1.2.840.10008.1.2.1", Path("not_analysed.dcm"))
    ledger.deliveries.queue(UID, 1, [report], ["pacs"], clock.now)
    ledger.advance(UID, event, clock.now, reason=reason)
    return Bench(ledger, Outbox(ledger, Spool(tmp_path), SETTINGS), clock, Peer())


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (SeriesEvent.NOT_MEASURABLE, SeriesState.SKIPPED),
        (SeriesEvent.WORK_FAILED, SeriesState.FAILED),
        (SeriesEvent.IMAGES_UNUSABLE, SeriesState.QUARANTINED),
    ],
)
def test_the_reason_leaves_and_the_series_stays_what_it_is(
    tmp_path: Path, event: SeriesEvent, state: SeriesState
) -> None:
    bench = unmeasured(tmp_path, event)
    assert bench.deliver() is state
    assert bench.peer.sent == ["2.25.9"]
    assert bench.states() == [DeliveryState.ACCEPTED]
    bench.ledger.close()


def test_nothing_of_a_series_whose_images_contradict_each_other_leaves(tmp_path: Path) -> None:
    conflict = Reason("INSTANCE_CONFLICT", "image 1.2.3.1 is of another patient")
    bench = unmeasured(tmp_path, SeriesEvent.IMAGES_UNUSABLE, conflict)
    assert bench.deliver() is SeriesState.QUARANTINED
    assert bench.peer.sent == []
    bench.ledger.close()
