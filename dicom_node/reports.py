"""Print what the commands found, as tables for people or JSON for machines."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dicom_node.administration import Whereabouts
from dicom_node.backup import BackupReport
from dicom_node.checks import CheckResult
from dicom_node.inspection import Account, Overview
from dicom_node.records import (
    Alarm,
    Delivery,
    DeliveryState,
    HistoryEntry,
    SeriesRecord,
    SeriesState,
    Switch,
    SwitchRecord,
)

_STYLES = {
    SeriesState.DELIVERED: "green",
    SeriesState.PARTLY_DELIVERED: "yellow",
    SeriesState.FAILED: "red",
    SeriesState.QUARANTINED: "red",
    SeriesState.SKIPPED: "dim",
}


def print_checks(results: Sequence[CheckResult], *, as_json: bool) -> None:
    """Print one line for each thing that was tried."""
    if as_json:
        print_json([asdict(result) for result in results])
        return
    console = _console()
    for result in results:
        mark = Text("ok   ", "green") if result.passed else Text("WRONG", "bold red")
        code = f" [{result.code}]" if result.code else ""
        console.print(mark, Text(f"{result.subject}: {result.message}{code}"))


def print_overview(overview: Overview, *, as_json: bool) -> None:
    """Print how many series are in which state, with the latest ones."""
    if as_json:
        print_json(asdict(overview))
        return
    console = _console()
    known = [state for state in SeriesState if state in overview.counts]
    counts = [f"{overview.counts[state]} {state.value}" for state in known]
    console.print(", ".join(counts) or "no series so far")
    for switch in overview.switches:
        console.print(Text(_told(switch), "bold"))
    for record in overview.series:
        _print_record(record)


def print_whereabouts(found: Sequence[Whereabouts], *, as_json: bool) -> None:
    """Print where each series is, with the reason for where it is."""
    if as_json:
        print_json([asdict(whereabouts) for whereabouts in found])
        return
    if not found:
        _console().print("never received: it was not sent here, or refused at the door")
    for whereabouts in found:
        record = whereabouts.series
        _print_record(record)
        for line in _progress(whereabouts):
            _console().print(f"    {line}")


def print_records(records: Sequence[SeriesRecord], *, as_json: bool) -> None:
    """Print series with their state and its reason."""
    if as_json:
        print_json([asdict(record) for record in records])
        return
    for record in records:
        _print_record(record)


def print_retried(records: Iterable[SeriesRecord], *, as_json: bool) -> None:
    """Print series that are analysed again, each as soon as the ledger knows."""
    if as_json:
        print_json([asdict(record) for record in records])
        return
    count = 0
    for count, record in enumerate(records, start=1):  # noqa: B007 - how many it were
        _console().print(f"{record.series_instance_uid} will be analysed again")
    if not count:
        _console().print("no series in that state")


def print_backup(report: BackupReport, verb: str, *, as_json: bool) -> None:
    """Print what a backup holds."""
    if as_json:
        print_json(asdict(report))
    else:
        _console().print(f"{report.series} series with {report.files} files {verb}")


def print_resumed(deliveries: Sequence[Delivery], *, as_json: bool) -> None:
    """Print how many results are sent again."""
    if as_json:
        print_json([asdict(delivery) for delivery in deliveries])
        return
    count = len(deliveries)
    _console().print(f"{count} {'result' if count == 1 else 'results'} will be sent again")


def print_switches(switches: Mapping[Switch, SwitchRecord], *, as_json: bool) -> None:
    """Print what the node was told."""
    if as_json:
        print_json([asdict(record) for record in switches.values()])
        return
    for record in switches.values():
        _console().print(_told(record))
    if not switches:
        _console().print("nothing is paused")


def print_drain(left: int, *, as_json: bool) -> None:
    """Print what a drain has left to do."""
    if as_json:
        print_json({"drained": left == 0, "left": left})
    else:
        _console().print(f"draining, {left} left" if left else "drained: nothing is under way")


def print_account(account: Account, *, as_json: bool) -> None:
    """Print everything that is known of one series."""
    if as_json:
        print_json(asdict(account))
        return
    console = _console()
    record = account.series
    console.print(f"series       {record.series_instance_uid}")
    console.print(f"study        {record.study_instance_uid}")
    console.print(Text("state        ").append(record.state.value, _STYLES.get(record.state, "")))
    if record.reason is not None:
        console.print(f"because      {record.reason.message} [{record.reason.code}]")
    console.print(f"images       {record.instance_count} from {record.source_ae_title}")
    console.print(f"complete     {account.completeness}")
    for name, value in (*_prepared(account), *_measured(account.measurement)):
        console.print(f"{name:<12} {value}")
    console.print("\nhistory (UTC)")
    for entry in account.history:
        console.print(_happened(entry))
    if account.deliveries:
        console.print("\ndeliveries")
    for delivery in account.deliveries:
        console.print(_delivered(delivery))


def print_alarms(alarms: Sequence[Alarm], *, as_json: bool) -> None:
    """Print what a person should look at."""
    if as_json:
        print_json([asdict(alarm) for alarm in alarms])
        return
    console = _console()
    if not alarms:
        console.print("no alarm")
    for alarm in alarms:
        times = f", {alarm.occurrences} times" if alarm.occurrences > 1 else ""
        console.print(f"{_time(alarm.raised_at)}  {alarm.code}{times}: {alarm.message}")


def _told(record: SwitchRecord) -> str:
    name = record.switch.value.replace("_", " ")
    return f"{name} since {_time(record.set_at)} UTC, by {record.set_by}"


def _print_record(record: SeriesRecord) -> None:
    console = _console()
    # Lines instead of a table: a UID that is cut or folded cannot be copied.
    line = Text(f"{_time(record.last_received_at)}  ")
    line.append(f"{record.state.value:<16} ", _STYLES.get(record.state, ""))
    line.append(f"{record.instance_count:>5} images from {record.source_ae_title:<16}  ")
    line.append(record.series_instance_uid)
    console.print(line)
    if record.reason is not None:
        console.print(f"    {record.reason.message} [{record.reason.code}]")


def _progress(whereabouts: Whereabouts) -> list[str]:
    lines = []
    if whereabouts.series.state is SeriesState.RECEIVING and whereabouts.series.due_at:
        lines.append(f"complete at {_time(whereabouts.series.due_at)} UTC if nothing more comes")
    if whereabouts.ahead is not None:
        lines.append(f"{whereabouts.ahead} series get a worker before it")
    if whereabouts.delivered or whereabouts.undelivered:
        lines.append(f"{whereabouts.delivered} results delivered, {whereabouts.undelivered} to go")
    return lines


def print_json(value: object) -> None:
    """Print a value for machines."""
    Console(soft_wrap=True, highlight=False, markup=False).print(
        json.dumps(value, indent=2, default=_plain), emoji=False
    )


def _prepared(account: Account) -> Iterator[tuple[str, str]]:
    record = account.series
    if account.priors is not None:
        yield "priors", account.priors
    yield "revision", f"{record.revision}, attempt {record.attempt}"
    if record.route is not None:
        yield "rule", f"{record.route.rule}, {record.route.priority.value}"


def _measured(measurement: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not measurement:
        return []
    assessment = measurement["assessment"]
    return [
        ("muscle", f"{measurement['skeletal_muscle_area_cm2']:.1f} cm²"),
        ("verdict", f"{assessment['verdict']}: {assessment['reason']}"),
        *_second_opinion(measurement),
        *(("remark", f"{flag['message']} [{flag['code']}]") for flag in measurement["quality"]),
    ]


def _second_opinion(measurement: Mapping[str, Any]) -> list[tuple[str, str]]:
    opinion = measurement.get("second_opinion")
    if not opinion:
        return []
    found = "low" if opinion["low"] else "not low"
    return [("classifier", f"{found}, {opinion['probability_of_low']:.0%} (advisory)")]


def _happened(entry: HistoryEntry) -> str:
    reason = f"  {entry.reason.message} [{entry.reason.code}]" if entry.reason else ""
    return f"  {_time(entry.at)}  {entry.event:<20} {entry.state.value:<16} {reason}"


def _delivered(delivery: Delivery) -> str:
    again = delivery.state is DeliveryState.QUEUED
    due = f", again at {_time(delivery.next_attempt_at)}" if again else ""
    answer = f": {delivery.detail}" if delivery.detail else ""
    tried = "once" if delivery.attempts == 1 else f"{delivery.attempts} times"
    return (
        f"  {delivery.result.path.name} to {delivery.destination} {delivery.state.value}, "
        f"tried {tried}{answer}{due}"
    )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _console() -> Console:
    # Whoever reads a pipe wants whole lines.
    return Console(highlight=False, markup=False, soft_wrap=True)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return value.as_posix()
    return str(value)
